"""On a GPU a stage does what it does on the CPU: the same losses, the same labels, the same end after a break."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from diga.engine.run import CPU, Pace, Run
from diga.ops.pseudo import winners
from diga.ops.scores import confusion
from diga.pipeline import Place, execute
from diga.recipe import Recipe, override
from diga.types import IGNORE, Pair
from tests.conftest import Chain, differing, left_by, png, small, stage_run, told_by, until
from tests.test_engine_workers import CASES, Double, carry_out, worker

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU = torch.device("cuda")
STEPS, SAVE = 8, 3
RECIPE = override(small(), {"self_training.plan.steps": STEPS, "self_training.translator": None})
ONCE = {"self_training.plan.snapshots": 1}  # after the last step: weights kept on the way are awaited


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """No sum in an order of its own, no product of rounded numbers; what has no other way warns."""
    convolutions = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.allow_tf32 = convolutions


def on(device: torch.device, chain: Chain, recipe: Recipe, stage: str, folder: Path, **how: Any) -> Run:
    """A stage about to be carried out on a device, by a run of class `kind`."""
    run, kind = stage_run(chain, recipe, stage, folder), how.pop("kind", Run)
    return kind(recipe, stage, folder, run.inputs, run.data_root, run.cache, device, **{"pace": run.pace} | how)


def carried_out(run: Run) -> list[tuple[int, dict[str, float]]]:
    """The losses of every step."""
    run.own(run)
    return told_by(run.folder)


@dataclass
class Stopped(Run):
    """A run that raises when it is asked for a step."""

    at: int = -1

    def pairs(self, start: int, stop: int) -> Iterator[Pair]:
        for t, pair in enumerate(super().pairs(start, stop), start):
            if t == self.at:
                raise InterruptedError
            yield pair


@dataclass
class Unawaited(Run):
    """A run in which it is an error that the host waits for the device, but in the first step and the last."""

    steps: int = 0

    def pairs(self, start: int, stop: int) -> Iterator[Pair]:
        for t, pair in enumerate(super().pairs(start, stop), start):
            torch.cuda.set_sync_debug_mode("error" if start < t < stop - 1 else "default")
            yield pair
            self.steps += torch.cuda.get_sync_debug_mode() == 2


@pytest.mark.parametrize("name", CASES)
def test_losses_and_weights_are_those_of_the_cpu(chain: Chain, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    runs = [on(d, chain, case.recipe(), case.name, tmp_path / d.type, kind=Double) for d in (CPU, GPU)]
    here, there = map(carried_out, runs)
    for (_, a), (_, b) in zip(here, there, strict=True):
        assert a == pytest.approx(b, rel=1e-6), name  # entropies of reports are kept in float32
    weights = [left_by(run.folder) for run in runs]
    for key, x in weights[0].items():
        close = 1e-9 if x.dtype == torch.float64 else 1e-5
        torch.testing.assert_close(weights[1][key].cpu(), x, rtol=0, atol=close, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize(("precision", "near"), [("fp32", 1e-4), ("bf16", 0.05)])
def test_the_first_losses_in_the_precisions_of_a_recipe(
    chain: Chain, tmp_path: Path, precision: str, near: float
) -> None:
    recipe = override(RECIPE, {"precision": precision})
    exact = carried_out(on(CPU, chain, RECIPE, "self_training", tmp_path / "cpu"))
    found = carried_out(on(GPU, chain, recipe, "self_training", tmp_path / "gpu"))
    assert found[0][1] == pytest.approx(exact[0][1], rel=near, abs=near)


def test_broken_off_and_resumed_is_unbroken(chain: Chain, tmp_path: Path) -> None:
    pace = Pace(log=2, save=SAVE, picture=100)
    carried_out(on(GPU, chain, RECIPE, "self_training", tmp_path / "whole", pace=pace))
    with pytest.raises(InterruptedError):
        carried_out(
            on(GPU, chain, RECIPE, "self_training", tmp_path / "broken", pace=pace, kind=Stopped, at=2 * SAVE + 1)
        )
    rows = carried_out(on(GPU, chain, RECIPE, "self_training", tmp_path / "broken", pace=pace))
    assert rows == told_by(tmp_path / "whole")
    assert differing(left_by(tmp_path / "whole"), left_by(tmp_path / "broken")) == []


def test_two_workers_on_one_gpu_are_one(chain: Chain, tmp_path: Path) -> None:
    """By gloo, which lets two share a GPU."""
    carry_out(chain, tmp_path / "one", GPU)
    torch.multiprocessing.spawn(worker, (tmp_path, chain, GPU), nprocs=2)  # type: ignore[no-untyped-call]
    for name in CASES:
        one, two = (told_by(tmp_path / way / name) for way in ("one", "two"))
        for (_, a), (_, b) in zip(one, two, strict=True):
            assert a == pytest.approx(b, rel=1e-6), name
        alone, together = (left_by(tmp_path / way / name) for way in ("one", "two"))
        for key, x in alone.items():
            close = 1e-9 if x.dtype == torch.float64 else 1e-5
            torch.testing.assert_close(together[key], x, rtol=0, atol=close, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("changes", [{}, {"self_training.strong.ranges": "legacy"}, {"self_training.rule": "fraction"}])
def test_the_host_never_waits_for_a_step(chain: Chain, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Colours are taken without a translator: the eigenvalues of `ColourTransfer` are waited for."""
    quiet = Pace(log=10**9, save=10**9, picture=10**9)
    run = on(GPU, chain, override(RECIPE, ONCE | changes), "self_training", tmp_path, pace=quiet, kind=Unawaited)
    try:
        run.own(run)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert run.steps == STEPS - 2  # type: ignore[attr-defined]


def test_stored_labels_and_their_counts_are_those_of_the_cpu(chain: Chain, tmp_path: Path) -> None:
    for device in (CPU, GPU):
        run = on(device, chain, RECIPE, "labels", tmp_path / device.type)
        run.own(run)
    names = sorted(p.name for p in (tmp_path / "cpu/labels").glob("*.png"))
    found = [[torch.from_numpy(png(tmp_path / d / "labels" / name)) for name in names] for d in ("cpu", "cuda")]
    here, there = map(torch.stack, found)
    assert (here == there).float().mean() > 0.999  # a pixel may lie between two classes


def test_winners_and_counts_on_a_gpu() -> None:
    logits = torch.randn(2, 19, 17, 33, dtype=torch.float64)
    label = torch.randint(0, 20, (2, 128, 256)).masked_fill_(torch.rand(2, 128, 256) < 0.1, IGNORE).clamp_(max=IGNORE)
    label[label == 19] = IGNORE
    here, there = winners([logits], label, True), winners([logits.to(GPU)], label.to(GPU), True)
    assert torch.equal(here, there.cpu())
    assert torch.equal(confusion(here, label, 19), confusion(there, label.to(GPU), 19).cpu())


@pytest.mark.slow
def test_a_worker_of_ray_train_on_a_gpu(chain: Chain, tmp_path: Path) -> None:
    """By nccl, as a cluster's workers talk."""
    pytest.importorskip("ray")
    from diga.launch.cluster import cluster
    from diga.launch.ray_train import on_ray

    with cluster(cpus=2):
        left = execute(until(small(), "warm_up"), Place(tmp_path, chain.place.data), on_ray(1, gpus=1))
    alone, there = told_by(chain.folders["warm_up"]), told_by(left["warm_up"])
    assert [step for step, _ in there] == [step for step, _ in alone]
    assert there[0][1] == pytest.approx(alone[0][1], rel=1e-2)
