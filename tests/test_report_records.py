"""Reading a study's records out of a real MLflow database, as the writers leave them there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from diga.errors import ConfigError, StorageError
from diga.report.records import FACTS, Records, records
from diga.report.runs import _stages, updates
from tests import make_records as make


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with two studies; in `broken` a cell failed, one runs, one is new and one was run twice."""
    folder = tmp_path_factory.mktemp("records")
    uri = make.recorded(make.ladder("whole", seeds=[0, 1]), folder)
    first = make.ladder("broken", seeds=[0, 1])

    def change(cell: make.Cell) -> make.Cell | None:
        if (cell.index, cell.seed) == (2, 1):
            return make.replace(cell, status="failed", error="Diverged: step 40: loss is nan", metrics={})
        if (cell.index, cell.seed) == (3, 0):
            return make.replace(cell, status="running", metrics={})
        return None if cell.index == 5 else cell

    spec = first.changed(change)
    again = make.replace(spec.cells[0], metrics={f"{make.DOMAIN}/plain/last/miou": 0.99}, git="fff0000")
    return make.recorded(make.replace(spec, cells=(*spec.cells, again)), folder, uri=uri)


def test_a_frame_is_what_was_logged(store: str) -> None:
    """The whole way to MLflow and back, against the same study laid out in memory."""
    found, expected = records(store, "whole"), make.in_memory(make.ladder("whole", seeds=[0, 1]))
    assert found.study == expected.study
    assert list(found.cells.columns[: len(FACTS)]) == list(FACTS)
    ignored = ["run_id", "artifacts"]
    ours = found.cells.drop(columns=ignored)
    pd.testing.assert_frame_equal(
        ours,
        expected.cells.drop(columns=ignored)[list(ours.columns)],
        check_dtype=False,
        check_column_type=False,
    )
    assert found.cells["run_id"].is_unique


def test_rows_are_the_studys_with_or_without_cells(store: str) -> None:
    found = records(store, "broken")
    assert [r.label for r in found.rows] == list(make.LABELS)
    assert found.rows[2].parent == "+ MST"
    assert found.rows[2].components == ("MST", "weak to strong")


def test_a_cell_is_done_failed_running_or_missing(store: str) -> None:
    found = records(store, "broken")
    states = {(r, s): found.status(r, s) for r, s in [("(i)", 0), ("(i)", 1), ("(ii)", 0), ("(iv)", 0)]}
    assert list(states.values()) == ["done", "failed", "running", "missing"]
    assert set(found.done["status"]) == {"done"}
    failed = found.cells[found.cells["status"] == "failed"]
    assert list(failed["error"]) == ["Diverged: step 40: loss is nan"]


def test_the_latest_run_of_a_cell_counts(store: str) -> None:
    found = records(store, "broken")
    first = found.cells[(found.cells["row_index"] == 0) & (found.cells["seed"] == 0)]
    assert list(first[f"{make.DOMAIN}/plain/last/miou"]) == [0.99]
    assert list(first["git"]) == ["fff0000"]


def test_an_unknown_study_is_answered_with_the_nearest(store: str) -> None:
    with pytest.raises(ConfigError, match="did you mean 'broken'") as failure:
        records(store, "brokn")
    assert "\n" not in str(failure.value)


def test_no_database_is_made_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no records there"):
        records(f"sqlite:///{tmp_path}/mlflow.db", "whole")
    assert list(tmp_path.iterdir()) == []


def test_a_study_without_cells_is_a_study(tmp_path: Path) -> None:
    uri = make.recorded(make.replace(make.ladder("new"), cells=()), tmp_path)
    found = records(uri, "new")
    assert len(found.cells) == len(found.done) == 0
    assert found.status("(i)", 0) == "missing"


def test_a_study_without_its_declaration_says_so(tmp_path: Path) -> None:
    uri = make.recorded(make.ladder("whole", seeds=[]).declared(rows=[]), tmp_path)
    from diga.report.records import client

    asked = client(uri)
    asked.create_experiment("diga/bare")
    with pytest.raises(StorageError, match="declaration"):
        records(uri, "bare")
    experiment = asked.create_experiment("diga/partial", artifact_location=(tmp_path / "partial").as_uri())
    run = asked.create_run(experiment, tags={"kind": "study"}).info.run_id
    asked.log_text(run, '{"name": "partial"}', "study.json")
    with pytest.raises(StorageError, match="lacks components, metric, rows, seeds"):
        records(uri, "partial")


def test_artifacts_come_as_files(tmp_path: Path) -> None:
    spec = make.ladder("pictures", seeds=[0])
    uri = make.recorded(make.replace(spec, cells=spec.cells[:1]), tmp_path, pictures=1)
    found = records(uri, "pictures")
    run = str(found.cells["run_id"].iloc[0])
    folder = found.artifact(run, "samples/streets__cityscapes", tmp_path / "to")
    assert folder is not None
    assert sorted(p.name for p in folder.iterdir()) == [
        f"city_0.{kind}.png" for kind in ("input", "prediction", "truth")
    ]
    assert found.artifact(run, "samples/elsewhere", tmp_path / "to") is None
    assert found.artifact("no such run", "samples", tmp_path / "to") is None


def test_more_than_a_page_of_runs_is_read(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diga.report.asking.PAGE", 5)
    assert len(records(store, "whole").cells) == 12


def test_reports_need_neither_torch_nor_ray_nor_telemetry() -> None:
    """Importing all of the floor loads no heavy library, and mlflow itself waits until records are read."""
    code = (
        "import sys, diga.report.build, reports.table3, reports.per_class;"
        "print([m for m in ('torch', 'ray', 'mlflow', 'optuna', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_records_are_a_value() -> None:
    found = make.in_memory(make.ladder())
    with pytest.raises(AttributeError):
        found.uri = "elsewhere"  # type: ignore[misc]
    assert isinstance(found, Records)


@pytest.mark.parametrize(
    ("tags", "steps"),
    [
        ({"steps": '{"warm_up": 500, "score": 0}'}, {"warm_up": 500, "score": 0}),
        ({"steps.warm_up": "500", "steps.score": "0"}, {"warm_up": 500, "score": 0}),  # a tag each, in older stores
        ({"steps.warm_up": "400", "steps": '{"warm_up": 500}'}, {"warm_up": 500}),  # such a cell, launched anew
        ({"steps": '{"warm_up": [1]}'}, {"warm_up": None}),
        ({"steps": "[500]"}, {}),
        ({"steps": "500 of them"}, {}),
        ({}, {}),
    ],
)
def test_updates_are_read_of_any_layout(tags: dict[str, str], steps: dict[str, int | None]) -> None:
    assert updates(tags) == steps
    cell = tags | {"stage.warm_up": "ab"}
    assert json.loads(_stages(cell)) == {"warm_up": ["ab", steps.get("warm_up")]}
