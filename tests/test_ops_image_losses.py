"""Losses of images, scores and single pixels against loops in float64: values and gradients."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diga.ops import losses
from diga.types import IGNORE

torch.set_num_threads(1)
CLOSE = {"atol": 1e-6, "rtol": 1e-6}


def numbers(seed: int, *shape: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(*shape, dtype=torch.float64, generator=g)).requires_grad_()


def agree(fast: Callable[..., Tensor], slow: Callable[..., Tensor], *inputs: Tensor) -> None:
    """The same value, and the same slope by every input."""
    values, slopes = [], []
    for loss in (fast, slow):
        value = loss(*inputs)
        values.append(value.detach())
        slopes.append(torch.autograd.grad(value, inputs))
    torch.testing.assert_close(*values, **CLOSE)
    for a, b in zip(*slopes, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


# --- scores of judges ----------------------------------------------------------------------------


@pytest.mark.parametrize("real", [True, False])
def test_lsgan_is_a_square(real):
    agree(
        lambda d: losses.lsgan(d, real),
        lambda d: sum((v - int(real)) ** 2 for v in d.flatten()) / d.numel(),
        numbers(0, 2, 1, 3, 2),
    )


@pytest.mark.parametrize("real", [True, False])
def test_binary_is_the_cross_entropy_of_a_sigmoid(real):
    def slow(d: Tensor) -> Tensor:
        chances = [1 / (1 + (-v).exp()) for v in d.flatten()]
        return sum(-(p if real else 1 - p).log() for p in chances) / d.numel()

    agree(lambda d: losses.binary(d, real), slow, numbers(0, 2, 1, 3, 2))
    far = torch.tensor([500.0, -500.0])
    torch.testing.assert_close(losses.binary(far, real), torch.tensor(250.0))


@pytest.mark.parametrize("relative", [False, True])
def test_entropy_is_the_slow_sum(relative):
    weight = numbers(1, 2, 3, 5).detach()  # the slope of every pixel, not of their sum alone

    def slow(x: Tensor) -> Tensor:
        total = 0
        for b, i, j in itertools.product(range(2), range(3), range(5)):
            p = [x[b, k, i, j].exp() / x[b, :, i, j].exp().sum() for k in range(4)]
            total -= weight[b, i, j] * sum(t * t.log() for t in p) / (math.log(4) if relative else 1)
        return total

    agree(lambda x: (weight * losses.entropy(x, relative)).sum(), slow, numbers(0, 2, 4, 3, 5))


def test_entropy_is_between_nothing_and_the_logarithm_of_the_classes():
    even, sure = torch.zeros(1, 4, 1, 1), torch.tensor([1e4, 0, 0, 0]).view(1, 4, 1, 1).requires_grad_()
    torch.testing.assert_close(losses.entropy(even, relative=True), torch.ones(1, 1, 1))
    assert losses.entropy(sure) == 0
    assert torch.autograd.grad(losses.entropy(sure).sum(), sure)[0].isfinite().all()


# --- the translator's --------------------------------------------------------------------


def slow_edges(y: Tensor) -> Tensor:
    """The authors' kernel, tap by tap, over mirrored edges."""
    n, (h, w) = len(y), y.shape[1:]
    kernel = [[(1 - 25 if (a, b) == (2, 2) else 1) / 48 for b in range(5)] for a in range(5)]
    assert sum(abs(t) for row in kernel for t in row) == pytest.approx(1)
    mask = torch.zeros(n, 1, h, w, dtype=torch.bool)

    def mirrored(i: int, size: int) -> int:
        return -i if i < 0 else 2 * (size - 1) - i if i >= size else i

    for m, i, j in itertools.product(range(n), range(h), range(w)):
        taps = itertools.product(range(5), range(5))
        value = sum(kernel[a][b] * int(y[m, mirrored(i + a - 2, h), mirrored(j + b - 2, w)]) for a, b in taps)
        mask[m, 0, i, j] = abs(value) > 0.1
    return mask


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 9), st.integers(3, 9), st.sampled_from([2, 4, 19]))
def test_edge_mask_is_the_slow_laplacian(seed, h, w, classes):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, classes, (2, h, w), generator=g).masked_fill(torch.rand(2, h, w, generator=g) < 0.1, IGNORE)
    y[1, :, : w // 2] = classes - 1  # something flat, too
    assert torch.equal(losses.edge_mask(y), slow_edges(y))


def test_edges_lie_two_pixels_either_way_and_thinner_where_ids_are_close():
    y = torch.zeros(1, 9, 12, dtype=torch.int64)
    for other, reach in ((IGNORE, 2), (1, 2)):
        y[:, :, 6:] = other
        columns = losses.edge_mask(y)[0, 0].all(0)
        assert columns.tolist() == [6 - reach <= j < 6 + reach for j in range(12)]
    speck = torch.zeros(1, 7, 7, dtype=torch.int64)
    speck[0, 3, 3] = 1  # its neighbours see one of 25: 1 / 48 is no edge
    assert losses.edge_mask(speck).nonzero().tolist() == [[0, 0, 3, 3]]
    assert not losses.edge_mask(torch.full((1, 5, 5), IGNORE)).any()


def test_edge_is_the_slow_mean_over_all_pixels():
    x, mask = numbers(1, 2, 3, 4, 5), numbers(2, 2, 1, 4, 5) < 0

    def slow(x: Tensor, painted: Tensor) -> Tensor:
        places = itertools.product(range(2), range(3), range(4), range(5))
        kept = [(b, c, i, j) for b, c, i, j in places if mask[b, 0, i, j]]
        return sum((x[p] - painted[p]).abs() for p in kept) / x.numel()

    agree(lambda a, b: losses.edge(a, b, mask), slow, x, numbers(3, 2, 3, 4, 5))
    assert losses.edge(x, x + 1, torch.zeros(2, 1, 4, 5, dtype=torch.bool)) == 0


def test_perceptual_is_the_slow_sum_over_five_depths():
    shapes = [(2, 3, 8, 8), (2, 4, 4, 4), (2, 5, 2, 2), (2, 6, 1, 1), (2, 7, 1, 1)]
    a, b = ([numbers(seed + n, *shape) for n, shape in enumerate(shapes)] for seed in (0, 10))

    def slow(*maps: Tensor) -> Tensor:
        return sum(
            (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1)[n]
            * sum(abs(v) for v in (maps[n] - maps[n + 5]).flatten())
            / maps[n].numel()
            for n in range(5)
        )

    agree(lambda *maps: losses.perceptual(maps[:5], maps[5:]), slow, *a, *b)
    with pytest.raises(ValueError, match="zip"):
        losses.perceptual(a[:4], b[:4])
