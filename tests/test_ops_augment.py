"""Strong views pixel by pixel: hue against colorsys, filters against loops, chains image by image."""

from __future__ import annotations

import colorsys
import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from torch import Tensor

from diga.ops import augment, legacy, photometry
from diga.ops.chance import Chance
from diga.settings import Strong

torch.set_num_threads(1)
CLOSE = {"atol": 1e-6, "rtol": 1e-6}
OFF = {"jitter": 0.0, "grey": 0.0, "blur": 0.0, "sharpen": 0.0}


def images(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def chance(seed: int, total: int) -> Chance:
    return Chance((seed, 1), range(total), total)


def pixels(x: Tensor) -> Iterator[tuple[int, int]]:
    return itertools.product(*map(range, x.shape[-2:]))


# --- one operation at a time -------------------------------------------------------------


def slow_turn(rgb: list[float], turns: float, saturation: float = 1) -> tuple[float, float, float]:
    h, s, v = colorsys.rgb_to_hsv(*rgb)
    return colorsys.hsv_to_rgb((h + turns) % 1, min(s * saturation, 1), v)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([0, 0.25, 0.5, 1.0]) | st.floats(0, 1), min_size=3, max_size=3),
    st.floats(-0.5, 0.5),
    st.sampled_from([1.0, 0.0, 0.7, 1.3]),
)
def test_turn_is_the_hue_of_hsv(rgb, turns, saturation):
    found = photometry.turn(torch.tensor(rgb, dtype=torch.float64).view(3, 1, 1), turns, saturation).flatten()
    torch.testing.assert_close(found, torch.tensor(slow_turn(rgb, turns, saturation), dtype=torch.float64), **CLOSE)


def test_turn_survives_colours_that_hardly_differ():
    x = (0.5 + 1e-7 * torch.randn(3, 40, 40)).clamp(0, 1)
    torch.testing.assert_close(photometry.turn(x, 0.3), x, atol=1e-6, rtol=0)
    assert torch.equal(photometry.turn(torch.zeros(3, 2, 2), 0.1), torch.zeros(3, 2, 2))


def test_brightness_contrast_and_saturation_are_their_equations():
    x = images(1, 3, 4, 5)
    grey = 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]
    for f, (found, anchor) in itertools.product(
        (0.7, 1.3),
        (
            (augment.brighten, torch.zeros(())),
            (lambda x, f: augment.contrast(x, f, grey.mean()), grey.mean()),
            (augment.saturate, grey),
        ),
    ):
        torch.testing.assert_close(found(x, f), (anchor + f * (x - anchor)).clamp(0, 1), **CLOSE)


def slow_filter(x: Tensor, kernel: list[list[float]], mirror: bool = False) -> Tensor:
    out, sizes = torch.zeros_like(x), x.shape[-2:]

    def at(i: int, size: int) -> int:
        if mirror and size > 1:
            return 1 if i < 0 else size - 2 if i >= size else i
        return min(max(i, 0), size - 1)

    for i, j, a, b in itertools.product(*map(range, sizes), (-1, 0, 1), (-1, 0, 1)):
        out[..., i, j] += kernel[a + 1][b + 1] * x[..., at(i + a, sizes[0]), at(j + b, sizes[1])]
    return out


TAPS = [math.exp(-(d**2) / (2 * 2.0**2)) for d in (-1, 0, 1)]
GAUSSIAN = [[a * b / sum(TAPS) ** 2 for b in TAPS] for a in TAPS]
SMOOTH = [[1 / 13, 1 / 13, 1 / 13], [1 / 13, 5 / 13, 1 / 13], [1 / 13, 1 / 13, 1 / 13]]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (2, 2), (5, 6)])
def test_blur_and_sharpen_are_their_kernels(size, channels):
    x = images(2, channels, *size)
    for border in ("repeat", "mirror"):
        slow = slow_filter(x, GAUSSIAN, border == "mirror")
        torch.testing.assert_close(photometry.blur(x, border=border), slow, **CLOSE)
    torch.testing.assert_close(photometry.smooth(x), slow_filter(x, SMOOTH), **CLOSE)
    wanted = (x + 0.5 * (x - slow_filter(x, SMOOTH))).clamp(0, 1)
    torch.testing.assert_close(augment.sharpen(x, 0.5), wanted, **CLOSE)


def test_sharpening_is_pillows():
    x = (images(3, 3, 8, 9) * 255).round()
    bytes_ = x.permute(1, 2, 0).byte().numpy()
    wanted = torch.tensor(list(ImageEnhance.Sharpness(Image.fromarray(bytes_)).enhance(1.4).tobytes()))
    found = augment.sharpen(x / 255, 0.4).permute(1, 2, 0) * 255
    inside = (slice(1, -1), slice(1, -1))  # Pillow leaves the border as it is
    assert (found - wanted.view(8, 9, 3))[inside].abs().max() < 1.5


def test_legacy_sharpness_is_pillows_below_one():
    x = (images(4, 3, 8, 9) * 255).round()
    bytes_ = x.permute(1, 2, 0).byte().numpy()
    wanted = torch.tensor(list(ImageEnhance.Sharpness(Image.fromarray(bytes_)).enhance(0.3).tobytes()))
    found = legacy.sharpness(x / 255, 0.3).permute(1, 2, 0) * 255
    assert (found - wanted.view(8, 9, 3)).abs().max() < 1.5


# --- together ----------------------------------------------------------------------------


def test_nothing_fired_is_the_image_itself():
    x = images(4, 2, 3, 6, 7)
    torch.testing.assert_close(augment.strong(x, Strong(**OFF), chance(0, 2)), x, **CLOSE)


@pytest.mark.parametrize("ranges", ["rgb", "legacy"])
def test_blend_zero_is_the_image_and_blend_is_linear(ranges):
    x = images(5, 2, 3, 6, 7)
    views = [augment.strong(x, Strong(blend=beta, ranges=ranges), chance(0, 2)) for beta in (0.0, 0.4, 1.0)]
    assert torch.equal(views[0], x)
    torch.testing.assert_close(views[1], 0.4 * views[2] + 0.6 * x, **CLOSE)
    assert not torch.allclose(views[2], x)


def slow_strong(x: Tensor, u: list[float], how: Strong) -> Tensor:
    """One image (3, H, W), whole, operation by operation and hue by hue."""
    A = x
    b, c, s, h = ((2 * d - 1) * w for d, w in zip(u[4:8], (0.4, 0.4, 0.2, 0.1), strict=True))

    def grey(a: Tensor) -> Tensor:
        return 0.299 * a[0] + 0.587 * a[1] + 0.114 * a[2]

    if u[0] < how.jitter:
        A = (A * (1 + b)).clamp(0, 1)
        A = (grey(A).mean() + (1 + c) * (A - grey(A).mean())).clamp(0, 1)
        A = (grey(A) + (1 + s) * (A - grey(A))).clamp(0, 1)
        A = hue_by_hue(A, h)
    if u[1] < how.grey:
        A = grey(A).expand(3, -1, -1)
    if u[2] < how.blur:
        A = slow_filter(A, GAUSSIAN)
    if u[3] < how.sharpen:
        A = (A + 0.5 * u[8] * (A - slow_filter(A, SMOOTH))).clamp(0, 1)
    return how.blend * A + (1 - how.blend) * x


def hue_by_hue(x: Tensor, turns: float, saturation: float = 1) -> Tensor:
    out = x.clone()
    for i, j in pixels(x):
        out[:, i, j] = torch.tensor(slow_turn(x[:, i, j].tolist(), turns, saturation), dtype=x.dtype)
    return out


def slow_legacy(x: Tensor, u: list[float], how: Strong) -> Tensor:
    """One image (3, H, W): to the authors' space, through what their library does there, blended, and back."""
    mean = torch.tensor([104.007, 116.669, 122.679], dtype=x.dtype).view(3, 1, 1)
    z = (255 * x.flip(0) - mean) / 128
    b, c, s, h = ((2 * d - 1) * w for d, w in zip(u[4:8], (0.4, 0.4, 0.2, 0.1), strict=True))
    A = z
    if u[0] < how.jitter:
        A = (A + b).clamp(0, 1)
        A = (A * (1 + c)).clamp(0, 1)
        A = hue_by_hue(A, 0, 1 + s)
        A = hue_by_hue(A, h)
    if u[1] < how.grey:
        A = (0.299 * A[0] + 0.587 * A[1] + 0.114 * A[2]).expand(3, -1, -1)
    if u[2] < how.blur:
        A = slow_filter(A, GAUSSIAN, mirror=True)
    if u[3] < how.sharpen:
        inside, soft = A.clone(), slow_filter(A, SMOOTH).clamp(0, 1)
        inside[:, 1:-1, 1:-1] = (soft + 0.5 * u[8] * (A - soft))[:, 1:-1, 1:-1]
        A = inside
    blended = how.blend * (2 * A - 1) + (1 - how.blend) * z
    return ((128 * blended + mean) / 255).flip(0)


@pytest.mark.parametrize("size", [(5, 6), (1, 1), (2, 9), (64, 3), (65, 3), (131, 3)])
@pytest.mark.parametrize(("ranges", "slow"), [("rgb", slow_strong), ("legacy", slow_legacy)])
def test_strong_is_the_slow_chain_image_by_image(ranges, slow, size):
    """Sizes about the height of a strip: none must show a seam."""
    n = 24 if size == (5, 6) else 8
    x, how = images(6, n, 3, *size), Strong(jitter=0.5, grey=0.4, blur=0.7, sharpen=0.7, ranges=ranges)
    found, u = augment.strong(x, how, chance(10, n)), chance(10, n).uniform(9).double().tolist()
    assert any(d[0] >= 0.5 and d[2] < 0.7 and d[3] < 0.7 for d in u)  # where a blur and a sharpening meet no clipping
    for b in range(n):
        torch.testing.assert_close(found[b], slow(x[b], u[b], how), **CLOSE)


@pytest.mark.parametrize("ranges", ["rgb", "legacy"])
def test_single_precision_is_enough(ranges):
    x, how = images(10, 6, 3, 70, 30), Strong(jitter=0.8, ranges=ranges)
    exact = augment.strong(x, how, chance(1, 6))
    found = augment.strong(x.float(), how, chance(1, 6)).double()
    torch.testing.assert_close(found, exact, atol=1e-5, rtol=0)


def test_nothing_fired_in_the_authors_space_stretches_contrast():
    x = images(4, 2, 3, 6, 7)
    mean = torch.tensor([122.679, 116.669, 104.007], dtype=torch.float64).view(3, 1, 1) / 255
    wanted = 1.4 * x - 0.4 * 128 / 255 - 0.4 * mean
    torch.testing.assert_close(augment.strong(x, Strong(**OFF, ranges="legacy"), chance(0, 2)), wanted, **CLOSE)


def test_gates_open_as_often_as_they_should():
    x = images(7, 1, 3, 3, 3).expand(2000, 3, 3, 3)
    for name, share in (("jitter", 0.5), ("grey", 0.3), ("blur", 0.8), ("sharpen", 0.3)):
        view = augment.strong(x, Strong(**{**OFF, name: share}), chance(0, 2000))
        moved = ((view - x).abs().amax((1, 2, 3)) > 1e-6).double().mean()
        assert abs(moved - share) < 0.05, name


@pytest.mark.parametrize("ranges", ["rgb", "legacy"])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_strong_does_not_depend_on_workers(workers, ranges):
    x, n, how = images(8, 8, 3, 4, 4), 8 // workers, Strong(ranges=ranges)
    parts = [
        augment.strong(x[w * n : (w + 1) * n], how, Chance((1,), range(w * n, (w + 1) * n), 8)) for w in range(workers)
    ]
    assert torch.equal(torch.cat(parts), augment.strong(x, how, Chance((1,), range(8), 8)))


def test_every_setting_draws_as_often():
    for how in (Strong(), Strong(**OFF), Strong(jitter=1, blend=1), Strong(ranges="legacy")):
        c = chance(0, 2)
        augment.strong(images(0, 2, 3, 4, 4), how, c)
        fresh = chance(0, 2)
        fresh.uniform(9)
        assert torch.equal(c.uniform(3), fresh.uniform(3))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 6), st.sampled_from(["rgb", "legacy"]))
def test_strong_stays_in_range_and_leaves_its_input(seed, H, W, ranges):
    x = images(seed, 2, 3, H, W).float().round(decimals=1)
    before = x.clone()
    most = {"brightness": 1, "contrast": 1, "saturation": 1, "hue": 0.5}
    view = augment.strong(x, Strong(jitter=1, sharpen=1, blend=1, ranges=ranges, **most), chance(seed, 2))
    low, high = (0, 1) if ranges == "rgb" else ((104.007 - 128) / 255, (122.679 + 128) / 255)
    assert view.shape == x.shape
    assert view.dtype == x.dtype
    assert view.min() >= low - 1e-6
    assert view.max() <= high + 1e-6
    assert torch.equal(x, before)
