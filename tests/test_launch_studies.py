"""A study goes on as far as it can: past a cell that fails, past a tracker that is away."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from diga.errors import DigaError, StorageError
from diga.launch import mirror
from diga.launch.crew import Alone, attempt
from diga.launch.failures import Ended
from diga.launch.studies import every, last_step
from diga.launch.tracking import STAGES, Tracker
from diga.pipeline import inline
from diga.report.build import build
from tests import tiny


@pytest.mark.slow
def test_a_cell_that_diverges_stops_no_other(tmp_path):
    place = tiny.place(tmp_path)
    tiny.check_failure(place, *tiny.launch(tiny.with_a_failure(), place))
    report = build("tiny", tiny.uri(place), tmp_path / "reports")
    text = (report / "report.md").read_text() + (report / "tables/table3.md").read_text()
    assert "failed" in text
    assert "bad" in text


def test_a_failed_cell_typed_again_succeeds_when_it_can(tmp_path):
    """The first try meets a disk that refuses; the second one has nothing to repeat but that stage."""
    place, study = tiny.place(tmp_path), tiny.study(("a", tiny.recipe()), ("b", tiny.recipe(train__plan__lr=2e-3)))
    broken = place.stage_runs(study.rows[1].recipe)[0].fingerprint

    def refusing(run, work, inputs, where, progress):
        if run.fingerprint == broken:
            raise OSError(28, "No space left on device", str(work))
        return inline(run, work, inputs, where, progress)

    launched, states, _ = tiny.launch(study, place, lambda: nullcontext(Alone(place, refusing)))
    assert states == {"done": 1, "failed": 1}
    assert isinstance(launched.errors()[0][1], StorageError)
    _, states, seen = tiny.launch(study, place)
    assert states == {"done": 2}
    assert seen.there == 2
    assert set(seen.over.values()) == {None}
    for run in [*tiny.runs(tiny.client(place), STAGES), *tiny.runs(tiny.client(place), "diga/tiny", "cell")]:
        assert (run.info.status, run.data.tags["status"], run.data.tags["error"]) == ("FINISHED", "done", "")


def test_an_error_nobody_foresaw_is_one_line_and_fails_its_cell_alone(tmp_path):
    place = tiny.place(tmp_path)
    (run, *_) = place.stage_runs(tiny.recipe())

    def broken(*_):
        raise ZeroDivisionError("first line\nsecond line")

    failure = attempt(run, place, broken)
    assert isinstance(failure, Ended)
    assert str(failure) == "stage 'train': ZeroDivisionError: first line second line (--debug shows where)"


def test_no_crew_is_called_for_what_is_there(tmp_path):
    place = tiny.place(tmp_path)
    tiny.launch(tiny.study(), place)

    def never():
        raise AssertionError("nothing is left to do")

    _, states, seen = tiny.launch(tiny.study(), place, never)
    assert (states, seen.there) == ({"done": 1}, 2)


def test_an_interrupted_launch_says_stopped_of_what_is_not_over(tmp_path):
    place = tiny.place(tmp_path)

    class Impatient(Alone):
        def ended(self, patience):
            if not tiny.manifests(place.home):
                return super().ended(patience)
            raise KeyboardInterrupt

    study = tiny.study(("a", tiny.recipe()), ("b", tiny.recipe(train__plan__lr=2e-3)))
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        tiny.launch(study, place, lambda: nullcontext(Impatient(place)))
    assert time.monotonic() - start < 10
    where = tiny.client(place)
    assert {c.data.tags["status"] for c in tiny.runs(where, "diga/tiny", "cell")} == {"stopped"}
    assert {c.info.status for c in tiny.runs(where, "diga/tiny", "cell")} == {"KILLED"}
    assert sorted(s.data.tags["status"] for s in tiny.runs(where, STAGES)) == ["done", "stopped"]
    _, states, seen = tiny.launch(study, place)
    assert (states, seen.there) == ({"done": 2}, 1)
    assert {c.data.tags["status"] for c in tiny.runs(where, "diga/tiny", "cell")} == {"done"}


def test_how_far_a_stage_is_can_be_seen_while_it_runs(tmp_path):
    place = tiny.place(tmp_path)
    _, _, seen = tiny.launch(tiny.study(("long", tiny.recipe(train__plan__steps=120))), place)
    assert any(25 <= steps <= 120 for steps in seen.steps.values())


def test_the_last_step_of_a_spool(tmp_path):
    spool = tmp_path / "metrics.jsonl"
    assert last_step(spool) == -1
    spool.write_text('{"step": 3, "values": {}}\n{"step": 4')
    assert last_step(spool) == 3
    spool.write_text("".join(f'{{"step": {i}, "pad": "{"x" * 300}"}}\n' for i in range(900)))
    assert last_step(spool) == 899


def test_every_goes_on_until_the_block_ends():
    calls: list[float] = []
    with every(0.01, lambda: calls.append(time.monotonic())):
        assert tiny.until(lambda: len(calls) > 3)
    count = len(calls)
    time.sleep(0.05)
    assert len(calls) == count


# --- a tracking server that goes away ----------------------------------------------------------


class Server:
    """MLflow's own server on loopback, which can be stopped, continued and killed."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = tiny.free_port()
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.home / 'mlflow.db'}"]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        log = (self.home / "server.log").open("ab")
        self.process = subprocess.Popen(command, env=os.environ | quiet, stdout=log, stderr=log, start_new_session=True)

        def listening() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        assert tiny.until(listening), (self.home / "server.log").read_text()

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)
        if number == signal.SIGKILL:
            self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Server, object]]:
    place = tiny.place(tmp_path)
    serving = Server(place.home)
    serving.start()
    yield serving, place
    if serving.process.poll() is None:
        serving.signal(signal.SIGKILL)


class Attended(Alone):
    """Alone, with something that happens before the first stage and after the last."""

    def __init__(self, place, before, after) -> None:
        super().__init__(place)
        self.before, self.after, self.wanted = before, after, 4

    def ended(self, patience: float) -> list[tuple[str, DigaError | None]]:
        if self.wanted == 4:
            self.before()
        self.wanted -= 1
        over = super().ended(patience)
        if not self.wanted:
            self.after()
        return over


def complete(uri: str, name: str) -> bool:
    """Whether every run of a study is done and every loss is there once."""
    where = tiny.MlflowClient(uri)
    cells, stages = tiny.runs(where, f"diga/{name}", "cell"), tiny.runs(where, STAGES, "stage")
    trains = [s for s in stages if s.data.tags["stage"] == "train"]
    assert len(cells) == 2
    assert len(stages) == 4
    assert {c.data.tags["status"] for c in [*cells, *stages]} == {"done"}
    assert all(tiny.histories(where, t)["loss/source"] == [0, 1, 2, 3] for t in trains)
    assert all(tiny.histories(where, c)["cost/steps"] == [0] for c in cells)
    return True


@pytest.mark.slow
def test_a_server_that_is_away_for_a_while_and_one_that_never_comes_back(server, monkeypatch):
    serving, place = server
    monkeypatch.setattr(mirror, "COPY", 0.1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = Tracker(serving.uri, place.home / "mlflow-artifacts")
    worked: list[float] = []

    @contextmanager
    def stopped_while_training():
        start = time.monotonic()
        yield Attended(place, lambda: serving.signal(signal.SIGSTOP), lambda: serving.signal(signal.SIGCONT))
        worked.append(time.monotonic() - start)

    study = tiny.study(seeds=(0, 1))
    launched, states, _ = tiny.launch(study, place, stopped_while_training, tracker)
    assert (states, launched.warning()) == ({"done": 2}, "")
    assert complete(serving.uri, "tiny")
    seconds = [place.store.manifest(f)["meta"]["seconds"] for f in launched.stages]
    assert worked[0] < sum(seconds) + 2, "no stage waits for the server"

    monkeypatch.setattr(mirror, "PATIENCE", 2.0)
    other = tiny.study(("b", tiny.recipe(train__plan__lr=2e-3)), seeds=(0, 1), name="other")
    before = {s.info.run_id for s in tiny.runs(tracker.client, STAGES)}
    killed = lambda: nullcontext(Attended(place, lambda: serving.signal(signal.SIGKILL), lambda: None))  # noqa: E731
    launched, states, _ = tiny.launch(other, place, killed, tracker)
    assert states == {"done": 2}, "training needs no server"
    assert serving.uri in launched.warning()
    assert launched.warning().endswith("type the same command again when it answers")

    serving.start()
    monkeypatch.setattr(mirror, "PATIENCE", 60.0)  # it is back, on a machine that may be busy
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    launched, states, seen = tiny.launch(other, place, None, Tracker(serving.uri, place.home / "mlflow-artifacts"))
    assert (states, seen.begun, launched.warning()) == ({"done": 2}, [], "")
    where = tiny.MlflowClient(serving.uri)
    for run in tiny.runs(where, STAGES):
        if run.info.run_id in before:
            where.delete_run(run.info.run_id)
    assert complete(serving.uri, "other")


def test_no_server_from_the_start_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://127.0.0.1:{tiny.free_port()}"
    start = time.monotonic()
    with pytest.raises(StorageError, match=uri):
        Tracker(uri, tmp_path)
    assert time.monotonic() - start < 20
