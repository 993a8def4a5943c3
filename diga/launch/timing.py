"""How long a step takes here: a few steps of a training, at its own crop and batch, on the device it would have."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from diga.errors import ConfigError
from diga.identity import Use
from diga.pipeline import Place
from diga.plan import StageRun, stage_runs

STEPS, WARM = 8, 3  # that are made, and of them those that are not counted


def seconds_a_step(
    runs: Sequence[StageRun], place: Place, seen: Callable[[int, int], None] = lambda done, total: None
) -> Mapping[str, float]:
    """Median seconds of a step by fingerprint; stages that differ in seed and inputs alone are timed once.

    What a stage reads is made as briefly, on a few images.  Raises whatever a stage raises.
    """
    alike: dict[str, float] = {}
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="diga-probe-") as root:
        for done, run in enumerate(runs, 1):
            chain = stage_runs(run.recipe.model_copy(update={"seed": 0}), _name)
            own = next(each for each in chain if each.name == run.name)
            if own.fingerprint not in alike:
                alike[own.fingerprint] = _timed(own, chain, Path(root), place)
            found[run.fingerprint] = alike[own.fingerprint]
            seen(done, len(runs))
    return found


def _name(domain: str, use: Use) -> str:
    return domain


def _timed(own: StageRun, chain: Sequence[StageRun], root: Path, place: Place) -> float:
    clock: list[float] = []
    wanted = {own.fingerprint}
    for run in reversed(chain):
        wanted |= set(run.inputs.values()) if run.fingerprint in wanted else set()
    for run in (run for run in chain if run.fingerprint in wanted):
        if not (root / run.fingerprint).exists() or run is own:
            clock = _briefly(run, root, place)
    steps = [b - a for a, b in pairwise(clock)][WARM:]
    if not steps:
        raise ConfigError(f"stage {own.name!r}", f"{len(clock)} steps, too few to time", f"{WARM + 2} at least")
    return median(steps)


def _briefly(run: StageRun, root: Path, place: Place) -> list[float]:
    """Carry a stage out for a few steps; when each of them began."""
    import torch

    from diga.engine.run import Pace
    from diga.launch.glimpse import Glimpse

    device: Any = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    inputs = {ref: root / fingerprint for ref, fingerprint in run.inputs.items()}
    folder = root / run.fingerprint
    glimpse = Glimpse(run.recipe, run.name, folder, inputs, place.data, None, device, Pace(log=1), steps=STEPS)
    run.stage(glimpse)
    return glimpse.clock
