"""What is not made again: figures of the same things, and a report of a store that is as it was."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from diga.cli import report as command
from diga.errors import ConfigError, StorageError
from diga.report import build, figures, records, snapshot, standing, unchanged
from diga.report.evidence import Evidence
from diga.report.records import Records
from diga.report.studio import Studio
from tests import make_records as make
from tests import tiny
from tests.test_report_build import tree


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a small study in it."""
    folder = tmp_path_factory.mktemp("store")
    make.recorded(make.ladder().changed(lambda c: c if c.index < 2 else None), folder)
    return folder


@pytest.fixture
def store(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of its own, at home in a run home of its own."""
    shutil.copytree(template, tmp_path / "store")
    path = tmp_path / "store/mlflow.db"
    with sqlite3.connect(path) as database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(template), str(tmp_path / "store"))
            )
    monkeypatch.setenv("DIGA_HOME", str(tmp_path / "home"))
    return f"sqlite:///{path}"


@pytest.fixture(autouse=True)
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is enough here."""
    monkeypatch.setattr(figures, "PARTS", figures.PARTS[:1])


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders that figures were drawn into, by whom ever."""
    folders: list[Path] = []
    whole, sent = figures.draw, Studio.draw

    def note(*arguments: Any) -> Any:
        folders.append(arguments[-1])
        return whole(*arguments)

    def send(self: Studio, known: Records, found: Evidence, folder: Path) -> None:
        folders.append(folder)
        sent(self, known, found, folder)

    monkeypatch.setattr(figures, "draw", note)
    monkeypatch.setattr(Studio, "draw", send)
    return folders


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stores that were asked for records."""
    found: list[str] = []
    whole = records.records

    def note(uri: str, *rest: Any) -> Records:
        found.append(uri)
        return whole(uri, *rest)

    monkeypatch.setattr(records, "records", note)
    return found


def few(**changes: Any) -> Records:
    return make.in_memory(make.ladder().changed(lambda c: c if c.index < 2 else None).declared(**changes))


# --- figures -----------------------------------------------------------------------------


def test_figures_of_the_same_are_drawn_once(tmp_path: Path, drawn: list[Path]) -> None:
    first = tree(build.write(few(), tmp_path))
    assert tree(build.write(few(), tmp_path)) == first
    assert len(drawn) == 1
    assert any(name.endswith(".pdf") for name in first)


@pytest.mark.parametrize("what", ["numbers", "study", "code", "packages", "picture", "note"])
def test_another_thing_is_drawn_anew(
    what: str, tmp_path: Path, drawn: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = few()
    figures_of = build.write(known, tmp_path) / "figures"
    whole = (figures_of / "ladder.png").read_bytes()
    if what == "numbers":
        known.cells.loc[0, f"{make.DOMAIN}/plain/last/miou"] = 0.9
    elif what == "study":
        known = few(metric=f"{make.DOMAIN}/teacher/last/miou")
    elif what == "code":
        monkeypatch.setattr(unchanged, "PACKAGES", ("diga.report",))
    elif what == "packages":
        monkeypatch.setattr(snapshot, "made_with", lambda: {"matplotlib": "0"})
    elif what == "picture":
        (figures_of / "ladder.png").write_bytes(b"spoilt")
    else:
        (figures_of / unchanged.NAME).write_text("[")
    again = build.write(known, tmp_path) / "figures"
    assert len(drawn) == 2
    assert ((again / "ladder.png").read_bytes() == whole) == (what != "numbers")


def test_a_studio_draws_what_would_be_drawn_without(tmp_path: Path) -> None:
    with Studio() as studio:
        found = build.write(few(), tmp_path / "a", studio)
    assert tree(found) == tree(build.write(few(), tmp_path / "b"))


def test_a_studio_that_nobody_needs_ends(tmp_path: Path) -> None:
    with Studio() as studio:
        process = studio._process
    assert process.exitcode == 0
    with pytest.raises(ConfigError, match="no table"), Studio() as studio:
        build.write(few(tables=["nothing"]), tmp_path, studio)
    assert studio._process.exitcode == 0


def test_what_a_studio_cannot_do_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ConfigError("a figure", "cannot be", "another")

    monkeypatch.setattr(figures, "draw", fails)
    with pytest.raises(ConfigError, match="cannot be"), Studio() as studio:
        build.write(few(), tmp_path, studio)
    monkeypatch.setattr(figures, "draw", lambda *_: os._exit(9))
    with pytest.raises(StorageError, match="has ended"), Studio() as studio:
        build.write(few(), tmp_path, studio)
    assert not (tmp_path / "demo").exists()


# --- a report ----------------------------------------------------------------------------


def make_report(store: str, fresh: bool = False) -> Path:
    return command.made("demo", store, Path(os.environ["DIGA_HOME"]) / "reports", fresh).folder


def test_a_store_that_is_as_it_was_is_not_asked(store: str, asked: list[str], drawn: list[Path]) -> None:
    first = tree(make_report(store))
    assert set(asked) == {store}
    asked.clear()
    assert tree(make_report(store)) == first
    assert tree(make_report(store)) == first
    assert asked == []
    assert len(drawn) == 1
    make_report(store, fresh=True)
    assert set(asked) == {store}


@pytest.mark.parametrize("what", ["database", "journal", "lock", "evidence", "code"])
def test_a_store_is_asked_where_anything_has_changed(
    what: str, store: str, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report, path = make_report(store), Path(store.removeprefix("sqlite:///"))
    asked.clear()
    if what == "database":
        records.client(store).set_experiment_tag("0", "other", "x")
    elif what == "journal":
        path.with_name("mlflow.db-journal").write_bytes(b"x")
        assert standing.stamp(store) == ""
        path.with_name("mlflow.db-journal").unlink()
        os.utime(path)
    elif what == "lock":
        with (report / snapshot.LOCK).open("a") as file:
            file.write("\n")
    elif what == "evidence":
        (report / snapshot.TABLE).write_bytes(b"spoilt")
    else:
        monkeypatch.setattr(unchanged, "PACKAGES", ("diga.report",))
    make_report(store)
    assert set(asked) == {store}


def test_a_new_cell_is_in_the_next_report(store: str) -> None:
    make_report(store)
    client = records.client(store)
    where = client.get_experiment_by_name("diga/demo")
    assert where
    tags = {"kind": "cell", "row": "(i)", "row.index": "2", "seed": "0", "status": "done", "protocol": "two_scale"}
    run = client.create_run(where.experiment_id, tags=tags).info.run_id
    client.log_metric(run, f"{make.DOMAIN}/plain/last/miou", 0.9)
    client.set_terminated(run)
    text = (make_report(store) / "tables/table3.md").read_text("utf8")
    assert "90.0" in text


def test_a_store_that_is_written_meanwhile_is_not_taken_for_settled(
    store: str, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell that comes after records were read, and before the report is there, must not be missed for ever."""
    whole = command.publish

    def and_another(known: Records, folder: Path) -> None:
        whole(known, folder)
        client = records.client(store)
        where = client.get_experiment_by_name("diga/demo")
        assert where
        client.create_run(where.experiment_id, tags={"kind": "cell", "row": "(iv)", "seed": "0", "status": "running"})

    monkeypatch.setattr(command, "publish", and_another)
    make_report(store)
    assert not list((Path(os.environ["DIGA_HOME"]) / "records").glob("*.json"))
    monkeypatch.setattr(command, "publish", whole)
    asked.clear()
    assert "running" in (make_report(store) / "report.md").read_text("utf8")
    assert asked


def test_another_state_of_a_database_has_another_stamp(tmp_path: Path) -> None:
    """Even of the same size and, by the clock, the same time."""
    path = tmp_path / "x.db"
    uri = f"sqlite:///{path}"
    assert standing.stamp(uri) == standing.stamp("http://127.0.0.1:1") == ""
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (x)")
        database.execute("INSERT INTO t VALUES (1)")
    at = path.stat()
    before = standing.stamp(uri)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE t SET x = 2")
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))
    assert path.stat().st_size == at.st_size
    assert standing.stamp(uri) != before
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA journal_mode = wal").fetchone() == ("wal",)
        database.execute("UPDATE t SET x = 3")
        database.commit()
        assert standing.stamp(uri) == "", "what is in a log beside the file may change without it"


def test_nothing_heavy_is_imported_for_it(store: str) -> None:
    """A report that stands needs neither MLflow nor what draws."""
    make_report(store)
    code = (
        "import sys; from pathlib import Path; from diga.cli import report;"
        "report.made('demo', sys.argv[1], Path(sys.argv[2]));"
        "import json; print(json.dumps([m for m in ('mlflow', 'matplotlib', 'torch', 'sklearn') if m in sys.modules]))"
    )
    run = [sys.executable, "-c", code, store, str(Path(os.environ["DIGA_HOME"]) / "reports")]
    done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=tiny.LONG)
    assert json.loads(done.stdout) == []
