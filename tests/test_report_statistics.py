"""Spreads and intervals against slow versions, against simulation, and at their edges."""

from __future__ import annotations

import itertools
import math
import statistics as slow

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from pandas import DataFrame
from scipy import stats

from diga.report import statistics as s


def frame(**rows: dict[int, float]) -> DataFrame:
    lines = [(r, seed, v, f"{r}-{seed}") for r, known in rows.items() for seed, v in known.items()]
    return DataFrame(lines, columns=["row", "seed", "m", "run_id"])


def test_mean_and_spread_are_the_textbook_ones() -> None:
    found = s.over_seeds(frame(a={0: 0.4, 1: 0.5, 2: 0.45}, b={0: 0.3}), "m")
    assert found["a"].mean == pytest.approx(slow.mean([0.4, 0.5, 0.45]))
    assert found["a"].sd == pytest.approx(slow.stdev([0.4, 0.5, 0.45]))
    assert (found["a"].n, found["a"].runs) == (3, ("a-0", "a-1", "a-2"))
    assert (found["b"].n, math.isnan(found["b"].sd)) == (1, True)


def test_an_absent_value_or_metric_is_no_value() -> None:
    cells = frame(a={0: 0.4, 1: math.nan}, b={0: math.nan})
    assert {row: spread.n for row, spread in s.over_seeds(cells, "m").items()} == {"a": 1}
    assert s.over_seeds(cells, "other") == {}
    assert s.by_seed(cells, "a", "other") == {}


@given(some.lists(some.floats(-1, 1), min_size=2, max_size=12))
def test_the_interval_is_scipys(values: list[float]) -> None:
    found = s.difference(values)
    if found.sd > 1e-9:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    else:
        assert found.low == pytest.approx(found.high, abs=1e-7)


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_the_interval_covers_the_truth_19_times_of_20(n: int) -> None:
    rng = np.random.default_rng(n)
    trials = [s.difference(list(rng.normal(0.7, 2.0, n))) for _ in range(4000)]
    covered = np.mean([t.low <= 0.7 <= t.high for t in trials])
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 4000))


def test_pairs_are_made_by_seed_and_not_by_order() -> None:
    cells = frame(parent={2: 1.0, 0: 3.0, 5: 9.0}, row={0: 4.0, 1: 7.0, 2: 1.5})
    found = s.paired(cells, "row", "parent", "m")
    assert (found.n, found.mean) == (2, pytest.approx(0.75))
    assert s.paired(cells, "row", "nobody", "m").n == 0


def test_pairing_takes_the_seeds_own_effect_away() -> None:
    """What all rows of a seed share widens each row's spread and not the interval of their difference."""
    seeds = {k: 0.1 * k for k in range(5)}
    noise = [0.001, -0.002, 0.0, 0.002, -0.001]
    cells = frame(parent=seeds, row={k: v + 0.01 + noise[k] for k, v in seeds.items()})
    found = s.paired(cells, "row", "parent", "m")
    assert found.verdict == "holds"
    assert found.sd < 0.01 * s.over_seeds(cells, "m")["row"].sd * 10


def test_one_pair_has_no_interval() -> None:
    one = s.difference([0.3])
    assert (one.mean, one.verdict, one.seeds_needed) == (0.3, "open", None)
    assert math.isnan(one.low)
    assert s.difference([]).verdict == "open"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 0.4, "holds"),
        (-0.4, -0.1, "reversed"),
        (-0.1, 0.4, "tie"),
        (0.0, 0.4, "tie"),
        (-0.4, 0.0, "tie"),
        (0.0, 0.0, "tie"),
        (math.nan, math.nan, "open"),
    ],
)
def test_verdicts(low: float, high: float, verdict: str) -> None:
    assert s.classify(low, high) == verdict


@given(some.floats(0.05, 3), some.floats(0.1, 3), some.integers(2, 10))
def test_seeds_needed_is_the_first_number_that_is_enough(mean: float, sd: float, n: int) -> None:
    def enough(seeds: int) -> bool:
        return bool(stats.t.ppf(0.975, seeds - 1) * sd / math.sqrt(seeds) < mean)

    more = s.seeds_still_needed(-mean, sd, n)
    if more is None:
        assert not enough(n + s.MOST_SEEDS - 1)
    else:
        assert enough(n + more)
        assert more == 0 or not enough(n + more - 1)


def test_no_difference_needs_no_number_of_seeds() -> None:
    assert s.seeds_still_needed(0.0, 1.0, 3) is None
    assert s.seeds_still_needed(0.5, 1.0, 1) is None


# --- sign flips and Holm -----------------------------------------------------------------


def slow_sign_flip(values: list[float]) -> float:
    sums = [abs(math.fsum(s * v for s, v in zip(signs, values, strict=True))) for signs in _signs(len(values))]
    return float(np.mean([total >= abs(math.fsum(values)) - 1e-9 for total in sums]))


def _signs(n: int) -> list[tuple[int, ...]]:
    return list(itertools.product((1, -1), repeat=n))


@given(some.lists(some.integers(-30, 30).map(lambda k: k / 16), min_size=6, max_size=9))
def test_sign_flips_are_all_counted(values: list[float]) -> None:
    assert s.sign_flip(values) == pytest.approx(slow_sign_flip(values))


def test_sign_flips_are_scipys() -> None:
    values = list(np.random.default_rng(3).normal(0.4, 1, 11))
    exact = stats.permutation_test((np.array(values),), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert s.sign_flip(values) == pytest.approx(exact.pvalue)


def test_a_p_needs_six_pairs() -> None:
    assert math.isnan(s.sign_flip([1.0] * 5))
    assert s.sign_flip([1.0] * 6) == 2 / 64
    assert s.sign_flip([0.0] * 6) == 1.0
    assert math.isnan(s.between(dict.fromkeys(range(5), 1.0), dict.fromkeys(range(5), 0.0)).p)
    assert s.between(dict.fromkeys(range(6), 1.0), dict.fromkeys(range(9), 0.0)).p == 2 / 64


@pytest.mark.parametrize("n", [s.EXACT, s.EXACT + 1, 60])
def test_many_pairs_are_halved_or_sampled(n: int) -> None:
    """Where the normal approximation is good, both are near it."""
    values = list(np.random.default_rng(n).normal(0.25, 1, n))
    z = sum(values) / math.sqrt(sum(v * v for v in values))
    assert s.sign_flip(values) == pytest.approx(2 * stats.norm.sf(abs(z)), abs=0.02)
    assert s.sign_flip([1.0] * n) <= 1 / (s.FLIPS + 1)


@pytest.mark.parametrize("n", [6, 8, 40])
def test_where_nothing_differs_a_p_is_below_a_level_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(n)
    ps = np.array([s.sign_flip(list(rng.standard_t(3, n))) for _ in range(1500)])
    for level in (0.05, 0.2):
        assert (ps <= level).mean() <= level + 3 * math.sqrt(level * (1 - level) / len(ps))
    assert (ps <= 0.2).mean() > 0.14


@given(some.lists(some.floats(0, 1), max_size=6))
def test_holm_is_the_slow_one(ps: list[float]) -> None:
    """A hypothesis is rejected at a level when it and all smaller ones pass their step."""
    found = s.holm(ps)
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    for k, i in enumerate(order):
        steps = [(len(ps) - j) * ps[order[j]] for j in range(k + 1)]
        assert found[i] == pytest.approx(min(1.0, max(steps)))


def test_holm_leaves_what_is_no_test_alone() -> None:
    found = s.holm([0.01, math.nan, 0.04])
    assert (found[0], found[2]) == (0.02, 0.04)
    assert math.isnan(found[1])


def test_holm_is_wrong_about_a_table_once_in_twenty() -> None:
    rng = np.random.default_rng(1)
    tables = [min(s.holm([s.sign_flip(list(rng.normal(0, 1, 8))) for _ in range(6)])) for _ in range(600)]
    assert np.mean(np.array(tables) < 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)


@pytest.mark.parametrize(
    ("rows", "pairs"), [(1, 6), (2, 7), (3, 7), (4, 8), (6, 8), (7, 9), (12, 9), (13, 10), (10**9, 32)]
)
def test_pairs_for_a_p_of_one_of_so_many_rows(rows: int, pairs: int) -> None:
    """With as many pairs all of one sign Holm's p is below 0.05, and with one pair fewer none can be."""
    assert s.pairs_for(rows) == pairs
    if rows < 20:
        for n in range(s.FEWEST, pairs + 1):
            found = s.among([s.between(dict.fromkeys(range(n), 1.0), dict.fromkeys(range(n), 0.0))] * rows)
            assert {d.adjusted for d in found} == {d.least for d in found} == {min(1.0, rows * 2 / 2**n)}
            assert (found[0].adjusted < s.ALPHA) == (n == pairs)


@given(some.lists(some.lists(some.integers(-9, 9).map(float), min_size=3, max_size=9), min_size=1, max_size=5))
def test_no_p_is_below_the_least(rows: list[list[float]]) -> None:
    zero = dict.fromkeys(range(9), 0.0)
    for step in s.among([s.between(dict(enumerate(values)), zero) for values in rows]):
        assert math.isnan(step.adjusted) == math.isnan(step.least) == (step.n < s.FEWEST)
        assert step.n < s.FEWEST or step.least <= step.adjusted
        assert step.rows == sum(len(values) >= s.FEWEST for values in rows)


def test_an_infinite_value_is_no_value() -> None:
    cells = frame(a={0: 0.4, 1: math.inf, 2: -math.inf})
    assert s.over_seeds(cells, "m")["a"].n == 1
    assert s.by_seed(cells, "a", "m") == {0: 0.4}
