"""Class means, prototypes and the labels they give, against loops over images, classes and cells."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diga.ops import pseudo
from diga.ops.prototypes import Prototypes, affinity, class_means
from diga.types import IGNORE

torch.set_num_threads(1)
CLOSE = {"atol": 1e-6, "rtol": 1e-6}
B, D, K = 3, 6, 5


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def labels(seed: int, *shape: int, top: int = K) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, top, shape, generator=g).masked_fill(torch.rand(shape, generator=g) < 0.2, IGNORE)


def prototypes(seed: int = 0) -> Prototypes:
    rho = Prototypes(K, D).double()
    rho.vectors.copy_(random(seed, K, D))
    rho.seen.fill_(1)
    return rho


def slow_means(f: Tensor, y: Tensor, least: int, predicted: Tensor | None) -> tuple[Tensor, Tensor]:
    means, valid = torch.zeros(len(f), K, f.shape[1], dtype=f.dtype), torch.zeros(len(f), K, dtype=torch.bool)
    for b, k in itertools.product(range(len(f)), range(K)):
        cells = [
            f[b, :, i, j]
            for i, j in itertools.product(*map(range, y.shape[1:]))
            if y[b, i, j] == k and (predicted is None or predicted[b, i, j] == k)
        ]
        valid[b, k] = len(cells) >= least
        if cells:
            means[b, k] = sum(cells) / len(cells)
    return means, valid


ADVERSARIES = {
    "one class": torch.full((B, 3, 4), 2),
    "void alone": torch.full((B, 3, 4), IGNORE),
    "one cell": torch.zeros(B, 1, 1, dtype=torch.long),
    "absent classes": labels(0, B, 3, 4, top=2),
    "mixed": labels(1, B, 4, 6),
}


@pytest.mark.parametrize("agreeing", [False, True])
@pytest.mark.parametrize("least", [1, 5])
@pytest.mark.parametrize("name", ADVERSARIES)
def test_class_means_are_the_slow_means(name, least, agreeing):
    y = ADVERSARIES[name]
    f = random(2, B, D, *y.shape[1:])
    predicted = labels(3, *y.shape, top=2) if agreeing else None
    means, valid = class_means(f, y, K, least, predicted)
    slow, slow_valid = slow_means(f, y, least, predicted)
    torch.testing.assert_close(means, slow, **CLOSE)
    assert torch.equal(valid, slow_valid)


def test_class_means_hand_their_slope_to_the_features():
    f, y = random(4, B, D, 3, 4).requires_grad_(), labels(5, B, 3, 4)
    weight = random(6, B, K, D)
    slopes = [
        torch.autograd.grad((m(f, y)[0] * weight).sum(), f)[0]
        for m in (lambda f, y: class_means(f, y, K), lambda f, y: slow_means(f, y, 5, None))
    ]
    torch.testing.assert_close(*slopes, **CLOSE)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 9), st.integers(0, 12))
def test_mean_is_the_capped_running_mean(seed, images, cap, before):
    rho = prototypes(seed)
    rho.seen.fill_(min(before, cap))
    means, valid = random(seed + 1, images, K, D), random(seed + 2, images, K) > 0
    slow, n = rho.vectors.clone(), rho.seen.clone()
    for b, k in itertools.product(range(images), range(K)):
        if valid[b, k]:
            slow[k] = (n[k] * slow[k] + means[b, k]) / (n[k] + 1)
            n[k] = min(n[k] + 1, cap)
    rho.mean_(means, valid, cap)
    torch.testing.assert_close(rho.vectors, slow, **CLOSE)
    assert torch.equal(rho.seen, n)


def test_mean_of_a_first_pass_is_the_plain_mean_of_class_means():
    rho = Prototypes(K, D).double()
    means, valid = random(0, 7, K, D), random(1, 7, K) > 0
    valid[:, 3] = False
    for part in (slice(0, 2), slice(2, 3), slice(3, 7)):
        rho.mean_(means[part], valid[part])
    for k in (0, 1, 2, 4):
        torch.testing.assert_close(rho.vectors[k], means[valid[:, k], k].mean(0), **CLOSE)
    assert torch.equal(rho.vectors[3], torch.zeros(D, dtype=torch.float64))
    assert torch.equal(rho.seen, valid.sum(0).double())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.sampled_from([0.0, 0.5, 0.99, 0.9999, 1.0]))
def test_ema_goes_image_by_image(seed, images, delta):
    rho = prototypes(seed)
    means, valid = random(seed + 1, images, K, D), random(seed + 2, images, K) > 0
    slow = rho.vectors.clone()
    for b, k in itertools.product(range(images), range(K)):
        if valid[b, k]:
            slow[k] = delta * slow[k] + (1 - delta) * means[b, k]
    rho.ema_(means, valid, delta)
    torch.testing.assert_close(rho.vectors, slow, **CLOSE)
    assert torch.equal(rho.seen, torch.ones(K, dtype=torch.float64))


def test_ema_of_the_whole_batch_is_the_ema_of_its_parts_in_order():
    whole, parts = prototypes(), prototypes()
    means, valid = random(1, 6, K, D), random(2, 6, K) > 0
    whole.ema_(means, valid, 0.9)
    for b in range(0, 6, 2):
        parts.ema_(means[b : b + 2], valid[b : b + 2], 0.9)
    torch.testing.assert_close(whole.vectors, parts.vectors, **CLOSE)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5)])
def test_distances_and_weights_are_the_slow_ones(shape):
    rho, f = prototypes(), random(1, B, D, *shape).requires_grad_()

    def slow(f: Tensor) -> Tensor:
        columns = [(f - v[:, None, None]).square().sum(1).sqrt() for v in rho.vectors]
        return torch.stack(columns, 1)

    torch.testing.assert_close(rho.distances(f), slow(f), **CLOSE)
    torch.testing.assert_close(rho.weights(f), (-slow(f)).softmax(1), **CLOSE)
    slopes = [torch.autograd.grad(d(f).square().sum(), f)[0] for d in (rho.distances, slow)]
    torch.testing.assert_close(*slopes, **CLOSE)


def test_a_feature_on_its_prototype_is_at_distance_zero_with_a_finite_slope():
    rho = prototypes()
    f = rho.vectors.clone()[..., None, None].requires_grad_()
    d = rho.distances(f)
    assert d.diagonal().max() < 1e-6
    d.sum().backward()
    assert f.grad.isfinite().all()


@pytest.mark.parametrize("unseen", ["ignored", "origin"])
def test_a_class_never_seen(unseen):
    rho, f = prototypes(), random(1, B, D, 2, 3)
    rho.seen[2], rho.vectors[2] = 0, 0
    weights = rho.weights(f, unseen)
    distance = rho.distances(f)
    torch.testing.assert_close(distance[:, 2], f.norm(dim=1), **CLOSE)
    told = rho.distances(f, unseen)
    assert told[:, 2].isinf().all() if unseen == "ignored" else torch.equal(told, distance)
    assert torch.equal(told[:, [0, 1, 3, 4]], distance[:, [0, 1, 3, 4]])
    assert torch.equal(affinity(told), weights)
    if unseen == "origin":
        torch.testing.assert_close(weights, (-distance).softmax(1), **CLOSE)
    else:
        others = [0, 1, 3, 4]
        assert not weights[:, 2].any()
        torch.testing.assert_close(weights[:, others], (-distance[:, others]).softmax(1), **CLOSE)


def test_when_nothing_was_seen_no_class_has_weight():
    assert torch.equal(Prototypes(K, D).weights(torch.randn(1, D, 2, 2)), torch.zeros(1, K, 2, 2))


def test_far_features_do_not_make_weights_vanish():
    weights = prototypes().weights(1e4 * random(1, B, D, 2, 3))
    torch.testing.assert_close(weights.sum(1), torch.ones(B, 2, 3, dtype=torch.float64))


def test_float32_is_enough_for_distances():
    rho, f = Prototypes(19, 256), torch.randn(1, 256, 9, 9)
    rho.vectors.copy_(torch.randn(19, 256))
    exact = torch.cdist(f.double().flatten(2).mT, rho.vectors.double()[None]).mT.view(1, 19, 9, 9)
    torch.testing.assert_close(rho.distances(f).double(), exact, atol=1e-4, rtol=1e-5)


def test_autocast_does_not_reach_means_and_distances():
    rho, f, y = Prototypes(K, D), torch.randn(B, D, 4, 4), labels(0, B, 4, 4)
    rho.vectors.normal_()
    plain = class_means(f, y, K)[0], rho.distances(f)
    with torch.autocast("cpu", torch.bfloat16):
        under = class_means(f, y, K)[0], rho.distances(f)
        half = rho.distances(f.bfloat16())
    assert half.dtype == torch.float32
    for a, b in zip(plain, under, strict=True):
        assert torch.equal(a, b)


def test_prototypes_are_saved():
    rho, other = prototypes(), Prototypes(K, D).double()
    other.load_state_dict(rho.state_dict())
    assert torch.equal(other.vectors, rho.vectors)
    assert not list(rho.parameters())


# --- labels from opinions ----------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_argmax_is_argmax_and_the_first_of_equals(seed, ties):
    x = random(seed, 2, K, 3, 7)
    x = x.round() if ties else x
    found = pseudo.argmax(x)
    assert found.dtype == torch.int64
    for b, i, j in itertools.product(range(2), range(3), range(7)):
        column = x[b, :, i, j].tolist()
        assert found[b, i, j] == column.index(max(column))


def test_nearest_is_the_argmax_of_resized_weights():
    weights, like = prototypes().weights(random(1, B, D, 3, 4)), torch.zeros(B, 7, 9)
    for corners in (False, True):
        slow = F.interpolate(weights, (7, 9), mode="bilinear", align_corners=corners).argmax(1)
        assert torch.equal(pseudo.nearest(weights, like, corners), slow)
    assert torch.equal(
        pseudo.nearest(weights, torch.zeros(B, 3, 4)), prototypes().distances(random(1, B, D, 3, 4)).argmin(1)
    )


def test_consensus_is_what_both_say():
    a, b = labels(0, B, 9, 9, top=2), labels(1, B, 9, 9, top=2)
    found = pseudo.consensus(a, b)
    for p in itertools.product(range(B), range(9), range(9)):
        assert found[p] == (a[p] if a[p] == b[p] else IGNORE)
    assert torch.equal(found, pseudo.consensus(b, a))
    assert torch.equal(pseudo.consensus(a, a), a)
