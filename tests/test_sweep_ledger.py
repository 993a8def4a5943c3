"""The ledger of a sweep: who takes which trial, what came of it; no stop, death or fault changes either."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from diga.errors import ConfigError, StorageError
from diga.launch import storage
from diga.launch.ledger import Ledger, Taken
from diga.launch.storage import JOURNAL, folder_of, journal, mend, patiently, storage_at
from diga.launch.tried import Outcome
from diga.pipeline import Place
from diga.sweep import Sweep
from tests import searching
from tests.searching import rate, space, worth

N = 12


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "home", tmp_path)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "AGAIN", 0.0)


def opened(asked: Sweep, place: Place, function: Any = space, question: str = "q") -> Ledger:
    found = searching.ledger(asked, place, function)
    found.declare(question)
    return found


def values_of(asked: Sweep, taken: Taken) -> dict[str, float]:
    value = worth(asked.recipe_of(taken.changes))
    return {o.name: value if o.direction == "max" else 1 - value**2 for o in asked.objectives}


def end(ledger: Ledger, taken: Taken) -> None:
    ledger.end(taken.number, Outcome("done", values_of(ledger.sweep, taken)))


def take(ledger: Ledger) -> Taken:
    taken = ledger.take()
    assert isinstance(taken, Taken), taken
    return taken


def driven(ledger: Ledger, trials: int = 10**6) -> list[Taken]:
    """Trials carried out one after the other, as many as there are."""
    found = []
    while len(found) < trials and isinstance(taken := ledger.take(), Taken):
        end(ledger, taken)
        found.append(taken)
    return found


# --- in turn -----------------------------------------------------------------------------------


def test_trials_are_numbered_and_over_when_there_are_enough(place: Place) -> None:
    one = opened(searching.sweep(4), place)
    assert one.open()
    assert [taken.number for taken in driven(one)] == [0, 1, 2, 3]
    assert (one.take(), one.open()) == ("over", False)
    more = opened(searching.sweep(6), place)
    assert more.open()
    assert [taken.number for taken in driven(more)] == [4, 5]
    assert [(t.number, t.outcome.status) for t in more.tried()] == [(n, "done") for n in range(6)]


def test_the_enqueued_setting_is_the_first_and_is_enqueued_once(place: Place) -> None:
    first = {searching.PATH: 0.0123, "self_training.mix.kind": "cut"}
    for _ in range(2):
        one = opened(searching.sweep(2), place)
        one.enqueue(first)
    found = driven(one)
    assert found[0].changes == first
    assert len(found) == 2
    one.enqueue(first)
    assert not one.open()


def test_none_is_begun_when_there_are_to_be_no_more(place: Place) -> None:
    one = opened(searching.sweep(4), place)
    assert one.take(more=False) == "over"
    lost = take(one)
    other = opened(searching.sweep(4), place)
    assert other.take(more=False) == lost, "what is begun is ended"
    end(other, lost)
    assert other.take(more=False) == "over"


SAMPLERS: dict[str, dict[str, Any]] = {
    "tpe": {},
    "random": {},
    "gp": {"function": rate, "trials": 6},
    "cmaes": {},
    "nsga2": {"objectives": ("target", "compute")},
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_repeats_itself_stopped_or_not(sampler: Any, tmp_path: Path) -> None:
    """The same seed, the same trials, also where it was stopped after some, within its start-up and past it."""
    words = {"trials": N, "function": space, "sampler": sampler} | SAMPLERS[sampler]

    def searched(name: str, stops: tuple[int, ...] = (), seed: int = 0) -> list[Taken]:
        asked = searching.sweep(**words, whole=searching.base(seed=seed))
        place, found = Place(tmp_path / name, tmp_path), []
        for trials in (*stops, N):
            found += driven(opened(asked, place, words["function"]), trials)
        return found

    whole = searched("whole")
    assert [taken.number for taken in whole] == list(range(words["trials"]))
    assert len({json.dumps(taken.changes) for taken in whole}) > N / 3
    assert searched("stopped", (1, 4)) == whole
    if sampler != "gp":  # its model takes seconds
        assert searched("other", seed=1) != whole


def test_the_past_counts_past_the_start_up(place: Place, tmp_path: Path) -> None:
    """Else the test above would hold for a sampler that learns nothing."""
    asked = searching.sweep(N)
    good = driven(opened(asked, place))
    other = opened(asked, Place(tmp_path / "other", tmp_path))
    for n in range(N):
        taken = take(other)
        assert (taken == good[n]) == (n < 4), "at random before, by what was seen after"
        other.end(taken.number, Outcome("done", {"target": -values_of(asked, taken)["target"]}))
        if n >= 4:
            break


# --- several drivers -----------------------------------------------------------------------------


def test_what_a_dead_driver_had_taken_is_taken_over(place: Place) -> None:
    asked = searching.sweep(3)
    dead = opened(asked, place)
    lost = [take(dead), take(dead)]
    heir = opened(asked, place)
    assert [take(heir), take(heir)] == lost, "numbers and settings"
    assert take(heir).number == 2


def test_what_a_living_one_has_taken_is_left_alone(place: Place) -> None:
    asked = searching.sweep(2)
    one, other = opened(asked, place), opened(asked, place)
    with one.alive():
        mine = take(one)
        assert other.others_at_work()
        assert not one.others_at_work()
        yours = take(other)
        assert {mine.number, yours.number} == {0, 1}
        end(other, yours)
        assert other.take() == "later", "it may yet die"
        assert other.open()
        end(one, mine)
        assert other.take() == "over"


def test_a_driver_takes_up_what_it_lost_sight_of(place: Place) -> None:
    """A storage that went away after the last word and before the answer."""
    one = opened(searching.sweep(2), place)
    with one.alive():
        mine = take(one)
        one._mine.clear()
        assert not one.others_at_work()
        assert take(one) == mine


def test_a_trial_of_which_all_is_known_is_closed_and_not_repeated(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = searching.sweep(2)
    dead = opened(asked, place)
    lost = take(dead)

    def killed(*words: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_tell", killed)
        with pytest.raises(KeyboardInterrupt):
            end(dead, lost)
    heir = opened(asked, place)
    assert take(heir).number == 1
    (first, _) = heir.tried()
    assert first.outcome.values == values_of(asked, lost)
    assert heir.study.best_value == first.outcome.values["target"]


def test_an_end_said_twice_is_said_once(place: Place) -> None:
    one = opened(searching.sweep(1), place)
    taken = take(one)
    number = dict(one._mine)
    end(one, taken)
    one._mine = number
    one.end(taken.number, Outcome("failed", error="late"))
    assert [t.outcome.status for t in one.tried()] == ["done"]


# --- rungs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [True, False])
def test_who_goes_on_is_the_slow_rule(place: Place, ends: bool) -> None:
    """After a rung a trial goes on if it is among the best eta-th of all that came there so far, or the best."""
    asked = searching.sweep(40, rate, rungs=3, ends=ends)
    one, chance = opened(asked, place, rate), random.Random(0)
    seen: dict[int, list[float]] = {4: [], 8: []}
    verdicts = set()
    for _ in range(40):
        taken = take(one)
        for rung in (4, 8):
            value = chance.random()
            seen[rung].append(value)
            better = sum(other > value for other in seen[rung])
            among = better < max(1, len(seen[rung]) // 2)
            on = one.goes_on(taken.number, rung, value)
            assert on == (among or not ends)
            verdicts.add(on)
            if not on:
                break
        one.end(taken.number, Outcome("done", {"target": chance.random()}) if on else Outcome("pruned"))
    assert verdicts == ({True, False} if ends else {True})


def test_a_pruned_or_failed_trial_is_none_to_optuna_either(place: Place) -> None:
    one = opened(searching.sweep(3, rate, rungs=2), place, rate)
    for outcome in (Outcome("done", {"target": 0.1}), Outcome("pruned"), Outcome("failed")):
        taken = take(one)
        one.goes_on(taken.number, 8, 0.9)
        one.end(taken.number, outcome)
    states = [t.state.name for t in one.study.trials]
    assert states == ["COMPLETE", "PRUNED", "PRUNED"]
    assert [any(v > 0 for v in t.constraints.values()) for t in one.study.trials] == [False, False, True]
    assert one.study.best_trial.number == 0


# --- declared once -----------------------------------------------------------------------------------


def refused(asked: Sweep, place: Place, function: Any = space, question: str = "q") -> str:
    with pytest.raises(ConfigError) as failure:
        opened(asked, place, function, question)
    assert "--name" in str(failure.value)
    return str(failure.value)


def wider(trial: Any) -> None:
    trial.suggest_float(searching.PATH, 1e-4, 0.5, log=True)
    trial.suggest_float("self_training.distil", 0.1, 1.0)
    trial.suggest_categorical("self_training.mix.kind", ("classes", "cut"))


def test_a_sweep_of_the_same_name_and_another_kind_is_refused(place: Place) -> None:
    opened(searching.sweep(4, rungs=2), place)
    told = refused(searching.sweep(4, wider, rungs=2), place, wider)
    for word in (
        "self_training.distil is new",
        "self_training.mix.side is gone",
        f"{searching.PATH} 0.0001 to 0.1, log then, 0.0001 to 0.5, log now",
        "self_training.mix.kind classes, cut, grid then, classes, cut now",
    ):
        assert word in told
    assert "another base recipe, data or objective" in refused(searching.sweep(4, rungs=2), place, question="p")
    assert "rungs [8, 16], not [4, 8, 16]" in refused(searching.sweep(4, rungs=3), place)
    assert "rungs [8, 16], not None" in refused(searching.sweep(4), place)
    opened(searching.sweep(9, rungs=2, sampler="random"), place)


def test_drivers_of_two_homes_do_not_share_a_database(place: Place, tmp_path: Path) -> None:
    """They would see neither each other's leases nor each other's stages."""
    asked, url = searching.sweep(4), f"sqlite:///{tmp_path / 'trials.db'}"

    def driver(home: str) -> Ledger:
        folder = folder_of(tmp_path / home, "s")
        found = Ledger(asked, space, storage_at(url, folder), folder, url)
        found.declare("q")
        return found

    driven(driver("one"), 2)
    assert len(driven(driver("one"))) == 2
    with pytest.raises(ConfigError, match="another run home"):
        driver("two")


# --- taught ------------------------------------------------------------------------------------------


def test_what_others_measured_is_known_and_counts_for_none(place: Place, tmp_path: Path) -> None:
    asked = searching.sweep(N, rate)
    measured = [(2e-3, 0.5)] * 3 + [(0.09, 0.1)] * 3
    points = [(f"other #{n}", {searching.PATH: lr}, [value]) for n, (lr, value) in enumerate(measured)]
    taught, alone = opened(asked, place, rate), opened(asked, Place(tmp_path / "b", tmp_path), rate)
    assert (taught.feed(points), taught.feed(points), taught.feed([])) == (6, 0, 0)
    assert taught.feed([*points, ("third #0", {searching.PATH: 1e-3}, [0.4])]) == 1
    assert taught.tried() == []
    first = [taken.changes[searching.PATH] for taken in driven(taught)]
    assert len(first) == N
    assert first != [taken.changes[searching.PATH] for taken in driven(alone)]
    near = [lr < 0.02 for lr in first[:4]]
    assert sum(near) >= 3, "it begins where the others were good"


# --- the journal -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "left"),
    [(b"", b""), (b"one\n", b"one\n"), (b"one\ntw", b"one\n"), (b"half", b""), (b"a\n\n", b"a\n\n")],
)
def test_a_half_line_is_cut(tmp_path: Path, text: bytes, left: bytes) -> None:
    path = tmp_path / "j"
    path.write_bytes(text)
    mend(path)
    assert path.read_bytes() == left


def test_a_killed_writers_half_line_costs_nothing(place: Place) -> None:
    asked = searching.sweep(4)
    one = opened(asked, place)
    found = driven(one, 2)
    path = folder_of(place.home, "s") / JOURNAL
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][:17])
    heir = opened(asked, place)
    assert [t.number for t in heir.tried()] == [0, 1]
    found += driven(heir)
    path.write_bytes(path.read_bytes() + b'{"op')  # while one that has read it goes on
    assert [taken.number for taken in found + driven(one)] == [0, 1, 2, 3]
    assert all(json.loads(line) for line in path.read_text().removesuffix('{"op').splitlines())


def test_a_dead_writers_lock_is_taken(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "STALE", 3)
    asked = searching.sweep(2)
    driven(opened(asked, place), 1)
    folder = folder_of(place.home, "s")
    (folder / f"{JOURNAL}.lock").symlink_to(folder / JOURNAL)
    assert [taken.number for taken in driven(opened(asked, place))] == [1]
    assert not (folder / f"{JOURNAL}.lock").is_symlink()


def test_a_disk_that_fills_up_within_a_line(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What of a line got to the disk before it was full is cut by whoever writes next, the same writer or another."""
    asked = searching.sweep(3)
    one = opened(asked, place)
    path = folder_of(place.home, "s") / JOURNAL
    append, calls = JournalFileBackend.append_logs, iter(range(10**6))

    def full(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        if next(calls) % 4 == 2:
            with path.open("ab") as file:
                file.write(json.dumps(logs[0]).encode()[:11])
            raise OSError(28, "No space left on device")
        append(self, logs)

    monkeypatch.setattr(JournalFileBackend, "append_logs", full)
    assert [taken.number for taken in driven(one)] == [0, 1, 2]
    monkeypatch.undo()
    assert [t.outcome.status for t in opened(asked, place).tried()] == ["done"] * 3


@pytest.mark.parametrize("before", [True, False])
def test_a_storage_that_is_away_again_and_again_loses_and_repeats_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """It refuses at random, half of the time after it has done what it was asked to."""
    asked, chance = searching.sweep(8, rungs=2), random.Random(int(before))
    append, refusals = JournalFileBackend.append_logs, []

    def away(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        away_now = chance.random() < 0.3
        if not (away_now and before):
            append(self, logs)
        if away_now:
            refusals.append(logs)
            raise OSError("away")

    one = opened(asked, place)
    monkeypatch.setattr(JournalFileBackend, "append_logs", away)
    with one.alive():
        found = []
        while isinstance(taken := one.take(), Taken):
            on = one.goes_on(taken.number, 8, chance.random())
            one.end(taken.number, Outcome("done", values_of(asked, taken)) if on else Outcome("pruned"))
            found.append(taken)
    assert taken == "over"
    assert len(refusals) > 8
    assert [one.number for one in found] == list(range(8))
    assert [t.number for t in one.tried()] == list(range(8))
    assert all(t.outcome.status in ("done", "pruned") for t in one.tried())
    assert [dict(t.changes) for t in one.tried()] == [taken.changes for taken in found]


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OSError("gone for good\nand more")

    with pytest.raises(StorageError, match="gone for good") as failure:
        patiently(away, "here", 0.05)
    assert failure.value.code == 4
    with pytest.raises(ZeroDivisionError):
        patiently(lambda: 1 / 0, "here", 0.05)


def test_a_storage_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    for url in (
        "postgresql+psycopg://me:secret@127.0.0.1:9/x",
        "no address",
        "nosuchdb://x",
        "sqlite:////dev/null/x.db",
    ):
        with pytest.raises(StorageError) as failure:
            storage_at(url, tmp_path / "sweeps/s")
        assert "secret" not in str(failure.value)
        assert "\n" not in str(failure.value)
        assert not (tmp_path / "sweeps/s").exists(), "nothing is left"
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        storage_at(None, tmp_path / "file" / "s")
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / JOURNAL).write_text('{"op_code": 0\nnothing\n')
    with pytest.raises(StorageError):
        storage_at(None, bad)


def test_optuna_reads_the_journal(place: Place) -> None:
    """As its dashboard does: with its own classes and no word of ours."""
    driven(opened(searching.sweep(3), place))
    path = folder_of(place.home, "s") / JOURNAL
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    study = optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(backend))
    assert [t.user_attrs["number"] for t in study.trials] == [0, 1, 2]
    assert study.best_value == max(t.value for t in study.trials)
    assert journal(path).get_all_studies()[0].study_name == "s"
