"""A study's records: one row a cell, one column a metric, read from MLflow or from a report that has kept them.

The only module of this floor that knows MLflow.  `records(uri, study, cache)` asks through its client interface; what
was read stays in the folder `cache`, and the next call asks for what is new alone (`diga.report.asking`).  `Records` is
what tables, figures and pages are functions of: `cells` (the latest run of each row and seed), `trials` of a sweep,
`done`, `rows`, `values(metric)`, `warnings` (whatever makes numbers less than they seem), and what was read, `runs`.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit
from urllib.request import url2pathname

from diga.errors import ConfigError, StorageError, expected_one_of
from diga.files import database
from diga.report import asking, bootstrap, caveats, runs, snapshot, trials
from diga.report.runs import FACTS as FACTS

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import pyarrow as pa
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from pandas import DataFrame

PREFIX = "diga/"
NEEDED = {"name", "metric", "components", "rows", "seeds"}  # of study.json


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
    runs: pa.Table | None = None  # all that was read, as `diga.report.runs` has it
    folder: Path | None = None  # the report that they were read back from, if they were
    trial_runs: pa.Table | None = None  # of a sweep, as `diga.report.trials` has them

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

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Those of the last launch, and those that others have left cells of."""
        return tuple(sorted({int(s) for s in self.study["seeds"]} | {int(s) for s in self.cells["seed"]}))

    @property
    def sweep(self) -> dict[str, Any] | None:
        """What the sweep that the study is of declares; None for any other study."""
        found: dict[str, Any] | None = self.study.get("sweep")
        return found

    @cached_property
    def trials(self) -> DataFrame:
        """One row a trial of the sweep, as `diga.report.trials` has it."""
        return trials.frame(self.trial_runs)

    @cached_property
    def done(self) -> DataFrame:
        """Cells that may enter a number."""
        return self.cells[self.cells["status"] == "done"]

    @cached_property
    def _states(self) -> dict[tuple[str, int], str]:
        lines = zip(self.cells["row"], self.cells["seed"], self.cells["status"], strict=True)
        return {(row, int(seed)): status for row, seed, status in lines}

    def same_runs(self, other: Records) -> bool:
        """Whether both have read the same of a store."""
        pairs = ((self.runs, other.runs), (self.trial_runs, other.trial_runs))
        return all(one is other or (one is not None and one.equals(other)) for one, other in pairs)

    def status(self, row: str, seed: int) -> str:
        """done, failed, stopped, running, or missing when nothing has been recorded."""
        return self._states.get((row, seed), "missing")

    @cached_property
    def run_of(self) -> dict[tuple[str, int], str]:
        """The run of every cell, by row and seed."""
        lines = zip(self.cells["row"], self.cells["seed"], self.cells["run_id"], strict=True)
        return {(row, int(seed)): run for row, seed, run in lines}

    @cached_property
    def _values(self) -> dict[str, dict[str, dict[int, float]]]:
        return {}

    def values(self, metric: str) -> Mapping[str, Mapping[int, float]]:
        """Finite values of a metric in cells that are done: by row, then by seed in their order."""
        if metric not in self._values:
            found: dict[str, dict[int, float]] = {}
            known: Iterable[float] = self.done.get(metric, [])
            for row, seed, value in sorted(zip(self.done["row"], self.done["seed"], known, strict=False)):
                if math.isfinite(value):
                    found.setdefault(row, {})[int(seed)] = float(value)
            self._values[metric] = found
        return self._values[metric]

    @cached_property
    def kept_images(self) -> dict[str, bootstrap.Images]:
        """What `images` has read, by domain: a report keeps it."""
        return {}

    def images(self, domain: str) -> bootstrap.Images:
        """Confusion matrices of each test image of a domain, by row and seed: see `diga.report.bootstrap`."""
        if domain not in self.kept_images:
            self.kept_images[domain] = bootstrap.images(self, domain)
        return self.kept_images[domain]

    @cached_property
    def _draws(self) -> dict[str, bootstrap.Draws]:
        return {}

    def draws(self, domain: str) -> bootstrap.Draws:
        """Every network's mIoU on draws of these images, drawn once."""
        if domain not in self._draws:
            self._draws[domain] = bootstrap.resampled(self.images(domain))
        return self._draws[domain]

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the numbers must know, a sentence each: see `diga.report.caveats`."""
        return tuple(caveats.of(self))

    def artifact(self, run_id: str, path: str, to: Path) -> Path | None:
        """A run's file or folder, copied under `to`; None when the run has no such thing."""
        here = self.cells.loc[self.cells["run_id"] == run_id, "artifacts"]
        if here.empty or not here.iloc[0] or self.folder:
            return None
        if local := _local(here.iloc[0]):
            return _copied(local / path, to / path)
        from mlflow import artifacts  # by address: by run, each look costs a read of all its metrics

        folder = path.rpartition("/")[0]
        found = artifacts.list_artifacts(f"{here.iloc[0]}/{folder}", tracking_uri=self.uri)
        if not any(f.path.rpartition("/")[2] == path.rpartition("/")[2] for f in found):
            return None
        address = f"{here.iloc[0]}/{path}"
        return Path(artifacts.download_artifacts(address, dst_path=str(to), tracking_uri=self.uri))


def _local(address: str) -> Path | None:
    """The folder at an address, if it is one of this machine."""
    parts = urlsplit(address)
    here = parts.scheme in ("", "file") and not parts.netloc
    return Path(url2pathname(parts.path) if parts.scheme else address) if here else None


def _copied(found: Path, to: Path) -> Path | None:
    """A file or folder as its copy; None where there is none."""
    if not found.exists():
        return None
    to.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copytree(found, to) if found.is_dir() else shutil.copyfile(found, to))


def client(uri: str) -> MlflowClient:
    """A client of a store that is there.  Raises StorageError where none is, rather than make or wait for one."""
    learn(uri)
    from mlflow import MlflowClient

    return MlflowClient(uri)


def learn(uri: str) -> None:
    """Import what asks a store; no connection is left.  Raises StorageError where there is no such store."""
    if (file := database(uri)) and not file.is_file():
        raise StorageError(uri, "no records there", "a database that `diga run` or `diga ablate` wrote")
    asking.reachable(uri)
    # read when mlflow is imported, hence before
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    import_module("mlflow")  # half of a report's time: whoever needs no records must not pay
    if not uri.startswith("http"):
        import_module("mlflow.store.tracking.sqlalchemy_store")  # its first question would


def delete(asked: MlflowClient, run_id: str, paths: Iterable[str]) -> None:
    """Delete artifacts of a run: its client cannot, and what a report no longer has must not stay beside it."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    where = get_artifact_repository(asked.get_run(run_id).info.artifact_uri, tracking_uri=asked.tracking_uri)
    for path in paths:
        where.delete_artifacts(path)


def records(tracking_uri: str, study: str, cache: Path | None = None) -> Records:
    """All records of `study`; with a folder `cache`, only what is new or changed since the last call is asked for.

    Raises ConfigError for a study that is not there, with the nearest name, and StorageError, one line that says
    what to do, for a store that does not answer or records that lack their declaration.
    """
    connected = "mlflow" in sys.modules  # it may be, where somebody has used it
    with asking.answered(tracking_uri):
        learn(tracking_uri)
        with asking.helpers(tracking_uri, connected) as crew:
            return _read(tracking_uri, study, cache, crew)


def _read(uri: str, study: str, cache: Path | None, crew: Executor | None) -> Records:
    asked: MlflowClient = import_module("mlflow").MlflowClient(uri)
    if (experiment := asked.get_experiment_by_name(PREFIX + study)) is None:
        _unknown(asked, study)
    where = str(experiment.experiment_id)
    if not (declared := asking.every(asked, where, "tags.kind = 'study'")):
        again = f"a run with kind=study: `diga ablate {study}` writes one"
        raise StorageError(f"study {study!r}", "its declaration is not recorded", again)
    declaration = _declaration(asked, declared[-1].info.run_id, study)

    def kept_up(kind: asking.Kind, expected: int = 0) -> pa.Table:
        file = snapshot.place(cache, uri, study, kind.name) if cache else None
        before = snapshot.load(file, uri, where, kind.fields) if file else None
        now = asking.news(asked, where, before, kind, expected, crew)
        if file:
            snapshot.save(file, uri, where, now, kind.fields)
        return now.runs

    read = kept_up(asking.CELL, len(declaration["rows"]) * len(declaration["seeds"]))
    tried = kept_up(asking.TRIAL) if declaration.get("sweep") else None
    return made(declaration, read, uri, trial_runs=tried)


def made(
    study: dict[str, Any], read: pa.Table, uri: str, folder: Path | None = None, trial_runs: pa.Table | None = None
) -> Records:
    """Records of what was read."""
    return Records(study, runs.cells(read, study), uri, read, folder, trial_runs)


def frame(read: list[Run]) -> DataFrame:
    """Runs as one row a cell; of several runs of a (row, seed) the latest counts."""
    return runs.cells(runs.table(map(runs.line, read)))


def _unknown(asked: MlflowClient, study: str) -> NoReturn:
    names = (e.name.removeprefix(PREFIX) for e in asked.search_experiments() if e.name.startswith(PREFIX))
    known = sorted(n for n in names if not n.startswith("_"))
    answer = expected_one_of(study, known) if known else "nothing has been launched yet: `diga ablate` launches a study"
    raise ConfigError(f"study {study!r}", "nothing recorded under this name", answer)


def _declaration(asked: MlflowClient, run_id: str, study: str) -> dict[str, Any]:
    again = f"`diga ablate {study}` writes it anew"
    with tempfile.TemporaryDirectory() as folder:
        try:
            text = Path(asked.download_artifacts(run_id, "study.json", folder)).read_text("utf8")
            declaration = json.loads(text)
        except (OSError, ValueError) as failure:
            raise StorageError(f"study {study!r}", f"study.json cannot be read: {failure}", again) from None
    return declared_well(declaration, f"study {study!r}", again)


def declared_well(declaration: Any, where: str, again: str) -> dict[str, Any]:
    """A declaration that has what reports need.  Raises StorageError for one of an older layout."""
    found = declaration if isinstance(declaration, dict) else {}
    if lacking := sorted(NEEDED - set(found)):
        raise StorageError(where, f"study.json lacks {', '.join(lacking)}", f"an older layout: {again}")
    wanted = {"label", "index", "components"}
    if short := [r for r in found["rows"] if not (isinstance(r, dict) and wanted <= set(r))]:
        raise StorageError(where, f"study.json has {len(short)} rows without {', '.join(sorted(wanted))}", again)
    return dict(found)
