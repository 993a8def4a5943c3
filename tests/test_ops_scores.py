"""Confusion counts against a loop over pixels; scores against sets."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from diga.errors import DataError
from diga.ops.pseudo import winners
from diga.ops.scores import PART, confusion, iou, mean_iou
from diga.types import IGNORE

torch.set_num_threads(1)
KINDS = [torch.int64, torch.int32, torch.int16, torch.uint8]


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 3),
    st.integers(1, 20),
    st.sampled_from(KINDS),
    st.sampled_from(KINDS),
)
def test_confusion_is_the_slow_count(seed, B, K, kind, other):
    g = torch.Generator().manual_seed(seed)
    y, p = (torch.randint(0, K, (B, 4, 5), generator=g) for _ in range(2))
    y = y.masked_fill(torch.rand(y.shape, generator=g) < 0.3, IGNORE).to(kind)
    slow = torch.zeros(B, K, K, dtype=torch.int64)
    for b, i, j in itertools.product(range(B), range(4), range(5)):
        if y[b, i, j] != IGNORE:
            slow[b, int(y[b, i, j]), int(p[b, i, j])] += 1
    before = y.clone()
    found = confusion(p.to(other), y, K)
    assert torch.equal(found, slow)
    assert found.dtype == torch.int64
    assert torch.equal(y, before)


def test_void_alone_counts_nothing():
    y = torch.full((2, 1, 1), IGNORE)
    assert torch.equal(confusion(torch.zeros_like(y), y, 19), torch.zeros(2, 19, 19, dtype=torch.int64))


@pytest.mark.parametrize(("prediction", "label"), [(19, 0), (-1, 0), (IGNORE, 0), (19, IGNORE)])
def test_a_prediction_out_of_range_is_refused(prediction, label):
    p, y = torch.tensor([[[3, prediction]]]), torch.tensor([[[3, label]]])
    with pytest.raises(DataError, match=rf"prediction: found class {prediction} \(expected 0 ... 18"):
        confusion(p, y, 19)


@pytest.mark.parametrize("label", [19, 20, 254, -1])
def test_a_label_out_of_range_is_refused(label):
    with pytest.raises(DataError, match=rf"label: found class {label} \(expected 0 ... 18"):
        confusion(torch.tensor([[[3, 3]]]), torch.tensor([[[3, label]]]), 19)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9))
def test_iou_is_intersection_over_union(seed, K):
    g = torch.Generator().manual_seed(seed)
    y, p = (torch.randint(0, K, (1, 3, 4), generator=g) for _ in range(2))
    found = iou(confusion(p, y, K)[0])
    present = []
    for k in range(K):
        truth, guess = (set(map(tuple, (x[0] == k).nonzero().tolist())) for x in (y, p))
        if truth | guess:
            present.append(len(truth & guess) / len(truth | guess))
            assert found[k] == pytest.approx(present[-1], abs=1e-12)
        else:
            assert found[k].isnan()
    assert mean_iou(found) == pytest.approx(sum(present) / len(present), abs=1e-12)


def test_iou_takes_stacked_counts():
    counts = torch.randint(0, 9, (2, 3, 4, 4))
    assert torch.equal(iou(counts)[1, 2], iou(counts[1, 2]))


def test_mean_iou_of_a_subset_skips_the_absent():
    values = torch.tensor([0.2, torch.nan, 0.6, 1.0], dtype=torch.float64)
    assert mean_iou(values) == pytest.approx(0.6)
    assert mean_iou(values, [0, 1, 2]) == pytest.approx(0.4)
    assert mean_iou(values, (3,)) == 1
    assert math.isnan(mean_iou(values, [1]))


@pytest.mark.parametrize("align", [False, True])
def test_winners_are_the_argmax_of_the_largest_resized_map(align: bool) -> None:
    torch.manual_seed(0)
    maps, like = [torch.randn(2, 5, 9, 17), torch.randn(2, 5, 4, 8)], torch.empty(150, 131)
    large, little = (F.interpolate(x, like.shape, mode="bilinear", align_corners=align) for x in maps)
    found, slow = winners(maps, like, align), torch.maximum(large, little)
    best = slow.gather(1, found[:, None].long())[:, 0]
    assert found.shape == (2, 150, 131)
    torch.testing.assert_close(best, slow.amax(1), rtol=0, atol=1e-5)  # rounding may swap equals


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(1, 3))
def test_of_equals_the_lowest_class_wins(seed, K, levels):
    scores = torch.randint(0, levels, (2, K, 3, 7), generator=torch.Generator().manual_seed(seed)).float()
    found = winners([scores], scores)
    for b, i, j in itertools.product(range(2), range(3), range(7)):
        column = scores[b, :, i, j].tolist()
        assert found[b, i, j] == column.index(max(column))


def test_counts_do_not_depend_on_how_an_image_is_parted():
    y, p = (torch.randint(0, 19, (2, 3, PART // 2 + 11)) for _ in range(2))
    rows = [confusion(p[:, i : i + 1], y[:, i : i + 1], 19) for i in range(3)]
    assert torch.equal(confusion(p, y, 19), torch.stack(rows).sum(0))


@pytest.mark.parametrize("K", [2, 127, 128, 129, 250])
@pytest.mark.parametrize("B", [1, 2, 7])
def test_bytes_and_long_maps_count_the_same_however_many_classes_there_are(K, B):
    """Cells are numbered in 16 bits as long as 256 K B of them can be."""
    y, p = torch.randint(0, K, (B, 5, 9)), torch.randint(0, K, (B, 5, 9))
    y[:, 0], y[:, 1], p[:, 1] = IGNORE, K - 1, K - 1
    slow = torch.zeros(B, K, K, dtype=torch.long)
    for b, i, j in itertools.product(range(B), range(1, 5), range(9)):
        slow[b, y[b, i, j], p[b, i, j]] += 1
    assert torch.equal(confusion(p, y, K), slow)
    assert torch.equal(confusion(p.byte(), y.byte(), K), slow)
