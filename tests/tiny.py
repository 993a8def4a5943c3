"""A town of a few small images, recipes of a few steps on it, and the command line as a user has it."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run

from diga.cli import main
from diga.data.streets import Knobs, make
from diga.errors import DigaError, Diverged
from diga.launch.cluster import own_signals
from diga.launch.crew import Alone
from diga.launch.studies import Launch
from diga.launch.tracking import STAGES, Tracker
from diga.methods.score import Score
from diga.methods.source_only import SourceOnly
from diga.pipeline import Place
from diga.plan import StageRun
from diga.recipe import Recipe, override
from diga.report.records import records
from diga.settings import Plan
from diga.study import Row, Study
from tests.make_records import database

TARGET = "streets/cityscapes"
KNOBS = Knobs(
    source_train=6, source_val=0, target_train=6, target_val=4, third_train=0, third_val=0, height=32, width=64
)
DIGA = [sys.executable, "-c", "from diga.cli import main; main()"]
LONG = 600.0  # seconds until what should come is called missing: no figure, for a machine may be slow and busy
SOON = 30.0  # seconds in which what a driver started has gone: Ray's own agents, left alone, go after a minute


@functools.cache
def data() -> Path:
    """A data root with the tiny town, made once and never written to."""
    root = Path(tempfile.mkdtemp(prefix="diga-tiny-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    make(root / "streets", KNOBS)
    return root


def place(folder: Path) -> Place:
    """A run home of its own, with an MLflow store whose schema is there."""
    (folder / "home").mkdir(exist_ok=True)
    database(folder / "home")
    return Place(folder / "home", data())


def uri(place: Place) -> str:
    return f"sqlite:///{place.home / 'mlflow.db'}"


def recipe(name: str = "tiny", **changes: Any) -> Recipe:
    """Source-only for a few steps, and its score."""
    stages = {
        "train": SourceOnly(plan=Plan(steps=4, lr=1e-3, snapshots=2)),
        "score": Score(of="train", domains=(TARGET,), statistics=("plain",), samples=1),
    }
    whole = Recipe(name=name, sources=("streets/gta5",), targets=(TARGET,), crop=(28, 56), batch=2, stages=stages)
    return override(whole, {k.replace("__", "."): v for k, v in changes.items()})


def study(*rows: tuple[str, Recipe], seeds: Sequence[int] = (0,), name: str = "tiny") -> Study:
    """Rows by label; the first one alone when none are given."""
    made = tuple(Row(label=label, recipe=r) for label, r in rows or [("base", recipe())])
    return Study(name=name, rows=made, seeds=tuple(seeds), metric=f"{TARGET}/plain/last/miou", tables=("table3",))


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- the command line --------------------------------------------------------------------


def environment(home: Path, **more: str) -> dict[str, str]:
    """That of a user who has chosen a run home."""
    own = {"DIGA_HOME": str(home), "DIGA_DATA": str(data()), "DIGA_THREADS": "1", "OMP_NUM_THREADS": "1"}
    rest = {k: v for k, v in os.environ.items() if not k.startswith(("DIGA_", "MLFLOW_", "RAY_"))}
    return rest | own | more


def spawn(home: Path, *words: str, **more: str) -> subprocess.Popen[str]:
    """`diga words`, in a session of its own."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*DIGA, *words], env=environment(home, **more), start_new_session=True, **pipes)


def diga(home: Path, *words: str, **more: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `diga words`."""
    return ended(spawn(home, *words, **more))


def ended(process: subprocess.Popen[str], seconds: float = LONG) -> tuple[int, str, str]:
    """Exit code and what was said by the time it ended; it is killed if it does not."""
    try:
        said, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, errors = process.communicate()
        raise AssertionError(f"not over after {seconds} s: {said} {errors}") from None
    return process.returncode, said, errors


def typed(home: Path, *words: str, **more: str) -> tuple[int, str, str]:
    """The same in this process, where what must be imported has been."""
    said, errors = StringIO(), StringIO()
    chosen = (
        patch.dict(os.environ, environment(home, **more), clear=True),
        patch.object(sys, "argv", ["diga", *words]),
    )
    with chosen[0], chosen[1], redirect_stdout(said), redirect_stderr(errors), own_signals():
        try:
            main()
        except SystemExit as ending:
            code = int(ending.code or 0)
    return code, said.getvalue(), errors.getvalue()


# --- processes ---------------------------------------------------------------------------


def children(pid: int) -> list[psutil.Process]:
    """All that a process has started, and those their own."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that still run."""
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            pass
    return found


def until(true: Any, seconds: float = LONG, pause: float = 0.05) -> bool:
    """Whether something became true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(pause)
    return bool(true())


# --- what a home holds ---------------------------------------------------------------------


def manifests(home: Path) -> dict[str, Path]:
    """Manifest of every finished stage by fingerprint."""
    return {path.parent.name: path for path in home.glob("stages/??/????????????????/manifest.json")}


def marks(home: Path) -> dict[str, tuple[int, int]]:
    """What changes when a stage is made again: inode and time of its manifest."""
    return {f: (path.stat().st_ino, path.stat().st_mtime_ns) for f, path in manifests(home).items()}


def digests(home: Path) -> dict[str, dict[str, str]]:
    """sha256 of all weights and labels, by stage and file."""
    found = {}
    for fingerprint, path in manifests(home).items():
        files = json.loads(path.read_text())["files"]
        found[fingerprint] = {n: d["sha256"] for n, d in files.items() if n.endswith((".pt", ".png", "scores.json"))}
    return found


# --- a launch in this process --------------------------------------------------------------


class Seen:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.there = 0
        self.begun: list[str] = []
        self.over: dict[str, DigaError | None] = {}
        self.steps: dict[str, int] = {}
        self.tried: list[tuple[str, int]] = []

    def found(self, number: int) -> None:
        self.there = number

    def started(self, run: StageRun) -> None:
        self.begun.append(run.fingerprint)

    def moved(self, run: StageRun, step: int) -> None:
        self.steps[run.fingerprint] = step

    def again(self, run: StageRun, error: DigaError, tries: int) -> None:
        self.tried.append((run.fingerprint, tries))

    def ended(self, run: StageRun, seconds: float, error: DigaError | None) -> None:
        self.over[run.fingerprint] = error


def launch(study: Study, place: Place, crew: Any = None, tracker: Tracker | None = None) -> tuple[Launch, Any, Seen]:
    """Carry a study out as the command line does: the launch, its cells by state, what its watcher saw."""
    launched, seen = Launch(study, place), Seen()
    hands = crew or (lambda: nullcontext(Alone(place)))
    states = launched(tracker or Tracker(uri(place), place.home / "mlflow-artifacts"), hands, seen)
    return launched, states, seen


def client(place: Place) -> MlflowClient:
    return MlflowClient(uri(place))


def runs(where: MlflowClient, experiment: str, kind: str = "") -> list[Run]:
    """Runs of an experiment, oldest first; of one kind, if asked."""
    found = where.get_experiment_by_name(experiment)
    if found is None:
        return []
    listed = where.search_runs([found.experiment_id], f"tags.kind = '{kind}'" if kind else "", max_results=1000)
    return sorted(listed, key=lambda run: run.info.start_time)


def histories(where: MlflowClient, run: Run) -> dict[str, list[int]]:
    """Steps of every metric of a run, as they are stored."""
    return {name: [p.step for p in where.get_metric_history(run.info.run_id, name)] for name in run.data.metrics}


def artifact(where: MlflowClient, run: Run, path: str) -> str:
    """Text of a run's artifact."""
    with tempfile.TemporaryDirectory() as folder:
        return Path(where.download_artifacts(run.info.run_id, path, folder)).read_text("utf8")


BAD = {"train__plan__lr": 1e6, "train__plan__steps": 30}


def with_a_failure() -> Study:
    """Two rows, of which the second diverges."""
    return study(("base", recipe()), ("bad", recipe(**BAD)))


def check_failure(place: Place, launched: Launch, states: Any, seen: Seen) -> None:
    """One of two rows diverged: its cell says so and the other one is complete."""
    assert states == {"done": 1, "failed": 1}
    ((run, error),) = launched.errors()
    assert (run.name, type(error)) == ("train", Diverged)
    assert "loss/source is" in str(error)
    assert len(manifests(place.home)) == 2, "the other row's two stages"
    where = client(place)
    cells = {c.data.tags["row"]: c for c in runs(where, "diga/tiny", "cell")}
    assert cells["base"].data.tags["status"] == "done"
    bad = cells["bad"]
    assert (bad.data.tags["status"], bad.info.status) == ("failed", "FAILED")
    assert bad.data.tags["error"] == str(error)
    assert bad.data.tags["failure"] == "divergence"
    assert "streets/cityscapes/plain/last/miou" not in bad.data.metrics
    train = {s.data.tags["status"] for s in runs(where, STAGES) if s.data.tags["fingerprint"] == run.fingerprint}
    assert train == {"failed"}
    assert records(uri(place), "tiny").status("bad", 0) == "failed"
