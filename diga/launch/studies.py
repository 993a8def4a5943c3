"""A study, carried out: every distinct stage once, whatever can go on goes on, and MLflow knows it all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from diga.errors import DigaError
from diga.launch.crew import Crew
from diga.launch.tracking import Tracker, of_recipe, varying
from diga.pipeline import Place
from diga.plan import StageRun, distinct
from diga.study import Cell, Study

GLANCE = 0.5  # seconds between two looks at what ended
COPY = 3.0  # seconds between two copies of losses to MLflow


class Watcher(Protocol):
    """Whoever shows the progress."""

    def started(self, run: StageRun) -> None:
        """A stage was sent."""

    def moved(self, run: StageRun, step: int) -> None:
        """A stage has done so many steps."""

    def ended(self, run: StageRun, error: DigaError | None) -> None:
        """A stage is over."""


@dataclass
class Launch:
    """One launch of a study: what is wanted, what is under way, what is over."""

    study: Study
    place: Place
    tracker: Tracker
    crew: Crew
    watcher: Watcher
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cells: list[tuple[Cell, list[StageRun]]] = [
            (cell, self.place.stage_runs(cell.recipe)) for cell in self.study.cells()
        ]
        self.stages = distinct(run for _, runs in self.cells for run in runs)
        self.over: dict[str, DigaError | None] = {}
        self.sent: dict[str, str] = {}  # fingerprint -> MLflow run
        self.cell_runs: list[str] = []

    def __call__(self) -> Counter[str]:
        """Carry out what is missing; how many cells are done and failed."""
        self.declare()
        try:
            self.adopt()
            self.send_ready()
            copied = time.monotonic()
            while len(self.over) < len(self.stages):
                for fingerprint, error in self.crew.ended(GLANCE):
                    self.end(fingerprint, error)
                self.send_ready()
                if time.monotonic() - copied > COPY:
                    self.copy()
                    copied = time.monotonic()
        except BaseException:
            self.abandon()
            raise
        return Counter(self.state(runs) for _, runs in self.cells)

    def declare(self) -> None:
        """Open the study's run and its cells' runs."""
        self.tracker.study(self.study, self.tags)
        fields = varying(self.study)
        for cell, runs in self.cells:
            run_id = self.tracker.cell(self.study, cell, runs, dict(self.tags))
            self.tracker.log(run_id, params=of_recipe(cell.recipe, fields))
            self.cell_runs.append(run_id)
        self.tracker.retire(self.study, set(self.cell_runs))

    def adopt(self) -> None:
        """Take what the store has already."""
        for run in self.stages.values():
            if self.place.store.find(run.fingerprint):
                self.sent[run.fingerprint] = self.tracker.stage(run)
                self.end(run.fingerprint, None)

    def send_ready(self) -> None:
        """Send every stage whose inputs are there; give up those whose inputs failed."""
        for run in self.stages.values():
            if run.fingerprint in self.sent or run.fingerprint in self.over:
                continue
            reads = list(run.inputs.values())
            if lost := next((e for f in reads if (e := self.over.get(f))), None):
                self.end(run.fingerprint, lost)
            elif all(f in self.over for f in reads):
                self.sent[run.fingerprint] = self.tracker.stage(run)
                self.watcher.started(run)
                self.crew.send(run)

    def end(self, fingerprint: str, error: DigaError | None) -> None:
        """Note a stage's end, and that of the cells which waited for it."""
        run = self.stages[fingerprint]
        self.over[fingerprint] = error
        if run_id := self.sent.get(fingerprint):
            if error:
                self.tracker.failed(run_id, str(error))
            else:
                self.tracker.finished(run_id, run, self.place.store.folder(fingerprint))
        self.watcher.ended(run, error)
        for run_id, (_, runs) in zip(self.cell_runs, self.cells, strict=True):
            if runs[-1].fingerprint == fingerprint:
                self.end_cell(run_id, runs, error)

    def end_cell(self, run_id: str, runs: list[StageRun], error: DigaError | None) -> None:
        """Close a cell's run with its scores or its error."""
        if error:
            self.tracker.failed(run_id, str(error))
            return
        seconds = sum(self.place.store.manifest(r.fingerprint)["meta"]["seconds"] for r in runs)
        cost = {"cost/seconds": seconds, "cost/steps": float(sum(r.steps for r in runs))}
        self.tracker.cell_done(run_id, self.place.store.folder(runs[-1].fingerprint), cost)

    def copy(self) -> None:
        """Copy the losses of what is under way."""
        for fingerprint, run_id in self.sent.items():
            if fingerprint not in self.over:
                run = self.stages[fingerprint]
                step = self.tracker.follow(run_id, self.place.store.work(fingerprint), run.steps)
                if step >= 0:
                    self.watcher.moved(run, step + 1)

    def abandon(self) -> None:
        """Say of everything under way that it was stopped; checkpoints stay."""
        for fingerprint, run_id in self.sent.items():
            if fingerprint not in self.over:
                self.tracker.failed(run_id, "stopped", status="stopped")

    def state(self, runs: list[StageRun]) -> str:
        """done or failed, of a cell."""
        return "failed" if self.over.get(runs[-1].fingerprint) else "done"

    def errors(self) -> dict[str, DigaError]:
        """The first error of each kind, by stage."""
        return {self.stages[f].name: e for f, e in self.over.items() if e and f in self.sent}


Show = Callable[[Study, dict[str, StageRun]], Watcher]
