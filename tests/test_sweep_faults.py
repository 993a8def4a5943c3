"""However the driver of a sweep ends, the same command finishes it: no trial is lost, repeated or one too many."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from diga.launch import storage
from diga.launch.ledger import Ledger
from diga.launch.storage import JOURNAL, folder_of
from diga.launch.trial_mirror import TrialMirror
from diga.launch.tried import Tried
from diga.pipeline import Place
from diga.recipe import dumps
from diga.sweep import Sweep
from tests import searching, tiny
from tests.searching import carried_out, source_only

N = 6
FORK = multiprocessing.get_context("fork")  # a process that has imported all


def rate(trial: Any) -> None:
    """What the pretended score goes by, and what it does not."""
    trial.suggest_float("warm_up.plan.lr", 1e-4, 1e-1, log=True)
    trial.suggest_categorical("warm_up.plan.optimizer", ("sgd", "adamw"))


def asked(**more: Any) -> Sweep:
    return searching.sweep(N, rate, source_only(warm_up__plan__steps=8), **more)


def typed(place: Place, before: Callable[[], None] = lambda: None, **more: Any) -> Any:
    """A process that carries the sweep out, after `before`."""

    def work() -> None:
        os.setsid()
        before()
        carried_out(asked(**more), place, function=rate)

    process = FORK.Process(target=work)
    process.start()
    return process


def lines(place: Place) -> int:
    path = folder_of(place.home, "s") / JOURNAL
    return path.read_bytes().count(b"\n") if path.exists() else 0


def seen(place: Place) -> list[Tried]:
    """What the ledger holds, as far as a sweep is declared."""
    return searching.ledger(asked(), place, rate).tried() if lines(place) > 1 else []


def finished(place: Place, before: list[Tried], marks: dict[str, Any], **more: Any) -> list[Tried]:
    """The same command to its end, and that it kept all there was."""
    process = typed(place, **more)
    process.join(tiny.LONG)
    assert process.exitcode == 0
    tried = seen(place)
    assert [one.number for one in tried] == list(range(N))
    assert {one.outcome.status for one in tried} <= {"done", "pruned"}
    over = [one for one in before if one.outcome.status not in ("running", "waiting")]
    assert [tried[one.number] for one in over] == over, "what was over is as it was"
    begun = {one.number: dict(one.suggested) for one in before if len(one.suggested) == 2}
    assert {n: dict(tried[n].suggested) for n in begun} == begun, "what was begun has its setting"
    assert marks.items() <= tiny.marks(place.home).items(), "no stage is made again"
    runs = tiny.runs(tiny.client(place), "diga/s", "trial")
    told = {int(r.data.tags["trial"]): (r.data.tags["status"], r.data.tags["cell"]) for r in runs}
    assert len(runs) == N
    assert told == {one.number: (one.outcome.status, one.outcome.cell) for one in tried}
    for run in runs:
        points = {n: tiny.client(place).get_metric_history(run.info.run_id, n) for n in run.data.metrics}
        rungs = [str(point.step) for point in points.pop("rung/target")]
        assert rungs == list(tried[int(run.data.tags["trial"])].outcome.rungs), "each once"
        assert {len(history) for history in points.values()} == {1}, "and so all else"
    assert optuna.get_all_study_names(storage.storage_at(None, folder_of(place.home, "s"))) == ["s"]
    return tried


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Tried], int]:
    """The trials of a sweep that nothing befell, and the lines of its journal."""
    place = tiny.place(tmp_path_factory.mktemp("unbroken"))
    tried, _ = carried_out(asked(), place, function=rate)
    return tried, lines(place)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "STALE", 3)  # the least that Optuna does not warn of


def told_of(tried: list[Tried]) -> list[Any]:
    """All that a trial is but what it cost: what a killed driver computed is in the store, and nobody's."""
    return [(one.number, one.changes, one.outcome.status, one.outcome.values, one.outcome.cell) for one in tried]


# --- at random moments -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("repeat", range(20))
def test_killed_at_a_random_moment(repeat: int, tmp_path: Path, unbroken: tuple[list[Tried], int]) -> None:
    """Somewhere between two lines of the journal or within one, and by now and then once more."""
    whole, most = unbroken
    chance = random.Random(repeat)
    place = tiny.place(tmp_path)
    for _ in range(1 + repeat % 2):
        process, wanted = typed(place), lines(place) + chance.randrange(max(1, most - lines(place)))
        assert tiny.until(lambda p=process, w=wanted: not p.is_alive() or lines(place) >= w, pause=0.002)
        time.sleep(chance.uniform(0, 0.03))
        process.kill()
        process.join()
    before, marks = seen(place), tiny.marks(place.home)
    tried = finished(place, before, marks)
    assert told_of(tried) == told_of(whole), "as if nothing had happened"


# --- between two words -----------------------------------------------------------------------------


def at_call(owner: Any, name: str, number: int = 1, then: Callable[..., Any] | None = None) -> Callable[[], None]:
    """The process ends, as if killed, when something is called for the n-th time."""

    def patch() -> None:
        real, calls = getattr(owner, name), iter(range(1, 10**6))

        def ending(*words: Any, **more: Any) -> Any:
            if next(calls) == number:
                if then:
                    then(*words, **more)
                os._exit(9)
            return real(*words, **more)

        setattr(owner, name, ending)

    return patch


def half(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
    """Half a line, and the lock still held."""
    self._lock.acquire()
    with open(self._file_path, "ab") as file:
        file.write(json.dumps(logs[0]).encode()[:20])


POINTS: dict[str, Callable[[], None]] = {
    "before the sweep is declared": at_call(optuna.Study, "set_user_attr"),
    "before the first is enqueued": at_call(optuna.Study, "enqueue_trial"),
    "between ask and number": at_call(optuna.Trial, "set_user_attr", 1),
    "between number and driver": at_call(optuna.Trial, "set_user_attr", 4),
    "between driver and setting": at_call(optuna.Trial, "suggest_float", 3),
    "within a setting": at_call(optuna.Trial, "suggest_categorical", 2),
    "before an outcome": at_call(Ledger, "end", 2),
    "between outcome and tell": at_call(Ledger, "_tell", 3),
    "after the last tell": at_call(Ledger, "_tell", N, lambda *words: None),
    "within a line": at_call(JournalFileBackend, "append_logs", 25, half),
    "before MLflow has a trial": at_call(TrialMirror, "_tell", 2),
    "before MLflow has its numbers": at_call(TrialMirror, "_end", 3),
    "between MLflow's rungs and its numbers": at_call(TrialMirror, "_numbers", 2),
    "between MLflow's numbers and the state": at_call(TrialMirror, "_words", 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_killed_between_two_words(point: str, tmp_path: Path, unbroken: tuple[list[Tried], int]) -> None:
    place = tiny.place(tmp_path)
    process = typed(place, POINTS[point])
    process.join(tiny.LONG)
    assert process.exitcode == 9
    before, marks = seen(place), tiny.marks(place.home)
    assert told_of(finished(place, before, marks)) == told_of(unbroken[0])


@pytest.fixture(scope="module", params=[False, True], ids=["so far", "in turn"])
def in_turn(request: pytest.FixtureRequest) -> bool:
    """By which rule a trial goes on."""
    return bool(request.param)


@pytest.fixture(scope="module")
def by_rungs(in_turn: bool, tmp_path_factory: pytest.TempPathFactory) -> list[Tried]:
    """The same by three rungs, unbroken."""
    place = tiny.place(tmp_path_factory.mktemp("rungs"))
    return carried_out(asked(rungs=3, in_turn=in_turn), place, function=rate)[0]


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 4, 5])
def test_killed_between_a_rungs_value_and_its_verdict(
    number: int, tmp_path: Path, in_turn: bool, by_rungs: list[Tried]
) -> None:
    """A trial that is taken over begins at its first rung again, and counts there once."""
    place, note = tiny.place(tmp_path), optuna.storages.JournalStorage.set_trial_intermediate_value
    point = at_call(optuna.storages.JournalStorage, "set_trial_intermediate_value", number, note)
    process = typed(place, point, rungs=3, in_turn=in_turn)
    process.join(tiny.LONG)
    assert process.exitcode == 9
    tried = finished(place, seen(place), tiny.marks(place.home), rungs=3, in_turn=in_turn)
    assert told_of(tried) == told_of(by_rungs)
    assert [one.outcome.rungs for one in tried] == [one.outcome.rungs for one in by_rungs]


# --- asked to stop -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_search_that_is_stopped_says_so_and_goes_on(
    number: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tiny.place(tmp_path)
    (tmp_path / "base.json").write_text(dumps(source_only()))
    words = ["sweep", "baselines.source_only", "--base", str(tmp_path / "base.json"), "--trials", "4", "--inline"]
    words += ["--prune", "none", "--name", "s"]

    def slow(run: Any, work: Path, *rest: Any) -> dict[str, Any]:
        time.sleep(0.3)
        return searching.pretended(run, work, *rest)

    monkeypatch.setattr("diga.pipeline.inline", slow)
    monkeypatch.setattr("diga.cli.sweep.report_on", lambda *words: tmp_path)

    def work() -> None:
        os.setsid()
        found, _, errors = tiny.typed(place.home, *words)
        (tmp_path / "errors").write_text(errors)
        os._exit(found)

    process = FORK.Process(target=work)
    process.start()
    assert tiny.until(lambda: len(tiny.manifests(place.home)) >= 3, pause=0.01)
    os.kill(process.pid or 0, number)
    process.join(tiny.LONG)
    assert process.exitcode == code
    assert "the same command goes on from here" in (tmp_path / "errors").read_text()
    statuses = {r.data.tags["trial"]: r.data.tags["status"] for r in tiny.runs(tiny.client(place), "diga/s", "trial")}
    assert "running" not in statuses.values()
    assert not list((folder_of(place.home, "s") / "drivers").glob("*")), "it gives its lease back"
    marks = tiny.marks(place.home)
    assert tiny.typed(place.home, *words)[0] == 0
    assert marks.items() <= tiny.marks(place.home).items()
    runs = tiny.runs(tiny.client(place), "diga/s", "trial")
    assert sorted((r.data.tags["trial"], r.data.tags["status"]) for r in runs) == [(str(n), "done") for n in range(4)]
