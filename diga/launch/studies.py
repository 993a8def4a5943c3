"""A study, carried out: every distinct stage once, whatever can go on goes on, and MLflow knows it all."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from diga.errors import ConfigError, DigaError
from diga.files import SPOOL
from diga.launch.crew import Crew
from diga.launch.mirror import Mirror, State
from diga.launch.tracking import Tracker, shown
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

    def ended(self, run: StageRun, seconds: float, error: DigaError | None) -> None:
        """A stage is over; `seconds` is what it took, if it succeeded."""


class Launch:
    """One launch of a study: what is wanted, what is under way, what is over."""

    def __init__(self, study: Study, place: Place) -> None:
        self.study, self.place = study, place
        self.cells = [(cell, place.stage_runs(cell.recipe)) for cell in study.cells()]
        rows: dict[str, str] = {}
        for cell, runs in self.cells:
            if (twin := rows.setdefault(runs[-1].fingerprint, cell.row.label)) != cell.row.label:
                found = f"rows {twin!r} and {cell.row.label!r} are the same"
                raise ConfigError(study.name, found, "a switch between them that changes something")
        self.stages = distinct(run for _, runs in self.cells for run in runs)
        self.over: dict[str, DigaError | None] = {}
        self.sent: dict[str, StageRun] = {}

    def __call__(
        self,
        tracker: Tracker,
        crew: Callable[[], AbstractContextManager[Crew]],
        watcher: Watcher,
        tags: Mapping[str, str] | None = None,
    ) -> Counter[str]:
        """Carry out what is missing; how many cells are done and failed.  No crew is called for nothing."""
        self.watcher, self.mirror = watcher, Mirror(tracker, self.place, self.cells, self.stages)
        self.mirror.declare(self.study, tags or {})
        with self.mirror.telling(), every(GLANCE, self.look):
            try:
                self.adopt()
                if len(self.over) < len(self.stages):
                    with crew() as hands:
                        self.work(hands)
            except BaseException:
                self.abandon()
                raise
        return Counter("failed" if self.over[runs[-1].fingerprint] else "done" for _, runs in self.cells)

    def adopt(self) -> None:
        """Take what the store has already."""
        for fingerprint in self.stages:
            if self.place.store.find(fingerprint):
                self.over[fingerprint] = None
                self.mirror.note(fingerprint, State("done"))
        self.watcher.found(len(self.over))

    def work(self, crew: Crew) -> None:
        """Keep the crew busy until every stage is over."""
        self.send_ready(crew)
        while len(self.over) < len(self.stages):
            for fingerprint, error in crew.ended(GLANCE):
                self.end(self.stages[fingerprint], error)
            self.send_ready(crew)

    def send_ready(self, crew: Crew) -> None:
        """Send the first stages whose inputs are there, as many as the crew wants; give up those whose inputs failed.

        Stages stand seed by seed, so the first seed's rows are complete before the second's begin to fill.
        """
        room = crew.room() - sum(f not in self.over for f in self.sent)
        for run in self.stages.values():
            if run.fingerprint in self.over or run.fingerprint in self.sent:
                continue
            reads = list(run.inputs.values())
            if lost := next((e for f in reads if (e := self.over.get(f))), None):
                self.over[run.fingerprint] = lost
                self.mirror.note(run.fingerprint, State("failed", str(lost), begun=False))
            elif room > 0 and all(f in self.over for f in reads):
                room -= 1
                self.sent[run.fingerprint] = run
                self.mirror.note(run.fingerprint, State("running"))
                self.watcher.started(run)
                crew.send(run)

    def end(self, run: StageRun, error: DigaError | None) -> None:
        """Note how a stage ended."""
        self.over[run.fingerprint] = error
        self.mirror.note(run.fingerprint, State("failed", str(error)) if error else State("done"))
        seconds = 0.0 if error else self.place.store.manifest(run.fingerprint)["meta"]["seconds"]
        self.watcher.ended(run, seconds, error)

    def look(self) -> None:
        """Show how far the stages under way are."""
        for fingerprint, run in list(self.sent.items()):
            if fingerprint not in self.over:
                step = last_step(self.place.store.work(fingerprint) / SPOOL)
                if step >= 0:
                    self.watcher.moved(run, step + 1)

    def abandon(self) -> None:
        """Say of everything that is not over that it was stopped; checkpoints stay."""
        for fingerprint in self.stages:
            if fingerprint not in self.over:
                self.mirror.note(fingerprint, State("stopped", "stopped", begun=fingerprint in self.sent))

    def errors(self) -> list[tuple[StageRun, DigaError]]:
        """Each stage that failed by itself, and why."""
        return [(run, error) for fingerprint, run in self.sent.items() if (error := self.over.get(fingerprint))]

    def warning(self) -> str:
        """What to do about records that MLflow has not taken; empty if it has all."""
        if not (behind := self.mirror.behind()):
            return ""
        why = self.mirror.trouble or "no answer"
        records = f"the records of {behind} stages are not complete"
        return f"{shown(self.mirror.tracker.uri)}: {why}; {records}: type the same command again when it answers"


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
