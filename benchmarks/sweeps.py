"""What a sweep costs beside its trainings: a setting suggested with many trials behind it, and a trial of nothing.

`suggest` is the time a driver takes to hand out the next trial, lock, sampler and storage included; what of it is
Optuna's own stands below.  A trial of
nothing finds all of its stages but the score in the store, so that what is left is suggest, launch and report: in
this process, by Ray Tune on one CPU, and as a group of Ray Train.

python -m benchmarks.sweeps [--quick] [--trials N] [--train]
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.samplers import RandomSampler, TPESampler
from rich.console import Console
from rich.table import Table

from diga.data.streets import Knobs, make
from diga.launch.course import Course, alone
from diga.launch.ledger import Ledger, Taken
from diga.launch.resources import Resources
from diga.launch.storage import folder_of, storage_at
from diga.launch.sweeps import Search
from diga.launch.tracking import Tracker
from diga.launch.tried import Outcome
from diga.methods.score import Score
from diga.methods.source_only import SourceOnly
from diga.pipeline import Place, carry_out, inline
from diga.recipe import Recipe
from diga.settings import Plan
from diga.space import Space, explored
from diga.sweep import Sampler, Sweep, objective
from experiments.diga import streets
from search_spaces.diga import self_training

T = TypeVar("T")
LAST = 20  # questions of which the median is shown
KNOBS = Knobs(
    source_train=4, source_val=0, target_train=4, target_val=2, third_train=0, third_val=0, height=32, width=64
)


class Clock:
    """A watcher that remembers when trials began and ended."""

    def __init__(self) -> None:
        self.sent: dict[int, float] = {}
        self.over: dict[int, float] = {}

    def began(self, number: int, changes: Mapping[str, Any]) -> None:
        """A trial was taken."""
        self.sent[number] = time.monotonic()

    def ended(self, number: int, outcome: Outcome) -> None:
        """A trial is over, and must have come to something."""
        assert outcome.status == "done", outcome
        self.over[number] = time.monotonic()


def looks(trial: Any) -> None:
    """What a score shows and how it looks: it changes no training."""
    trial.suggest_int("score.looked_at", 1, 10_000)


def sweep(base: Recipe, space: Space, trials: int, sampler: Sampler = "tpe") -> Sweep:
    """A search of a recipe's space by mIoU."""
    return Sweep(
        name="overhead",
        space="benchmark",
        base=base,
        dimensions=explored(space, base, "benchmark").dimensions,
        objectives=(objective("target", base),),
        trials=trials,
        sampler=sampler,
    )


def suggest(table: Table, sampler: Sampler, trials: int, url: Callable[[Path], str | None], name: str) -> None:
    """A line of the table: handing out a trial after so many."""
    asked, before = (sweep(streets(), self_training, 10**5, one) for one in (sampler, "random"))
    with tempfile.TemporaryDirectory() as root:
        folder = folder_of(Path(root), "overhead")
        ledger = Ledger(asked, self_training, storage_at(url(Path(root)), folder), folder, root)
        with ledger.alive():
            ledger.declare("benchmark")

            def ask(number: int) -> Taken:
                ledger.sweep = before if number < trials else asked
                taken = ledger.take()
                assert isinstance(taken, Taken)
                return taken

            def tell(number: int, _: Taken, value: float) -> None:
                ledger.end(number, Outcome("done", {"target": value}))

            table.add_row(f"suggest by {sampler}, {name}", f"{trials}", *last_asked(trials, ask, tell))


def optuna_alone(table: Table, trials: int) -> None:
    """A line of the table: the same space asked by Optuna's TPE in memory, without a storage or anything of ours."""
    study = optuna.create_study(direction="maximize")

    def ask(number: int) -> optuna.Trial:
        study.sampler = RandomSampler(seed=number) if number < trials else TPESampler(seed=number)
        trial = study.ask()
        self_training(trial)
        return trial

    def tell(_: int, trial: optuna.Trial, value: float) -> None:
        study.tell(trial, value)

    table.add_row("the same by Optuna alone, in memory", f"{trials}", *last_asked(trials, ask, tell))


def last_asked(trials: int, ask: Callable[[int], T], tell: Callable[[int, T, float], None]) -> list[str]:
    """Median milliseconds, by the clock and of processor, of asking twenty times more after so many trials."""
    walls, cpus = [], []
    for number in range(trials + LAST):
        wall, cpu = time.perf_counter(), time.process_time()
        taken = ask(number)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        tell(number, taken, (37 * number % 101) / 101)
    return [f"{1000 * statistics.median(found[-LAST:]):.1f}" for found in (walls, cpus)]


def small() -> Recipe:
    """A training of a few steps and its score."""
    stages = {
        "train": SourceOnly(plan=Plan(steps=2, lr=1e-3, snapshots=1)),
        "score": Score(of="train", domains=("streets/cityscapes",), statistics=("plain",), samples=0),
    }
    names: dict[str, Any] = {"sources": ("streets/gta5",), "targets": ("streets/cityscapes",)}
    return Recipe(name="small", crop=(28, 56), batch=2, stages=stages, **names)


def overhead(table: Table, name: str, trials: int, hands: Callable[[Place], Callable[[Course], None]]) -> None:
    """A line of the table: trials one at a time whose training is there."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root / "data/streets", KNOBS)
        place = Place(root / "home", root / "data")
        base = small()
        for run in place.stage_runs(base):
            carry_out(run, place)
        asked, clock = sweep(base, looks, trials), Clock()
        search = Search(asked, looks, explored(looks, base, "benchmark"), place)
        tracker = Tracker(f"sqlite:///{place.home / 'mlflow.db'}", place.home / "artifacts")
        cpu = time.process_time()
        search(tracker, hands(place), clock)
        busy = (time.process_time() - cpu) / trials
    ends = [clock.over[n] for n in sorted(clock.over)]
    between = [b - a for a, b in itertools.pairwise(ends)]
    table.add_row(name, str(trials), f"{1000 * statistics.median(between):.0f}", f"{1000 * busy:.0f}")


def by_tune(workers: int) -> Callable[[Place], Callable[[Course], None]]:
    """Ray Tune on this machine, one trial at a time."""

    def hands(place: Place) -> Callable[[Course], None]:
        def carry(course: Course) -> None:
            from diga.launch.search import tuned

            with tuned(place, None, Resources(workers=workers), 1, {}) as work:
                work(course)

        return carry

    return hands


def main() -> None:
    """Measure and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few trials: does it run at all")
    parser.add_argument("--trials", type=int, default=1000, help="behind a suggestion")
    parser.add_argument("--train", action="store_true", help="also trials by Ray Tune, and as groups of Ray Train")
    asked = parser.parse_args()
    trials, few = (30, 3) if asked.quick else (asked.trials, 8)
    os.environ.setdefault("DIGA_THREADS", "1")
    title = f"beside trainings, {platform.machine()}, {os.cpu_count()} CPUs"
    table = Table("what", "trials", "median ms", "driver's CPU ms", title=title)
    suggest(table, "tpe", trials, lambda root: None, "journal")
    optuna_alone(table, trials)
    suggest(table, "random", trials, lambda root: None, "journal")
    suggest(table, "tpe", trials, lambda root: f"sqlite:///{root / 'trials.db'}", "SQLite")
    overhead(table, "a trial in this process", few, lambda place: lambda c: alone(c, place, inline, {}))
    if asked.train:
        overhead(table, "a trial by Ray Tune", few, by_tune(0))
        overhead(table, "a trial as a group of Ray Train", 4, by_tune(1))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
