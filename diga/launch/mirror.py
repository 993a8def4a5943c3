"""What a launch knows, told to MLflow by a thread of its own: no step, no stage and no exit waits for a server."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from diga.cost import exaflop
from diga.launch.answers import REFUSALS, first_line, refusal
from diga.launch.parameters import of_recipe, varying
from diga.launch.provenance import data_of, merged
from diga.launch.tracking import Tracker
from diga.pipeline import Place
from diga.plan import StageRun
from diga.study import Cell, Study

COPY = 3.0  # seconds between two copies of losses to MLflow
PATIENCE = 60.0  # seconds without a record taken after which a finished launch gives MLflow up
HASTE, LAST = 4.0, 20.0  # the same of an interrupted one, and seconds in all: a cluster's manager kills it after 30
Cells = list[tuple[Cell, list[StageRun]]]


@dataclass(frozen=True)
class State:
    """Where a stage stands; `begun`: whether it has been sent, and so has a run of its own."""

    word: Literal["running", "done", "failed", "stopped"]
    error: str = ""
    failure: str = ""  # its class
    begun: bool = True


class Mirror:
    """Brings MLflow's runs to the states that `note` was told, again and again until they agree."""

    def __init__(self, tracker: Tracker, place: Place, cells: Cells, stages: Mapping[str, StageRun]) -> None:
        self.tracker, self.place, self.cells, self.stages = tracker, place, cells, stages
        self.trouble = ""  # what MLflow answered last, if it could not take something
        self.wanted: dict[str, State] = {}
        self._told: dict[str, State] = {}
        self._runs: dict[str, str] = {}  # fingerprint -> run of the stage
        self._cell_runs: list[str] = []
        self._missed: Counter[str] = Counter()
        self._leave, self._given_up, self._taken = threading.Event(), False, 0.0

    def declare(self, study: Study, tags: Mapping[str, str], artifacts: Mapping[str, str]) -> None:
        """Open the study's run and its cells' runs.  Raises StorageError when MLflow cannot be used at all."""
        fields = varying(study)
        try:
            self.tracker.study(study, tags, artifacts)
            for cell, runs in self.cells:
                run_id, done = self.tracker.cell(study, cell, runs, of_recipe(cell.recipe, fields))
                if not done:
                    self.tracker.origin(run_id, dict(tags) | data_of(runs), artifacts)
                self._cell_runs.append(run_id)
            self.tracker.retire(study, set(self._cell_runs))
        except REFUSALS as failure:
            raise refusal(self.tracker.uri, failure) from failure

    def note(self, fingerprint: str, state: State) -> None:
        """Where a stage stands now; returns at once."""
        self.wanted[fingerprint] = state

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Tell MLflow while the block runs, and what is left afterwards, for as long as it takes one record in time."""
        thread = threading.Thread(target=self._tell_all, daemon=True, name="mirror")
        thread.start()
        patience, longest = HASTE, LAST
        try:
            yield
            patience, longest = PATIENCE, float("inf")
        finally:
            self._leave.set()
            self._taken = over = time.monotonic()
            try:
                while thread.is_alive() and (end := min(self._taken + patience, over + longest)) > time.monotonic():
                    thread.join(max(0.0, end - time.monotonic()))
            finally:
                self._given_up = True

    def behind(self) -> int:
        """Stages whose records MLflow has not."""
        return sum(self._told.get(fingerprint) != state for fingerprint, state in self.wanted.copy().items())

    def _tell_all(self) -> None:
        while not self._given_up:
            leaving = self._leave.wait(COPY)
            self._round()
            if leaving and not self.behind():
                return
            if leaving:
                time.sleep(0.5)

    def _round(self) -> None:
        """Tell what is new; at the first refusal leave the rest, and begin with the others next time."""
        for fingerprint in sorted(self.wanted.copy(), key=lambda f: self._missed[f]):
            state = self.wanted[fingerprint]
            if self._given_up:
                return
            if self._told.get(fingerprint) == state and state.word != "running":
                continue
            try:
                self._tell(fingerprint, state)
                self._taken = time.monotonic()
            except Exception as failure:  # whatever it is: a record that cannot be written is no reason to stop
                self._missed[fingerprint] += 1
                self.trouble = first_line(failure)
                return
        self.trouble = ""

    def _tell(self, fingerprint: str, state: State) -> None:
        run = self.stages[fingerprint]
        if state.begun:
            if fingerprint not in self._runs:
                self._runs[fingerprint] = self.tracker.stage(run)
            self._tell_stage(self._runs[fingerprint], run, state)
        for run_id, (_, runs) in zip(self._cell_runs, self.cells, strict=True):
            if runs[-1].fingerprint == fingerprint:
                self._tell_cell(run_id, runs, state)
        self._told[fingerprint] = state

    def _tell_stage(self, run_id: str, run: StageRun, state: State) -> None:
        store = self.place.store
        if state.word == "running":
            if self._told.get(run.fingerprint) != state:
                self.tracker.begun(run_id)
            self.tracker.follow(run_id, store.work(run.fingerprint), run.steps)
        elif state.word == "done":
            self.tracker.finished(run_id, run, store.folder(run.fingerprint))
        else:
            self.tracker.follow(run_id, store.work(run.fingerprint), run.steps)
            self.tracker.failed(run_id, state.error, state.word, state.failure)

    def _tell_cell(self, run_id: str, runs: list[StageRun], state: State) -> None:
        """A cell stands where its last stage stands; once that is done, so are its scores and what it cost."""
        store = self.place.store
        if state.word == "done":
            metas = [store.manifest(r.fingerprint)["meta"] for r in runs]
            origin = merged(meta.get("origin", {}) for meta in metas)
            self.tracker.cell_done(run_id, store.folder(runs[-1].fingerprint), spent(runs, metas), origin)
        elif state.word != "running":
            self.tracker.failed(run_id, state.error, state.word, state.failure)


def spent(runs: Sequence[StageRun], metas: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What a cell takes whose stages are computed one by one: `metas` are what their manifests say.

    Seconds, those of GPUs, updates, and 1e18 operations of its networks, where `diga.cost` knows them all.
    """
    seconds = [float(meta["seconds"]) for meta in metas]
    found = {
        "cost/seconds": sum(seconds),
        "cost/gpu_seconds": sum(s * gpus(meta) for s, meta in zip(seconds, metas, strict=True)),
        "cost/steps": float(sum(run.steps for run in runs)),
    }
    return found if (operations := exaflop(runs)) is None else found | {"cost/exaflop": operations}


def gpus(meta: Mapping[str, Any]) -> float:
    """GPUs that a stage was computed on, by all of its workers; where that was not counted, one a worker."""
    each = meta.get("gpus", 1) if meta.get("device") == "cuda" else 0
    return float(each) * int(meta.get("workers", 1))
