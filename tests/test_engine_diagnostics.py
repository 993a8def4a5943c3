"""Alarms, drift and curves: from handmade snapshots, by numerical integrals, in loops over classes."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Normal, kl_divergence

from diga.data.labels import CLASSES
from diga.engine import curves, diagnostics
from diga.engine.checkpoint import read_weights
from diga.engine.curves import Point
from diga.engine.evaluate import confusions, reestimated
from diga.engine.label_free import Look
from diga.engine.run import Run
from diga.engine.scoring import labelled, named_protocol
from diga.models.norm import norms
from diga.models.streetnet import streetnet
from experiments.diga import TARGET
from tests.conftest import Chain, png, stage_run, told_by


def point(step: int, counts: list[list[int]]) -> Point:
    return Point(step, Path(f"{step:08d}.pt"), torch.tensor(counts))


@pytest.fixture
def run(chain: Chain, tmp_path: Path) -> Run:
    return stage_run(chain, chain.recipe, "score", tmp_path)


# --- drift -------------------------------------------------------------------------------


def test_divergence_is_the_mean_of_both_kullback_leibler_divergences() -> None:
    g = torch.Generator().manual_seed(0)
    m, n = (torch.randn(50, generator=g, dtype=torch.float64) for _ in range(2))
    v, w = (torch.rand(50, generator=g, dtype=torch.float64) * 3 + 0.01 for _ in range(2))
    p, q = Normal(m, v.sqrt()), Normal(n, w.sqrt())
    slow = (kl_divergence(p, q) + kl_divergence(q, p)) / 2
    torch.testing.assert_close(diagnostics.divergence((m, v), (n, w)), slow)
    torch.testing.assert_close(diagnostics.divergence((n, w), (m, v)), slow)
    assert diagnostics.divergence((m, v), (m, v)).abs().max() < 1e-12


def moments_of(norm: nn.BatchNorm2d, c: int) -> tuple[float, float]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return float(norm.running_mean[c]), float(norm.running_var[c]) + norm.eps


def test_drift_is_the_mean_over_layers_and_channels(run: Run, chain: Chain) -> None:
    net = run.segmenter("self_training")
    other = reestimated(net, (image for _, image in run.images(TARGET, "train")))
    slow = []
    for a, b in zip(norms(net), norms(other), strict=True):
        for c in range(a.num_features):
            (m, v), (n, w) = (moments_of(norm, c) for norm in (a, b))
            x = np.linspace(min(m - 12 * v**0.5, n - 12 * w**0.5), max(m + 12 * v**0.5, n + 12 * w**0.5), 4001)
            log_p = -((x - m) ** 2) / (2 * v) - math.log(2 * math.pi * v) / 2
            log_q = -((x - n) ** 2) / (2 * w) - math.log(2 * math.pi * w) / 2
            slow.append(np.trapezoid((np.exp(log_p) - np.exp(log_q)) * (log_p - log_q), x) / 2)
    assert diagnostics.drift(net, other) == pytest.approx(np.mean(slow), rel=1e-3)
    scores = json.loads((chain.folders["score"] / "scores.json").read_text())
    assert scores[f"drift/{TARGET}"] == diagnostics.drift(net, other)


def test_no_drift_from_itself_and_none_without_batch_norm() -> None:
    net = streetnet(19)
    assert diagnostics.drift(net, net) == pytest.approx(0, abs=1e-9)
    assert diagnostics.drift(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)) is None


def test_a_dead_channel_drifts_by_a_finite_amount() -> None:
    net, other = streetnet(19), streetnet(19)
    for norm in norms(net):
        assert norm.running_var is not None
        norm.running_var.zero_()
    found = diagnostics.drift(net, other)
    assert found is not None
    assert 1e3 < found < 1e6


# --- classes that are unlearnt -----------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 5))
def test_unlearnt_is_what_was_hit_before_and_wins_nothing_now(seed: int, N: int, K: int) -> None:
    g = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, 5, (N, K, K), generator=g) * (torch.rand(N, 1, K, generator=g) < 0.5)
    points = [point(10 * i, c.tolist()) for i, c in enumerate(counts)]
    slow = torch.zeros(N, K, dtype=torch.bool)
    for i in range(N):
        for k in range(K):
            hit = any(counts[j, k, k] > 0 for j in range(i))
            slow[i, k] = hit and all(counts[i, t, k] == 0 for t in range(K))
    assert torch.equal(diagnostics.unlearnt(points), slow)


def test_a_class_that_was_never_hit_is_no_alarm() -> None:
    points = [point(1, [[5, 3], [4, 0]]), point(2, [[8, 0], [4, 0]])]
    assert not diagnostics.unlearnt(points).any()


def test_the_story_names_when_it_was_best_and_when_it_went() -> None:
    good, better, gone = [[4, 2], [2, 4]], [[5, 1], [1, 5]], [[6, 0], [6, 0]]
    points = [point(10, good), point(20, better), point(30, good), point(40, gone), point(50, gone)]
    assert diagnostics.story(points, 1) == {"best_iou": 5 / 7, "best_step": 20, "gone_step": 40}


def without(net: dict[str, torch.Tensor], k: int) -> dict[str, torch.Tensor]:
    """Weights that never say class `k`."""
    return net | {"classifier.bias": net["classifier.bias"] - 1e4 * F.one_hot(torch.tensor(k), 19)}


def test_a_class_that_vanishes_is_told_once(chain: Chain, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Of three snapshots, the second and the third have forgotten the road."""
    copy, road = tmp_path / "stage", CLASSES.index("road")
    shutil.copytree(chain.folders["self_training"], copy)
    last = max((copy / "snapshots").glob("*.pt"))
    good = read_weights(last)
    shutil.rmtree(copy / "snapshots")
    (copy / "snapshots").mkdir()
    for step, weights in ((1, good), (2, without(good, road)), (3, without(good, road))):
        torch.save(weights, copy / "snapshots" / f"{step:08d}.pt")
    run = stage_run(chain, chain.recipe, "score", tmp_path / "score", {"self_training": copy})
    run.recipe.stages["score"](run)
    rows = [values for _, values in told_by(run.folder)]
    assert [values["alarm/vanished"] for values in rows] == [0, 1, 1]
    assert rows[0][f"{TARGET}/plain/iou/road"] > 0 == rows[1][f"{TARGET}/plain/iou/road"]
    assert json.loads((run.folder / "scores.json").read_text())["alarm/vanished"] == 1
    found = json.loads((run.folder / "diagnostics.json").read_text())
    assert found["steps"] == [1, 2, 3]
    assert found["vanished"] == {
        "road": {"best_iou": rows[0][f"{TARGET}/plain/iou/road"], "best_step": 1, "gone_step": 2}
    }
    warning = "warning: self_training: found at an earlier snapshot, gone at the last: road"
    assert [line for line in capfd.readouterr().err.splitlines() if "warning" in line] == [warning]


def test_nothing_vanished_and_nothing_is_said(chain: Chain, run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    points = [point(1, [[5, 0], [0, 5]])]
    assert diagnostics.write(run, "warm_up", TARGET, points, None) == {"alarm/vanished": 0.0}
    assert diagnostics.write(run, "warm_up", TARGET, [], None) == {}
    assert json.loads((run.folder / "diagnostics.json").read_text())["vanished"] == {}
    assert capfd.readouterr().err == ""


def test_known_is_what_won_a_target_cell_at_any_snapshot() -> None:
    won = torch.eye(19, dtype=torch.bool)
    points = [point(i, [[1]])._replace(looked=Look({}, won[k])) for i, k in enumerate((3, 7, 3))]
    assert curves.known([*points, point(9, [[1]])], 19).nonzero().flatten().tolist() == [3, 7]
    assert not curves.known([], 19).any()


# --- curves ------------------------------------------------------------------------------


def test_each_class_has_a_curve(chain: Chain, run: Run) -> None:
    test = named_protocol(run, "two_scale_max")
    for file, (step, values) in zip(
        sorted((run.inputs["self_training"] / "snapshots").glob("*.pt")), told_by(chain.folders["score"]), strict=True
    ):
        counts = confusions(curves.weighted(run, "self_training", file), labelled(run, TARGET), test, 19).sum(0).numpy()
        slow = {}
        for k, name in enumerate(CLASSES):
            union = counts[k].sum() + counts[:, k].sum() - counts[k, k]
            if union:
                slow[name] = counts[k, k] / union
        assert step == int(file.stem)
        assert {n.rsplit("/", 1)[1]: v for n, v in values.items() if "/plain/iou/" in n} == pytest.approx(slow)
        assert values[f"{TARGET}/plain/miou"] == pytest.approx(np.mean(list(slow.values())))


def test_a_snapshot_without_a_labelled_pixel_has_no_number_and_no_rank() -> None:
    empty, bad = point(1, np.zeros((19, 19), int).tolist()), point(2, (3 - 3 * np.eye(19, dtype=int)).tolist())
    assert curves.row(TARGET, [empty], 19) == {"alarm/vanished": 0.0}
    assert max([empty, bad], key=lambda p: p.miou) is bad


@pytest.mark.parametrize(("classes", "N"), [(19, 1), (16, 6), (19, 79)])
def test_the_picture_has_a_row_a_class(tmp_path: Path, classes: int, N: int) -> None:
    g = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 50, (N, classes, classes), generator=g)
    counts[:, 3] = counts[:, :, 3] = 0  # a class that is nowhere
    points = [point(10 * (i + 1), c.tolist()) for i, c in enumerate(counts)]
    curves.draw(tmp_path / "pictures/curves.png", "a title", points, classes)
    curves.draw(tmp_path / "pictures/again.png", "a title", points, classes)
    found = png(tmp_path / "pictures/curves.png")
    assert (tmp_path / "pictures/curves.png").read_bytes() == (tmp_path / "pictures/again.png").read_bytes()
    grey = (found[..., :3] == 0xD9).all(-1)
    assert grey.any(1).sum() > 10, "the class that is nowhere is grey"
    assert 300 < found.shape[1] < 1200


def test_the_score_leaves_the_picture(chain: Chain) -> None:
    assert png(chain.folders["score"] / "pictures/curves.png").std() > 10
