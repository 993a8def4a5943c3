"""`diga serve`: on this machine alone, with every report and every run, and gone when it is told to go."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from diga.errors import StorageError
from diga.report import figures, published
from diga.report.records import client, records
from tests import make_records as make
from tests import tiny
from tests.browser import browser
from tests.test_report_build import tree


def fetched(address: str) -> str:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return str(answer.read().decode())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_both_pages_are_served_on_loopback_until_told_to_stop(tmp_path, number):
    place = tiny.place(tmp_path)
    (place.home / "reports/demo").mkdir(parents=True)
    (place.home / "reports/demo/report.md").write_text("# Demo\n")
    page, reports = tiny.free_port(), tiny.free_port()
    process = tiny.spawn(place.home, "serve", "--port", str(page), "--reports-port", str(reports))
    try:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(3)]
        assert told[0].split() == ["MLflow", f"http://127.0.0.1:{page}"], process.communicate()
        assert told[1].split() == ["reports", f"http://127.0.0.1:{reports}"]
        assert fetched(f"http://127.0.0.1:{page}/health") == "OK"
        assert fetched(f"http://127.0.0.1:{reports}/demo/report.md") == "# Demo\n"
        started = [psutil.Process(process.pid), *tiny.children(process.pid)]
        listening = {
            (c.laddr.ip, c.laddr.port)
            for p in started
            for c in p.net_connections("inet")
            if c.status == psutil.CONN_LISTEN
        }
        assert {ip for ip, _ in listening} == {"127.0.0.1"}
        assert {port for _, port in listening} >= {page, reports}
        lines = [" ".join(p.cmdline()) for p in started]
        assert any("mlflow server" in line for line in lines)
        assert not any(str(place.home) in line for line in lines), lines  # nor would a password be
        process.send_signal(number)
        code, _, errors = tiny.ended(process, 20)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert code == 128 + number
    assert "Traceback" not in errors
    assert tiny.until(lambda: not tiny.alive(started), tiny.SOON)


# --- what is on the pages ----------------------------------------------------------------


@contextmanager
def served(home: Path, *words: str) -> Iterator[tuple[str, str]]:
    """Addresses of MLflow's page and of the reports."""
    page, reports = tiny.free_port(), tiny.free_port()
    process = tiny.spawn(home, "serve", "--port", str(page), "--reports-port", str(reports), *words)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("MLflow")
        yield f"http://127.0.0.1:{page}", f"http://127.0.0.1:{reports}"
    finally:
        process.send_signal(signal.SIGTERM)
        tiny.ended(process)


@pytest.mark.slow
def test_mlflow_shows_the_runs_of_a_study_by_row(tmp_path: Path) -> None:
    """From the list of reports, by its links, to the report and to the rows of the study in MLflow's own page."""
    place = tiny.place(tmp_path)
    make.recorded(make.ladder(), place.home, pictures=1, uri=tiny.uri(place))
    code, _, errors = tiny.diga(place.home, "report", "demo")
    assert code == 0, errors
    assert "does not carry" not in errors
    with served(place.home) as (page, reports), browser() as tab:
        tab.open(reports, 1280)
        assert tab.complaints() == []
        links = tab.value("[...document.links].map(a => a.href).join(' ')").split()
        assert links[0] == f"{reports}/demo/index.html"
        assert links[1].startswith(f"{page}/#/experiments/")
        tab.open(links[0], 1280)
        assert tab.value("document.title") == "Components of DiGA"
        assert tab.complaints() == []
        tab.open(links[1], 1600, 1200)
        groups = "[...document.body.innerText.matchAll(/Group: (.+)/g)].map(m => m[1]).join('; ')"
        assert tab.until(f"({groups}).includes('(iv)')"), tab.value("document.body.innerText")[:2000]
        assert tab.value(groups) == "; ".join(make.LABELS)
        shown = tab.value("document.body.innerText")
        assert "Group by: row" in shown
        assert "18" in shown
        assert "does not exist" not in shown
        assert f"{make.DOMAIN}/plain/last/miou" in shown
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetched(f"{reports}/demo/tables/")


# --- of another store --------------------------------------------------------------------


@pytest.mark.slow
def test_of_a_server_its_own_page_is_named_and_reports_alone_are_served(tmp_path: Path) -> None:
    """A real MLflow server; the list of reports leads to its page, and nothing of ours listens on --port."""
    place = tiny.place(tmp_path)
    make.recorded(make.ladder(), place.home, uri=tiny.uri(place))
    with served(place.home) as (server, _):
        code, said, errors = tiny.diga(place.home, "report", "demo", "--tracking", server)
        assert code == 0, errors
        assert f"MLflow     {server}\n" in said
        secret = server.replace("//", "//somebody:hunter2@")
        with served(place.home, "--tracking", secret) as (_, reports):
            page = fetched(reports)
            assert "hunter2" not in page
            assert f'href="{server}/#/experiments/' in page


def test_a_server_that_is_down_is_a_warning_and_reports_are_served(tmp_path: Path) -> None:
    place = tiny.place(tmp_path)
    server, port = f"http://127.0.0.1:{tiny.free_port()}", tiny.free_port()
    (place.home / "reports/demo").mkdir(parents=True)
    (place.home / "reports/demo/report.md").write_text("# Demo\n")
    process = tiny.spawn(place.home, "serve", "--tracking", server, "--reports-port", str(port))
    assert process.stdout is not None
    assert process.stdout.readline().split() == ["MLflow", server]
    assert fetched(f"http://127.0.0.1:{port}/demo/report.md") == "# Demo\n"
    process.send_signal(signal.SIGINT)
    code, _, errors = tiny.ended(process)
    assert code == 130
    assert f"warning: {server}: no answer" in errors
    assert "Traceback" not in errors


# --- a report in MLflow ------------------------------------------------------------------


@pytest.mark.slow
def test_the_run_of_the_study_carries_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "PARTS", figures.PARTS[:1])
    place = tiny.place(tmp_path)
    uri = make.recorded(make.ladder(), place.home, pictures=1, uri=tiny.uri(place))
    asked = client(uri)
    experiment = asked.get_experiment_by_name("diga/demo")
    (study,) = asked.search_runs([experiment.experiment_id], "tags.kind = 'study'")
    asked.log_text(study.info.run_id, "of a report before", "report/figures/stale.png")
    asked.log_text(study.info.run_id, "no part of it", "report.txt")
    code, _, errors = tiny.typed(place.home, "report", "demo")
    assert (code, errors) == (0, "")
    experiment = asked.get_experiment_by_name("diga/demo")
    carried = Path(asked.download_artifacts(study.info.run_id, "report", str(tmp_path)))
    assert tree(carried) == tree(place.home / "reports/demo")
    assert {"index.html", "claims.md", "evidence/confusion.parquet"} <= set(tree(carried))
    assert Path(asked.download_artifacts(study.info.run_id, "report.txt", str(tmp_path))).is_file()
    code, _, errors = tiny.typed(place.home, "report", "--from", str(carried), "--out", str(tmp_path / "again"))
    assert (code, errors) == (0, "")
    assert tree(tmp_path / "again/demo") == tree(carried)
    views = {k: json.loads(v) for k, v in experiment.tags.items() if k.startswith(published.VIEW)}
    assert set(views) == {published.VIEW + name for name in ("rows", "cells", "trouble")}
    assert len(asked.search_runs([experiment.experiment_id], views[published.VIEW + "rows"]["searchFilter"])) == 18
    assert asked.search_runs([experiment.experiment_id], views[published.VIEW + "trouble"]["searchFilter"]) == []
    assert list(published.addresses(uri, "http://x")) == ["demo"]


def test_a_store_that_takes_no_report_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tiny.place(tmp_path)
    make.recorded(make.ladder(), place.home, uri=tiny.uri(place))

    def refuses(*_: object) -> None:
        raise StorageError("sqlite:///x", "attempt to write a readonly database")

    monkeypatch.setattr(published, "publish", refuses)
    code, said, errors = tiny.typed(place.home, "report", "demo")
    assert code == 0
    assert "index.html" in said
    assert "does not carry the report: sqlite:///x: attempt to write a readonly database" in errors


def test_a_report_in_mlflow_changes_no_number(tmp_path: Path) -> None:
    place = tiny.place(tmp_path)
    uri = make.recorded(make.ladder(), place.home, uri=tiny.uri(place))
    before = records(uri, "demo").cells
    assert tiny.typed(place.home, "report", "demo")[0] == 0
    assert records(uri, "demo").cells.equals(before)
