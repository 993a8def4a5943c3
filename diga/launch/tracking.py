"""MLflow's picture of the store: one run a stage, one a cell, one a study, each written once however often asked.

The driver alone talks to MLflow.  Stages write their losses beside themselves (`diga.engine.spool`),
and this module copies them over in batches.  Every call can be made again: what MLflow has already is
not sent twice, so a driver that was killed, or a server that was away, costs nothing but another call.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from diga.files import SPOOL, slug
from diga.launch.answers import REFUSALS, refusal
from diga.lease import POLL, Lease
from diga.plan import StageRun
from diga.recipe import dumps, plain
from diga.store import MANIFEST
from diga.study import Cell, Study

STAGES = "diga/_stages"
POINTS = 200  # of a curve in MLflow; every step is in the artifact
BATCH = 800  # metrics in one request; MLflow takes 1000
NOTES = 100  # tags, and parameters, in one request
LONGEST_TAG, LONGEST_PARAM = 8000, 6000


class Tracker:
    """Runs in one MLflow store, found again by their tags."""

    def __init__(self, uri: str, artifacts: Path) -> None:
        self.uri, self.artifacts = uri, artifacts
        for name in ("mlflow", "alembic", "urllib3"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what went wrong is said by whoever asked
        try:
            artifacts.mkdir(parents=True, exist_ok=True)
            self.client = MlflowClient(uri)
            self.client.search_experiments(max_results=1)  # makes the schema, before any concurrency
        except REFUSALS as failure:
            raise refusal(uri, failure) from failure
        self._experiments: dict[str, str] = {}
        self._done: set[str] = set()  # runs that are complete
        self._copied: dict[str, int] = {}  # last step of a run that MLflow has
        self._read: dict[str, int] = {}  # bytes of a spool that need not be read again

    # --- finding and making runs ----------------------------------------------------------

    def experiment(self, name: str) -> str:
        """The experiment's id, made if it is not there."""
        if name not in self._experiments:
            found = self.client.get_experiment_by_name(name)
            if found is None:
                self._experiments[name] = self._made_experiment(name)
            else:
                if found.lifecycle_stage == "deleted":
                    self.client.restore_experiment(found.experiment_id)
                self._experiments[name] = str(found.experiment_id)
        return self._experiments[name]

    def _made_experiment(self, name: str) -> str:
        place = (self.artifacts / slug(name)).as_uri()
        try:
            return str(self.client.create_experiment(name, artifact_location=place))
        except MlflowException:
            if found := self.client.get_experiment_by_name(name):  # another launch has just made it
                return str(found.experiment_id)
            raise

    def run(
        self,
        experiment: str,
        name: str,
        key: Sequence[str],
        tags: Mapping[str, str],
        params: Mapping[str, Any] | None = None,
    ) -> str:
        """The id of the run known by `key`, made if it is not there; tags become these, parameters stay."""
        where = self.experiment(experiment)
        known = hashlib.sha256(json.dumps(list(key)).encode()).hexdigest()[:32]  # a filter knows no escapes
        run = self._found(where, known) or self._made(where, known, name)
        run_id, has = str(run.info.run_id), run.data
        if has.tags.get("status") == "done":
            self._done.add(run_id)
        new = {k: v for k, v in tags.items() if has.tags.get(k) != v}
        self.log(run_id, tags=new, params={k: v for k, v in (params or {}).items() if allowed(k) not in has.params})
        return run_id

    def _found(self, where: str, known: str) -> Run | None:
        return next(iter(self.client.search_runs([where], f"tags.key = '{known}'", max_results=1)), None)

    def _made(self, where: str, known: str, name: str) -> Run:
        """A new run, unless another launch has just made it: one at a time, for MLflow knows no keys."""
        claim = Lease(self.artifacts / "runs.lease")
        while not claim.try_take():
            time.sleep(POLL)
        with claim.beating():
            return self._found(where, known) or self.client.create_run(where, tags={"key": known}, run_name=name[:250])

    def log(
        self,
        run_id: str,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        moment: int = 0,
    ) -> None:
        """Metrics (at step 0 and `moment` in milliseconds), then tags and parameters, in requests MLflow takes."""
        points = [Metric(allowed(k), v, moment, 0) for k, v in (metrics or {}).items()]
        values = [Param(k, v) for k, v in {allowed(k): json.dumps(v) for k, v in (params or {}).items()}.items()]
        notes = [RunTag(allowed(k), v[:LONGEST_TAG]) for k, v in (tags or {}).items()]
        for i in range(0, len(points), BATCH):
            self.client.log_batch(run_id, points[i : i + BATCH])
        for i in range(0, max(len(values), len(notes)), NOTES):
            some = [Param(p.key, p.value[:LONGEST_PARAM]) for p in values[i : i + NOTES]]
            self.client.log_batch(run_id, params=some, tags=notes[i : i + NOTES])

    def begun(self, run_id: str) -> None:
        """A run is under way, unless it is complete."""
        if run_id not in self._done:
            self.log(run_id, tags={"status": "running", "error": "", "failure": ""})
            self.client.update_run(run_id, "RUNNING")

    def failed(self, run_id: str, error: str, status: str = "failed", failure: str = "") -> None:
        """Close a run that did not get to its end; `failure` is the class of its error."""
        self._done.discard(run_id)
        self.log(run_id, tags={"status": status, "error": error, "failure": failure})
        self.client.set_terminated(run_id, "FAILED" if status == "failed" else "KILLED")

    def done(self, run_id: str, metrics: Mapping[str, float], moment: int, tags: Mapping[str, str]) -> None:
        """Close a run that has everything, unless another launch has just done so."""
        if self.client.get_run(run_id).data.tags.get("status") != "done":
            self.log(run_id, metrics, dict(tags) | {"status": "done", "error": "", "failure": ""}, moment=moment)
        self.client.set_terminated(run_id, "FINISHED")
        self._done.add(run_id)

    def artifact(self, run_id: str, path: Path) -> None:
        """A file or folder, if it exists."""
        if path.is_dir():
            self.client.log_artifacts(run_id, str(path), path.name)
        elif path.exists():
            self.client.log_artifact(run_id, str(path))

    # --- stages ---------------------------------------------------------------------------

    def stage(self, stage: StageRun) -> str:
        """The run of a stage."""
        tags = {
            "kind": "stage",
            "stage": stage.name,
            "class": stage.kind,
            "seed": str(stage.recipe.seed),
            "fingerprint": stage.fingerprint,
        }
        return self.run(STAGES, f"{stage.name} {stage.fingerprint[:6]}", [stage.fingerprint], tags)

    def follow(self, run_id: str, folder: Path, steps: int) -> None:
        """Copy the steps a stage has spooled and MLflow has not, at most about POINTS of a curve."""
        stride = max(1, steps // POINTS)
        batch: list[Metric] = []
        lines, end = self._news(run_id, folder / SPOOL)
        for line in lines:
            if line["step"] % stride == 0 or line["step"] + 1 >= steps:
                row = [Metric(allowed(k), v, line["time"], line["step"]) for k, v in line["values"].items()]
                if len(batch) + len(row) > BATCH:
                    self._copy(run_id, batch)
                    batch = []
                batch += row
        self._copy(run_id, batch)
        self._read[run_id] = end

    def _news(self, run_id: str, spool: Path) -> tuple[list[dict[str, Any]], int]:
        """Whole lines of steps that MLflow has not, and where they end; a killed driver's are asked of MLflow once."""
        at, text = self._read.get(run_id, 0), b""
        if spool.exists():
            with spool.open("rb") as file:
                file.seek(at)
                text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        lines = [json.loads(line) for line in whole.splitlines()]
        if lines:  # another launch of the same study may have copied some since
            told = self.client.get_metric_history(run_id, allowed(next(iter(lines[0]["values"]))))
            self._copied[run_id] = max((point.step for point in told), default=-1)
        return [line for line in lines if line["step"] > self._copied[run_id]], at + len(whole)

    def _copy(self, run_id: str, rows: list[Metric]) -> None:
        """Whole steps in one request: all of a step is there, or nothing of it."""
        if rows:
            self.client.log_batch(run_id, rows)
            self._copied[run_id] = rows[-1].step

    def finished(self, run_id: str, stage: StageRun, folder: Path) -> None:
        """Everything a finished stage has to show, unless it is there already."""
        if run_id in self._done:
            return
        self.follow(run_id, folder, stage.steps)
        for name in (SPOOL, MANIFEST, "pictures"):
            self.artifact(run_id, folder / name)
        self.client.log_dict(run_id, plain(stage.stage), "stage.json")
        meta = json.loads((folder / MANIFEST).read_text())["meta"]
        cost = {"cost/seconds": meta["seconds"], "cost/steps": float(stage.steps)}
        self.done(run_id, cost, published(folder), meta.get("origin", {}))

    # --- studies and cells ------------------------------------------------------------------

    def study(self, study: Study, tags: Mapping[str, str], artifacts: Mapping[str, str]) -> str:
        """The study's own run, with its layout."""
        own = {"kind": "study", "study": study.name} | dict(tags)
        run_id = self.run(f"diga/{study.name}", f"study {study.name}", ["study", study.name], own)
        self.client.log_dict(run_id, study.layout(), "study.json")
        self.origin(run_id, tags, artifacts)
        self.client.set_terminated(run_id, "FINISHED")  # a declaration, not a process
        return run_id

    def cell(self, study: Study, cell: Cell, stages: list[StageRun], params: Mapping[str, Any]) -> tuple[str, bool]:
        """The run of a cell, what it is and which stage runs it is made of; and whether it is complete."""
        row = {
            "kind": "cell",
            "study": study.name,
            "row": cell.row.label,
            "row.index": str(cell.index),
            "row.parent": cell.row.parent,
            "components": json.dumps(cell.row.components),
            "seed": str(cell.seed),
            "cell": stages[-1].fingerprint,
            "recipe": cell.recipe.name,
            "protocol": str(getattr(stages[-1].stage, "protocol", "")),
        }
        updates = json.dumps({stage.name: stage.steps for stage in stages})
        linked = {f"stage.{stage.name}": stage.fingerprint for stage in stages} | {"steps": updates}
        key = [study.name, cell.row.label, str(cell.seed), stages[-1].fingerprint]
        name = f"{cell.row.label} seed {cell.seed}"
        run_id = self.run(f"diga/{study.name}", name, key, row | linked, params)
        self.client.log_text(run_id, dumps(cell.recipe), "recipe.json")
        if any(len(text) > LONGEST_TAG for text in row.values()):
            self.client.log_dict(run_id, row, "cell.json")  # what a tag cuts
        self.begun(run_id)
        return run_id, run_id in self._done

    def origin(self, run_id: str, tags: Mapping[str, str], artifacts: Mapping[str, str]) -> None:
        """What launches a run: of one that is complete, its stages' manifests say more."""
        self.log(run_id, tags=tags)
        for name, text in artifacts.items():
            if text:
                self.client.log_text(run_id, text, name)

    def retire(self, study: Study, current: set[str]) -> None:
        """Cells that the study's present recipes no longer make: kept, but out of every table.

        A row's other seeds stay: another launch, perhaps on another machine, has made them.
        """
        where, rows = self.experiment(f"diga/{study.name}"), {row.label for row in study.rows}
        seeds = {str(seed) for seed in study.seeds}
        for run in self.client.search_runs([where], "tags.kind = 'cell'", max_results=10_000):
            known = run.data.tags.get("row") in rows and run.data.tags.get("seed") not in seeds
            if run.info.run_id not in current and not known:
                self.log(run.info.run_id, tags={"kind": "superseded cell"})

    def cell_done(self, run_id: str, folder: Path, cost: Mapping[str, float], origin: Mapping[str, str]) -> None:
        """Scores, confusion matrices and samples of a cell's last stage, unless they are there already.

        `origin`: the code and the machines its stages were computed by.
        """
        if run_id in self._done:
            return
        told = folder / "scores.json"  # of a recipe that ends in a score
        scores: dict[str, float] = json.loads(told.read_text()) if told.exists() else {}
        for name in ("confusion.parquet", "features.parquet", "labels.parquet", "diagnostics.json", "samples"):
            self.artifact(run_id, folder / name)
        self.done(run_id, scores | dict(cost), published(folder), origin)


def allowed(name: str) -> str:
    """Only what MLflow allows in the name of a metric, a parameter or a tag."""
    clean = "".join(c if c.isalnum() or c in "_-. :/" else "_" for c in name)
    return "/".join(part for part in clean.split("/") if part.strip("."))[:250] or "_"


def published(folder: Path) -> int:
    """When a stage was finished, in milliseconds: the same whenever it is asked."""
    return (folder / MANIFEST).stat().st_mtime_ns // 1_000_000
