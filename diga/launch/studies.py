"""A study, carried out: every distinct stage once, whatever can go on goes on, and MLflow knows it all."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from diga.errors import ConfigError, DigaError
from diga.files import SPOOL
from diga.launch import failures
from diga.launch.answers import without_password
from diga.launch.crew import Crew
from diga.launch.failures import MANNERS, kind_of
from diga.launch.mirror import Mirror, State
from diga.launch.order import Order, ranks
from diga.launch.tracking import Tracker
from diga.pipeline import Place
from diga.plan import StageRun, distinct
from diga.study import Study

GLANCE = 0.5  # seconds between two looks at how far things are


class Watcher(Protocol):
    """Whoever shows the progress; `moved` comes from another thread."""

    def found(self, number: int) -> None:
        """So many stages were in the store already."""

    def started(self, run: StageRun) -> None:
        """A stage was sent."""

    def moved(self, run: StageRun, step: int) -> None:
        """A stage has done so many steps."""

    def again(self, run: StageRun, error: DigaError, tries: int) -> None:
        """A stage failed so often, and is tried once more."""

    def ended(self, run: StageRun, seconds: float, error: DigaError | None) -> None:
        """A stage is over; `seconds` is what it took, if it succeeded."""


class Launch:
    """One launch of a study: what is wanted, what is under way, what is over."""

    def __init__(self, study: Study, place: Place, order: Order = "rows") -> None:
        self.study, self.place, self.order = study, place, order
        self.cells = [(cell, place.stage_runs(cell.recipe)) for cell in study.cells()]
        rows: dict[str, str] = {}
        for cell, runs in self.cells:
            if (twin := rows.setdefault(runs[-1].fingerprint, cell.row.label)) != cell.row.label:
                found = f"rows {twin!r} and {cell.row.label!r} are the same"
                raise ConfigError(study.name, found, "a switch between them that changes something")
        self.stages = distinct(run for _, runs in self.cells for run in runs)
        self.over: dict[str, DigaError | None] = {}
        self.begun: dict[str, StageRun] = {}
        self.under_way: set[str] = set()
        self.failed: dict[str, DigaError] = {}  # by itself, now or in an earlier launch
        self.tries: Counter[tuple[str, str]] = Counter()
        self.wider: set[str] = set()

    def __call__(
        self,
        tracker: Tracker,
        crew: Callable[[], AbstractContextManager[Crew]],
        watcher: Watcher,
        tags: Mapping[str, str] | None = None,
        artifacts: Mapping[str, str] | None = None,
        retry: Collection[str] = frozenset(MANNERS),
    ) -> Counter[str]:
        """Carry out what is missing; how many cells are done and failed.  No crew is called for nothing.

        Of the stages that failed in an earlier launch, those whose class is in `retry` are tried again.
        """
        self.watcher, self.mirror = watcher, Mirror(tracker, self.place, self.cells, self.stages)
        self.mirror.declare(self.study, tags or {}, artifacts or {})
        with self.mirror.telling(), every(GLANCE, self.look):
            try:
                self.adopt(retry)
                if len(self.over) < len(self.stages):
                    with crew() as hands:
                        self.work(hands)
            except BaseException:
                self.abandon()
                raise
        return Counter("failed" if self.over[runs[-1].fingerprint] else "done" for _, runs in self.cells)

    def adopt(self, retry: Collection[str]) -> None:
        """Take what the store has already, and what failed for good."""
        for fingerprint in self.stages:
            if self.place.store.find(fingerprint):
                self.over[fingerprint] = None
                self.mirror.note(fingerprint, State("done"))
                continue
            failures.forget(self.place.store, fingerprint, retry)
            if failure := failures.noted(self.place.store, fingerprint):
                self.fail(fingerprint, failure)
        self.watcher.found(sum(error is None for error in self.over.values()))
        self.give_up()

    def work(self, crew: Crew) -> None:
        """Keep the crew busy until every stage is over."""
        self.send_ready(crew)
        while len(self.over) < len(self.stages):
            for fingerprint, error in crew.ended(GLANCE):
                self.end(self.stages[fingerprint], error)
            self.send_ready(crew)

    def send_ready(self, crew: Crew) -> None:
        """Send the most urgent stages whose inputs are there, as many as the crew has room for."""
        rank = ranks(self.cells, self.over, self.order)
        waiting = [r for f, r in self.stages.items() if f not in self.over and f not in self.under_way]
        ready = [r for r in waiting if all(f in self.over for f in r.inputs.values())]
        ready.sort(key=lambda run: rank[run.fingerprint])  # in the order of the stages where ranks are the same
        for run in crew.offer(ready, frozenset(self.wider)) if ready else []:
            self.under_way.add(run.fingerprint)
            if run.fingerprint not in self.begun:
                self.begun[run.fingerprint] = run
                self.watcher.started(run)
            self.mirror.note(run.fingerprint, State("running"))
            crew.send(run, run.fingerprint in self.wider)

    def end(self, run: StageRun, error: DigaError | None) -> None:
        """Note how a stage ended, or that it is to be tried again."""
        self.under_way.discard(run.fingerprint)
        if error and self.tried_again(run, error):
            return
        if error:
            self.fail(run.fingerprint, error)
            self.give_up()
            self.watcher.ended(run, 0.0, error)
        else:
            self.over[run.fingerprint] = None
            failures.noted_at(self.place.store, run.fingerprint).unlink(missing_ok=True)
            self.mirror.note(run.fingerprint, State("done"))
            self.watcher.ended(run, self.place.store.manifest(run.fingerprint)["meta"]["seconds"], None)

    def tried_again(self, run: StageRun, error: DigaError) -> bool:
        """Whether a failure of this class has tries left; if not, it is noted for the next launch."""
        kind = kind_of(error)
        self.tries[run.fingerprint, kind] += 1
        tries = self.tries[run.fingerprint, kind]
        if tries < MANNERS[kind].tries:
            self.wider |= {run.fingerprint} if MANNERS[kind].wider else set()
            self.watcher.again(run, error, tries)
            return True
        failures.note(self.place.store, run.fingerprint, error, tries)
        return False

    def fail(self, fingerprint: str, error: DigaError) -> None:
        """A stage has failed for good."""
        self.over[fingerprint] = self.failed[fingerprint] = error
        self.mirror.note(fingerprint, State("failed", str(error), kind_of(error)))

    def give_up(self) -> None:
        """What reads a failed stage, directly or not, has failed of the same."""
        for fingerprint, run in self.stages.items():  # each after all it reads
            lost = next((e for f in run.inputs.values() if (e := self.over.get(f))), None)
            if lost and fingerprint not in self.over:
                self.over[fingerprint] = lost
                self.mirror.note(fingerprint, State("failed", str(lost), kind_of(lost), begun=False))

    def look(self) -> None:
        """Show how far the stages under way are."""
        for fingerprint in list(self.under_way):
            step = last_step(self.place.store.work(fingerprint) / SPOOL)
            if step >= 0:
                self.watcher.moved(self.stages[fingerprint], step + 1)

    def abandon(self) -> None:
        """Say of everything that is not over that it was stopped; checkpoints stay."""
        for fingerprint in self.stages:
            if fingerprint not in self.over:
                self.mirror.note(fingerprint, State("stopped", "stopped", begun=fingerprint in self.begun))

    def errors(self) -> list[tuple[StageRun, DigaError]]:
        """Each stage that failed by itself, and why."""
        return [(self.stages[fingerprint], error) for fingerprint, error in self.failed.items()]

    def warning(self) -> str:
        """What to do about records that MLflow has not taken; empty if it has all."""
        if not (behind := self.mirror.behind()):
            return ""
        why = self.mirror.trouble or "no answer"
        records = f"the records of {behind} stages are not complete"
        where = without_password(self.mirror.tracker.uri)
        return f"{where}: {why}; {records}: type the same command again when it answers"


@contextmanager
def every(seconds: float, work: Callable[[], None]) -> Iterator[None]:
    """Call `work` every so many seconds, in a thread of its own, while the block runs."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(seconds):
            work()

    thread = threading.Thread(target=repeat, daemon=True, name="look")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def last_step(spool: Path) -> int:
    """The last step of a spool, read from its end; -1 for none."""
    try:
        with spool.open("rb") as file:
            file.seek(max(0, spool.stat().st_size - 8192))
            whole = file.read().split(b"\n")[:-1]
        return int(json.loads(whole[-1])["step"]) if whole else -1
    except (OSError, ValueError):
        return -1
