"""Two workers that share a batch are one worker: the same losses and the same weights, step for step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from diga.data.streams import PairStream
from diga.engine import parallel
from diga.engine.run import CPU, Run
from diga.methods.source_only import SourceOnly
from diga.recipe import Recipe, override
from diga.settings import Plan, Statistics
from diga.types import IGNORE, Pair
from tests.conftest import Chain, left_by, small, stage_run, told_by, with_stage

PLAN = Plan(steps=4, lr=0.02, head=1.0, snapshots=1)  # SGD: Adam's first steps make a sign of any rounding
LETTER = torch.arange(12.0).view(4, 3)


class Case(NamedTuple):
    """One stage, as it is or with frozen batch norms, and the ways that touch what workers share."""

    stage: str
    changes: dict[str, Any]

    def recipe(self) -> Recipe:
        base = small()
        if self.stage == "source_only":
            base = with_stage(base, "warm_up", SourceOnly(statistics=Statistics(update=("views",))))
        name = self.name
        return override(base, {f"{name}.plan": PLAN} | {f"{name}.{k}": v for k, v in self.changes.items()})

    @property
    def name(self) -> str:
        return "warm_up" if self.stage == "source_only" else self.stage


CASES = {
    "source only": Case("source_only", {}),
    "source only, frozen": Case("source_only", {"statistics.student": "running"}),
    "warm-up": Case("warm_up", {}),
    "warm-up, frozen": Case("warm_up", {"statistics.student": "running", "statistics.teacher": "copied"}),
    "warm-up, official": Case(
        "warm_up", {"normalise": "all", "mask.void": "counted", "statistics.update": ["views", "target"]}
    ),
    "warm-up, hard pixels": Case("warm_up", {"normalise": "hard"}),
    "self-training": Case("self_training", {"delta": 0.9}),
    "self-training, frozen": Case("self_training", {"delta": 0.9, "statistics.student": "running"}),
    "self-training, unmixed": Case("self_training", {"mix.kind": "none", "agreed": True, "order": "target_first"}),
}


class Double(Run):
    """In float64: in float32 a ReLU at its threshold makes 1e-5 of any rounding within a few steps."""

    def segmenter(self, ref: str | None = None, part: str = "student") -> nn.Module:
        return super().segmenter(ref, part).double()

    @cached_property
    def weights(self) -> Tensor:
        return Run.weights.func(self).double()

    def pairs(self, start: int, stop: int) -> Iterator[Pair]:
        for pair in super().pairs(start, stop):
            source, target = pair.source, pair.target.double()
            yield pair._replace(source=source._replace(image=source.image.double()), target=target)


def carry_out(chain: Chain, folder: Path, device: torch.device = CPU) -> None:
    for name, case in CASES.items():
        recipe = case.recipe()
        run = stage_run(chain, recipe, case.name, folder / name)
        where = (run.folder, run.inputs, run.data_root, run.cache)
        recipe.stages[case.name](Double(recipe, case.name, *where, device, run.pace))


def worker(rank: int, folder: Path, chain: Chain, device: torch.device = CPU) -> None:
    """One of two: every case, then the words that workers have."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    carry_out(chain, folder / "two", device)
    mine = LETTER.chunk(2)[rank]
    weight = torch.nn.Parameter(torch.zeros(3))
    weight.grad = mine.sum(0)
    unused = torch.nn.Parameter(torch.zeros(2))
    parallel.average_gradients([weight, unused])
    heard = {
        "mean": parallel.mean(mine),
        "gathered": parallel.gather(mine),
        "truths": parallel.gather(mine > 5),
        "gradient": weight.grad,
        "who": torch.tensor([parallel.rank(), parallel.world()]),
    }
    parallel.barrier()
    torch.save(heard, folder / f"heard-{rank}.pt")
    dist.barrier()  # who leaves first takes the connection of a slower one away
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every case carried out by one worker, and by two."""
    folder = tmp_path_factory.mktemp("workers")
    carry_out(chain, folder / "one")
    torch.multiprocessing.spawn(worker, (folder, chain), nprocs=2)  # type: ignore[no-untyped-call]
    return folder


def test_void_lies_unevenly_and_some_worker_has_none_labelled(chain: Chain) -> None:
    """Else the cases below would not tell a mean of means from the mean."""
    recipe = CASES["warm-up"].recipe()
    run = stage_run(chain, recipe, "warm_up", chain.place.home / "look")
    share = {"crop": recipe.crop, "batch": recipe.batch, "seed": recipe.seed, "read": frozenset({"source"})}
    stream = PairStream([run.domain(d) for d in recipe.sources], [], **share)
    halves = [[(y != IGNORE).float().mean().item() for y in stream[t].source.label.chunk(2)] for t in range(PLAN.steps)]
    assert any(abs(a - b) > 0.2 for a, b in halves)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_workers_are_one(both: Path, name: str) -> None:
    one, two = (told_by(both / way / name) for way in ("one", "two"))
    assert [step for step, _ in one] == [step for step, _ in two] == list(range(PLAN.steps))
    for (_, a), (_, b) in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=1e-6)  # losses are told in float32
    alone, together = (left_by(both / way / name) for way in ("one", "two"))
    assert alone.keys() == together.keys()
    for key, x in alone.items():
        close = 1e-12 if x.dtype == torch.float64 else 1e-6  # centroids are kept in float32
        torch.testing.assert_close(together[key], x, rtol=0, atol=close, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_cases_really_train(both: Path, name: str) -> None:
    first, last = (told_by(both / "one" / name)[i][1] for i in (0, -1))
    assert first["loss/source"] != last["loss/source"]


@pytest.mark.slow
def test_pictures_and_files_are_the_first_workers(both: Path) -> None:
    for name in CASES:
        folders = [both / way / name for way in ("one", "two")]
        found = [sorted(str(p.relative_to(folder)) for p in folder.rglob("*.png")) for folder in folders]
        assert found[0] == found[1]
        assert found[0]


@pytest.mark.slow
def test_what_workers_say_to_each_other(both: Path) -> None:
    heard = [torch.load(both / f"heard-{rank}.pt") for rank in (0, 1)]
    for rank, words in enumerate(heard):
        assert words["who"].tolist() == [rank, 2]
        torch.testing.assert_close(words["mean"], (LETTER[:2] + LETTER[2:]) / 2)
        torch.testing.assert_close(words["gathered"], LETTER)
        assert torch.equal(words["truths"], LETTER > 5)
        torch.testing.assert_close(words["gradient"], LETTER.sum(0) / 2)


def test_alone_every_word_is_the_identity() -> None:
    assert parallel.rank() == 0
    assert parallel.world() == 1
    assert parallel.mean(LETTER) is LETTER
    assert parallel.gather(LETTER) is LETTER
    weight = torch.nn.Parameter(torch.zeros(3))
    weight.grad = torch.ones(3)
    parallel.average_gradients([weight])
    assert torch.equal(weight.grad, torch.ones(3))
