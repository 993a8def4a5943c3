"""Masks of noise whose share is drawn: cow and Fourier masks, as loops over pixels and frequencies."""

from __future__ import annotations

import cmath
import itertools
import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from diga.ops import masks
from diga.ops.chance import Chance
from diga.settings import Mask

torch.set_num_threads(1)
SHAPES = [(3, 6, 9), (2, 7, 4), (1, 1, 5), (1, 1, 1)]


def chance(seed: int, total: int) -> Chance:
    return Chance((seed, 7, 1), range(total), total)


def normals(u: Tensor, b: int, i: int, j: int) -> tuple[float, float]:
    """Box and Muller's two of two even draws."""
    radius, angle = math.sqrt(-2 * math.log(1 - float(u[b, 0, i, j]))), 2 * math.pi * float(u[b, 1, i, j])
    return radius * math.cos(angle), radius * math.sin(angle)


def highest(values: dict[tuple[int, int], float], share: float) -> Tensor:
    H, W = (1 + max(p[k] for p in values) for k in (0, 1))
    mask = torch.zeros(H, W, dtype=torch.bool)
    for p in sorted(values, key=lambda p: -values[p])[: max(0, math.floor(share * H * W + 0.5))]:
        mask[p] = True
    return mask


def slow_cow(shape: tuple[int, int, int], c: Chance, how: Mask) -> Tensor:
    """Sums over the whole plane, beyond whose edges the nearest pixel is repeated."""
    B, H, W = shape
    u, places = c.uniform(2, H, W), c.uniform(2).double()
    found = []
    for b in range(B):
        sigma = how.side * 2 ** float(places[b, 1])
        reach = math.ceil(4 * sigma)
        near = {d: math.exp(-0.5 * (d / sigma) ** 2) for d in range(-reach, reach + 1)}
        total = sum(near.values()) ** 2
        z = {(i, j): normals(u, b, i, j)[0] for i, j in itertools.product(range(H), range(W))}
        values = {
            (i, j): sum(
                near[k] * near[m] * z[min(max(i + k, 0), H - 1), min(max(j + m, 0), W - 1)] / total
                for k, m in itertools.product(near, near)
            )
            for i, j in z
        }
        found.append(highest(values, how.fraction - 0.1 + 0.2 * float(places[b, 0])))
    return torch.stack(found)[:, None]


def slow_fourier(shape: tuple[int, int, int], c: Chance, how: Mask) -> Tensor:
    """The sum of waves, each with its complex amplitude; those of negative turns a row mirror the others."""
    B, H, W = shape
    k = min(max(round(how.fraction * 20), 1), 19)
    shares = [sorted(row)[k - 1] for row in c.uniform(19).double().tolist()]
    u = c.uniform(2, H, W // 2 + 1)
    found = []
    for b in range(B):
        values = dict.fromkeys(itertools.product(range(H), range(W)), 0.0)
        for n, m in itertools.product(range(H), range(W // 2 + 1)):
            turns = math.hypot((n if n <= (H - 1) // 2 else n - H) / H, m / W)
            amplitude = complex(*normals(u, b, n, m)) / max(turns, 1 / max(H, W)) ** 3
            twice = 1 if m == 0 or 2 * m == W else 2
            for i, j in values:
                values[i, j] += twice * (amplitude * cmath.exp(2j * math.pi * (n * i / H + m * j / W))).real
        found.append(highest(values, shares[b]))
    return torch.stack(found)[:, None]


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.95])
@pytest.mark.parametrize("shape", SHAPES)
def test_cow_is_the_slow_sum(shape: tuple[int, int, int], fraction: float) -> None:
    how = Mask(kind="cow", fraction=fraction, side=1)
    for seed in range(3):
        found = masks.cow(torch.zeros(shape, dtype=torch.long), chance(seed, shape[0]), how)
        assert torch.equal(found, slow_cow(shape, chance(seed, shape[0]), how))


@pytest.mark.parametrize("fraction", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_fourier_is_the_slow_sum_of_waves(shape: tuple[int, int, int], fraction: float) -> None:
    how = Mask(kind="fourier", fraction=fraction)
    for seed in range(3):
        found = masks.fourier(torch.zeros(shape, dtype=torch.long), chance(seed, shape[0]), how)
        assert torch.equal(found, slow_fourier(shape, chance(seed, shape[0]), how))


def test_shares_are_drawn_as_they_are_said_to_be() -> None:
    """Kolmogorov and Smirnov see no difference from an even share within a tenth, and from Beta(10, 10)."""
    label = torch.zeros(400, 40, 40, dtype=torch.long)
    wanted = {"cow": stats.uniform(0.4, 0.2), "fourier": stats.beta(10, 10)}
    for kind, law in wanted.items():
        m = getattr(masks, kind)(label, chance(0, 400), Mask(kind=kind))
        assert stats.kstest(m.float().mean((1, 2, 3)).numpy(), law.cdf).pvalue > 0.01


def test_a_larger_side_makes_larger_blobs() -> None:
    label = torch.zeros(8, 64, 96, dtype=torch.long)
    fine, coarse = (masks.cow(label, chance(0, 8), Mask(kind="cow", side=side)) for side in (1, 10))
    edges = [int((m[..., 1:] != m[..., :-1]).sum()) for m in (fine, coarse)]
    assert edges[1] < 0.3 * edges[0]


def test_what_cannot_be_in_front_is_refused_by_the_least_share() -> None:
    """At the least fraction every draw of a cow mask has a pixel, and below it the lowest has none."""
    crop = (5, 8)
    least = Mask(kind="cow").least(crop, 19)
    assert math.floor((least - 0.1) * 40 + 0.5 + 1e-9) == 1
    assert math.floor((least - 0.001 - 0.1) * 40 + 0.5) == 0
    assert Mask(kind="fourier").least(crop, 19) == 0.025
