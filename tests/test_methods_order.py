"""The order of a step: the teacher follows, labels are agreed on, centroids move, the student descends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diga.engine import run as running
from diga.engine.run import Run
from diga.methods.diga import SelfTraining, WarmUp
from diga.ops.prototypes import Prototypes
from diga.settings import Plan
from diga.types import Pair, Prediction
from tests.conftest import Chain, carried_out, small, stage_run

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def watched(monkeypatch: pytest.MonkeyPatch, read: Any) -> list[Any]:
    """What `read(nets)` finds before the first step and after each."""
    seen: list[Any] = []
    real = running.fit

    def fit(run: Run, nets: nn.ModuleDict, step: Any, plan: Plan, *how: Any) -> None:
        def looking(pair: Pair, t: int) -> Iterator[Any]:
            seen.append(read(nets))
            yield from step(pair, t)

        real(run, nets, looking, plan, *how)
        seen.append(read(nets))

    monkeypatch.setattr(running, "fit", fit)
    return seen


@pytest.mark.parametrize("stage", ["warm_up", "self_training"])
def test_the_teacher_follows_before_each_step(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """T_t = xi_t T_(t-1) + (1 - xi_t) S_t with xi = 0, 1/2, 2/3, then the cap; S_t is not yet descended."""
    parts = ("student", "teacher")
    seen = watched(monkeypatch, lambda nets: [[p.detach().clone() for p in nets[n].parameters()] for n in parts])
    carried_out(chain, small(**{f"{stage}__ema": 0.6, f"{stage}__plan__steps": 4}), stage, tmp_path)
    T = seen[0][1]
    for t, (S, _) in enumerate(seen[:-1]):
        xi = min(1 - 1 / (t + 1), 0.6)
        T = [xi * a + (1 - xi) * b for a, b in zip(T, S, strict=True)]
        for a, b in zip(T, seen[t + 1][1], strict=True):
            torch.testing.assert_close(b, a, **CLOSE)
    assert any(not torch.equal(a, b) for a, b in zip(*seen[-1], strict=True))


@pytest.mark.parametrize("policy", ["batch", "copied"])
@pytest.mark.parametrize("student", ["batch", "running"])
def test_the_teachers_statistics(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, student: str
) -> None:
    """It normalises by its batches, or by the student's buffers."""
    buffers = lambda net: torch.cat([b.flatten() for b in net.buffers() if b.is_floating_point()])  # noqa: E731
    seen = watched(monkeypatch, lambda nets: [(buffers(nets[n]), nets[n].training) for n in ("student", "teacher")])
    how = {"warm_up__statistics__teacher": policy, "warm_up__statistics__student": student}
    carried_out(chain, small(**how, warm_up__plan__steps=3), "warm_up", tmp_path)
    (S0, _), (T0, _) = seen[0]
    (S1, _), (T1, training) = seen[-2]
    assert training == (policy == "batch")
    assert torch.equal(S0, S1) == (student == "running")
    if policy == "batch":
        assert not torch.equal(T0, T1)
    else:
        torch.testing.assert_close(seen[-1][1][0], S1)  # copied before the last step, from the student then


def test_consensus_reads_the_centroids_before_they_move(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what moves them is the teacher, on x_cdm and on the weak x_t."""
    read: list[Tensor] = []
    asked: list[tuple[Tensor, Tensor]] = []
    real, move = SelfTraining.opinions, SelfTraining.move

    def opinions(self: SelfTraining, run: Run, pair: Pair, seen: Prediction, rho: Prototypes, limits: None) -> Any:
        read.append(rho.vectors.clone())
        return real(self, run, pair, seen, rho, limits)

    def moved(self: SelfTraining, run: Run, rho: Prototypes, source: Any, target: Any) -> None:
        asked.append((rho.vectors.clone(), source[0].features.clone()))
        assert target[1].shape == source[1].shape == (4, 28, 56)
        move(self, run, rho, source, target)

    monkeypatch.setattr(SelfTraining, "opinions", opinions)
    monkeypatch.setattr(SelfTraining, "move", moved)
    recipe = small(self_training__delta=0.5, self_training__least=1)
    left = carried_out(chain, recipe, "self_training", tmp_path)
    assert len(read) == len(asked) == recipe.stages["self_training"].plan.steps
    assert all(torch.equal(a, b) for a, (b, _) in zip(read, asked, strict=True))
    assert not torch.equal(read[0], read[1])
    assert not torch.equal(read[-1], left["prototypes.vectors"])
    run = stage_run(chain, recipe, "self_training", tmp_path / "look")
    S = run.segmenter("warm_up").train()
    pair = next(run.pairs(0, 1))
    x_cdm = recipe.stages["self_training"].view(run, pair.source, WarmUp.painter(recipe.stages["warm_up"], run), 0)
    with torch.no_grad():  # at step 0 the teacher's weights are the student's
        features = S(torch.cat([pair.source.image, x_cdm])).features[4:]
    torch.testing.assert_close(asked[0][1], features)
