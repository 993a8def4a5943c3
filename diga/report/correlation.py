"""Do two measures put rows in the same order?  Spearman's rank correlation, and what chance would do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

EXACT = 7  # rows whose every order is tried; of more, a sample is
ORDERS = 10_000
ROUNDING = 1e-9


class Rank(NamedTuple):
    """Correlation of n pairs, and the share of orders with one as far from zero; NaN where there is none."""

    rho: float
    p: float
    n: int


def rank(x: Sequence[float], y: Sequence[float]) -> Rank:
    """Spearman's correlation of pairs, ties sharing their mean rank, with a two-sided permutation test.

    NaN for fewer than three pairs, and where all of x or all of y are equal.
    """
    a, b = standardised(x), standardised(y)
    if len(a) < 3 or not (a.any() and b.any()):
        return Rank(math.nan, math.nan, len(a))
    rho = float(a @ b)
    others = a[orders(len(a))] @ b
    return Rank(rho, float((np.abs(others) >= abs(rho) - ROUNDING).mean()), len(a))


def standardised(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks (n,) with mean zero and length one; zeros where all are equal."""
    from scipy.stats import rankdata  # half of a second that other tables must not pay

    ranks = np.asarray(rankdata(values), np.float64) if len(values) else np.zeros(0)
    centred = ranks - (len(values) + 1) / 2
    length = float(np.linalg.norm(centred))
    return np.asarray(centred / length if length else centred, np.float64)


def orders(n: int) -> NDArray[np.int64]:
    """Orders of n things, one a line: all of them, or as many as ORDERS, always the same, the first as it is."""
    if n <= EXACT:
        return np.array(list(itertools.permutations(range(n))), np.int64)
    drawn = np.random.default_rng(0).permuted(np.tile(np.arange(n), (ORDERS, 1)), axis=1)
    drawn[0] = np.arange(n)
    return drawn


def kendall(x: Sequence[float], y: Sequence[float]) -> float:
    """Kendall's rank correlation of pairs, ties counted (τ-b); NaN for fewer than three, or where all are equal."""
    from scipy.stats import kendalltau

    return float(kendalltau(x, y).statistic) if len(x) >= 3 else math.nan
