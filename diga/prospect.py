"""What a sweep would take: every trial end to end, what trials share computed once, and trials ended at rungs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from diga.plan import StageRun
from diga.sweep import Sweep


class Prospect(NamedTuple):
    """One quantity, updates or seconds, in three ways of carrying a sweep out."""

    naive: float
    reuse: float
    pruned: float | None  # None: the sweep has no rungs
    confirming: float = 0.0  # beside each of them: the best and the default, with other seeds

    @property
    def planned(self) -> float:
        """As the sweep is declared."""
        return self.reuse if self.pruned is None else self.pruned


def prospect(
    sweep: Sweep, chain: Sequence[StageRun], shared: Collection[str], cost: Callable[[StageRun], float]
) -> Prospect:
    """What a sweep takes by what each stage run of its base costs; `shared` are fingerprints that every trial has."""
    once = sum(cost(run) for run in chain if run.fingerprint in shared)
    own = [run for run in chain if run.fingerprint not in shared]
    n = sweep.trials
    naive, reuse = n * sum(map(cost, chain)), once + n * sum(map(cost, own))
    again = sweep.confirm and len(sweep.confirm.seeds) * (once + (sweep.confirm.top + 1) * sum(map(cost, own)))
    if sweep.halving is None:
        return Prospect(naive, reuse, None, again or 0.0)
    place = [run.name for run in own].index(sweep.halving.stage) if _varies(own, sweep) else len(own)
    before, after = sum(map(cost, own[:place])), own[place:]
    pruned = once + n * before
    for steps, trials in zip(sweep.halving.rungs, reaching(sweep), strict=True):
        part = steps / sweep.halving.rungs[-1]
        pruned += trials * sum(cost(run) * (part if run.name == sweep.halving.stage else 1.0) for run in after)
    return Prospect(naive, reuse, pruned, again or 0.0)


def _varies(own: Sequence[StageRun], sweep: Sweep) -> bool:
    return sweep.halving is not None and sweep.halving.stage in {run.name for run in own}


def reaching(sweep: Sweep) -> list[float]:
    """How many trials are expected to come to each rung, in an order that chance has made.

    Of each eta in turn one goes on.  Without turns, of i trials that have come to a rung one in eta goes on, and the
    best so far always does (Optuna's successive halving): the i-th with a chance of max(1, i // eta) / i.
    """
    halving = sweep.halving
    assert halving
    found = [float(sweep.trials)]
    for rung in range(1, len(halving.rungs)):
        if halving.in_turn:
            found.append(float(math.ceil(sweep.trials / halving.eta**rung)))
        else:
            found.append(_going_on(found[-1], halving.eta) if halving.ends else found[-1])
    return found


def _going_on(trials: float, eta: int) -> float:
    whole = int(trials)
    sums = [max(1, i // eta) / i for i in range(1, whole + 2)]
    return sum(sums[:whole]) + (trials - whole) * sums[whole]
