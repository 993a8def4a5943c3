"""Records that are not as they should be: one line that says what to do, and numbers that stay true."""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from diga.errors import ConfigError, StorageError, TemporaryError
from diga.report import asking, cells
from diga.report.records import Records, client, records
from reports import table3
from tests import make_records as make
from tests.tiny import free_port

METRIC = f"{make.DOMAIN}/plain/last/miou"


def told(found: Records, *parts: str) -> None:
    """One of the warnings has all of these."""
    assert any(all(part in line for part in parts) for line in found.warnings), found.warnings
    assert all("\n" not in line for line in found.warnings)


def read(spec: make.Spec, folder: Path) -> Records:
    return records(make.recorded(spec, folder), str(spec.study["name"]))


def test_a_whole_study_has_no_warnings(tmp_path: Path) -> None:
    assert read(make.ladder(), tmp_path).warnings == ()


def test_no_runs(tmp_path: Path) -> None:
    found = read(make.replace(make.ladder("no runs"), cells=()), tmp_path)
    told(found, "Nothing of this study has been run yet", "diga ablate 'no runs'")
    assert "Nothing has been evaluated yet" in table3.table(found).caption


def test_runs_of_an_older_layout(tmp_path: Path) -> None:
    uri = make.recorded(make.ladder(seeds=[0]), tmp_path)
    asked = client(uri)
    experiment = asked.get_experiment_by_name("diga/demo").experiment_id
    for tags in ({"kind": "cell"}, {"kind": "cell", "row": "(i)", "seed": "zero"}, {"kind": "cell", "seed": "1"}):
        asked.create_run(experiment, tags=tags)
    asked.create_run(experiment, tags={"kind": "cell", "row": "(i)", "seed": "5", "components": "not JSON"})
    found = records(uri, "demo")
    told(found, "3 runs without a row or a seed", "left out", "diga ablate demo")
    assert len(found.cells) == 7


@pytest.mark.parametrize(
    "text", ["[]", "{}", "not JSON", '{"rows": 1}', '{"name":"x","metric":"","components":[],"seeds":[],"rows":[{}]}']
)
def test_a_declaration_of_an_older_layout(tmp_path: Path, text: str) -> None:
    uri = make.recorded(make.ladder(seeds=[0]), tmp_path)
    asked = client(uri)
    experiment = asked.get_experiment_by_name("diga/demo").experiment_id
    run = asked.search_runs([experiment], "tags.kind = 'study'")[0].info.run_id
    asked.log_text(run, text, "study.json")
    with pytest.raises(StorageError, match="diga ablate demo") as failure:
        records(uri, "demo")
    assert "\n" not in str(failure.value)


def test_two_protocols_in_one_column(tmp_path: Path) -> None:
    spec = make.ladder().changed(lambda c: make.replace(c, protocol=f"p{c.seed}"))
    with pytest.raises(ConfigError, match="mixes the protocols p0, p1, p2"):
        table3.table(read(spec, tmp_path))


def test_a_reference_row_that_is_absent(tmp_path: Path) -> None:
    rows = [r | {"parent": "gone" if r["index"] == 3 else r["parent"]} for r in make.ladder().study["rows"]]
    found = read(make.ladder().declared(rows=rows), tmp_path)
    told(found, "Row (ii) is compared with gone", "no difference is given")
    assert cells.step_cells(found, cells.metric_of(found))["(ii)"].status == "missing"
    nothing = read(make.ladder("b").changed(lambda c: None if c.index == 2 else c), tmp_path)
    assert "(i) (seed 0 missing" in " ".join(table3.table(nothing).notes)


def test_duplicate_cells(tmp_path: Path) -> None:
    spec = make.ladder()
    twin = make.replace(spec.cells[0], metrics={METRIC: 0.9})
    found = read(make.replace(spec, cells=(*spec.cells, twin)), tmp_path)
    told(found, "Source-only, seed 0 (2 times)", "latest counts", "delete the others")
    assert found.values(METRIC)["Source-only"][0] == 0.9


def test_cells_of_no_row(tmp_path: Path) -> None:
    spec = make.ladder()
    found = read(make.replace(spec, cells=(*spec.cells, make.replace(spec.cells[0], row="of another day"))), tmp_path)
    told(found, "rows that the study does not declare", "of another day")
    assert "of another day" not in {r.key for r in table3.table(found).rows}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none(tmp_path: Path, value: float) -> None:
    """MLflow keeps an infinity as the largest number there is: it must not become a mean."""

    def change(cell: make.Cell) -> make.Cell:
        bad = (cell.index, cell.seed) == (2, 1)
        return make.replace(cell, metrics={**cell.metrics, METRIC: value}) if bad else cell

    found = read(make.ladder().changed(change), tmp_path)
    told(found, f"{METRIC} of (i), seed 1 is {value:g}", "counted as no number")
    told(found, "Done, but without", "(i), seed 1")
    score = cells.scores(found, METRIC)["(i)"]
    assert (score.n, score.mean < 100) == (2, True)
    assert any("counted as no number" in note for note in table3.table(found).notes)


def test_versions_of_the_code(tmp_path: Path) -> None:
    spec = make.ladder().changed(lambda c: make.replace(c, git="new" if c.seed == 2 else "old", dirty=c.seed == 1))
    found = read(spec, tmp_path)
    told(
        found, "Cells come from 3 versions of the code", "old (6 cells)", "old with changes (6 cells)", "new (6 cells)"
    )
    told(found, "6 cells ran with uncommitted changes", "provenance/code.diff")
    assert any("versions of the code" in note for note in table3.table(found).notes)


def test_two_texts_of_one_revision_are_two_versions(tmp_path: Path) -> None:
    uri = make.recorded(make.ladder(seeds=[0, 1]), tmp_path)
    asked = client(uri)
    for run, seed in [(r, s) for (_, s), r in records(uri, "demo").run_of.items()]:
        for key, value in {"code.sha": "abc", "code.dirty": "true", "code.source": f"text{seed}"}.items():
            asked.set_tag(run, key, value)
    told(records(uri, "demo"), "2 versions", "abc with changes, text0 (6 cells)", "abc with changes, text1 (6 cells)")


def test_a_metric_that_nothing_has(tmp_path: Path) -> None:
    found = read(make.ladder().declared(metric="streets/elsewhere/plain/last/miou"), tmp_path)
    told(found, "Done, but without streets/elsewhere/plain/last/miou", "and 15 more")


# --- stores that do not answer -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["http", "postgresql+psycopg", "mysql"])
def test_a_server_that_is_down_is_told_at_once(kind: str) -> None:
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"no answer: Connection refused \(start that server") as failure:
        records(f"{kind}://me:hunter2@127.0.0.1:{free_port()}/x", "demo")
    assert time.monotonic() - began < 10
    assert "hunter2" not in str(failure.value)


def test_a_server_that_hangs_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PATIENCE", 0.3)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        with pytest.raises(StorageError, match="no answer: timed out"):
            asking.reachable(f"http://127.0.0.1:{deaf.getsockname()[1]}")


def test_a_page_that_is_no_mlflow_is_told(tmp_path: Path) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        do_POST = do_GET

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(StorageError) as failure:
            records(f"http://127.0.0.1:{server.server_port}", "demo")
        assert "\n" not in str(failure.value)
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("uri", ["http://[::bad", "foo://x/y", "postgresql://127.0.0.1:notaport/x"])
def test_no_address_is_told(uri: str) -> None:
    with pytest.raises((StorageError, ConfigError)) as failure:
        records(uri, "demo")
    assert "\n" not in str(failure.value)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("not a database, surely " * 100)
    with pytest.raises(StorageError, match="not a database"):
        records(f"sqlite:///{tmp_path}/x.db", "demo")


def test_a_locked_database_is_a_reason_to_try_again() -> None:
    from sqlalchemy.exc import OperationalError

    with pytest.raises(TemporaryError, match="try again"), asking.answered("sqlite:///x.db"):
        raise OperationalError("select 1", {}, Exception("database is locked"))


def test_our_own_mistakes_are_not_a_stores() -> None:
    with pytest.raises(KeyError), asking.answered("sqlite:///x.db"):
        raise KeyError("row")


def test_words_of_a_refusal_have_no_password() -> None:
    with pytest.raises(StorageError) as failure, asking.answered("postgresql://me:hunter2@db/x"):
        raise OSError("cannot reach postgresql://me:hunter2@db/x")
    assert "hunter2" not in str(failure.value)
    assert os.linesep not in str(failure.value)
    assert json.dumps(str(failure.value))
