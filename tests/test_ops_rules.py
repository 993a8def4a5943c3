"""Every label rule against a loop over pixels and classes in float64; confidences against sorted lists."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diga.ops import pseudo, rules
from diga.ops.prototypes import Prototypes
from diga.ops.rules import Chosen, Opinions
from diga.registry import names_in
from diga.settings import Trust
from diga.types import IGNORE, Prediction

torch.set_num_threads(1)
CLOSE = {"atol": 1e-6, "rtol": 1e-6}
B, K, D, H, W = 2, 4, 6, 7, 9


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def opinions(seed: int = 0, cells: tuple[int, int] = (3, 4), unseen: tuple[int, ...] = (), **given: object) -> Opinions:
    """Everything a rule can ask for, of a scene of noise; classes of `unseen` have no centroid."""
    rho = Prototypes(K, D).double()
    rho.vectors.copy_(random(seed, K, D))
    rho.seen.fill_(1)
    rho.vectors[list(unseen)], rho.seen[list(unseen)] = 0, 0
    features = random(seed + 1, B, D, *cells)
    g = torch.Generator().manual_seed(seed)
    warm = torch.randint(0, K, (B, H, W), generator=g).masked_fill(torch.rand(B, H, W, generator=g) < 0.2, IGNORE)
    known = Opinions(
        warm=warm,
        seen=Prediction(4 * random(seed + 2, B, K, *cells), features),
        distances=rho.distances(features, "ignored"),
        confidence=random(seed + 3, B, H, W).sigmoid(),
        probabilities=(3 * random(seed + 4, B, K, 5, 2)).softmax(1),
        thresholds=torch.tensor([0.2, 0.5, 0.9, 0.6]),
        trust=Trust(threshold=0.7),
        align_corners=False,
    )
    return known._replace(**given)


def resized(x: Tensor, size: tuple[int, int], align: bool) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=align)


def best(scores: Tensor) -> Tensor:
    """The first of the highest scores at each pixel, found one by one."""
    label = torch.zeros(len(scores), *scores.shape[2:], dtype=torch.int64)
    for b, i, j in itertools.product(*map(range, label.shape)):
        column = scores[b, :, i, j].tolist()
        label[b, i, j] = column.index(max(column))
    return label


def slow_affinity(distances: Tensor, tau: float = 1) -> Tensor:
    w = torch.zeros_like(distances)
    for b, i, j in itertools.product(range(B), *map(range, distances.shape[2:])):
        d = distances[b, :, i, j].tolist()
        e = [math.exp(-tau * (x - min(d))) for x in d]
        w[b, :, i, j] = torch.tensor([x / sum(e) for x in e])
    return w


# --- DiGA --------------------------------------------------------------------------------


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("unseen", [(), (1,), (0, 3)])
def test_feature_is_the_nearest_centroid_and_consensus_what_both_say(unseen, align):
    o = opinions(0, unseen=unseen, align_corners=align)
    nearest = best(resized(slow_affinity(o.distances), (H, W), align))
    assert torch.equal(rules.feature(o).label, nearest)
    assert not torch.isin(nearest, torch.tensor(unseen)).any()
    agreed = rules.consensus(o).label
    for p in itertools.product(range(B), range(H), range(W)):
        assert agreed[p] == (o.warm[p] if o.warm[p] == nearest[p] else IGNORE)


@pytest.mark.parametrize("unseen", ["ignored", "origin"])
def test_consensus_is_what_weights_resized_to_pixels_say(unseen):
    rho = Prototypes(K, D)
    rho.vectors.copy_(random(5, K, D))
    rho.seen[1:] = 1
    rho.vectors[0] = 0
    o = opinions(1)
    features = o.seen.features.float()
    wanted = pseudo.consensus(o.warm, pseudo.nearest(rho.weights(features, unseen), o.warm, True))
    found = rules.consensus(o._replace(distances=rho.distances(features, unseen), align_corners=True))
    assert torch.equal(found.label, wanted)
    assert found.weight is None


def test_the_warm_up_label_alone():
    o = opinions(2)
    assert rules.warm_up(o) == Chosen(o.warm, None)


# --- confidence --------------------------------------------------------------------------


def test_bdl_keeps_what_reaches_its_class_threshold():
    o = opinions(3)
    found = rules.bdl(o).label
    for p in itertools.product(range(B), range(H), range(W)):
        kept = o.warm[p] != IGNORE and o.confidence[p] >= o.thresholds[o.warm[p]]
        assert found[p] == (o.warm[p] if kept else IGNORE)
    assert {*found.unique().tolist()} == {0, 1, 2, 3, IGNORE}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bdl_keeps_a_confidence_of_eight_bits_that_is_the_threshold(dtype):
    levels = torch.arange(256)
    for level in range(256):
        histogram = torch.zeros(1, 256, dtype=torch.int64)
        histogram[0, level] = 5
        thresholds = pseudo.class_thresholds(histogram, Trust(cap=0.9999))
        o = opinions(
            warm=torch.zeros(1, 1, 256, dtype=torch.int64),
            confidence=(levels.to(dtype) / 255).view(1, 1, 256),
            thresholds=thresholds,
        )
        kept = rules.bdl(o).label[0, 0] == 0
        assert torch.equal(kept, (levels >= level) | (levels / 255 >= 0.9999))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 40),
    st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.7, 0.99]),
    st.sampled_from([0.3, 0.9, 0.99]),
)
def test_thresholds_are_quantiles_of_the_sorted_confidences(seed, pixels, quantile, cap):
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(0, K, (pixels,), generator=g).masked_fill(torch.rand(pixels, generator=g) < 0.2, IGNORE)
    confidence = torch.rand(pixels, dtype=torch.float64, generator=g)
    histogram = pseudo.confidence_histogram(label, confidence, K)
    thresholds = pseudo.class_thresholds(histogram, Trust(quantile=quantile, cap=cap))
    for k in range(K):
        values = sorted(round(255 * p) for p in confidence[label == k].tolist())
        assert [values.count(v) for v in range(256)] == histogram[k].tolist()
        place = math.ceil(Fraction(str(quantile)) * len(values))  # so many lie at the quantile or below
        wanted = min(values[place - 1] / 255, cap) if values else cap
        assert float(thresholds[k]) == pytest.approx(wanted, abs=1e-6)


def test_a_quantile_of_a_whole_number_of_pixels_asks_for_no_more():
    histogram = F.pad(torch.ones(1, 100, dtype=torch.int64), (0, 156))
    assert 0.07 * 100 > 7  # in floats
    found = pseudo.class_thresholds(histogram, Trust(quantile=0.07))
    torch.testing.assert_close(found, torch.tensor([6 / 255]), **CLOSE)


def test_a_histogram_of_stored_bytes_is_that_of_their_confidences():
    stored = torch.randint(0, 256, (3, 40), dtype=torch.uint8)
    label = torch.randint(0, K, (3, 40))
    bytes_, shares = (pseudo.confidence_histogram(label.byte(), x, K) for x in (stored, stored / 255))
    assert torch.equal(bytes_, shares)
    assert bytes_.sum() == 120
    assert bytes_.shape == (K, 256)


def test_a_histogram_of_nothing_gives_the_cap():
    histogram = pseudo.confidence_histogram(torch.full((5,), IGNORE), torch.rand(5), K)
    assert torch.equal(histogram, torch.zeros(K, 256, dtype=torch.int64))
    torch.testing.assert_close(pseudo.class_thresholds(histogram, Trust(cap=0.8)), torch.full((K,), 0.8))


# --- ProDA -------------------------------------------------------------------------------


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("tau", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("unseen", [(), (2,), (0, 1)])
def test_proda_is_the_slow_product(unseen, tau, align):
    o = opinions(4, unseen=unseen, trust=Trust(temperature=tau), align_corners=align)
    cells = o.distances.shape[2:]
    p, w = resized(o.probabilities, cells, align), slow_affinity(o.distances, tau)
    product = torch.zeros_like(w)
    for b, i, j in itertools.product(range(B), *map(range, cells)):
        terms = [float(w[b, k, i, j] * p[b, k, i, j]) for k in range(K)]
        product[b, :, i, j] = torch.tensor([t / sum(terms) for t in terms], dtype=torch.float64)
    label = rules.proda(o).label
    assert torch.equal(label, best(resized(product, (H, W), align)))
    assert not torch.isin(label, torch.tensor(unseen)).any()


def test_proda_can_overrule_either():
    """Two classes: the product decides, not the distance and not the probability alone."""
    distances = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)
    for p, wanted in ((0.3, 0), (0.2, 1)):  # e : 1 against 3 : 7 and 1 : 4
        probabilities = torch.tensor([p, 1 - p]).view(1, 2, 1, 1)
        o = opinions(warm=torch.zeros(1, 1, 1, dtype=torch.int64), distances=distances, probabilities=probabilities)
        assert rules.proda(o).label == wanted


def test_proda_does_not_lose_small_products():
    """Half-precision zeros and far centroids: every product is zero in floats, the first class is not the answer."""
    distances = torch.tensor([300.0, 120.0, 1.0]).view(1, 3, 1, 1)
    probabilities = torch.tensor([0.01, 0.99, 0.0]).half().view(1, 3, 1, 1)
    o = opinions(warm=torch.zeros(1, 2, 2, dtype=torch.int64), distances=distances, probabilities=probabilities)
    assert (rules.proda(o).label == 2).all()


def test_rules_leave_what_they_read():
    o = opinions(6, unseen=(1,))
    before = opinions(6, unseen=(1,))
    for name in sorted(names_in("diga.ops.rules")):
        getattr(rules, name)(o)
    for a, b in zip((*o.seen[:2], o.warm, *o[2:6]), (*before.seen[:2], before.warm, *before[2:6]), strict=True):
        assert torch.equal(a, b)


# --- DACS and DDB ------------------------------------------------------------------------


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("size", [(H, W), (70, 5), (3, 4)])
def test_fraction_is_the_teachers_label_weighed_by_the_share_it_is_sure_of(size, align):
    o = opinions(7, warm=torch.zeros(B, *size, dtype=torch.int64), align_corners=align)
    p = resized(o.seen.logits, size, align).softmax(1)
    label, weight = rules.fraction(o)
    assert torch.equal(label, best(p))
    for b in range(B):
        sure = [float(p[b, :, i, j].max()) >= 0.7 for i, j in itertools.product(*map(range, size))]
        assert 0 < sum(sure) < len(sure)
        wanted = torch.full(size, sum(sure) / len(sure), dtype=torch.float64)
        torch.testing.assert_close(weight[b], wanted, **CLOSE)


def test_an_image_weighs_the_same_in_any_batch():
    o = opinions(8)
    whole = rules.fraction(o).weight
    for b in range(B):
        one = o._replace(warm=o.warm[b : b + 1], seen=Prediction(o.seen.logits[b : b + 1], o.seen.features[b : b + 1]))
        torch.testing.assert_close(rules.fraction(one).weight, whole[b : b + 1], **CLOSE)


def test_confidence_is_the_softmax_of_the_highest_logits():
    maps, like = [random(9, B, K, 3, 4), random(10, B, K, 2, 2)], torch.zeros(130, 5)
    highest = torch.maximum(*(resized(x, (130, 5), False) for x in maps))
    label, p = pseudo.confident(maps, like)
    assert torch.equal(label, pseudo.winners(maps, like).long())
    torch.testing.assert_close(p, highest.softmax(1).amax(1), **CLOSE)


# --- all of them -------------------------------------------------------------------------


def test_every_rule_gives_labels_of_the_crop():
    names = names_in("diga.ops.rules")
    assert names == {"consensus", "feature", "warm_up", "bdl", "proda", "fraction"}
    for name, dtype in itertools.product(names, (torch.float32, torch.bfloat16)):
        o = opinions(11, unseen=(3,))
        logits, features = o.seen.logits.to(dtype), o.seen.features.to(dtype)
        o = o._replace(seen=Prediction(logits, features), distances=o.distances.float())
        label, weight = getattr(rules, name)(o)
        assert label.shape == (B, H, W)
        assert label.dtype == torch.int64
        assert weight is None or weight.shape == (B, H, W)
        assert torch.isin(label, torch.tensor([0, 1, 2, 3, IGNORE])).all()
