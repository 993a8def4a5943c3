"""Numbers over seeds: mean and spread, paired differences with their interval, and what they support.

Seeds are few, so nothing here leans on large samples: spreads divide by n - 1, intervals are Student's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pandas import DataFrame
from scipy.special import stdtrit

Verdict = Literal["holds", "tie", "reversed", "open"]
LEVEL = 0.95
MOST_SEEDS = 1000  # beyond this no number of seeds is an answer


@dataclass(frozen=True)
class Difference:
    """Paired difference: its mean over n pairs and, from two pairs, the bounds of its interval."""

    n: int
    mean: float = math.nan
    sd: float = math.nan
    low: float = math.nan
    high: float = math.nan

    @property
    def verdict(self) -> Verdict:
        return classify(self.low, self.high)

    @property
    def seeds_needed(self) -> int | None:
        return seeds_still_needed(self.mean, self.sd, self.n)


@dataclass(frozen=True)
class Spread:
    """Mean over n seeds and their sample standard deviation (n - 1), NaN for one seed; the runs behind it."""

    mean: float
    sd: float
    n: int
    runs: tuple[str, ...] = ()


def over_seeds(cells: DataFrame, metric: str) -> dict[str, Spread]:
    """Mean and spread of `metric` for every row that has it, from columns row, run_id and `metric`."""
    known: dict[str, list[tuple[float, str]]] = {}
    if metric in cells:
        for row, value, run in zip(cells["row"], cells[metric], cells["run_id"], strict=True):
            if not math.isnan(value):
                known.setdefault(row, []).append((float(value), run))
    return {row: _spread(*zip(*pairs, strict=True)) for row, pairs in known.items()}


def _spread(values: tuple[float, ...], runs: tuple[str, ...]) -> Spread:
    about = difference(values)
    return Spread(about.mean, about.sd, about.n, runs)


def by_seed(cells: DataFrame, row: str, metric: str) -> dict[int, float]:
    """Values of `metric` in one row by seed, in the order of the seeds."""
    if metric not in cells:
        return {}
    lines = zip(cells["row"], cells["seed"], cells[metric], strict=True)
    known = {int(seed): float(value) for here, seed, value in lines if here == row and not math.isnan(value)}
    return dict(sorted(known.items()))


def paired(cells: DataFrame, row: str, parent: str, metric: str) -> Difference:
    """`row` minus `parent` over the seeds that both have."""
    ours, theirs = by_seed(cells, row, metric), by_seed(cells, parent, metric)
    return difference([value - theirs[seed] for seed, value in ours.items() if seed in theirs])


def difference(values: Sequence[float]) -> Difference:
    """Mean of values with Student's interval, mean ± t(n - 1) sd / sqrt(n); one value has none."""
    n = len(values)
    if n == 0:
        return Difference(0)
    mean = math.fsum(values) / n
    if n == 1:
        return Difference(1, mean)
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = half_width(sd, n)
    return Difference(n, mean, sd, mean - half, mean + half)


def half_width(sd: float, n: int, level: float = LEVEL) -> float:
    """Half the width of Student's interval of a mean of n >= 2 values."""
    return float(stdtrit(n - 1, (1 + level) / 2)) * sd / math.sqrt(n)


def classify(low: float, high: float) -> Verdict:
    """holds: the whole interval is above zero; reversed: below; tie: zero is in it; open: no interval yet."""
    if math.isnan(low) or math.isnan(high):
        return "open"
    return "holds" if low > 0 else "reversed" if high < 0 else "tie"


def seeds_still_needed(mean: float, sd: float, n: int) -> int | None:
    """Further seeds until the interval leaves zero out, should mean and spread stay as observed.

    0 when it does already; None when no answer exists: fewer than two pairs, no difference at all,
    or more than MOST_SEEDS.
    """
    if n < 2 or mean == 0 or math.isnan(mean):
        return None
    for more in range(MOST_SEEDS):
        if half_width(sd, n + more) < abs(mean):
            return more
    return None
