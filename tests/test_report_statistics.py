"""Spreads and intervals against slow versions, against simulation, and at their edges."""

from __future__ import annotations

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
