"""Halving in turn: of each eta trials by number the best goes on, whoever carries them out and whenever it comes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from diga.errors import ConfigError
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


def test_a_free_hand_is_kept_while_somebody_may_come_to_wait(tmp_path: Path) -> None:
    """All are begun and in hand: which of them is to be taken up again is not known yet."""
    one = opened(asked(2, rungs=2), Place(tmp_path / "home", tmp_path))
    one.take(), one.take()
    assert one.take() == "later"
    assert not one.goes_on(0, 8, 0.9) and one.end(0, Outcome("pruned", rungs={"8": 0.9}))
    assert one.take() == "later"
    assert not one.goes_on(1, 8, 0.1) and not one.end(1, Outcome("pruned", rungs={"8": 0.1}))
    taken = one.take()
    assert isinstance(taken, Taken) and taken.number == 0
    assert one.goes_on(0, 8, 0.9)
    one.end(0, Outcome("done", {"target": 0.9}))
    assert one.take() == "over"


def test_who_waited_is_another_drivers_once_that_has_taken_it_up(tmp_path: Path) -> None:
    place = Place(tmp_path / "home", tmp_path)
    first, second = (opened(asked(2, rungs=2), place) for _ in range(2))
    with first.alive(), second.alive():
        first.take()
        first.goes_on(0, 8, 0.9)
        told = Outcome("pruned", rungs={"8": 0.9}, seconds=5.0)
        mine = dict(first._mine)
        assert first.end(0, told)
        assert [one.outcome.status for one in first.mine()] == ["waiting"]
        second.take()
        second.goes_on(1, 8, 0.1)
        second.end(1, Outcome("pruned", rungs={"8": 0.1}))
        taken = second.take()
        assert isinstance(taken, Taken) and taken.number == 0
        assert first.mine() == [], "a stop of the first is none of it"
        assert (second.mine()[0].outcome.status, second.mine()[0].outcome.seconds) == ("running", 5.0)
        first._mine = mine
        assert not first.end(0, told), "said twice, the second time too late"
        assert second.tried()[0].outcome.status == "running"


@pytest.mark.parametrize("value", [0.1, 0.95])
def test_killed_late_and_typed_again_with_more_it_comes_to_an_end(tmp_path: Path, value: float) -> None:
    """Who had gone on goes on as far as it had, and waits there for the new ones of its bracket."""
    place = Place(tmp_path / "home", tmp_path)
    worth = {0: 0.3, 1: 0.2, 2: 0.9, 3: value}
    first = opened(asked(3), place)
    with first.alive():
        while (taken := first.take()) != "over":
            assert isinstance(taken, Taken)
            told: dict[str, float] = {}
            for rung in RUNGS[:2]:
                told[str(rung)] = worth[taken.number]
                if not first.goes_on(taken.number, rung, worth[taken.number]):
                    break
            else:
                break  # killed in its last rung
            first.end(taken.number, Outcome("pruned", rungs=told))
    assert isinstance(taken, Taken) and taken.number == 2
    heir = opened(asked(4), place)
    took = []
    with heir.alive():
        while (taken := heir.take()) != "over":
            assert isinstance(taken, Taken)
            took.append(taken.number)
            assert len(took) < 9, took
            told = {}
            for rung in RUNGS:
                told[str(rung)] = worth[taken.number]
                if rung == 16 or not heir.goes_on(taken.number, rung, worth[taken.number]):
                    break
            whole = "16" in told
            heir.end(taken.number, Outcome("done" if whole else "pruned", {"target": 0.5} if whole else {}, told))
    states = [one.outcome.status for one in heir.tried()]
    assert states == (["pruned", "pruned", "pruned", "done"] if value > 0.9 else ["pruned", "pruned", "done", "pruned"])


def test_the_rule_is_said_once(tmp_path: Path) -> None:
    """Trials that another rule has ended would be rivals that never come."""
    place = Place(tmp_path / "home", tmp_path)
    before = searching.sweep(4, rate, rungs=2)
    opened(before, place)
    opened(before.model_copy(update={"trials": 9}), place)
    with pytest.raises(ConfigError, match=r"whose best so far go on .*--prune asha; else --name"):
        opened(asked(4, rungs=2), place)
    opened(asked(4, rungs=2, name="other"), place)
    with pytest.raises(ConfigError, match=r"in turn .*--prune sha"):
        opened(searching.sweep(4, rate, rungs=2, ends=False, name="other"), place)


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
        assert after[first + values.index(max(values))].done, "the best of each bracket is carried out whole"


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
