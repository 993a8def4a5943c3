"""Colour statistics and colours given to another image, against loops over pixels and frequencies."""

from __future__ import annotations

import cmath
import itertools
import math

import pytest
import torch
from torch import Tensor

from diga.ops import colour

torch.set_num_threads(1)
CLOSE = {"atol": 1e-6, "rtol": 1e-6}


def images(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# --- mean and covariance ------------------------------------------------------------------------------


def test_statistics_are_the_slow_ones():
    x = images(0, 2, 3, 4, 5)
    mean, covariance = colour.statistics(x)
    for b in range(2):
        pixels = [x[b, :, i, j] for i, j in itertools.product(range(4), range(5))]
        mu = sum(pixels) / 20
        torch.testing.assert_close(mean[b], mu, **CLOSE)
        torch.testing.assert_close(covariance[b], sum(torch.outer(p - mu, p - mu) for p in pixels) / 20, **CLOSE)


def test_transfer_gives_the_wanted_statistics():
    x = 0.4 + 0.2 * images(1, 3, 3, 16, 17)
    mean, covariance = colour.statistics(0.35 + 0.25 * images(2, 3, 3, 9, 9) ** 2)
    found = colour.statistics(colour.transfer(x, mean, covariance))
    torch.testing.assert_close(found[0], mean, **CLOSE)
    torch.testing.assert_close(found[1], covariance, **CLOSE)


def test_transfer_to_its_own_statistics_changes_nothing():
    x = images(3, 2, 3, 8, 8)
    torch.testing.assert_close(colour.transfer(x, *colour.statistics(x)), x, **CLOSE)


def test_transfer_moves_colours_least():
    """The map is the gradient of a convex function: symmetric, with no negative direction."""
    x = 0.4 + 0.2 * images(4, 1, 3, 16, 16)
    target = colour.statistics(0.3 + 0.3 * images(5, 1, 3, 16, 16))
    moved = colour.transfer(x, *target)[0].flatten(1)
    centred = x[0].flatten(1) - x[0].flatten(1).mean(1, keepdim=True)
    T = torch.linalg.lstsq(centred.T, (moved - moved.mean(1, keepdim=True)).T).solution
    torch.testing.assert_close(T, T.T, **CLOSE)
    assert torch.linalg.eigvalsh(T).min() > 0


@pytest.mark.parametrize("kind", ["grey", "one colour", "two channels", "one pixel"])
def test_images_that_do_not_vary_are_survived(kind):
    x = images(6, 2, 3, 1, 1) if kind == "one pixel" else images(6, 2, 3, 8, 8)
    if kind == "grey":
        x = x[:, :1].expand(-1, 3, -1, -1)
    elif kind == "one colour":
        x = x[:, :, :1, :1].expand(-1, -1, 8, 8)
    elif kind == "two channels":
        x = x.clone().index_fill_(1, torch.tensor(2), 0.5)
    mean, covariance = colour.statistics(0.4 + 0.2 * images(7, 2, 3, 8, 8))
    for image in (x, x.float()):
        found = colour.transfer(image, mean, covariance)
        assert found.isfinite().all()
        torch.testing.assert_close(colour.statistics(found)[0].double(), mean, atol=1e-3, rtol=0)
    towards = colour.transfer(images(8, 2, 3, 8, 8), *colour.statistics(x))
    assert towards.isfinite().all()
    assert 0 <= towards.min() <= towards.max() <= 1


# --- channels alone ----------------------------------------------------------------------


def test_channel_statistics_are_the_slow_ones():
    x, mean, std = images(0, 2, 3, 4, 5), 0.3 + 0.4 * images(1, 2, 3), 0.4 * images(2, 2, 3)
    found = colour.channel_statistics(x, mean, std)
    for b, c in itertools.product(range(2), range(3)):
        values = x[b, c].flatten().tolist()
        mu = sum(values) / 20
        sigma = math.sqrt(sum((v - mu) ** 2 for v in values) / 20)
        slow = [min(max((v - mu) / sigma * float(std[b, c]) + float(mean[b, c]), 0), 1) for v in values]
        torch.testing.assert_close(found[b, c].flatten(), torch.tensor(slow, dtype=torch.float64), **CLOSE)
    assert found.min() == 0 or found.max() == 1  # some were clamped, most not
    assert ((found > 0) & (found < 1)).double().mean() > 0.5


def test_channel_statistics_of_its_own_change_nothing():
    x = images(3, 2, 3, 6, 7)
    mean, covariance = colour.statistics(x)
    own = covariance.diagonal(dim1=1, dim2=2).sqrt()
    torch.testing.assert_close(colour.channel_statistics(x, mean, own), x, **CLOSE)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 5, 5)])
def test_a_channel_that_does_not_vary_takes_the_mean(shape):
    x = torch.full(shape, 0.3)
    mean = torch.tensor([0.2, 0.5, 0.8]).expand(shape[0], 3)
    found = colour.channel_statistics(x, mean, torch.full_like(mean, 0.2))
    torch.testing.assert_close(found, mean[..., None, None].expand(shape), **CLOSE)


# --- frequencies -------------------------------------------------------------------------


def waves_of(x: Tensor) -> dict[tuple[int, int], complex]:
    """The discrete Fourier transform of (H, W), its frequencies about zero."""
    H, W = x.shape
    return {
        (v if v < (H + 1) // 2 else v - H, w if w < (W + 1) // 2 else w - W): sum(
            float(x[i, j]) * cmath.exp(-2j * math.pi * (v * i / H + w * j / W))
            for i, j in itertools.product(range(H), range(W))
        )
        for v, w in itertools.product(range(H), range(W))
    }


def slow_fourier(x: Tensor, style: Tensor, beta: float) -> Tensor:
    (H, W), b = x.shape, math.floor(beta * min(x.shape))
    mine, theirs, out = waves_of(x), waves_of(style), torch.zeros_like(x)
    for f, wave in mine.items():
        if max(map(abs, f)) <= b:
            mine[f] = cmath.rect(abs(theirs[f]), cmath.phase(wave))
    for i, j in itertools.product(range(H), range(W)):
        value = sum(wave * cmath.exp(2j * math.pi * (v * i / H + w * j / W)) for (v, w), wave in mine.items())
        assert abs(value.imag) < 1e-9
        out[i, j] = value.real / (H * W)
    return out.clamp(0, 1)


@pytest.mark.parametrize("beta", [0.0, 0.2, 0.3, 0.5])
@pytest.mark.parametrize("size", [(6, 8), (5, 7), (7, 4), (1, 1), (1, 6)])
def test_fourier_is_the_slow_swap_of_amplitudes(size, beta):
    x, style = images(4, 1, 3, *size), images(5, 1, 3, *size) ** 2
    found = colour.fourier(x, style, beta)
    for c in range(3):
        torch.testing.assert_close(found[0, c], slow_fourier(x[0, c], style[0, c], beta), **CLOSE)


def test_fourier_without_a_window_takes_the_mean_and_to_itself_changes_nothing():
    x, style = 0.4 + 0.2 * images(6, 2, 3, 12, 10), 0.4 + 0.3 * images(7, 2, 3, 12, 10)
    torch.testing.assert_close(colour.fourier(x, style, 0).mean((2, 3)), style.mean((2, 3)), **CLOSE)
    torch.testing.assert_close(colour.fourier(x, x, 0.4), x, **CLOSE)


def test_fourier_does_not_depend_on_the_rest_of_the_batch_and_leaves_it():
    x, style = images(8, 3, 3, 9, 6), images(9, 3, 3, 9, 6)
    before = x.clone(), style.clone()
    parts = [colour.fourier(x[b : b + 1], style[b : b + 1], 0.3) for b in range(3)]
    torch.testing.assert_close(torch.cat(parts), colour.fourier(x, style, 0.3), **CLOSE)
    assert torch.equal(x, before[0])
    assert torch.equal(style, before[1])


def test_a_style_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"fourier: found a style of \(1, 3, 4, 5\)"):
        colour.fourier(images(0, 1, 3, 5, 4), images(0, 1, 3, 4, 5), 0.1)
