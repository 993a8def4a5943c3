"""Chance is a function of its key, and does not know how many workers there are."""

from __future__ import annotations

import itertools

import pytest
import torch

from diga.ops.chance import Chance

torch.set_num_threads(1)


def chance(seed: int, total: int) -> Chance:
    return Chance((seed, 7, 1), range(total), total)


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


def test_draws_to_decide_by_are_the_same_draws():
    c = Chance((4,), range(1, 3), 5, "meta")
    fresh = Chance((4,), range(1, 3), 5)
    assert c.uniform(2).device.type == "meta"
    assert torch.equal(fresh.uniform(2), Chance((4,), range(1, 3), 5).host(2))
    assert torch.equal(c.host(3), fresh.uniform(3))


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
