"""Strong views and colour transfer, pixel by pixel: hue against colorsys, filters against loops."""

from __future__ import annotations

import colorsys
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from torch import Tensor

from diga.ops import augment, colour
from diga.ops.chance import Chance
from diga.settings import Strong

torch.set_num_threads(1)
CLOSE = {"atol": 1e-6, "rtol": 1e-6}
OFF = {"jitter": 0.0, "grey": 0.0, "blur": 0.0, "sharpen": 0.0}


def images(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def chance(seed: int, total: int) -> Chance:
    return Chance((seed, 1), range(total), total)


def per_image(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None, None, None]


# --- one operation at a time -------------------------------------------------------------


def slow_turn(rgb: list[float], turns: float) -> tuple[float, float, float]:
    h, s, v = colorsys.rgb_to_hsv(*rgb)
    return colorsys.hsv_to_rgb((h + turns) % 1, s, v)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([0, 0.25, 0.5, 1.0]) | st.floats(0, 1), min_size=3, max_size=3),
    st.floats(-0.5, 0.5),
)
def test_turn_is_the_hue_of_hsv(rgb, turns):
    found = augment.turn(torch.tensor(rgb, dtype=torch.float64).view(1, 3, 1, 1), per_image(turns)).flatten()
    torch.testing.assert_close(found, torch.tensor(slow_turn(rgb, turns), dtype=torch.float64), **CLOSE)


def test_turn_takes_each_image_its_own_way():
    x, turns = images(0, 3, 3, 4, 5), (0.0, 0.1, -0.4)
    found = augment.turn(x, per_image(*turns))
    for b, i, j in itertools.product(range(3), range(4), range(5)):
        slow = torch.tensor(slow_turn(x[b, :, i, j].tolist(), turns[b]), dtype=torch.float64)
        torch.testing.assert_close(found[b, :, i, j], slow, **CLOSE)


def test_brightness_contrast_and_saturation_are_their_equations():
    x = images(1, 2, 3, 4, 5)
    grey = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    f = (0.7, 1.3)
    for b in range(2):
        for found, anchor in (
            (augment.brighten(x, per_image(*f))[b], torch.zeros(())),
            (augment.contrast(x, per_image(*f))[b], grey[b].mean()),
            (augment.saturate(x, per_image(*f))[b], grey[b]),
        ):
            torch.testing.assert_close(found, (anchor + f[b] * (x[b] - anchor)).clamp(0, 1), **CLOSE)


def slow_filter(x: Tensor, kernel: list[list[float]]) -> Tensor:
    out, (H, W) = torch.zeros_like(x), x.shape[-2:]
    for i, j, a, b in itertools.product(range(H), range(W), (-1, 0, 1), (-1, 0, 1)):
        out[..., i, j] += kernel[a + 1][b + 1] * x[..., min(max(i + a, 0), H - 1), min(max(j + b, 0), W - 1)]
    return out


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 6)])
def test_blur_and_sharpen_are_their_kernels(size):
    x = images(2, 2, 3, *size)
    taps = [math.exp(-(d**2) / (2 * 2.0**2)) for d in (-1, 0, 1)]
    gaussian = [[a * b / sum(taps) ** 2 for b in taps] for a in taps]
    found = augment.blur(x, per_image(augment.SIDE, 0))
    torch.testing.assert_close(found[0], slow_filter(x[0], gaussian), **CLOSE)
    assert torch.equal(found[1], x[1])
    smooth = [[1 / 13, 1 / 13, 1 / 13], [1 / 13, 5 / 13, 1 / 13], [1 / 13, 1 / 13, 1 / 13]]
    found = augment.sharpen(x, per_image(0.5, 0))
    torch.testing.assert_close(found[0], (x[0] + 0.5 * (x[0] - slow_filter(x[0], smooth))).clamp(0, 1), **CLOSE)
    assert torch.equal(found[1], x[1])


def test_sharpening_is_pillows():
    x = (images(3, 1, 3, 8, 9) * 255).round()
    pixels = x[0].permute(1, 2, 0).byte().numpy()
    wanted = torch.tensor(list(ImageEnhance.Sharpness(Image.fromarray(pixels)).enhance(1.4).tobytes()))
    found = augment.sharpen(x / 255, per_image(0.4))[0].permute(1, 2, 0) * 255
    inside = (slice(1, -1), slice(1, -1))  # Pillow leaves the border as it is
    assert (found - wanted.view(8, 9, 3))[inside].abs().max() < 1.5


# --- together ----------------------------------------------------------------------------


def test_nothing_fired_is_the_image_itself():
    x = images(4, 2, 3, 6, 7)
    torch.testing.assert_close(augment.strong(x, Strong(**OFF), chance(0, 2)), x, **CLOSE)


def test_blend_zero_is_the_image_and_blend_is_linear():
    x = images(5, 2, 3, 6, 7)
    views = [augment.strong(x, Strong(blend=beta), chance(0, 2)) for beta in (0.0, 0.4, 1.0)]
    assert torch.equal(views[0], x)
    torch.testing.assert_close(views[1], 0.4 * views[2] + 0.6 * x, **CLOSE)
    assert not torch.allclose(views[2], x)


def test_strong_is_the_slow_chain():
    x, how = images(6, 4, 3, 5, 6), Strong(jitter=0.5, grey=0.5, blur=0.5, sharpen=0.5)
    found, u = augment.strong(x, how, chance(9, 4)), chance(9, 4).uniform(9).double()
    for b in range(4):
        one, (gate, draw, last) = x[b : b + 1], u[b].split([4, 4, 1])
        fires = gate < 0.5
        if fires[0]:
            f = [(2 * d - 1) * w for d, w in zip(draw, (0.4, 0.4, 0.2, 0.1), strict=True)]
            one = augment.contrast(augment.brighten(one, 1 + f[0]), 1 + f[1])
            one = augment.turn(augment.saturate(one, 1 + f[2]), f[3])
        if fires[1]:
            one = augment.grey(one).expand(1, 3, -1, -1)
        if fires[2]:
            one = augment.blur(one, per_image(augment.SIDE))
        if fires[3]:
            one = augment.sharpen(one, 0.5 * last[:, None, None, None])
        torch.testing.assert_close(found[b], (0.4 * one + 0.6 * x[b : b + 1])[0], **CLOSE)


def test_gates_open_as_often_as_they_should():
    x = images(7, 1, 3, 3, 3).expand(2000, 3, 3, 3)
    for name, share in (("jitter", 0.5), ("grey", 0.3), ("blur", 0.8), ("sharpen", 0.3)):
        view = augment.strong(x, Strong(**{**OFF, name: share}), chance(0, 2000))
        moved = ((view - x).abs().amax((1, 2, 3)) > 1e-6).double().mean()
        assert abs(moved - share) < 0.05, name


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_strong_does_not_depend_on_workers(workers):
    x, n = images(8, 8, 3, 4, 4), 8 // workers
    parts = [
        augment.strong(x[w * n : (w + 1) * n], Strong(), Chance((1,), range(w * n, (w + 1) * n), 8))
        for w in range(workers)
    ]
    torch.testing.assert_close(torch.cat(parts), augment.strong(x, Strong(), Chance((1,), range(8), 8)), **CLOSE)


def test_every_setting_draws_as_often():
    for how in (Strong(), Strong(**OFF), Strong(jitter=1, blend=1)):
        c = chance(0, 2)
        augment.strong(images(0, 2, 3, 4, 4), how, c)
        fresh = chance(0, 2)
        fresh.uniform(9)
        assert torch.equal(c.uniform(3), fresh.uniform(3))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 6))
def test_strong_stays_in_range_and_leaves_its_input(seed, H, W):
    x = images(seed, 2, 3, H, W).float().round(decimals=1)
    before = x.clone()
    how = Strong(jitter=1, brightness=1, contrast=1, saturation=1, hue=0.5, sharpen=1, blend=1)
    view = augment.strong(x, how, chance(seed, 2))
    assert view.shape == x.shape
    assert view.dtype == x.dtype
    assert view.min() >= -1e-6
    assert view.max() <= 1 + 1e-6
    assert torch.equal(x, before)


# --- colour ------------------------------------------------------------------------------


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
