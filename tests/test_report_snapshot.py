"""Records kept between reports: only what is new or changed is asked for; a report made again from its folder."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from diga.errors import ConfigError, StorageError
from diga.report import asking, records, runs, snapshot
from diga.report.build import write
from diga.report.records import Records, client
from tests import make_database as bulk
from tests import make_records as make
from tests import tiny

CELLS = int(os.environ.get("DIGA_CELLS", "400"))  # 10,000 is the size that is promised
START = bulk.START


class Store:
    """A database with a study in bulk, and what reading it asks for."""

    def __init__(self, folder: Path, rows: int, seeds: int) -> None:
        self.cache, self.seeds = folder / "cache", list(range(seeds))
        self.uri = make.database(folder)
        self.client = client(self.uri)
        self.experiment = self.client.create_experiment("diga/large", artifact_location=(folder / "a").as_uri())
        self.declaration = self.client.create_run(self.experiment, start_time=0, tags={"kind": "study"}).info.run_id
        self.declare(rows)
        bulk.fill(self.uri, self.experiment, "large", range(rows), self.seeds)

    def declare(self, rows: int) -> None:
        self.client.log_text(self.declaration, json.dumps(bulk.layout("large", rows, self.seeds)), "study.json")

    def read(self, cached: bool = True) -> Records:
        return records.records(self.uri, "large", self.cache if cached else None)

    def run(self, row: int, seed: int) -> str:
        return self.read(cached=False).run_of[f"row {row}", seed]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, rows=4, seeds=5)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs that MLflow gave, cells' alone."""
    from mlflow import MlflowClient

    given: list[str] = []
    whole = MlflowClient.search_runs

    def search(self: MlflowClient, *arguments: Any, **named: Any) -> Any:
        page = whole(self, *arguments, **named)
        given.extend(r.info.run_id for r in page if "cell" in r.data.tags.get("kind", ""))
        return page

    monkeypatch.setattr(MlflowClient, "search_runs", search)
    return given


def same(a: Records, b: Records) -> None:
    """Whatever way they were read."""
    pd.testing.assert_frame_equal(a.cells, b.cells)
    assert a.study == b.study


# --- what is asked for -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("there", [5, 60], ids=["most are not there yet", "all are there"])
def test_very_many_runs_are_read_by_several_processes_and_come_to_the_same(tmp_path, asked, monkeypatch, there):
    store = Store(tmp_path, rows=4, seeds=there)
    store.seeds = list(range(60))
    store.declare(4)
    whole = store.read(cached=False)
    assert len(asked) == 4 * there
    asked.clear()
    monkeypatch.setattr(asking, "FEW", 99)  # less than a sixteenth of it begin alike, or more
    monkeypatch.setattr(asking, "cores", lambda: 2)
    parts = store.read()
    same(whole, parts)
    assert whole.runs.equals(parts.runs)
    assert (len(asked) < 4 * there) == (there == 60), "the others are another process's"
    assert len(set(asked)) == len(asked) > 0

    asked.clear()
    same(whole, store.read())
    assert not asked


# a process that has not imported MLflow yet; asked: the runs that it read itself
COPIES = """
import os, sys
from diga.report import asking, records
asking.FEW, asking.LEAST, asking.cores = 99, 1, lambda: 2
asked, whole, mine = [], asking.pages, os.getpid()
def pages(*words, **more):
    for page in whole(*words, **more):
        if os.getpid() != mine and sys.argv[2] == "killed":
            os.kill(os.getpid(), 9)
        asked.extend(run.info.run_id for run in page if os.getpid() == mine)
        yield page
asking.pages = pages
assert "mlflow" not in sys.modules
read = records.records(sys.argv[1], "large")
print(len(set(asked)))
read.cells.to_pickle(sys.argv[3])
"""


@pytest.mark.slow
@pytest.mark.parametrize("copies", ["at work", "killed"])
def test_copies_of_this_process_read_the_same_beside_it(tmp_path: Path, copies: str) -> None:
    """Made before it connects; where they are killed this one reads what is left."""
    store = Store(tmp_path, rows=4, seeds=60)
    words = [sys.executable, "-c", COPIES, store.uri, copies, str(tmp_path / "cells")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=tiny.LONG, check=False)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(pd.read_pickle(tmp_path / "cells"), store.read().cells)
    own = int(done.stdout) - 1  # and the declaration
    assert own == 240 if copies == "killed" else 0 < own < 240


def test_where_no_copies_can_be_made_one_reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(connected: bool = False) -> bool:
        with asking.helpers(store.uri, connected) as crew:
            return crew is None

    monkeypatch.setattr(asking, "cores", lambda: 3)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    assert none(), "a small database"
    monkeypatch.setattr(asking, "LEAST", 1)
    assert not none()
    assert none(connected=True), "a process that has MLflow already may have connections, too"
    whole, calls = os.fork, iter(range(9))

    def full() -> int:
        if next(calls) == 1:
            raise BlockingIOError("no room for a process")
        return whole()

    monkeypatch.setattr(os, "fork", full)
    before = multiprocessing.active_children()
    assert none()
    assert next(calls) == 2
    assert multiprocessing.active_children() == before, "the first is ended"
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    assert none(), "and where another thread may hold a lock"
    assert next(calls) == 3, "none was tried"


@pytest.fixture
def expiring() -> Iterator[list[bool]]:
    """Of each session that is over, whether it went through all it had read."""
    found: list[bool] = []

    def note(session: Session) -> None:
        found.append(session.expire_on_commit)

    event.listen(Session, "before_commit", note)
    yield found
    event.remove(Session, "before_commit", note)


def test_while_a_page_is_read_nothing_goes_through_its_objects_again(store: Store, expiring: list[bool]) -> None:
    """And afterwards all is as it was."""
    pages = asking.pages(store.client, store.experiment, asking.CELL.wanted)
    assert sum(len(page) for page in pages) == 20
    assert expiring
    assert not any(expiring)
    expiring.clear()
    store.client.search_runs([store.experiment], asking.CELL.wanted)
    assert expiring
    assert all(expiring)
    assert gc.isenabled()


def test_where_no_process_can_be_begun_one_reads_all(tmp_path, asked, monkeypatch):
    store = Store(tmp_path, rows=4, seeds=60)
    whole = store.read(cached=False)
    asked.clear()
    monkeypatch.setattr(asking, "FEW", 99)
    monkeypatch.setattr(asking, "cores", lambda: 2)
    monkeypatch.setattr(asking, "_shared", broken)
    same(whole, store.read())
    assert len(set(asked)) == 240


def broken(*_: Any) -> Any:
    """As a pool is whose processes die."""
    raise BrokenProcessPool


def test_what_is_finished_is_asked_for_once(store: Store, asked: list[str]) -> None:
    first = store.read()
    assert len(asked) == len(first.cells) == 20
    asked.clear()
    again = store.read()
    assert asked == []
    same(first, again)


def test_only_new_cells_are_asked_for(store: Store, asked: list[str]) -> None:
    store.read()
    asked.clear()
    now = int(time.time() * 1000)
    bulk.fill(store.uri, store.experiment, "large", [4], store.seeds, end=now)
    store.declare(5)
    found = store.read()
    assert len(asked) == 5
    assert len(found.cells) == 25
    same(found, store.read(cached=False))


def test_an_open_run_is_asked_for_until_it_is_closed_whatever_its_clock_says(store: Store, asked: list[str]) -> None:
    tags = {"kind": "cell", "row": "row 0", "row.index": "0", "seed": "9", "status": "running"}
    run = store.client.create_run(store.experiment, start_time=START, tags=tags).info.run_id
    assert store.read().status("row 0", 9) == "running"
    store.client.set_tag(run, "status", "done")
    store.client.log_metric(run, bulk.NAMES[0], 0.7)
    asked.clear()
    assert store.read().values(bulk.NAMES[0])["row 0"][9] == 0.7
    assert asked == [run]
    store.client.set_terminated(run, "FINISHED", START + 5)  # by a clock that is years behind
    asked.clear()
    store.read()
    assert asked == [run]
    asked.clear()
    same(store.read(), store.read(cached=False))
    assert asked.count(run) == 1


def test_what_is_retired_or_deleted_leaves_and_may_come_back(store: Store) -> None:
    whole, run, other = store.read(), store.run(1, 2), store.run(2, 3)
    store.client.set_tag(run, "kind", "superseded cell")
    store.client.delete_run(other)
    found = store.read()
    assert (found.status("row 1", 2), found.status("row 2", 3)) == ("missing", "missing")
    same(found, store.read(cached=False))
    store.client.set_tag(run, "kind", "cell")
    store.client.restore_run(other)
    same(store.read(), whole)


def test_a_study_declared_anew_needs_no_cell_anew(store: Store, asked: list[str]) -> None:
    store.read()
    layout = bulk.layout("large", 4, store.seeds)
    layout["rows"] = [r | {"index": 3 - r["index"], "parent": ""} for r in layout["rows"]]
    store.client.log_text(store.declaration, json.dumps(layout), "study.json")
    asked.clear()
    found = store.read()
    assert asked == []
    assert list(dict.fromkeys(found.cells["row"])) == ["row 3", "row 2", "row 1", "row 0"]
    assert set(found.cells["parent"]) == {""}


def test_a_run_that_a_page_may_have_hidden_is_asked_for_next_time(
    store: Store, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PAGE", 7)
    answers = iter([frozenset(), frozenset({"retired meanwhile"}), frozenset(), frozenset()])
    monkeypatch.setattr(asking, "_gone", lambda *_: next(answers))
    assert len(store.read().cells) == 20
    asked.clear()
    store.read()
    assert len(asked) == 20


def test_another_store_or_layout_is_no_snapshot(store: Store, tmp_path: Path) -> None:
    store.read()
    (path,) = store.cache.iterdir()
    assert snapshot.load(path, store.uri, store.experiment) is not None
    assert snapshot.load(path, store.uri, "77") is None
    assert snapshot.load(path, "sqlite:///elsewhere.db", store.experiment) is None
    for spoil in (lambda: path.write_bytes(b"PAR1 damaged PAR1"), lambda: path.unlink()):
        spoil()
        assert snapshot.load(path, store.uri, store.experiment) is None
        same(store.read(), store.read(cached=False))
    pq.write_table(pa.table({"run_id": ["x"]}), path)
    assert snapshot.load(path, store.uri, store.experiment) is None


def test_a_snapshot_that_cannot_be_kept_is_no_reason_to_stop(store: Store) -> None:
    store.cache.write_text("a file where a folder should be")
    same(store.read(), store.read(cached=False))


def test_the_numbers_of_mlflows_views_are_known() -> None:
    from mlflow.entities import ViewType

    assert (asking.ACTIVE, asking.DELETED) == (ViewType.ACTIVE_ONLY, ViewType.DELETED_ONLY)


# --- the table of runs -------------------------------------------------------------------


def test_merging_keeps_the_newest_of_each_run_and_every_metric() -> None:
    old = runs.table([{"run_id": "a", "start": 1, "x": 1.0}, {"run_id": "b", "start": 2, "x": 2.0}])
    new = runs.table([{"run_id": "b", "start": 2, "y": 3.0}, {"run_id": "c", "start": 0, "y": 4.0}])
    both = runs.merged(old, new, ["a"])
    assert both["run_id"].to_pylist() == ["c", "b"]
    assert (both["x"].to_pylist(), both["y"].to_pylist()) == ([None, None], [4.0, 3.0])
    assert runs.merged(old, new).schema.names == [*runs.FIELDS.names, "x", "y"]


def test_a_metric_cannot_take_the_place_of_a_fact(tmp_path: Path) -> None:
    spec = make.ladder("odd", seeds=[0])
    cells = [make.replace(c, metrics={**c.metrics, "seed": 7.0, "row": 8.0, "closed": 1.0}) for c in spec.cells]
    found = records.records(make.recorded(make.replace(spec, cells=tuple(cells)), tmp_path), "odd")
    assert set(found.cells["seed"]) == {0}
    assert list(found.cells["row"]) == list(make.LABELS)


# --- the same report ---------------------------------------------------------------------


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a study with pictures, whose store is gone."""
    folder = tmp_path_factory.mktemp("report")
    spec = make.ladder(seeds=[0, 1]).declared(tables=["table3", "per_class", "test_set"])
    (folder / "store").mkdir()
    uri = make.recorded(spec, folder / "store", pictures=1)
    found = write(records.records(uri, "demo"), folder / "out")
    shutil.rmtree(folder / "store")
    return found


@pytest.mark.slow
def test_a_report_is_made_again_byte_for_byte_without_its_store(report: Path, tmp_path: Path) -> None:
    again = write(snapshot.read_back(report), tmp_path)
    assert files(again) == files(report)
    third = write(snapshot.read_back(again), tmp_path / "third")
    assert files(third) == files(report)
    assert {"runs.parquet", "runs.lock.json", "tables/numbers.tex", "tables/table3.parquet"} <= set(files(report))


def test_the_lock_names_every_run_and_every_file_and_no_password(report: Path) -> None:
    lock = json.loads((report / "runs.lock.json").read_text())
    assert {(r["row"], r["seed"]) for r in lock["runs"]} == {(label, s) for label in make.LABELS for s in (0, 1)}
    assert set(lock["files"]) == {n for n in files(report) if n.startswith("evidence/") or n == "runs.parquet"}
    secret = "postgresql://me:hunter2@db:5432/x?password=hunter2"
    assert "hunter2" not in snapshot.redacted(secret) + str(snapshot.place(Path("c"), secret, "s"))


@pytest.mark.slow
def test_a_report_may_be_made_again_in_its_own_place(report: Path, tmp_path: Path) -> None:
    here = write(snapshot.read_back(report), tmp_path)
    before = files(here)
    assert files(write(snapshot.read_back(here), tmp_path)) == before


@pytest.mark.parametrize("name", ["runs.parquet", "evidence/samples/0/city_0.truth.png"])
def test_a_file_that_was_changed_is_told(report: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(report, tmp_path / "copy"))
    (copy / name).write_bytes(b"changed")
    with pytest.raises(StorageError, match=f"{name} is not what runs.lock.json says") as failure:
        snapshot.read_back(copy)
    assert "\n" not in str(failure.value)


def test_what_is_no_report_is_told(report: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no report that can be made again"):
        snapshot.read_back(tmp_path)
    copy = Path(shutil.copytree(report, tmp_path / "copy"))
    lock = json.loads((copy / "runs.lock.json").read_text())
    for change in ({"layout": 0}, {"files": lock["files"] | {"../../etc/passwd": "0"}}):
        (copy / "runs.lock.json").write_text(json.dumps(lock | change))
        with pytest.raises(StorageError, match="layout"):
            snapshot.read_back(copy)


# --- size --------------------------------------------------------------------------------


def test_a_large_study(tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """DIGA_CELLS=10000 for the size that is promised; times are of this process, whatever else the machine does."""
    seeds = CELLS // 100 or 1
    monkeypatch.setattr(asking, "PAGE", min(asking.PAGE, CELLS // 3))
    store = Store(tmp_path, rows=100, seeds=seeds)
    before = time.process_time()
    first = store.read()
    took = time.process_time() - before
    assert len(first.cells) == len(asked) == 100 * seeds
    assert len([c for c in first.cells.columns if c in bulk.NAMES]) == 25
    bulk.fill(store.uri, store.experiment, "large", range(100), [seeds], end=int(time.time() * 1000))
    asked.clear()
    before = time.process_time()
    second = store.read()
    again = time.process_time() - before
    assert len(asked) == 100
    assert len(second.cells) == 100 * (seeds + 1)
    assert took < 20
    assert again < 5
