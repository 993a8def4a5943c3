"""`diga report` and `diga serve`: tables and figures from the records, and pages to look at them.

Both read records through `diga.report`; what was read stays under the run home, so that the next report asks for what
is new alone.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from diga.cli.console import out
from diga.cli.work import Tracking, tracking_uri
from diga.errors import ConfigError, StorageError
from diga.home import home

if TYPE_CHECKING:
    from diga.report.records import Records
    from diga.report.studio import Studio


LOOPBACK = "127.0.0.1"
PORT = 5000
SELDOM = 200_000  # objects made between two looks for garbage
PATIENCE = 60.0  # seconds MLflow may take to come up


class Report(NamedTuple):
    """Where a report is, and of which study."""

    folder: Path
    study: str


def report(
    study: Annotated[str | None, typer.Argument(help="Name of a study that was launched, such as table3.")] = None,
    into: Annotated[Path | None, typer.Option("--out", help="Folder; reports under the run home by default.")] = None,
    again: Annotated[
        Path | None, typer.Option("--from", help="Folder of a report: make it again, from what it has kept alone.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ask for all records, not only for new and changed ones.")
    ] = False,
    tracking: Tracking = None,
) -> None:
    """Write a study's tables, in every form, its figures, claims and pages; partial results will do."""
    gc.set_threshold(SELDOM)  # what a report makes lives as long as its process: looking through it is a seventh of all
    if again:
        told(written(kept(again, study), into or home() / "reports"))
        return
    if not study:
        raise ConfigError("diga report", "no study named", "the name of one, or --from and a report's folder")
    from diga.report.snapshot import redacted

    told(made(study.rpartition(":")[2], tracking_uri(tracking), into or home() / "reports", fresh))
    uri = tracking_uri(tracking)
    page = "" if is_server(uri) else f"http://{LOOPBACK}:{PORT} after `diga serve`; store "
    out.print(f"MLflow     {page}{redacted(uri)}", markup=False)


def made(name: str, uri: str, into: Path, fresh: bool = False) -> Report:
    """The report of a study, also in MLflow; of a store that is as it was then, the last one made again."""
    from diga.report import asking, build, standing
    from diga.report.records import records
    from diga.report.snapshot import place, read_back
    from diga.report.studio import Studio

    cache, final = home() / "records", build.place(name, into)
    if not fresh and standing.stands(cache, uri, name, final):
        with suppress(StorageError):  # somebody has touched what it has kept
            return written(read_back(final), into)
    with Studio() as studio:
        if fresh:
            for kind in (asking.CELL, asking.TRIAL):
                place(cache, uri, name, kind.name).unlink(missing_ok=True)
        before = standing.stamp(uri)
        known = records(uri, name, cache)
        report = written(known, into, studio)
    publish(known, report.folder)
    standing.settle(cache, known, report.folder, before)
    return report


def report_on(study: str, uri: str) -> Path:
    """The folder of a study's report, written anew after a launch; a warning if it cannot be."""
    try:
        return made(study, uri, home() / "reports").folder
    except Exception as failure:  # what was computed is not in question
        print(f"warning: no report: {type(failure).__name__}: {failure}", file=sys.stderr)
        return home() / "reports"


def written(known: Records, into: Path, studio: Studio | None = None) -> Report:
    """A report of these records in `into`; what makes its numbers less than they seem goes to standard error."""
    from diga.report.build import write

    for warning in known.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return Report(write(known, into, studio), known.name)


def publish(known: Records, folder: Path) -> None:
    """Put the report into MLflow, too; a warning if the store does not take it."""
    from diga.report.published import publish

    try:
        publish(known, folder)
    except StorageError as failure:
        print(f"warning: the study's run in MLflow does not carry the report: {failure}", file=sys.stderr)


def kept(folder: Path, study: str | None) -> Records:
    """The records that a report has kept; a word where its bytes may come out otherwise."""
    from diga.report import snapshot

    known = snapshot.read_back(folder)
    if study and study.rpartition(":")[2] != known.name:
        raise ConfigError("--from", f"{folder} is a report of {known.name!r}", f"a report of {study!r}, or no name")
    then, now = snapshot.read_lock(folder)["made_with"], snapshot.made_with()
    if other := [f"{name} {then.get(name)} then, {now[name]} now" for name in now if then.get(name) != now[name]]:
        print(f"warning: made by other versions, so its bytes may differ: {'; '.join(other)}", file=sys.stderr)
    return known


def told(report: Report) -> None:
    """Print the study's first table, and where the rest is."""
    folder = report.folder
    table = next(iter(sorted((folder / "tables").glob("*.md"), key=lambda p: p.stem != report.study)), None)
    if table:
        out.print(table.read_text("utf8"), markup=False)
    for kind in ("index.html", "report.md", "claims.md", "tables", "figures"):
        if (folder / kind).exists():
            out.print(f"{kind:10} {folder / kind}", markup=False)


def serve(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the MLflow page.")] = PORT,
    reports_port: Annotated[int, typer.Option(min=1, max=65535, help="Of the reports folder.")] = 5001,
    tracking: Tracking = None,
) -> None:
    """Serve MLflow's page and the reports on this machine alone, until Ctrl-C.

    Of records that an MLflow server has (--tracking http://…) that server's page is named, and the reports alone are
    served.
    """
    uri = tracking_uri(tracking)
    spoken_for = () if is_server(uri) else (port,)
    for one in spoken_for:
        must_be_free("--port", one)
    must_be_free("--reports-port", reports_port, *spoken_for)
    folder = home() / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    with mlflow_page(uri, port) as (page, until_over):
        pages = ThreadingHTTPServer((LOOPBACK, reports_port), partial(Shelf, uri, page, directory=str(folder)))
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        try:
            ends = "Ctrl-C ends " + ("both" if spoken_for else "the second")
            out.print(f"MLflow   {page}\nreports  http://{LOOPBACK}:{reports_port}\n{ends}", markup=False)
            until_over()
        finally:
            pages.shutdown()


def is_server(uri: str) -> bool:
    """Whether a store is an MLflow server, which has a page of its own."""
    return uri.startswith(("http://", "https://"))


@contextmanager
def mlflow_page(uri: str, port: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """The address of MLflow's page, and what returns when that is over: the store's own, or a server's of the block."""
    if is_server(uri):
        from diga.report import asking
        from diga.report.snapshot import redacted

        try:
            asking.reachable(uri)
        except StorageError as failure:  # reports can be read without it
            print(f"warning: {failure}", file=sys.stderr)
        yield redacted(uri).rstrip("/"), threading.Event().wait
        return
    server, page = mlflow_server(uri, port), f"http://{LOOPBACK}:{port}"
    try:
        until_healthy(server, f"{page}/health")
        yield page, server.wait
    finally:
        stop(server)


def mlflow_server(uri: str, port: int) -> subprocess.Popen[bytes]:
    """MLflow's own server on loopback, one worker, without job runners; `uri` may hold a password."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(port), "--workers", "1"]
    quiet = {
        "MLFLOW_BACKEND_STORE_URI": uri,  # not in the command, which everybody on the machine can read
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
    log = (home() / "mlflow-server.log").open("wb")
    return subprocess.Popen(command, env=os.environ | quiet, stdout=log, stderr=log, start_new_session=True)


def until_healthy(server: subprocess.Popen[bytes], url: str) -> None:
    """Wait for the server.  Raises StorageError if it ends or takes too long."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    raise StorageError("mlflow server", "did not come up", f"its words are in {home() / 'mlflow-server.log'}")


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and what it started."""
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def must_be_free(option: str, port: int, *spoken_for: int) -> None:
    """Raises ConfigError when something else listens there, or is about to."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            spoken_for = (*spoken_for, port)
    if port in spoken_for:
        raise ConfigError(option, f"port {port} is taken", "a free port")


class Shelf(SimpleHTTPRequestHandler):
    """Files of the reports' folder, its own page a list of them, without a line a request."""

    def __init__(self, uri: str, page: str, *request: Any, directory: str) -> None:
        self.uri, self.page = uri, page
        super().__init__(*request, directory=directory)

    def list_directory(self, path: Any) -> BytesIO | None:
        """The list of reports; of what is in a report nothing needs a list but what its page links to."""
        from diga.report import published, shelf

        if Path(path) != Path(self.directory):
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        try:
            runs = published.addresses(self.uri, self.page)
        except StorageError:
            runs = {}  # reports can be read without the store
        body = shelf.text(Path(path), runs).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return BytesIO(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
