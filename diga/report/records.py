"""A study's records, read from MLflow: one row a cell, one column a metric.

The only module of this floor that knows MLflow.  It is asked through its client interface, with a filter
on one experiment, so that reading costs what the study is large and not what the database is.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pandas import DataFrame

from diga.errors import ConfigError, StorageError, expected_one_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PREFIX = "diga/"
PAGE = 1000
FACTS = (  # columns every frame of cells has, before its metrics
    *("row", "row_index", "parent", "components", "seed", "status"),
    *("error", "protocol", "classes", "git", "dirty", "run_id", "cell", "artifacts"),
)


@dataclass(frozen=True)
class StudyRow:
    """A row a study asks for, whether or not anything of it has been run."""

    label: str
    index: int
    parent: str  # label of the row it is compared with; "": none
    components: tuple[str, ...]  # names switched on


@dataclass(frozen=True, eq=False)
class Records:
    """What is known of a study: its declaration, and a frame of its cells (the latest run of each)."""

    study: dict[str, Any]
    cells: DataFrame
    uri: str = ""

    @property
    def name(self) -> str:
        return str(self.study["name"])

    @cached_property
    def rows(self) -> tuple[StudyRow, ...]:
        """The study's rows in their order."""
        found = [
            StudyRow(str(r["label"]), int(r["index"]), str(r.get("parent") or ""), tuple(r["components"]))
            for r in self.study["rows"]
        ]
        return tuple(sorted(found, key=lambda row: row.index))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those of the last launch, and those that others have left cells of."""
        return tuple(sorted({int(s) for s in self.study["seeds"]} | {int(s) for s in self.cells["seed"]}))

    @cached_property
    def done(self) -> DataFrame:
        """Cells that may enter a number."""
        return self.cells[self.cells["status"] == "done"]

    @cached_property
    def _states(self) -> dict[tuple[str, int], str]:
        lines = zip(self.cells["row"], self.cells["seed"], self.cells["status"], strict=True)
        return {(row, int(seed)): status for row, seed, status in lines}

    def status(self, row: str, seed: int) -> str:
        """done, failed, running, or missing when nothing has been recorded."""
        return self._states.get((row, seed), "missing")

    def artifact(self, run_id: str, path: str, to: Path) -> Path | None:
        """A run's file or folder, copied under `to`; None when the run has no such thing."""
        here = self.cells.loc[self.cells["run_id"] == run_id, "artifacts"]
        if here.empty or not here.iloc[0]:
            return None
        from mlflow import artifacts  # by address: by run, each look costs a read of all its metrics

        folder = path.rpartition("/")[0]
        found = artifacts.list_artifacts(f"{here.iloc[0]}/{folder}", tracking_uri=self.uri)
        if not any(f.path.rpartition("/")[2] == path.rpartition("/")[2] for f in found):
            return None
        address = f"{here.iloc[0]}/{path}"
        return Path(artifacts.download_artifacts(address, dst_path=str(to), tracking_uri=self.uri))


def client(uri: str) -> MlflowClient:
    """A client of the tracking store.  Raises StorageError where no store is, rather than make one."""
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///").partition("?")[0]).is_file():
        raise StorageError(uri, "no records there", "a database that `diga run` or `diga ablate` wrote")
    # read when mlflow is imported, hence before
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow import MlflowClient  # half of a report's time: whoever needs no records must not pay

    return MlflowClient(uri)


def records(tracking_uri: str, study: str) -> Records:
    """All records of `study`.  Raises ConfigError for a study that is not there, with the nearest name."""
    asked = client(tracking_uri)
    experiment = asked.get_experiment_by_name(PREFIX + study)
    if experiment is None:
        _unknown(asked, study)
    declared = _runs(asked, experiment.experiment_id, "study")
    if not declared:
        raise StorageError(f"study {study!r}", "its declaration is not recorded", "a run with kind=study")
    declaration = _declaration(asked, declared[-1].info.run_id, study)
    return Records(declaration, frame(_runs(asked, experiment.experiment_id, "cell")), tracking_uri)


def _unknown(asked: MlflowClient, study: str) -> NoReturn:
    names = (e.name.removeprefix(PREFIX) for e in asked.search_experiments() if e.name.startswith(PREFIX))
    known = expected_one_of(study, [n for n in names if not n.startswith("_")])
    raise ConfigError(f"study {study!r}", "nothing recorded under this name", known)


def _runs(asked: MlflowClient, experiment: str, kind: str) -> list[Run]:
    """Every run of a kind, oldest first."""
    found: list[Run] = []
    token: str | None = None
    while True:
        page = asked.search_runs([experiment], f"tags.kind = '{kind}'", max_results=PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda run: run.info.start_time or 0)


def _declaration(asked: MlflowClient, run_id: str, study: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            text = Path(asked.download_artifacts(run_id, "study.json", folder)).read_text("utf8")
            declaration = json.loads(text)
        except (OSError, ValueError) as failure:
            raise StorageError(f"study {study!r}", f"study.json cannot be read: {failure}") from None
    lacking = {"name", "metric", "components", "rows", "seeds"} - set(declaration)
    if lacking:
        raise StorageError(f"study {study!r}", f"study.json lacks {', '.join(sorted(lacking))}")
    return dict(declaration)


def frame(runs: list[Run]) -> DataFrame:
    """Runs, oldest first, as one row a cell; of several runs of a (row, seed) the latest counts."""
    latest = {(r.data.tags.get("row"), r.data.tags.get("seed")): r for r in runs}
    lines = [_facts(run) | dict(run.data.metrics) for run in latest.values()]
    metrics = sorted({name for line in lines for name in line} - set(FACTS))
    cells = DataFrame(lines, columns=[*FACTS, *metrics])
    return cells.sort_values(["row_index", "seed"], kind="stable").reset_index(drop=True)


def _facts(run: Run) -> dict[str, Any]:
    tags = run.data.tags
    as_is = {name: tags.get(name, "") for name in ("row", "status", "error", "protocol", "git", "cell")}
    return as_is | {
        "classes": run.data.params.get("classes", ""),  # a parameter only where rows differ in it
        "row_index": int(tags.get("row.index", -1)),
        "parent": tags.get("row.parent", ""),
        "components": tuple(json.loads(tags.get("components", "[]"))),
        "seed": int(tags.get("seed", 0)),
        "dirty": tags.get("dirty", "").lower() in ("true", "1", "yes"),
        "run_id": run.info.run_id,
        "artifacts": run.info.artifact_uri,
    }
