"""Numbers over seeds: mean and spread, paired differences with their interval, and what they support.

Seeds are few, so nothing here leans on large samples: spreads divide by n - 1, intervals are Student's, and a p is
that of all sign flips, which fewer than FEWEST pairs cannot bring below 0.05.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

Verdict = Literal["holds", "tie", "reversed", "open"]
LEVEL = 0.95
ALPHA = 0.05
MOST_SEEDS = 1000  # beyond this no number of seeds is an answer
FEWEST = 6  # pairs that have a p: of 5 the smallest two-sided one is 0.0625
EXACT = 32  # pairs whose every sign is tried; of more, a sample is
FLIPS = 20_000
ROUNDING = 1e-9


@dataclass(frozen=True)
class Difference:
    """Paired difference: its mean over n pairs and, from two pairs, the bounds of its interval.

    `p` is that of sign flips, of FEWEST pairs or more; `adjusted` is what Holm makes of it among the `rows` of a table
    that have one, and `least` the smallest it could be with as many pairs.
    """

    n: int
    mean: float = math.nan
    sd: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    adjusted: float = math.nan
    least: float = math.nan
    rows: int = 0

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
            if math.isfinite(value):
                known.setdefault(row, []).append((float(value), run))
    return {row: _spread(*zip(*pairs, strict=True)) for row, pairs in known.items()}


def _spread(values: tuple[float, ...], runs: tuple[str, ...]) -> Spread:
    about = difference(values)
    return Spread(about.mean, about.sd, about.n, runs)


def by_seed(cells: DataFrame, row: str, metric: str) -> dict[int, float]:
    """Values of `metric` in one row by seed, in the order of the seeds."""
    if metric not in cells:
        return {}
    here = cells[cells["row"] == row]
    pairs = zip(here["seed"], here[metric], strict=True)
    return {int(seed): float(value) for seed, value in sorted(pairs) if math.isfinite(value)}


def paired(cells: DataFrame, row: str, parent: str, metric: str) -> Difference:
    """`row` minus `parent` over the seeds that both have."""
    ours, theirs = by_seed(cells, row, metric), by_seed(cells, parent, metric)
    return between(ours, theirs)


def between(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference:
    """Values by seed less values by seed, over the seeds that both have, with the p of sign flips."""
    values = [value - theirs[seed] for seed, value in ours.items() if seed in theirs]
    return replace(difference(values), p=sign_flip(values))


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
    from scipy.special import stdtrit  # a quarter of a second that who asks for no interval must not pay

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


# --- tests -------------------------------------------------------------------------------


def sign_flip(values: Sequence[float]) -> float:
    """Two-sided p: the share of all signs of the values under which their sum is as far from zero; NaN below FEWEST.

    Exact up to EXACT values; of more, the share among FLIPS signs that are always the same, theirs counted in.
    """
    return _flipped(tuple(values))


@lru_cache(4096)
def _flipped(values: tuple[float, ...]) -> float:
    """`sign_flip` of values that a report asks about several times."""
    n = len(values)
    if n < FEWEST or not np.isfinite(values).all():
        return math.nan
    x = np.asarray(values, np.float64)
    found = abs(float(x.sum())) - ROUNDING * float(np.abs(x).sum())
    if n > EXACT:
        return float((1 + (np.abs(signs(n) @ x) >= found).sum()) / (FLIPS + 1))
    left, right = (all_signs(len(half)) @ half for half in (x[: n // 2], x[n // 2 :]))
    right = np.sort(right)
    far = len(right) - np.searchsorted(right, found - left, "left") + np.searchsorted(right, -found - left, "right")
    return min(1.0, float(far.sum()) / 2.0**n) if found > 0 else 1.0


@cache
def all_signs(n: int) -> NDArray[np.float64]:
    """(2^n, n): every way to give n values a sign."""
    bits = np.arange(2**n)[:, None] >> np.arange(n) & 1
    return (1.0 - 2.0 * bits).astype(np.float64)


@cache
def signs(n: int) -> NDArray[np.float64]:
    """(FLIPS, n): signs by chance, the same in every report."""
    return np.random.default_rng(n).choice([-1.0, 1.0], (FLIPS, n))


def smallest(n: int) -> float:
    """The smallest p that n pairs can have, that of values of one sign; NaN below FEWEST."""
    if n < FEWEST:
        return math.nan
    return 2.0 / 2**n if n <= EXACT else 1 / (FLIPS + 1)


def pairs_for(rows: int) -> int:
    """Pairs that each of so many rows must have for one of them to be below ALPHA after Holm."""
    return next((n for n in range(FEWEST, EXACT) if rows * smallest(n) < ALPHA), EXACT)


def among(steps: Sequence[Difference]) -> list[Difference]:
    """The differences of a table, each with what Holm makes of its p among them and the least he could."""
    adjusted, least = holm([step.p for step in steps]), holm([smallest(step.n) for step in steps])
    rows = sum(not math.isnan(step.p) for step in steps)
    return [replace(s, adjusted=p, least=q, rows=rows) for s, p, q in zip(steps, adjusted, least, strict=True)]


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: whoever rejects at 0.05 is wrong about any of them once in 20 tables at most.

    NaN, where there is no p, is no test and stays.
    """
    adjusted, most = list(ps), 0.0
    order = sorted((i for i, p in enumerate(ps) if not math.isnan(p)), key=lambda i: ps[i])
    for k, i in enumerate(order):
        most = max(most, min(1.0, (len(order) - k) * ps[i]))
        adjusted[i] = most
    return adjusted
