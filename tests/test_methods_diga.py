"""The equations as the step of DiGA uses them, against loops over images, pixels and classes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diga import ops
from diga.engine.run import Run
from diga.methods.source_only import SourceOnly
from diga.methods.targets import cells
from diga.methods.views import MASK, MIX, PAINT, TARGET_VIEW, VIEW
from diga.ops.prototypes import Prototypes
from diga.ops.rules import Chosen
from diga.recipe import override
from diga.settings import Mask, Plan, Statistics
from diga.types import IGNORE, Batch, Guess, Pair, Prediction
from tests.conftest import Chain, carried_out, small, stage_run, told_by, with_stage

B, K, D, H, W, h, w = 2, 19, 3, 6, 9, 2, 3
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels(seed: int, *shape: int, classes: int = K, void: float = 0.3) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, classes, shape, generator=g)
    return y.masked_fill(torch.rand(shape, generator=g) < void, IGNORE)


def run_of(chain: Chain, tmp_path: Path, stage: str = "warm_up", **changes: Any) -> tuple[Any, Run]:
    """A stage of a recipe with two images a batch, and a run of it."""
    recipe = small(**{"batch": B} | changes)
    return recipe.stages[stage], stage_run(chain, recipe, stage, tmp_path / "run")


# --- slow versions -----------------------------------------------------------------------


def place(i: int, n: int, N: int, align: bool) -> tuple[int, int, float]:
    """Between which two of n cells pixel i of N lies, and how far from the first."""
    x = i * (n - 1) / (N - 1) if align else max((i + 0.5) * n / N - 0.5, 0.0)
    first = min(int(x), n - 1)
    return first, min(first + 1, n - 1), x - first


def resized(x: Tensor, height: int, width: int, align: bool) -> Tensor:
    """Bilinear, cell by cell: (C, h, w) -> (C, H, W)."""
    out = torch.zeros(len(x), height, width)
    for i in range(height):
        top, bottom, a = place(i, x.shape[1], height, align)
        for j in range(width):
            left, right, b = place(j, x.shape[2], width, align)
            upper = (1 - b) * x[:, top, left] + b * x[:, top, right]
            lower = (1 - b) * x[:, bottom, left] + b * x[:, bottom, right]
            out[:, i, j] = (1 - a) * upper + a * lower
    return out


def log_softmax(x: Tensor) -> list[float]:
    values = x.tolist()
    top = max(values)
    total = math.log(sum(math.exp(v - top) for v in values)) + top
    return [v - total for v in values]


def slow_source_loss(p: Tensor, y: Tensor, weights: list[float], by_all: bool, align: bool) -> float:
    """Eq. 1."""
    total, counted = 0.0, 0
    for b in range(B):
        large = resized(p[b], H, W, align)
        for i in range(H):
            for j in range(W):
                k = int(y[b, i, j])
                counted += by_all or k != IGNORE
                total -= weights[k] * log_softmax(large[:, i, j])[k] if k != IGNORE else 0
    return total / counted


def slow_distillation(q: Tensor, p: Tensor) -> float:
    """H(q, p) of logits (B, K, n, m), mean over all images and places."""
    terms = []
    for b in range(len(q)):
        for i in range(q.shape[2]):
            for j in range(q.shape[3]):
                log_q, log_p = log_softmax(q[b, :, i, j]), log_softmax(p[b, :, i, j])
                terms.append(-sum(math.exp(a) * c for a, c in zip(log_q, log_p, strict=True)))
    return sum(terms) / len(terms)


# --- eq. 1 and 4 -------------------------------------------------------------------------


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("at", ["pixels", "cells"])
@pytest.mark.parametrize("normalise", ["valid", "all"])
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_the_losses_of_the_source(
    chain: Chain, tmp_path: Path, align: bool, at: str, normalise: str, alpha: float
) -> None:
    changes = {"warm_up__alpha": alpha, "warm_up__distil": 0.7, "warm_up__distil_at": at}
    stage, run = run_of(chain, tmp_path, align_corners=align, warm_up__normalise=normalise, **changes)
    p, q, y = normal(1, 2 * B, K, h, w), normal(2, 2 * B, K, h, w), labels(3, B, H, W)
    found = stage.source_losses(run, y, Prediction(p, p), Prediction(q, q))
    assert run.weights is not None
    wanted = slow_source_loss(p[:B], y, run.weights.tolist(), normalise == "all", align)
    assert found["source"].item() == pytest.approx(wanted, rel=1e-5)
    if at == "pixels":
        p, q = (torch.stack([resized(x, H, W, align) for x in logits]) for logits in (p, q))
    forth, back = slow_distillation(q[:B], p[B:]), slow_distillation(q[B:], p[:B])
    assert found["distil"].item() == pytest.approx(0.7 * (forth + alpha * back), rel=1e-5)
    assert set(found) == {"source", "distil"}


def test_both_views_of_the_student_are_instructed_and_the_teacher_never(chain: Chain, tmp_path: Path) -> None:
    stage, run = run_of(chain, tmp_path)
    p, q = normal(1, 2 * B, K, h, w).requires_grad_(), normal(2, 2 * B, K, h, w).requires_grad_()
    found = stage.source_losses(run, labels(3, B, H, W), Prediction(p, p), Prediction(q, q))
    by_p, by_q = torch.autograd.grad(found["distil"], [p, q], materialize_grads=True)
    assert all(half.abs().sum() > 0 for half in by_p.chunk(2))
    assert by_q.abs().sum() == 0
    by_label = torch.autograd.grad(found["source"], p)[0]
    assert by_label[B:].abs().sum() == 0 < by_label[:B].abs().sum()


def test_without_distillation_and_on_fixed_statistics_warm_up_is_source_only(chain: Chain, tmp_path: Path) -> None:
    plan, fixed = Plan(steps=3, lr=0.01, snapshots=1), Statistics(student="running")
    floor = with_stage(small(), "warm_up", SourceOnly(plan=plan, statistics=fixed))
    whole = override(small(), {"warm_up.plan": plan, "warm_up.statistics": fixed, "warm_up.distil": 0.0})
    a = carried_out(chain, floor, "warm_up", tmp_path / "a")
    b = carried_out(chain, whole, "warm_up", tmp_path / "b")
    assert all({"lr", "loss/source"} <= set(values) for _, values in told_by(tmp_path / "b"))
    for name, x in a.items():
        torch.testing.assert_close(b[name], x, **CLOSE)


def test_labels_instead_of_a_teacher(chain: Chain, tmp_path: Path) -> None:
    """The control of attribution: the same views, weights and images, and hard labels."""
    stage, run = run_of(chain, tmp_path, warm_up__instructor="labels", warm_up__distil=0.7, warm_up__alpha=0.3)
    p, y = normal(1, 2 * B, K, h, w), labels(3, B, H, W)
    found = stage.source_losses(run, y, Prediction(p, p), None)
    assert run.weights is not None
    ce = [slow_source_loss(part, y, run.weights.tolist(), False, False) for part in p.chunk(2)]
    assert found["source"].item() == pytest.approx(ce[0], rel=1e-5)
    assert found["views"].item() == pytest.approx(0.7 * (ce[1] + 0.3 * ce[0]), rel=1e-5)
    assert set(found) == {"source", "views"}
    left = carried_out(chain, small(warm_up__instructor="labels"), "warm_up", tmp_path / "whole")
    assert not any(name.startswith("teacher") for name in left), "a teacher that is not asked is not kept"


def test_an_auxiliary_head_has_the_same_losses_at_a_tenth(chain: Chain, tmp_path: Path) -> None:
    stage, run = run_of(chain, tmp_path)
    p, q, y = normal(1, 2 * B, K, h, w), normal(2, 2 * B, K, h, w), labels(3, B, H, W)
    a, c = normal(4, 2 * B, K, h, w), normal(5, 2 * B, K, h, w)
    main = stage.source_losses(run, y, Prediction(p, p), Prediction(q, q))
    alone = stage.source_losses(run, y, Prediction(a, a), Prediction(c, c))
    both = stage.source_losses(run, y, Prediction(p, p, a), Prediction(q, q, c))
    wanted = main | {f"{name}_aux": 0.1 * value for name, value in alone.items()}
    assert both.keys() == wanted.keys()
    assert all(torch.allclose(both[name], wanted[name]) for name in wanted)


# --- eq. 6 and class mix -----------------------------------------------------------------


def test_the_second_view_pixel_by_pixel(chain: Chain, tmp_path: Path) -> None:
    stage, run = run_of(chain, tmp_path)
    x, y = normal(1, B, 3, 8, 12).sigmoid(), labels(2, B, 8, 12, classes=4)
    paint, t = stage.painter(run), 5
    found = stage.view(run, Batch(x, y), paint, t)
    strong = ops.augment.strong(x, stage.strong, run.chance(t, VIEW))
    painted = paint(Batch(x, y), run.chance(t, PAINT))
    M = ops.masks.classes(y, run.chance(t, MASK), stage.mask)
    for b in range(B):
        chosen = {int(k) for k in y[b][M[b, 0]].unique()}
        assert len(chosen - {IGNORE}) == len(set(y[b].flatten().tolist()) - {IGNORE}) // 2
        for i in range(8):
            for j in range(12):
                wanted = strong if int(y[b, i, j]) in chosen else painted
                assert torch.equal(found[b, :, i, j], wanted[b, :, i, j])
    assert torch.equal(stage.view(run, Batch(x, y), None, t), strong)


@pytest.mark.parametrize("mix", ["classes", "none"])
def test_the_mixed_image_and_label_pixel_by_pixel(chain: Chain, tmp_path: Path, mix: str) -> None:
    stage, run = run_of(chain, tmp_path, "self_training", self_training__mix__kind=mix)
    x_s, y_s = normal(1, B, 3, 8, 12).sigmoid(), labels(2, B, 8, 12, classes=4)
    x_t, y_t = normal(3, B, 3, 8, 12).sigmoid(), labels(4, B, 8, 12)
    weight = normal(5, B, 8, 12).sigmoid()
    image, label, trust = stage.mixed(run, Pair(Batch(x_s, y_s), x_t), Chosen(y_t, weight), 7)
    strong = ops.augment.strong(x_t, stage.strong, run.chance(7, TARGET_VIEW))
    M = ops.masks.classes(y_s, run.chance(7, MIX), Mask())
    for b in range(B):
        for i in range(8):
            for j in range(12):
                front = mix == "classes" and bool(M[b, 0, i, j])
                assert torch.equal(image[b, :, i, j], (x_s if front else strong)[b, :, i, j])
                assert label[b, i, j] == (y_s if front else y_t)[b, i, j]
                assert trust[b, i, j] == (1 if front else weight[b, i, j])
    assert stage.mixed(run, Pair(Batch(x_s, y_s), x_t), Chosen(y_t), 7)[2] is None


# --- eq. 8 -------------------------------------------------------------------------------


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("unseen", ["ignored", "origin"])
def test_consensus_cell_by_cell(chain: Chain, tmp_path: Path, align: bool, unseen: str) -> None:
    stage, run = run_of(chain, tmp_path, "self_training", align_corners=align, self_training__unseen=unseen)
    f, y_warm = normal(1, B, D, h, w), labels(2, B, H, W, classes=5, void=0.1)
    rho = Prototypes(5, D)
    rho.vectors.copy_(1.5 * normal(3, 5, D))
    rho.seen.fill_(1)
    for k in (1, 4):
        rho.vectors[k], rho.seen[k] = 0, 0
    pair = Pair(Batch(torch.zeros(0), torch.zeros(0)), torch.zeros(0), Guess(y_warm))
    found = ops.rules.consensus(stage.opinions(run, pair, Prediction(f, f), rho, None)).label
    classes = [k for k in range(5) if unseen == "origin" or rho.seen[k]]
    agreed = set()
    for b in range(B):
        weights = torch.zeros(5, h, w)
        for i in range(h):
            for j in range(w):
                near = [math.exp(-math.dist(f[b, :, i, j].tolist(), rho.vectors[k].tolist())) for k in classes]
                for k, value in zip(classes, near, strict=True):
                    weights[k, i, j] = value / sum(near)
        y_feat = resized(weights, H, W, align).argmax(0)
        for i in range(H):
            for j in range(W):
                same = int(y_feat[i, j]) == int(y_warm[b, i, j])
                assert found[b, i, j] == (y_warm[b, i, j] if same else IGNORE)
                agreed |= {int(y_feat[i, j])} if same else set()
    assert agreed, "some pixel agrees"
    assert (1 in agreed or 4 in agreed) == (unseen == "origin")


# --- eq. 10 ------------------------------------------------------------------------------


def slow_move(rho: list[list[float]], seen: Prediction, label: Tensor, agreed: bool, least: int, delta: float) -> None:
    """Image by image, class by class."""
    for b in range(B):
        for k in range(K):
            members = [
                (i, j)
                for i in range(h)
                for j in range(w)
                if int(label[b, int((i + 0.5) * H / h), int((j + 0.5) * W / w)]) == k
                and (not agreed or int(seen.logits[b, :, i, j].argmax()) == k)
            ]
            if len(members) >= least:
                for d in range(D):
                    v = sum(float(seen.features[b, d, i, j]) for i, j in members) / len(members)
                    rho[k][d] = delta * rho[k][d] + (1 - delta) * v


@pytest.mark.parametrize("order", ["source_first", "target_first"])
@pytest.mark.parametrize("agreed", [False, True])
def test_centroids_move_image_by_image_in_order(chain: Chain, tmp_path: Path, order: str, agreed: bool) -> None:
    how = {"order": order, "agreed": agreed, "delta": 0.6, "least": 2}
    stage, run = run_of(chain, tmp_path, "self_training", **{f"self_training__{k}": v for k, v in how.items()})
    opinions = []
    for seed in (1, 2):
        y = labels(seed, B, H, W, classes=2, void=0.1)
        y[:, 1::3, 1::3] = 0  # class 0 is at the centre of every cell, so that order matters
        logits = normal(seed + 10, B, K, h, w)
        logits[:, 0] += 3
        opinions.append((Prediction(logits, normal(seed + 20, B, D, h, w)), y))
    rho = Prototypes(K, D)
    rho.vectors.copy_(normal(5, K, D))
    slow = rho.vectors.tolist()
    stage.move(run, rho, *opinions)
    for seen, y in opinions if order == "source_first" else opinions[::-1]:
        slow_move(slow, seen, y, agreed, 2, 0.6)
    torch.testing.assert_close(rho.vectors, torch.tensor(slow), **CLOSE)
    assert not torch.allclose(rho.vectors, normal(5, K, D))
    grid, y = torch.zeros(B, 1, h, w), opinions[0][1]
    assert torch.equal(cells(run, y, grid), y[:, H // h // 2 :: H // h, W // w // 2 :: W // w])
    official = run_of(chain, tmp_path / "official", "self_training", align_corners=True)[1]
    assert torch.equal(cells(official, y, grid), y[:, :: H // h, :: W // w])
