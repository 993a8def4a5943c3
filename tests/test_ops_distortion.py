"""Colour and blur of DDB's images: each gate, each bound, and a blur tap by tap."""

from __future__ import annotations

import colorsys
import math

import pytest
import torch
from torch import Tensor

from diga.ops.chance import Chance
from diga.ops.distortion import BRIGHTNESS, CONTRAST, HUE, SATURATION, distorted, gaussian, photometric
from diga.settings import Photometric

torch.set_num_threads(1)
COUNT = 400


def images(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def chance(key: int, count: int) -> Chance:
    return Chance((key,), range(count), count)


def slow_blur(row: list[float], sigma: float) -> list[float]:
    """A Gaussian along one row, edges repeated."""
    reach = math.ceil(4 * sigma)
    taps = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-reach, reach + 1)]
    last = len(row) - 1
    return [
        sum(t * row[min(max(x + i - reach, 0), last)] for i, t in enumerate(taps)) / sum(taps) for x in range(len(row))
    ]


@pytest.mark.parametrize("sigma", [0.15, 0.6, 1.15])
@pytest.mark.parametrize("kind", ["horizontal", "isotropic"])
def test_a_blur_tap_by_tap(sigma: float, kind: str) -> None:
    image = images(1, 3, 5, 7).double()
    rows = torch.tensor([[slow_blur(row, sigma) for row in channel] for channel in image.tolist()])
    if kind == "isotropic":
        rows = torch.tensor([[slow_blur(c, sigma) for c in channel] for channel in rows.mT.tolist()]).mT
    found = gaussian(image, sigma, kind)  # type: ignore[arg-type]
    torch.testing.assert_close(found, rows.double(), rtol=1e-6, atol=1e-7)


def test_what_neither_jitters_nor_blurs_changes_nothing() -> None:
    x = images(1, 4, 3, 6, 8)
    for how in (Photometric(jitter=0.0, blur=0.0), Photometric(jitter=0.0, blur=1.0, kind="none")):
        assert torch.equal(photometric(x, how, chance(2, 4)), x)


def test_jitter_and_blur_come_as_often_as_they_say() -> None:
    x = images(1, 1, 3, 4, 4).expand(COUNT, 3, 4, 4)
    for how, often in ((Photometric(blur=0.0), 0.8), (Photometric(jitter=0.0), 0.5)):
        changed = (photometric(x, how, chance(2, COUNT)) != x).flatten(1).any(1).float().mean().item()
        assert changed == pytest.approx(often, abs=3 * math.sqrt(often * (1 - often) / COUNT))


def test_a_switch_moves_no_other_draw() -> None:
    """Images that one of two ways blurs, the other blurs as well; and likewise with colours."""
    x = images(1, 40, 3, 6, 6)
    still = photometric(x, Photometric(jitter=0.0), chance(3, 40))
    blurred = {i for i in range(40) if not torch.equal(still[i], x[i])}
    sharp, both = (photometric(x, Photometric(blur=b), chance(3, 40)) for b in (0.0, 0.5))
    assert {i for i in range(40) if not torch.equal(sharp[i], both[i])} == blurred
    rows = photometric(x, Photometric(jitter=0.0, kind="horizontal"), chance(3, 40))
    for i in blurred:
        assert not torch.equal(rows[i], still[i])


def test_bounds_of_sigma() -> None:
    """An edge is as wide as its sigma: none is below or above the bounds."""
    x = torch.zeros(COUNT, 3, 1, 41)
    x[..., 20:] = 1
    how = Photometric(jitter=0.0, blur=1.0, kind="horizontal", sigma=(0.6, 1.6))
    rise = photometric(x, how, chance(4, COUNT)).diff(dim=-1)[:, 0, 0]
    place = torch.arange(40.0)
    mean = (rise * place).sum(1, keepdim=True)
    found = ((rise * (place - mean) ** 2).sum(1)).sqrt()
    assert found.min() > 0.59
    assert found.max() < 1.62
    assert found.max() - found.min() > 0.9


# --- the source's --------------------------------------------------------------------------


def slow_distortion(rgb: list[float], u: list[float], share: float) -> list[float]:
    """One pixel, by the standard library's colours."""

    def signed(i: int) -> float:
        return (2 * u[4 + i] - 1) * (u[i] < share)

    def scaled(values: list[float]) -> list[float]:
        return [min(max(v * (1 + signed(1) * CONTRAST), 0), 1) for v in values]

    x = [min(max(v + signed(0) * BRIGHTNESS, 0), 1) for v in rgb]
    x = scaled(x) if u[8] < 0.5 else x
    hue, saturation, value = colorsys.rgb_to_hsv(*x)
    saturation = min(saturation * (1 + signed(2) * SATURATION), 1)
    x = list(colorsys.hsv_to_rgb((hue + signed(3) * HUE) % 1, saturation, value))
    return x if u[8] < 0.5 else scaled(x)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_distortion_pixel_by_pixel(share: float) -> None:
    x = images(5, 12, 3, 2, 3)
    found, draws = distorted(x, share, chance(6, 12)), chance(6, 12).host(9).tolist()
    for b, u in enumerate(draws):
        for i in range(2):
            for j in range(3):
                wanted = slow_distortion(x[b, :, i, j].tolist(), u, share)
                assert found[b, :, i, j].tolist() == pytest.approx(wanted, abs=2e-5)
    assert torch.equal(found, x) == (share == 0)
