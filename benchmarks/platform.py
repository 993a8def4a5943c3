"""What the platform costs: a study of stages that sleep, beside the sleep alone, and how long a stage takes to begin.

Everything is real but the stage: lease, store, digests, MLflow, Ray.  Overhead is what one stage takes
beyond its sleep, as a share of a stage of 60 s; the start is from the moment it is sent to its first line.

python -m benchmarks.platform [--quick] [--seconds S] [--train]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from diga.data.streets import Knobs, make
from diga.errors import DigaError
from diga.launch.cluster import cluster
from diga.launch.crew import Alone, OnRay
from diga.launch.provenance import artifacts, origin, tags
from diga.launch.resources import Allotment, Resources
from diga.launch.studies import Launch
from diga.launch.tracking import Tracker
from diga.methods.score import Score
from diga.methods.source_only import SourceOnly
from diga.pipeline import Place, Progress
from diga.plan import StageRun
from diga.recipe import Recipe
from diga.settings import Plan
from diga.study import Row, Study

KNOBS = Knobs(
    source_train=4, source_val=0, target_train=4, target_val=2, third_train=0, third_val=0, height=32, width=64
)
MINUTE = 60.0
Crew = Callable[[], AbstractContextManager[Any]]


def begun(work: Path) -> None:
    """Note when a stage's first line is carried out."""
    (work / "begun.json").write_text(json.dumps(time.time()))


def sleep(run: StageRun, work: Path, inputs: Mapping[str, Path], place: Place, progress: Progress) -> dict[str, Any]:
    """A stage that sleeps, writing a loss now and then as a real one does."""
    begun(work)
    seconds = float(os.environ["DIGA_SLEEP"])
    for step in range(20):
        time.sleep(seconds / 20)
        line = {"step": step, "time": int(1000 * time.time()), "values": {"loss/source": 1 / (step + 1), "lr": 1e-3}}
        with (work / "metrics.jsonl").open("a") as spool:
            spool.write(json.dumps(line) + "\n")
    (work / "artifact.pt").write_bytes(bytes(8_000_000))
    return {}


class Clock:
    """A watcher that remembers when stages were sent and when they ended."""

    def __init__(self) -> None:
        self.sent: dict[str, float] = {}
        self.over: dict[str, float] = {}

    def found(self, number: int) -> None:
        """Nothing is there already."""

    def started(self, run: StageRun) -> None:
        """A stage was sent."""
        self.sent[run.fingerprint] = time.time()

    def moved(self, run: StageRun, step: int) -> None:
        """It goes on."""

    def again(self, run: StageRun, error: DigaError, tries: int) -> None:
        """Nothing is tried twice here."""
        raise error

    def ended(self, run: StageRun, seconds: float, error: DigaError | None) -> None:
        """A stage is over."""
        if error:
            raise error
        self.over[run.fingerprint] = time.time()


def study(rows: int) -> Study:
    """Rows of a training and its score each."""
    made = []
    for number in range(rows):
        stages = {
            "train": SourceOnly(plan=Plan(steps=20, lr=1e-3 * (number + 1), snapshots=1)),
            "score": Score(of="train", domains=("streets/cityscapes",), statistics=("plain",), samples=0),
        }
        names: dict[str, Any] = {"sources": ("streets/gta5",), "targets": ("streets/cityscapes",)}
        recipe = Recipe(name=f"row {number}", crop=(28, 56), batch=2, stages=stages, **names)
        made.append(Row(label=f"row {number}", recipe=recipe))
    return Study(name="overhead", rows=tuple(made), seeds=(0,), metric="streets/cityscapes/plain/last/miou")


def carried_out(root: Path, rows: int, crew: Callable[[Place], Crew]) -> tuple[float, list[float], int]:
    """Seconds of the work, seconds from sending each stage to its first line, and how many stages there were."""
    place = Place(root / "home", root / "data")
    place.home.mkdir(parents=True)
    launch, clock = Launch(study(rows), place), Clock()
    tracker = Tracker(f"sqlite:///{place.home / 'mlflow.db'}", place.home / "artifacts")
    launch(tracker, crew(place), clock, tags(), artifacts())
    starts = []
    for fingerprint, sent in clock.sent.items():
        note = place.store.folder(fingerprint) / "begun.json"
        starts += [json.loads(note.read_text()) - sent] if note.exists() else []
    return max(clock.over.values()) - min(clock.sent.values()), starts, len(clock.over)


def overhead(table: Table, name: str, rows: int, crew: Callable[[Place], Crew], seconds: float) -> None:
    """A line of the table: what a stage takes beyond its sleep, one at a time."""
    os.environ["DIGA_SLEEP"] = str(seconds)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root / "data/streets", KNOBS)
        busy = resource.getrusage(resource.RUSAGE_SELF)
        took, starts, stages = carried_out(root, rows, crew)
        now = resource.getrusage(resource.RUSAGE_SELF)
    beyond = took / stages - seconds
    driver = (now.ru_utime + now.ru_stime - busy.ru_utime - busy.ru_stime) / took
    figures = (f"{seconds:g}", f"{1000 * beyond:.0f}", f"{beyond / MINUTE:.2%}", f"{mean(starts):.2f}", f"{driver:.1%}")
    table.add_row(name, str(stages), *figures)


def train_start(table: Table) -> None:
    """A line of the table: a real stage by a worker of Ray Train; begun is when it first reports, after 20 steps."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root / "data/streets", KNOBS)
        place = Place(root / "home", root / "data")
        place.home.mkdir()
        (run, _) = place.stage_runs(study(1).rows[0].recipe)
        crew, first = OnRay(place, Allotment(default=Resources(workers=1)), origin()), 0.0
        sent = time.time()
        crew.send(run, False)
        while not (over := crew.ended(0.05)):
            if not first and any(place.store.root.glob("??/*/metrics.jsonl")):
                first = time.time() - sent
        took = time.time() - sent
        assert over[0][1] is None, over
    table.add_row("Ray Train, a real stage", "1", "0", "-", "-", f"{first or took:.2f}", f"in all {took:.1f} s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few short stages: does it run at all")
    parser.add_argument("--seconds", type=float, default=2.0, help="of sleep")
    parser.add_argument("--rows", type=int, default=4, help="of two stages each")
    parser.add_argument("--train", action="store_true", help="also a stage by Ray Train")
    asked = parser.parse_args()
    rows, seconds = (1, 0.2) if asked.quick else (asked.rows, asked.seconds)
    titles = ("way", "stages", "sleep s", "beyond ms", "of 60 s", "start s", "driver's CPU")
    table = Table(*titles, title=f"one stage at a time, {platform.machine()}, {os.cpu_count()} CPUs")
    overhead(table, "in this process", rows, lambda place: lambda: nullcontext(Alone(place, sleep)), seconds)
    with cluster(cpus=1):
        on_ray = lambda place: lambda: nullcontext(OnRay(place, Allotment(), launch=sleep))  # noqa: E731
        overhead(table, "task of Ray", rows, on_ray, seconds)
        if asked.train:
            train_start(table)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
