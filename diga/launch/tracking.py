"""MLflow's picture of the store: one run a stage, one a cell, one a study, each written once however often asked.

The driver alone talks to MLflow.  Stages write their losses beside themselves (`diga.engine.spool`),
and this module copies them over in batches, so a slow or dead server never holds a step up and a
killed driver loses nothing: the next one copies what is missing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from diga.errors import StorageError
from diga.files import SPOOL
from diga.plan import StageRun
from diga.recipe import Recipe, dumps, plain
from diga.study import Cell, Study

STAGES = "diga/_stages"
POINTS = 200  # of a curve in MLflow; every step is in the artifact
BATCH = 900  # metrics in one request


class Tracker:
    """Runs in one MLflow store, found again by their tags."""

    def __init__(self, uri: str, artifacts: Path) -> None:
        self.uri, self.artifacts = uri, artifacts
        try:
            logging.getLogger("mlflow").setLevel(logging.WARNING)
            logging.getLogger("alembic").setLevel(logging.WARNING)
            artifacts.mkdir(parents=True, exist_ok=True)
            self.client = MlflowClient(uri)
            self.client.search_experiments(max_results=1)  # makes the schema, before any concurrency
        except (MlflowException, OSError) as failure:
            raise StorageError(uri, first_line(failure), "a database that can be written") from failure
        self._sent: dict[str, int] = {}

    # --- finding and making runs ----------------------------------------------------------

    def experiment(self, name: str) -> str:
        """The experiment's id, made if it is not there."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            place = self.artifacts / name.replace("/", "__")
            return str(self.client.create_experiment(name, artifact_location=place.as_uri()))
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def run(self, experiment: str, name: str, key: Sequence[str], tags: Mapping[str, str]) -> str:
        """The id of the run known by `key`, made if it is not there; `tags` are set either way."""
        where = self.experiment(experiment)
        known = hashlib.sha256(json.dumps(list(key)).encode()).hexdigest()[:32]  # a filter knows no escapes
        found = self.client.search_runs([where], f"tags.key = '{known}'", max_results=1)
        if found:
            run_id = str(found[0].info.run_id)
        else:
            run_id = str(self.client.create_run(where, tags={"key": known}, run_name=name[:250]).info.run_id)
        self.log(run_id, tags=tags)
        return run_id

    def log(
        self,
        run_id: str,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Values, tags and parameters in one request."""
        now = int(time.time() * 1000)
        points = [Metric(metric_name(k), v, now, 0) for k, v in (metrics or {}).items()]
        self.client.log_batch(
            run_id,
            points,
            [Param(k, json.dumps(v)[:5000]) for k, v in (params or {}).items()],
            [RunTag(k, str(v)[:4900]) for k, v in (tags or {}).items()],
        )

    # --- stages ---------------------------------------------------------------------------

    def stage(self, stage: StageRun) -> str:
        """The run of a stage, under way from now."""
        tags = {
            "kind": "stage",
            "stage": stage.name,
            "class": stage.kind,
            "seed": str(stage.recipe.seed),
            "fingerprint": stage.fingerprint,
        }
        run_id = self.run(STAGES, f"{stage.name} {stage.fingerprint[:6]}", [stage.fingerprint], tags)
        self.client.update_run(run_id, "RUNNING")
        return run_id

    def follow(self, run_id: str, folder: Path, steps: int) -> int:
        """Copy the lines a stage has spooled since last time; the last step seen, -1 for none."""
        path = folder / SPOOL
        at = self._sent.get(run_id, 0)
        if not path.exists():
            return -1
        with path.open("rb") as file:
            file.seek(at)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        lines = [json.loads(line) for line in whole.splitlines()]
        stride = max(1, steps // POINTS)
        points = [
            Metric(metric_name(k), v, line["time"], line["step"])
            for line in lines
            if line["step"] % stride == 0 or line["step"] + 1 >= steps
            for k, v in line["values"].items()
        ]
        for i in range(0, len(points), BATCH):
            self.client.log_batch(run_id, points[i : i + BATCH])
        self._sent[run_id] = at + len(whole)
        return lines[-1]["step"] if lines else -1

    def finished(self, run_id: str, stage: StageRun, folder: Path) -> None:
        """Everything a finished stage has to show; skipped if it is there already."""
        if self.client.get_run(run_id).data.tags.get("status") == "done":
            return
        self._sent.pop(run_id, None)
        self.follow(run_id, folder, stage.steps)
        meta = json.loads((folder / "manifest.json").read_text())["meta"]
        for name in (SPOOL, "manifest.json", "pictures"):
            self.artifact(run_id, folder / name)
        self.client.log_dict(run_id, plain(stage.stage), "stage.json")
        self.log(run_id, {"cost/seconds": meta["seconds"], "cost/steps": stage.steps}, {"status": "done"})
        self.client.set_terminated(run_id, "FINISHED")

    def failed(self, run_id: str, error: str, status: str = "failed") -> None:
        """Close a run that did not get to its end."""
        self.log(run_id, tags={"status": status, "error": error})
        self.client.set_terminated(run_id, "FAILED" if status == "failed" else "KILLED")

    def artifact(self, run_id: str, path: Path, under: str | None = None) -> None:
        """A file or folder, if it exists."""
        if path.is_dir():
            self.client.log_artifacts(run_id, str(path), under or path.name)
        elif path.exists():
            self.client.log_artifact(run_id, str(path), under)

    # --- studies and cells ------------------------------------------------------------------

    def study(self, study: Study, tags: Mapping[str, str]) -> str:
        """The study's own run, with its layout."""
        own = {"kind": "study", "study": study.name} | dict(tags)
        run_id = self.run(f"diga/{study.name}", f"study {study.name}", ["study", study.name], own)
        self.client.log_dict(run_id, study.layout(), "study.json")
        return run_id

    def cell(self, study: Study, cell: Cell, stages: list[StageRun], tags: Mapping[str, str]) -> str:
        """The run of a cell: what it is, and which stage runs it is made of."""
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
        linked = {f"stage.{s.name}": s.fingerprint for s in stages}
        place = [study.name, cell.row.label, str(cell.seed)]
        name = f"{cell.row.label} seed {cell.seed}"
        run_id = self.run(f"diga/{study.name}", name, [*place, stages[-1].fingerprint], row | linked | dict(tags))
        self.client.log_text(run_id, dumps(cell.recipe), "recipe.json")
        return run_id

    def retire(self, study: Study, current: set[str]) -> None:
        """Cells of a study that its present recipes no longer make: kept, but out of every table."""
        where = self.experiment(f"diga/{study.name}")
        for run in self.client.search_runs([where], "tags.kind = 'cell'", max_results=10_000):
            if run.info.run_id not in current:
                self.log(run.info.run_id, tags={"kind": "superseded cell"})

    def cell_done(self, run_id: str, folder: Path, cost: Mapping[str, float]) -> None:
        """Scores, confusion matrices and samples of a cell's last stage."""
        scores: dict[str, float] = json.loads((folder / "scores.json").read_text())
        values = scores | dict(cost)
        for name in ("confusion.parquet", "samples"):
            self.artifact(run_id, folder / name)
        self.log(run_id, values, {"status": "done", "error": ""})
        self.client.set_terminated(run_id, "FINISHED")


def varying(study: Study) -> set[str]:
    """Paths of the recipe fields that differ between the rows of a study."""
    flats = [flat(plain(row.recipe)) for row in study.rows]
    return {k for f in flats for k in f if len({json.dumps(g.get(k)) for g in flats}) > 1} - {"name"}


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """{"stages": {"warm_up": {"alpha": 1}}} -> {"warm_up.alpha": 1}: the paths `override` takes."""
    out: dict[str, Any] = {}
    for k, v in value.items():
        path = prefix if k == "stages" and not prefix else f"{prefix}{k}"
        out |= flat(v, f"{path}." if path else "") if isinstance(v, dict) else {path: v}
    return out


def of_recipe(recipe: Recipe, paths: set[str]) -> dict[str, Any]:
    """The values of some paths, as far as the recipe's needed stages have them."""
    idle = set(recipe.stages) - set(recipe.needed())
    return {k: v for k, v in flat(plain(recipe)).items() if k in paths and k.split(".")[0] not in idle}


def metric_name(name: str) -> str:
    """Only what MLflow allows in a metric's name."""
    return "".join(c if c.isalnum() or c in "_-. :/" else "_" for c in name)[:250]


def first_line(failure: Exception) -> str:
    """The first line of an exception's text."""
    return (str(failure).splitlines() or [type(failure).__name__])[0]
