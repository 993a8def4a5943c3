"""Adversarial warm-up: its losses, who is frozen when, whose statistics move, and what may follow it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from diga import ops
from diga.engine.fit import Step
from diga.engine.run import Run
from diga.errors import ConfigError, Diverged
from diga.methods.adversarial import (
    ADAPTSEGNET,
    JUDGED,
    LEAST_SQUARES_MIC,
    LEAST_SQUARES_PRODA,
    AdversarialWarmUp,
)
from diga.methods.diga import WarmUp
from diga.methods.source_only import SourceOnly
from diga.methods.views import MASK, PAINT, VIEW
from diga.models.judge import LEAST_SIDE
from diga.models.norm import norms
from diga.models.streetnet import streetnet_aux
from diga.pipeline import Place, execute
from diga.recipe import Recipe, override
from diga.settings import Plan, Statistics
from diga.types import IGNORE, Pair
from tests.conftest import BRIEF, Chain, carried_out, differing, small, stage_run, told_by, with_stage

BATCH, CROP, K = 2, (32, 64), 19
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
PLAN = Plan(steps=3, optimizer="sgd", lr=0.05, snapshots=1)
LEAST_SQUARES = {"judge": "least_squares", "adversarial": 0.2}


def adversarial(**fields: Any) -> AdversarialWarmUp:
    """A warm-up of a few steps with a narrow judge."""
    return AdversarialWarmUp(**{"width": 4, "plan": PLAN} | fields)


def recipe_of(stage: Any, **changes: Any) -> Recipe:
    """The small recipe with crops that a judge can read, and another warm-up."""
    return with_stage(small(**{"crop": CROP, "batch": BATCH} | changes), "warm_up", stage)


class Held(NamedTuple):
    """What a stage hands to the loop."""

    nets: dict[str, nn.Module]
    step: Step
    plans: Mapping[str, Plan]


def held(monkeypatch: pytest.MonkeyPatch, run: Run) -> Held:
    """Networks and step of a stage whose loop is not begun."""
    found: list[Held] = []

    def fit(self: Run, nets: Any, step: Step, plan: Plan, plans: Mapping[str, Plan]) -> None:
        found.append(Held(dict(nets), step, plans))

    monkeypatch.setattr(Run, "fit", fit)
    run.own(run)
    return found[0]


def first_step(
    chain: Chain, folder: Path, monkeypatch: pytest.MonkeyPatch, stage: Any, **changes: Any
) -> tuple[Run, Held]:
    """A run of `stage` and what it hands to the loop."""
    run = stage_run(chain, recipe_of(stage, **changes), "warm_up", folder)
    return run, held(monkeypatch, run)


# --- one step ------------------------------------------------------------------------------


def slow_cross_entropy(p: Tensor, label: Tensor, weights: list[float], by_all: bool) -> float:
    """Eq. 1, pixel by pixel, of logits (B, K, H, W)."""
    total, counted = 0.0, 0
    for b, i, j in ((b, i, j) for b in range(len(p)) for i in range(p.shape[2]) for j in range(p.shape[3])):
        k = int(label[b, i, j])
        counted += by_all or k != IGNORE
        if k != IGNORE:
            values = p[b, :, i, j].tolist()
            total -= weights[k] * (values[k] - math.log(sum(map(math.exp, values))))
    return total / counted


def slow_judgement(judge: str, scores: Tensor, says: int) -> float:
    """How far scores are from 0 for the source, 1 for the target; mean over all patches."""
    terms = []
    for score in scores.flatten().tolist():
        if judge == "least_squares":
            terms.append((score - says) ** 2)
        else:
            p = 1 / (1 + math.exp(-score))
            terms.append(-math.log(p if says else 1 - p))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("normalise", ["valid", "all"])
@pytest.mark.parametrize("judge", [{}, LEAST_SQUARES])
def test_the_losses_of_a_step(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, align: bool, normalise: str, judge: dict[str, Any]
) -> None:
    stage = adversarial(normalise=normalise, **judge)
    run, loop = first_step(chain, tmp_path, monkeypatch, stage, align_corners=align)
    S, D = loop.nets["student"], loop.nets["judge"]
    pair = next(run.pairs(0, 1))
    with torch.no_grad():
        logits_s, logits_t = S(pair.source.image).logits, S(pair.target).logits
        p_s, p_t = (
            nn.functional.interpolate(x, CROP, mode="bilinear", align_corners=align) for x in (logits_s, logits_t)
        )
        scores_s, scores_t = D(p_s.softmax(1)), D(p_t.softmax(1))
    updates = loop.step(pair, 0)
    (first, losses), (second, judging) = next(updates), next(updates)
    assert (first, second) == ("student", "judge")
    assert run.weights is not None
    wanted = slow_cross_entropy(p_s, pair.source.label, run.weights.tolist(), normalise == "all")
    assert losses["source"].item() == pytest.approx(wanted, rel=1e-5)
    fooled = slow_judgement(stage.judge, scores_t, says=0)
    assert losses["fool"].item() == pytest.approx(stage.adversarial * fooled, rel=1e-5)
    assert judging["judge_source"].item() == pytest.approx(slow_judgement(stage.judge, scores_s, 0) / 2, rel=1e-5)
    assert judging["judge_target"].item() == pytest.approx(slow_judgement(stage.judge, scores_t, 1) / 2, rel=1e-5)
    assert set(losses) == {"source", "fool"}
    assert set(judging) == {"judge_source", "judge_target"}
    assert next(updates, None) is None


def test_both_views_are_learnt_and_judged_for_source(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a translator: y_s is the label of x_s and of x_cdm, and the judge takes the outputs of both for source."""
    stage = adversarial(translator="translator")
    run, loop = first_step(chain, tmp_path, monkeypatch, stage)
    S, D = loop.nets["student"], loop.nets["judge"]
    pair = next(run.pairs(0, 1))
    source = pair.source
    M = ops.masks.classes(source.label, run.chance(0, MASK), stage.mask)
    painted = stage.painter(run)(source, run.chance(0, PAINT))  # type: ignore[misc]
    strong = ops.augment.strong(source.image, stage.strong, run.chance(0, VIEW))
    views = torch.cat([source.image, torch.where(M, strong, painted)])
    with torch.no_grad():
        p = run.upsample(S(views).logits, source.label)
        score = slow_judgement("cross_entropy", D(p.softmax(1)), 0)
    updates = loop.step(pair, 0)
    losses, judging = next(updates)[1], next(updates)[1]
    assert run.weights is not None
    halves = [slow_cross_entropy(x, source.label, run.weights.tolist(), False) for x in p.chunk(2)]
    assert losses["source"].item() == pytest.approx(sum(halves) / 2, rel=1e-5)
    assert judging["judge_source"].item() == pytest.approx(score / 2, rel=1e-5)


def test_the_second_view_is_that_of_distillation(chain: Chain, tmp_path: Path) -> None:
    """Rows of Table 4 see the same images, step by step."""
    ours, theirs = adversarial(translator="translator"), WarmUp(translator="translator", plan=PLAN)
    views = []
    for name, stage in (("a", ours), ("b", theirs)):
        run = stage_run(chain, recipe_of(stage), "warm_up", tmp_path / name)
        pair = next(run.pairs(0, 1))
        views.append(stage.view(run, pair.source, stage.painter(run), 0))
        alone = stage.view(run, pair.source, None, 0)
        assert torch.equal(alone, pair.source.image) == (stage is ours)
    assert torch.equal(*views)


def test_each_network_descends_while_the_other_is_frozen(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, loop = first_step(chain, tmp_path, monkeypatch, adversarial(translator="translator"))
    for t, pair in enumerate(run.pairs(0, 2)):
        for name, losses in loop.step(pair, t):
            torch.stack(list(losses.values())).sum().backward()
            for other, net in loop.nets.items():
                touched = [p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters()]
                assert any(touched) == (other == name), (t, name, other)
                net.zero_grad()


def test_the_student_is_told_by_the_judge_as_it_was_before_its_update(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient of `fool` reaches the student through the judge, and makes the judge doubt."""
    run, loop = first_step(chain, tmp_path, monkeypatch, adversarial(adversarial=1.0))
    S, pair = loop.nets["student"], next(run.pairs(0, 1))
    before = next(loop.step(pair, 0))[1]["fool"]
    gradients = torch.autograd.grad(before, list(S.parameters()), allow_unused=True)
    assert sum(float(g.abs().sum()) for g in gradients if g is not None) > 0
    with torch.no_grad():
        for p, g in zip(S.parameters(), gradients, strict=True):
            p -= 0 if g is None else 10 * g
    after = next(loop.step(pair, 0))[1]["fool"]
    assert after < before


def test_an_auxiliary_head_learns_beside(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, loop = first_step(chain, tmp_path, monkeypatch, adversarial(aux=0.3), model="streetnet_aux")
    pair = next(run.pairs(0, 1))
    assert isinstance(loop.nets["student"], type(streetnet_aux(K)))
    with torch.no_grad():
        seen = loop.nets["student"](pair.source.image)
    losses = next(loop.step(pair, 0))[1]
    assert seen.aux is not None
    wanted = 0.3 * run.cross_entropy(seen.aux, pair.source.label, "valid")
    torch.testing.assert_close(losses["source_aux"], wanted, **CLOSE)


# --- the loop ------------------------------------------------------------------------------


def test_student_and_judge_descend_by_plans_of_their_own(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, loop = first_step(chain, tmp_path, monkeypatch, adversarial())
    judge = loop.plans["judge"]
    assert (judge.optimizer, judge.lr, judge.momentum, judge.beta_2) == ("adam", 1e-4, 0.9, 0.99)
    assert judge.steps == PLAN.steps
    assert list(loop.plans) == ["judge"]
    longer = override(recipe_of(adversarial()), {"warm_up.plan.steps": 9, "warm_up.judge_plan.lr": 1e-3})
    assert longer.stages["warm_up"].judge_plan == judge.model_copy(update={"steps": 9, "lr": 1e-3})


def test_without_a_judges_weight_it_is_source_only(chain: Chain, tmp_path: Path) -> None:
    ours = carried_out(chain, recipe_of(adversarial(adversarial=0.0)), "warm_up", tmp_path / "a")
    floor = carried_out(chain, recipe_of(SourceOnly(plan=PLAN)), "warm_up", tmp_path / "b")
    for name, x in floor.items():
        torch.testing.assert_close(ours[name], x, **CLOSE)
    assert {name.split(".")[0] for name in ours} == {"student", "judge"}
    moved = carried_out(chain, recipe_of(adversarial(adversarial=5.0)), "warm_up", tmp_path / "c")
    assert any(name.startswith("student.classifier") for name in differing(ours, moved))


def test_it_says_how_often_the_judge_is_right(chain: Chain, tmp_path: Path) -> None:
    carried_out(chain, recipe_of(adversarial()), "warm_up", tmp_path)
    rows = told_by(tmp_path)
    terms = {"lr", "loss/source", "loss/fool", "loss/judge_source", "loss/judge_target"}
    assert set(rows[0][1]) == terms
    assert set(rows[BRIEF.log - 1][1]) == terms | {"judged/source", "judged/target"}
    assert 0 <= rows[BRIEF.log - 1][1]["judged/source"] <= 1
    stage, scores = adversarial(), torch.tensor([-1.0, 0.2, 0.7, 2.0])
    assert stage.told(scores, True).item() == 0.75
    assert stage.told(scores, False).item() == 0.25
    assert adversarial(judge="least_squares").told(scores, True).item() == 0.5


@pytest.mark.parametrize("update", [(), ("views",), ("target",), ("views", "target")])
def test_target_images_move_statistics_only_when_asked(chain: Chain, tmp_path: Path, update: tuple[Any, ...]) -> None:
    assert AdversarialWarmUp().statistics.update == ("views",)
    one = PLAN.model_copy(update={"steps": 1})
    recipe = recipe_of(adversarial(plan=one, statistics=Statistics(update=update)))
    left = carried_out(chain, recipe, "warm_up", tmp_path / "run")
    run = stage_run(chain, recipe, "warm_up", tmp_path / "look")
    pair = next(run.pairs(0, 1))
    slow = run.segmenter().train()
    with torch.no_grad():
        for name, image in (("views", pair.source.image), ("target", pair.target)):
            if name in update:
                slow(image)
    for name, buffer in slow.named_buffers():
        torch.testing.assert_close(left[f"student.{name}"], buffer, **CLOSE)
    still = [torch.equal(norm.running_mean, torch.zeros_like(norm.running_mean)) for norm in norms(slow)]
    assert all(still) == (update == ())


class Stopped(Exception):
    """What ends a run in the middle."""


def test_it_goes_on_bit_for_bit(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of(adversarial(translator="translator", plan=PLAN.model_copy(update={"steps": 6})))
    whole = carried_out(chain, recipe, "warm_up", tmp_path / "whole")
    real = Run.pairs

    def pairs(self: Run, start: int, stop: int) -> Iterator[Pair]:
        for t, pair in enumerate(real(self, start, stop), start):
            if t == BRIEF.save + 1:
                raise Stopped
            yield pair

    monkeypatch.setattr(Run, "pairs", pairs)
    with pytest.raises(Stopped):
        carried_out(chain, recipe, "warm_up", tmp_path / "cut")
    begun: list[int] = []
    monkeypatch.setattr(Run, "pairs", lambda self, *steps: begun.append(steps[0]) or real(self, *steps))
    again = carried_out(chain, recipe, "warm_up", tmp_path / "cut")
    assert begun == [BRIEF.save]
    assert differing(whole, again) == []


def test_what_is_not_finite_is_refused(chain: Chain, tmp_path: Path) -> None:
    wild = Plan(optimizer="sgd", lr=1e6, head=1.0, snapshots=1)
    with pytest.raises(Diverged, match="lower plan"):
        carried_out(chain, recipe_of(adversarial(judge_plan=wild, judge="least_squares")), "warm_up", tmp_path)


@pytest.mark.parametrize("translator", [None, "translator"])
def test_self_training_and_scores_follow_it(data: Path, tmp_path: Path, translator: str | None) -> None:
    recipe = recipe_of(adversarial(translator=translator), score__samples=0)
    recipe = override(recipe, {"self_training.plan.steps": 2, "centroids.translator": translator})
    folders = execute(recipe, Place(tmp_path, data))
    assert list(folders) == list(recipe.needed())
    assert (folders["score"] / "scores.json").stat().st_size > 100


# --- what it takes -------------------------------------------------------------------------


VARIANTS = {"adaptsegnet": ADAPTSEGNET, "proda": LEAST_SQUARES_PRODA, "mic": LEAST_SQUARES_MIC}


def test_named_variants_are_fields() -> None:
    losses = {name: AdversarialWarmUp(**fields).judge for name, fields in VARIANTS.items()}
    assert losses == {"adaptsegnet": "cross_entropy", "proda": "least_squares", "mic": "least_squares"}
    assert [AdversarialWarmUp(**fields).adversarial for fields in VARIANTS.values()] == [0.001, 0.01, 0.001]
    assert AdversarialWarmUp(**ADAPTSEGNET) == AdversarialWarmUp()


def test_small_crops_are_refused_before_anything_is_read() -> None:
    assert JUDGED == LEAST_SIDE
    with pytest.raises(ConfigError) as refused:
        recipe_of(adversarial(), crop=(28, 56))
    line = "crop: 28 x 56 pixels, too few for the judge of 'warm_up' (32 a side at least)"
    assert str(refused.value) == line
    assert recipe_of(adversarial(), crop=(32, 32)).crop == (32, 32)


def test_the_target_is_read_as_images_alone(chain: Chain, tmp_path: Path) -> None:
    recipe = recipe_of(adversarial())
    assert recipe.stages["warm_up"].reads() == {"source", "target"}
    assert recipe.stages["warm_up"].guesses() is None
    pair = next(stage_run(chain, recipe, "warm_up", tmp_path).pairs(0, 1))
    assert pair.target.shape == (BATCH, 3, *CROP)
    assert pair.guess is None
