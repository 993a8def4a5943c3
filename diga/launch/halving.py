"""Who goes on from a rung of a sweep: as each comes, among the best so far, or of so many in turn the best."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from optuna.trial import FrozenTrial

from diga.launch.tried import Outcome
from diga.sweep import Halving, Sweep

Verdict = Literal["on", "waiting", "over"]


def so_far(value: float, there: Collection[float], eta: int) -> Verdict:
    """Whether a value is among the best of all that came to its rung, itself one of them; more is better.

    Optuna's rule of asynchronous successive halving (Li et al., MLSys 2020, without its promotions): of i trials the
    best i // eta go on, one at least.
    """
    better = sum(other > value for other in there)
    return "on" if better < max(1, len(there) // eta) else "over"


def in_turn(number: int, width: int, trials: int, there: Mapping[int, float], finished: Collection[int]) -> Verdict:
    """Whether a trial is the best of the `width` whose numbers are beside its own; more is better.

    Successive halving (Jamieson and Talwalkar, AISTATS 2016) of each bracket of trials: one of them goes on, of equals
    the first.  `there` are values of trials that came to the rung, `finished` those that will not come to it any
    more.  The best so far is "waiting" until nobody of its bracket, which ends with the `trials`, is to come.
    """
    first = number - number % width
    bracket = range(first, min(first + width, trials))
    if number != min((n for n in bracket if n in there), key=lambda n: (-there[n], n), default=number):
        return "over"
    return "on" if all(n in there or n in finished for n in bracket) else "waiting"


def verdict(sweep: Sweep, number: int, steps: int, begun: Mapping[int, FrozenTrial]) -> Verdict:
    """Of a trial at a rung that it has come to, `steps` as Optuna counts, by what all of them came to there."""
    halving, sign = sweep.halving, 1 if sweep.objectives[0].direction == "max" else -1
    assert halving
    there = {n: sign * t.intermediate_values[steps] for n, t in begun.items() if steps in t.intermediate_values}
    if not halving.in_turn:
        return so_far(there[number], there.values(), halving.eta)
    finished = {n for n, t in begun.items() if t.state.is_finished()}
    return in_turn(number, halving.eta * steps, sweep.trials, there, finished)


def goes_on(sweep: Sweep, number: int, steps: int, begun: Mapping[int, FrozenTrial]) -> bool:
    """Whether a trial goes on from a rung; one that was taken over goes on where it had gone on before."""
    assert sweep.halving
    had = any(further > steps for further in begun[number].intermediate_values)
    return had or not sweep.halving.ends or verdict(sweep, number, steps, begun) == "on"


def ended_at(sweep: Sweep, number: int, outcome: Outcome, begun: Mapping[int, FrozenTrial]) -> Verdict:
    """What is to come of a trial that did not go on: "on" if it turned out best, "waiting" if it may yet."""
    halving = sweep.halving
    if outcome.status != "pruned" or not outcome.rungs or halving is None or not halving.in_turn:
        return "over"
    return verdict(sweep, number, counted(halving, max(map(int, outcome.rungs))), begun)


def counted(halving: Halving, rung: int) -> int:
    """A rung's updates as Optuna counts resources."""
    return int(halving.eta ** halving.rungs.index(rung))
