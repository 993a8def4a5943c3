"""A step never asks its device for a number: on a GPU the host would wait, and the device then wait for the host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu import Case, Flowing, cases, run_of
from benchmarks.step import QUIET
from diga.engine import feed
from diga.engine.run import CPU
from diga.types import Pair

# operations whose result, or its size, is read on the host
WAITS = frozenset(
    {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "bincount", "repeat_interleave"}
)
CASES = {f"{case.recipe.name} {case.stage}": case for case in cases(small=True)}


class Refusing(TorchDispatchMode):
    """While it is on, an operation that would have the host wait is an error."""

    on = False

    def __torch_dispatch__(self, f: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        name = f._overloadpacket.__name__
        masked = name.startswith("index") and any(x.dtype == torch.bool for x in indices(args))
        if self.on and (name in WAITS or masked):
            raise InterruptedError(name)
        return f(*args, **(kwargs or {}))


def indices(args: tuple[Any, ...]) -> list[Tensor]:
    """What an operation indexes by."""
    found = args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ()
    return [x for x in found if isinstance(x, Tensor)]


class Watched(Flowing):
    """All steps but the first and the last are watched: those draw pictures and report."""

    guard: Refusing
    steps: int = 0

    def pairs(self, start: int, stop: int) -> Iterator[Pair]:
        for t in range(start, stop):
            self.guard.on = start < t < stop - 1
            yield feed.placed(self.ready[t % len(self.ready)], self.device)
            self.steps += self.guard.on


def watched(case: Case, folder: Path, steps: int = 4) -> Watched:
    ready = run_of(case, "fp32", steps, folder, CPU)
    run = Watched(ready.recipe, ready.stage, folder, pace=QUIET, net=ready.net, ready=ready.ready, left=ready.left)
    with Refusing() as run.guard:
        run.own(run)
    return run


@pytest.mark.parametrize("name", CASES)
def test_no_step_asks_for_a_number(name: str, tmp_path: Path) -> None:
    assert watched(CASES[name], tmp_path).steps == 2


@pytest.mark.parametrize(
    "ask", [lambda x: float(x.sum()), lambda x: x[x > 0], lambda x: x.nonzero(), lambda x: bool(x.any()), torch.unique]
)
def test_what_would_wait_is_seen(ask: Any) -> None:
    with Refusing() as guard:
        guard.on = True
        with pytest.raises(InterruptedError):
            ask(torch.ones(3))
