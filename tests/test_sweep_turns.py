"""Halving in turn: of each eta trials by number the best goes on, whoever carries them out and whenever it comes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from diga.launch import sweeps
from diga.launch.ledger import Ledger, Taken
from diga.launch.tried import Outcome, Tried
from diga.pipeline import Place
from diga.prospect import reaching
from diga.sweep import Sweep
from tests import searching, tiny
from tests.searching import carried_out, rate

RUNGS = (4, 8, 16)


def asked(trials: int, rungs: int = 3, **more: Any) -> Sweep:
    return searching.sweep(trials, rate, rungs=rungs, in_turn=True, sampler="random", **more)


def opened(whole: Sweep, place: Place) -> Ledger:
    found = searching.ledger(whole, place, rate)
    found.declare("q")
    return found


def value(number: int, rung: int) -> float:
    """What a trial comes to; some of them come to the same."""
    return random.Random(number * 31 + rung).randrange(20) / 20


def fails(number: int) -> bool:
    return number % 7 == 5


def slowly(trials: int, failing: bool) -> dict[int, list[int]]:
    """Rungs of each trial, bracket by bracket: the first of the best in each, of those that came there."""
    came = {n: [RUNGS[0]] for n in range(trials) if not (failing and fails(n))}
    for at, width in ((0, 2), (1, 4)):
        for first in range(0, trials, width):
            there = [n for n in range(first, min(first + width, trials)) if RUNGS[at] in came.get(n, [])]
            if there:
                best = max(value(n, RUNGS[at]) for n in there)
                came[next(n for n in there if value(n, RUNGS[at]) == best)].append(RUNGS[at + 1])
    return came


def step_by_step(driver: Ledger, failing: bool) -> Iterator[None]:
    """A driver's part, which others may interrupt after each rung."""
    while (taken := driver.take()) != "over":
        yield
        if not isinstance(taken, Taken):
            continue
        number, told = taken.number, {}
        if failing and fails(number):
            driver.end(number, Outcome("failed"))
            continue
        for rung in RUNGS:
            told[str(rung)] = value(number, rung)
            yield
            if rung == RUNGS[-1] or not driver.goes_on(number, rung, told[str(rung)]):
                break
        yield
        whole = rung == RUNGS[-1]
        driver.end(number, Outcome("done" if whole else "pruned", {"target": 0.5} if whole else {}, told))


def rungs_of(tried: list[Tried]) -> dict[int, list[int]]:
    return {one.number: [int(n) for n in one.outcome.rungs] for one in tried if one.outcome.rungs}


@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("trials", [1, 8, 21])
@pytest.mark.parametrize("drivers", [1, 3])
def test_who_goes_on_is_the_slow_rule_in_whatever_order(
    trials: int, drivers: int, failing: bool, tmp_path: Path
) -> None:
    place, chance = Place(tmp_path / "home", tmp_path), random.Random(trials)
    crew = [opened(asked(trials), place) for _ in range(drivers)]
    with ExitStack() as lives:
        for one in crew:
            lives.enter_context(one.alive())
        parts = [step_by_step(one, failing) for one in crew]
        while parts:
            part = chance.choice(parts)
            if next(part, "over") == "over":
                parts.remove(part)
    tried = crew[0].tried()
    assert rungs_of(tried) == slowly(trials, failing)
    assert {one.outcome.status for one in tried} <= {"done", "pruned", "failed"}
    assert [one.number for one in tried if one.done] == [n for n, r in rungs_of(tried).items() if r[-1] == 16]


def test_who_leads_waits_and_is_taken_up_when_its_last_rival_has_come(tmp_path: Path) -> None:
    one = opened(asked(4), Place(tmp_path / "home", tmp_path))
    first, second = one.take(), one.take()
    assert isinstance(first, Taken) and isinstance(second, Taken)
    assert not one.goes_on(0, 4, 0.7)
    assert one.end(0, Outcome("pruned", rungs={"4": 0.7}, seconds=3.0, steps=4)), "it waits"
    waiting = one.tried()[0].outcome
    assert (waiting.status, waiting.seconds) == ("waiting", 3.0), "what it cost is known meanwhile"
    assert one.open() and [t.number for t in one.mine()] == [0, 1]
    third = one.take()
    assert isinstance(third, Taken) and third.number == 2, "nobody waits for it"
    assert not one.goes_on(1, 4, 0.6)
    assert not one.end(1, Outcome("pruned")), "it is outdone at once"
    again = one.take()
    assert again == Taken(0, first.changes), "the same setting"
    assert one.tried()[0].outcome.status == "running"
    assert one.goes_on(0, 4, 0.7)


def test_who_waited_and_is_outdone_is_ended_before_the_next_is_asked_for(tmp_path: Path) -> None:
    """Samplers learn from it at once."""
    one = opened(asked(3, rungs=2), Place(tmp_path / "home", tmp_path))
    one.take()
    one.goes_on(0, 8, 0.3)
    told = Outcome("pruned", rungs={"8": 0.3}, seconds=2.0)
    assert one.end(0, told)
    one.take()
    assert one.goes_on(1, 8, 0.4), "the last of its bracket does not wait"
    one.take()
    assert one.study.trials[0].state.name == "PRUNED"
    assert one.outdone() == [(0, told)] and one.outdone() == []
    assert one.tried()[0].outcome == told


def test_a_driver_that_ends_leaves_who_waits_to_the_next(tmp_path: Path) -> None:
    place = Place(tmp_path / "home", tmp_path)
    first = opened(asked(2, rungs=2), place)
    with first.alive():
        first.take()
        first.goes_on(0, 8, 0.9)
        first.end(0, Outcome("pruned", rungs={"8": 0.9}))
        first.take()
        first.goes_on(1, 8, 0.1)  # and is killed before it can say so
    heir = opened(asked(2, rungs=2), place)
    with heir.alive():
        taken = heir.take()
        assert isinstance(taken, Taken) and taken.number == 0, "all of its bracket have come: it goes on"
        assert heir.goes_on(0, 8, 0.9)
        heir.end(0, Outcome("done", {"target": 0.9}))
        taken = heir.take()
        assert isinstance(taken, Taken) and taken.number == 1
        assert not heir.goes_on(1, 8, 0.1)
        heir.end(1, Outcome("pruned"))
        assert heir.take() == "over"
    assert [one.outcome.status for one in heir.tried()] == ["done", "pruned"]


# --- a whole search ------------------------------------------------------------------------------


@pytest.mark.parametrize(("trials", "rungs"), [(8, 2), (9, 3)])
def test_a_search_takes_exactly_what_is_planned(trials: int, rungs: int, tmp_path: Path) -> None:
    """Every trial's own cost is told once, whether or not it waited."""
    whole, place = asked(trials, rungs), tiny.place(tmp_path)
    hands = searching.Hands()
    tried, seen = carried_out(whole, place, hands, rate)
    come = [sum(one.outcome.rungs.keys() >= {str(r)} for one in tried) for r in RUNGS[-rungs:]]
    assert come == reaching(whole)
    trained = sum(run.stage.plan.steps for run in hands.of("self_training"))
    assert sum(one.outcome.steps for one in tried) == 32 + trained
    assert trained == sum(n * r for n, r in zip(come, RUNGS[-rungs:], strict=True))
    assert seen.over == {one.number: one.outcome for one in tried}
    told = {int(r.data.tags["trial"]): r.data.tags["status"] for r in tiny.runs(tiny.client(place), "diga/s", "trial")}
    assert told == {one.number: one.outcome.status for one in tried}


def test_with_more_trials_the_last_bracket_goes_on(tmp_path: Path) -> None:
    place = tiny.place(tmp_path)
    before, _ = carried_out(asked(3, 2), place, function=rate)
    after, _ = carried_out(asked(6, 2), place, function=rate)
    assert after[:3] == before
    for first in (0, 2, 4):
        values = [after[n].outcome.rungs["8"] for n in (first, first + 1)]
        assert after[first + values.index(max(values))].done, "the best of all six brackets is carried out whole"


def test_a_spent_budget_leaves_who_waits_for_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has computed what others would compute again, and MLflow does not call it running."""
    place, whole = tiny.place(tmp_path), asked(4, 2)
    spent = iter((0.0, 1.0))
    with monkeypatch.context() as patched:
        patched.setattr(sweeps.Search, "hours", lambda self, each: next(spent))
        tried, seen = carried_out(whole, place, function=rate, budget=0.5)
    assert [one.outcome.status for one in tried] == ["waiting"] == [seen.over[0].status]
    run = tiny.runs(tiny.client(place), "diga/s", "trial")[0]
    assert run.data.tags["status"] == "stopped" and run.info.status != "RUNNING"
    tried, _ = carried_out(whole, place, function=rate)
    assert sorted(one.outcome.status for one in tried) == ["done", "done", "pruned", "pruned"]
