"""Chance does not know how many workers there are; masks are the loops a reader believes."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diga.ops import masks
from diga.ops.chance import Chance
from diga.ops.mixing import blend
from diga.types import IGNORE

torch.set_num_threads(1)
NAMES = ["classes", "cut", "none", "everything"]


def chance(seed: int, total: int) -> Chance:
    return Chance((seed, 7, 1), range(total), total)


# --- chance ------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_together_draw_what_one_draws(workers):
    one = chance(3, 8)
    several = [Chance((3, 7, 1), range(8 * w // workers, 8 * (w + 1) // workers), 8) for w in range(workers)]
    for shape in [(), (5,), (2, 3)]:
        assert torch.equal(torch.cat([c.uniform(*shape) for c in several]), one.uniform(*shape))


def test_uneven_rows_are_rows_of_the_same_draws():
    whole = chance(0, 7).uniform(4)
    assert torch.equal(Chance((0, 7, 1), range(2, 5), 7).uniform(4), whole[2:5])
    assert Chance((0, 7, 1), range(7, 7), 7).uniform(4).shape == (0, 4)


def test_every_key_has_its_own_draws_and_repeats_them():
    keys = [(1,), (1, 0), (0, 1), (10,), (1, 0, 0), (2**40, 1), (-1, 5)]
    draws = [Chance(k, range(2), 2).uniform(3) for k in keys]
    assert all(torch.equal(d, Chance(k, range(2), 2).uniform(3)) for d, k in zip(draws, keys, strict=True))
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(draws, 2))


def test_draws_are_even_over_the_unit_interval_and_go_on():
    c = chance(0, 2)
    u = c.uniform(50_000)
    assert u.min() >= 0
    assert u.max() < 1
    assert (u.flatten().histc(10, 0, 1) / 1e5 - 0.1).abs().max() < 0.005
    assert not torch.equal(c.uniform(50_000), u)
    steps = torch.stack([Chance((0, t, 1), range(1), 1).uniform(1) for t in range(2000)]).flatten()
    assert abs(steps.mean() - 0.5) < 0.03
    assert abs(torch.corrcoef(torch.stack([steps[1:], steps[:-1]]))[0, 1]) < 0.08


@pytest.mark.parametrize("rows", [range(3, 9), range(-1, 2), range(0, 4, 2), range(4, 2)])
def test_rows_outside_the_batch_are_refused(rows):
    with pytest.raises(ValueError, match="expected consecutive rows of the 8"):
        Chance((0,), rows, 8)


# --- classes -----------------------------------------------------------------------------


def slow_classes(label: Tensor, c: Chance, fraction: float, count_void: bool) -> Tensor:
    draws, mask = c.uniform(IGNORE + 1), torch.zeros_like(label, dtype=torch.bool)
    for b, y in enumerate(label):
        U = [k for k in y.unique().tolist() if k != IGNORE or count_void]
        chosen = {*sorted(U, key=lambda k: float(draws[b, k]))[: math.floor(fraction * len(U))], IGNORE}
        for i, j in itertools.product(*map(range, y.shape)):
            mask[b, i, j] = int(y[i, j]) in chosen
    return mask[:, None]


ADVERSARIES = {
    "one class": torch.full((2, 3, 4), 5),
    "void alone": torch.full((2, 3, 4), IGNORE),
    "one class and void": torch.full((1, 2, 2), 5).index_fill(2, torch.tensor(0), IGNORE),
    "one cell": torch.zeros(3, 1, 1, dtype=torch.long),
    "one void cell": torch.full((1, 1, 1), IGNORE),
    "every value": torch.arange(256).view(1, 16, 16),
    "images differ": torch.stack([torch.full((4, 4), 2), torch.arange(16).view(4, 4), torch.full((4, 4), IGNORE)]),
}


@pytest.mark.parametrize("count_void", [False, True])
@pytest.mark.parametrize("name", ADVERSARIES)
def test_classes_on_adversaries(name, count_void):
    y = ADVERSARIES[name]
    for seed in range(5):
        found = masks.classes(y, chance(seed, len(y)), count_void=count_void)
        assert found.shape == (len(y), 1, *y.shape[1:])
        assert torch.equal(found, slow_classes(y, chance(seed, len(y)), 0.5, count_void))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 19), st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0]), st.booleans())
def test_classes_is_the_slow_choice(seed, K, fraction, count_void):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, K, (3, 4, 5), generator=g)
    y = y.masked_fill(torch.rand(y.shape, generator=g) < 0.2, IGNORE)
    found = masks.classes(y, chance(seed, 3), fraction, count_void)
    assert torch.equal(found, slow_classes(y, chance(seed, 3), fraction, count_void))


def test_one_class_alone_leaves_void_to_the_front():
    y = ADVERSARIES["one class and void"]
    assert torch.equal(masks.classes(y, chance(0, 1))[:, 0], y == IGNORE)


def test_every_pair_of_four_classes_is_drawn_equally_often():
    y = torch.arange(4).view(1, 2, 2).expand(3000, 2, 2)
    drawn = Counter(tuple(m.flatten().nonzero()[:, 0].tolist()) for m in masks.classes(y, chance(0, 3000)))
    assert set(drawn) == set(itertools.combinations(range(4), 2))
    assert max(abs(n - 500) for n in drawn.values()) < 90  # more than four standard deviations


# --- the other masks ---------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 40), st.floats(0.05, 1))
def test_cut_is_one_rectangle_of_its_area(seed, H, W, area):
    label = torch.zeros(4, H, W, dtype=torch.long)
    u = chance(seed, 4).uniform(3)
    for m, (a, *_) in zip(masks.cut(label, chance(seed, 4), area)[:, 0], u.tolist(), strict=True):
        rows, columns = m.any(1), m.any(0)
        assert torch.equal(m, rows[:, None] & columns)
        assert abs(int(rows.sum()) - H * area**a) <= 0.501 or not m.any()
        assert abs(int(columns.sum()) - W * area ** (1 - a)) <= 0.501 or not m.any()
        for line in (rows, columns):
            assert (line.int().diff() == 1).sum() + line[0].int() <= 1


def test_cut_reaches_every_pixel_and_keeps_its_area():
    m = masks.cut(torch.zeros(4000, 20, 30), chance(0, 4000))
    assert abs(m.float().mean() - 0.4) < 0.01
    assert m.any(0).all()
    assert not m.all(0).any()
    torch.testing.assert_close(m.float().mean(0), m.flip(2, 3).float().mean(0), atol=0.04, rtol=0)


def test_cut_covers_all_or_nothing_at_the_ends():
    label = torch.zeros(3, 5, 6)
    assert masks.cut(label, chance(0, 3), area=1.0).all()
    assert not masks.cut(label, chance(0, 3), area=0.0).any()


def test_none_and_everything():
    label = torch.full((2, 3, 4), IGNORE)
    assert masks.everything(label, chance(0, 2)).all()
    assert not masks.none(label, chance(0, 2)).any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("workers", [2, 4])
def test_masks_do_not_depend_on_workers(name, workers):
    y = torch.randint(0, 6, (8, 5, 7), generator=torch.Generator().manual_seed(0))
    rows = [range(8 * w // workers, 8 * (w + 1) // workers) for w in range(workers)]
    mask = getattr(masks, name)
    parts = [mask(y[r.start : r.stop], Chance((1, 2), r, 8)) for r in rows]
    assert torch.equal(torch.cat(parts), mask(y, Chance((1, 2), range(8), 8)))
    assert parts[0].dtype == torch.bool


# --- eq. 6 -------------------------------------------------------------------------------


def test_blend_takes_each_pixel_from_its_image():
    front, back = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    y_front, y_back = torch.randint(0, 9, (2, 4, 5)), torch.randint(9, 19, (2, 4, 5))
    mask = torch.rand(2, 1, 4, 5) < 0.5
    image, label = blend(mask, front, back), blend(mask, y_front, y_back)
    for b, i, j in itertools.product(range(2), range(4), range(5)):
        x, y = (front, y_front) if mask[b, 0, i, j] else (back, y_back)
        assert torch.equal(image[b, :, i, j], x[b, :, i, j])
        assert label[b, i, j] == y[b, i, j]
