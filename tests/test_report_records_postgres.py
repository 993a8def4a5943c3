"""The same records in a real PostgreSQL server: the same frame, whole and piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from diga.errors import StorageError
from diga.report.records import client, records
from tests import make_records as make
from tests.postgres import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a database on loopback, in a folder of its own, gone when the tests are."""
    with Server(tmp_path_factory.mktemp("postgres")) as found:
        yield found.url


def test_the_frame_is_sqlites(server: str, tmp_path: Path) -> None:
    spec = make.ladder("same", seeds=[0, 1])
    odd = make.replace(spec.cells[3], metrics={"x/plain/last/miou": float("nan"), "y": float("inf")})
    spec = make.replace(spec, cells=(*spec.cells[:3], odd, *spec.cells[4:]))
    client(server).search_experiments()  # makes the schema
    (tmp_path / "p").mkdir()
    make.recorded(spec, tmp_path / "p", uri=server)
    (tmp_path / "s").mkdir()
    sqlite = make.recorded(spec, tmp_path / "s")
    ours, theirs = records(server, "same", tmp_path / "cache"), records(sqlite, "same")
    ignored = ["run_id", "artifacts"]
    pd.testing.assert_frame_equal(ours.cells.drop(columns=ignored), theirs.cells.drop(columns=ignored))
    assert ours.warnings == theirs.warnings
    again = records(server, "same", tmp_path / "cache")
    pd.testing.assert_frame_equal(again.cells, ours.cells)


def test_piece_by_piece(server: str, tmp_path: Path) -> None:
    first = make.ladder("pieces", seeds=[0])
    make.recorded(first, tmp_path, uri=server)
    asked = client(server)
    before = records(server, "pieces", tmp_path / "cache")
    experiment = asked.get_experiment_by_name("diga/pieces").experiment_id
    for run in before.cells["run_id"]:
        asked.set_terminated(run, "FINISHED")
    cell = make.ladder("pieces", seeds=[7]).cells[2]
    new = asked.create_run(experiment, tags=cell.tags("pieces")).info.run_id
    asked.delete_run(before.run_of["(iv)", 0])
    found = records(server, "pieces", tmp_path / "cache")
    assert found.run_of["(i)", 7] == new
    assert found.status("(iv)", 0) == "missing"
    pd.testing.assert_frame_equal(found.cells, records(server, "pieces").cells)


def test_no_password_is_shown_or_kept(server: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as failure:
        records(server.replace("/postgres", "/no_such_database"), "same")
    assert "secret" not in str(failure.value)
    assert "no_such_database" in str(failure.value)
    assert "secret" not in json.dumps([p.name for p in tmp_path.rglob("*")])
