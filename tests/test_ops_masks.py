"""Masks are the loops a reader believes."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diga.ops import masks
from diga.ops.chance import Chance
from diga.registry import names_in
from diga.settings import Mask
from diga.types import IGNORE

torch.set_num_threads(1)
NAMES = ["classes", "cut", "grid", "noise", "cow", "fourier", "none", "everything"]
DRAWN = ("cow", "fourier")  # whose share is drawn for each image
HALF = Mask()


def chance(seed: int, total: int) -> Chance:
    return Chance((seed, 7, 1), range(total), total)


def cut(area: float) -> Mask:
    return Mask(kind="cut", fraction=area)


# --- classes -----------------------------------------------------------------------------


def exactly(fraction: float, count: int, rounding: str) -> int:
    """`fraction` as it is written, of `count`, in whole numbers."""
    share = Fraction(str(fraction)) * count
    return {"floor": math.floor(share), "nearest": math.floor(share + Fraction(1, 2)), "ceil": math.ceil(share)}[
        rounding
    ]


def slow_classes(label: Tensor, c: Chance, how: Mask) -> Tensor:
    draws, mask = c.uniform(IGNORE + 1), torch.zeros_like(label, dtype=torch.bool)
    for b, y in enumerate(label):
        U = [k for k in y.unique().tolist() if k != IGNORE or how.void != "front"]
        drawn = sorted(U, key=lambda k: float(draws[b, k]))[: exactly(how.fraction, len(U), how.rounding)]
        chosen = set(drawn) if how.void == "drawn" else {*drawn, IGNORE}
        for i, j in itertools.product(*map(range, y.shape)):
            mask[b, i, j] = int(y[i, j]) in chosen
    return mask[:, None]


def classes_before(label: Tensor, c: Chance) -> Tensor:
    """How the mask was drawn when half of the classes, rounded down, was all there was."""
    B, H, W = label.shape
    values = label.flatten(1)
    present = torch.zeros(B, 256, dtype=torch.bool).scatter_(1, values, True)
    present[:, IGNORE] = False
    order = c.uniform(256).masked_fill(~present, 1).argsort(1)
    first = torch.arange(256) < (0.5 * present.sum(1, dtype=torch.float64)).floor()[:, None]
    chosen = torch.zeros_like(present).scatter_(1, order, first)
    chosen[:, IGNORE] = True
    return chosen.gather(1, values).view(B, 1, H, W)


ADVERSARIES = {
    "one class": torch.full((2, 3, 4), 5),
    "void alone": torch.full((2, 3, 4), IGNORE),
    "one class and void": torch.full((1, 2, 2), 5).index_fill(2, torch.tensor(0), IGNORE),
    "one cell": torch.zeros(3, 1, 1, dtype=torch.long),
    "one void cell": torch.full((1, 1, 1), IGNORE),
    "every value": torch.arange(256).view(1, 16, 16),
    "images differ": torch.stack([torch.full((4, 4), 2), torch.arange(16).view(4, 4), torch.full((4, 4), IGNORE)]),
    "absent classes": torch.tensor([0, 18, 0, 7]).view(1, 2, 2).expand(2, 2, 2),
}


@pytest.mark.parametrize("void", ["front", "counted", "drawn"])
@pytest.mark.parametrize("rounding", ["floor", "nearest", "ceil"])
@pytest.mark.parametrize("name", ADVERSARIES)
def test_classes_on_adversaries(name, rounding, void):
    y = ADVERSARIES[name]
    for seed, fraction in itertools.product(range(3), (0.1, 0.5, 1.0)):
        how = Mask(fraction=fraction, rounding=rounding, void=void)
        found = masks.classes(y, chance(seed, len(y)), how)
        assert found.shape == (len(y), 1, *y.shape[1:])
        assert torch.equal(found, slow_classes(y, chance(seed, len(y)), how))


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 19),
    st.sampled_from([0.1, 0.29, 0.3, 0.5, 0.55, 0.7, 1.0]),
    st.sampled_from(["floor", "nearest", "ceil"]),
    st.sampled_from(["front", "counted", "drawn"]),
)
def test_classes_is_the_slow_choice(seed, K, fraction, rounding, void):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, K, (3, 4, 5), generator=g)
    y = y.masked_fill(torch.rand(y.shape, generator=g) < 0.2, IGNORE)
    how = Mask(fraction=fraction, rounding=rounding, void=void)
    assert torch.equal(masks.classes(y, chance(seed, 3), how), slow_classes(y, chance(seed, 3), how))


def test_the_default_draws_what_it_always_drew():
    g = torch.Generator().manual_seed(0)
    for seed in range(20):
        y = torch.randint(0, 19, (3, 6, 7), generator=g)
        y = y.masked_fill(torch.rand(y.shape, generator=g) < 0.1, IGNORE)
        assert torch.equal(masks.classes(y, chance(seed, 3), HALF), classes_before(y, chance(seed, 3)))


@pytest.mark.parametrize("rounding", ["floor", "nearest", "ceil"])
def test_a_share_of_a_count_is_exact(rounding):
    for hundredths, count in itertools.product(range(1, 101), range(1, 40)):
        share = torch.tensor(hundredths / 100 * count, dtype=torch.float64)
        assert masks._whole(share, rounding) == exactly(hundredths / 100, count, rounding)
        assert masks._nearest(hundredths / 100, count) == exactly(hundredths / 100, count, "nearest")


def test_one_class_alone_leaves_void_to_the_front():
    y = ADVERSARIES["one class and void"]
    assert torch.equal(masks.classes(y, chance(0, 1), HALF)[:, 0], y == IGNORE)


def test_a_fraction_of_one_is_everything_but_void_that_stays_behind():
    y = ADVERSARIES["images differ"]
    for void in ("front", "counted", "drawn"):
        assert masks.classes(y, chance(0, 3), Mask(fraction=1.0, void=void)).all()


def test_void_that_is_drawn_is_left_behind_as_often_as_any_class():
    y = torch.tensor([3, IGNORE]).view(1, 1, 2).expand(3000, 1, 2)
    front = masks.classes(y, chance(0, 3000), Mask(void="drawn"))[:, 0, 0]
    assert (front.sum(1) == 1).all()
    assert abs(front[:, 1].float().mean() - 0.5) < 0.04


def test_every_pair_of_four_classes_is_drawn_equally_often():
    y = torch.arange(4).view(1, 2, 2).expand(3000, 2, 2)
    drawn = Counter(tuple(m.flatten().nonzero()[:, 0].tolist()) for m in masks.classes(y, chance(0, 3000), HALF))
    assert set(drawn) == set(itertools.combinations(range(4), 2))
    assert max(abs(n - 500) for n in drawn.values()) < 90  # more than four standard deviations


# --- a rectangle -------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 40), st.floats(0.05, 1))
def test_cut_is_one_rectangle_of_its_area(seed, H, W, area):
    label = torch.zeros(4, H, W, dtype=torch.long)
    u = chance(seed, 4).uniform(3)
    for m, (a, *_) in zip(masks.cut(label, chance(seed, 4), cut(area))[:, 0], u.tolist(), strict=True):
        rows, columns = m.any(1), m.any(0)
        assert torch.equal(m, rows[:, None] & columns)
        assert abs(int(rows.sum()) - H * area**a) <= 0.501 or not m.any()
        assert abs(int(columns.sum()) - W * area ** (1 - a)) <= 0.501 or not m.any()
        for line in (rows, columns):
            assert (line.int().diff() == 1).sum() + line[0].int() <= 1


def test_cut_reaches_every_pixel_and_keeps_its_area():
    m = masks.cut(torch.zeros(4000, 20, 30), chance(0, 4000), cut(0.4))
    assert abs(m.float().mean() - 0.4) < 0.01
    assert m.any(0).all()
    assert not m.all(0).any()
    torch.testing.assert_close(m.float().mean(0), m.flip(2, 3).float().mean(0), atol=0.04, rtol=0)


def test_cut_covers_all_or_nothing_at_the_ends():
    label = torch.zeros(3, 5, 6)
    assert masks.cut(label, chance(0, 3), cut(1.0)).all()
    assert not masks.cut(label, chance(0, 3), cut(1e-9)).any()


# --- patches -----------------------------------------------------------------------------


def slow_grid(label: Tensor, c: Chance, how: Mask) -> Tensor:
    B, H, W = label.shape
    patches = list(itertools.product(range(0, H, how.side), range(0, W, how.side)))
    mask, draws = torch.zeros(B, 1, H, W, dtype=torch.bool), c.uniform(len(patches)).tolist()
    for b in range(B):
        order = sorted(range(len(patches)), key=lambda n: draws[b][n])
        for i, j in (patches[n] for n in order[: exactly(how.fraction, len(patches), "nearest")]):
            mask[b, 0, i : i + how.side, j : j + how.side] = True
    return mask


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 15),
    st.sampled_from([0.05, 0.3, 0.5, 0.7, 1.0]),
)
def test_grid_is_the_slow_choice(seed, H, W, side, fraction):
    label, how = torch.zeros(3, H, W, dtype=torch.long), Mask(kind="grid", fraction=fraction, side=side)
    assert torch.equal(masks.grid(label, chance(seed, 3), how), slow_grid(label, chance(seed, 3), how))


def test_a_patch_larger_than_the_image_is_the_image():
    label = torch.zeros(3, 5, 6, dtype=torch.long)
    assert masks.grid(label, chance(0, 3), Mask(kind="grid", side=100)).all()
    assert not masks.grid(label, chance(0, 3), Mask(kind="grid", side=100, fraction=0.4)).any()


def test_every_pair_of_four_patches_is_drawn_equally_often():
    drawn = Counter(
        tuple(m.flatten().nonzero()[:, 0].tolist())
        for m in masks.grid(torch.zeros(3000, 2, 2), chance(0, 3000), Mask(kind="grid", side=1))
    )
    assert set(drawn) == set(itertools.combinations(range(4), 2))
    assert max(abs(n - 500) for n in drawn.values()) < 90


# --- noise -------------------------------------------------------------------------------


def slow_noise(label: Tensor, c: Chance, how: Mask) -> Tensor:
    B, H, W = label.shape
    r, s = (math.ceil(n / how.side) for n in (H, W))
    u, mask = c.uniform(r + 1, s + 1).double(), torch.zeros(B, 1, H, W, dtype=torch.bool)
    for b in range(B):
        value = {}
        for i, j in itertools.product(range(H), range(W)):
            v, w = (p * n / (N - 1) if N > 1 else 0.0 for p, n, N in ((i, r, H), (j, s, W)))
            value[i, j] = sum(
                float(u[b, y, x]) * max(0, 1 - abs(v - y)) * max(0, 1 - abs(w - x))
                for y, x in itertools.product(range(r + 1), range(s + 1))
            )
        for i, j in sorted(value, key=lambda p: -value[p])[: exactly(how.fraction, H * W, "nearest")]:
            mask[b, 0, i, j] = True
    return mask


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 12),
    st.sampled_from([0.05, 0.3, 0.5, 0.7, 1.0]),
)
def test_noise_is_the_slow_field_above_its_quantile(seed, H, W, side, fraction):
    label, how = torch.zeros(2, H, W, dtype=torch.long), Mask(kind="noise", fraction=fraction, side=side)
    found = masks.noise(label, chance(seed, 2), how)
    assert torch.equal(found, slow_noise(label, chance(seed, 2), how))


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_noise_covers_its_share_of_each_image_in_blobs_of_its_side(fraction):
    m = masks.noise(torch.zeros(8, 64, 96), chance(0, 8), Mask(kind="noise", fraction=fraction, side=16))[:, 0]
    assert torch.equal(m.sum((1, 2)), torch.full((8,), exactly(fraction, 64 * 96, "nearest")))
    changes = (m[:, 1:] != m[:, :-1]).sum() + (m[:, :, 1:] != m[:, :, :-1]).sum()
    fine = masks.noise(torch.zeros(8, 64, 96), chance(0, 8), Mask(kind="noise", fraction=fraction, side=1))[:, 0]
    assert changes < 0.25 * ((fine[:, 1:] != fine[:, :-1]).sum() + (fine[:, :, 1:] != fine[:, :, :-1]).sum())


# --- all of them -------------------------------------------------------------------------


def test_none_and_everything():
    label = torch.full((2, 3, 4), IGNORE)
    assert masks.everything(label, chance(0, 2), HALF).all()
    assert not masks.none(label, chance(0, 2), HALF).any()


def test_every_kind_is_a_function_here():
    assert names_in("diga.ops.masks") == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(2, 1, 1), (1, 1, 9), (3, 7, 1)])
def test_every_mask_takes_any_size(name, shape):
    for y in (torch.zeros(shape, dtype=torch.long), torch.full(shape, IGNORE)):
        for fraction in (0.1, 0.5, 1.0):
            m = getattr(masks, name)(y, chance(0, shape[0]), Mask(kind=name, fraction=fraction))
            assert m.shape == (shape[0], 1, *shape[1:])
            assert m.dtype == torch.bool
            assert m.all() or name in ("none", *DRAWN) or fraction < 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("workers", [2, 4])
def test_masks_do_not_depend_on_workers(name, workers):
    y = torch.randint(0, 6, (8, 5, 7), generator=torch.Generator().manual_seed(0))
    rows = [range(8 * w // workers, 8 * (w + 1) // workers) for w in range(workers)]
    mask, how = getattr(masks, name), Mask(kind=name, side=2)
    parts = [mask(y[r.start : r.stop], Chance((1, 2), r, 8), how) for r in rows]
    assert torch.equal(torch.cat(parts), mask(y, Chance((1, 2), range(8), 8), how))
