"""`diga report` and `diga serve`: tables and figures from the records, and pages to look at them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated

import typer

from diga.cli.console import out
from diga.cli.work import Tracking, tracking_uri
from diga.errors import ConfigError, StorageError
from diga.home import home

LOOPBACK = "127.0.0.1"
PORT = 5000
PATIENCE = 60.0  # seconds MLflow may take to come up


def report(
    study: Annotated[str, typer.Argument(help="Name of a study that was launched, such as table3.")],
    into: Annotated[Path | None, typer.Option("--out", help="Folder; reports under the run home by default.")] = None,
    tracking: Tracking = None,
) -> None:
    """Write a study's tables (Markdown, LaTeX, CSV, JSON), figures and claims; partial results will do."""
    from diga.report.build import build

    folder = build(study.rpartition(":")[2], tracking_uri(tracking), into or home() / "reports")
    table = next(iter(sorted((folder / "tables").glob("*.md"), key=lambda p: p.stem != study)), None)
    if table:
        out.print(table.read_text("utf8"), markup=False)
    for kind in ("report.md", "claims.md", "tables", "figures"):
        if (folder / kind).exists():
            out.print(f"{kind:10} {folder / kind}", markup=False)
    out.print(f"MLflow     http://{LOOPBACK}:{PORT} after `diga serve`; store {tracking_uri(tracking)}", markup=False)


def serve(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the MLflow page.")] = PORT,
    reports_port: Annotated[int, typer.Option(min=1, max=65535, help="Of the reports folder.")] = 5001,
    tracking: Tracking = None,
) -> None:
    """Serve MLflow's page and the reports on this machine alone, until Ctrl-C."""
    must_be_free("--port", port)
    must_be_free("--reports-port", reports_port, port)
    folder = home() / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    pages = ThreadingHTTPServer((LOOPBACK, reports_port), partial(Silent, directory=str(folder)))
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    server = mlflow_server(tracking_uri(tracking), port)
    try:
        until_healthy(server, f"http://{LOOPBACK}:{port}/health")
        out.print(f"MLflow   http://{LOOPBACK}:{port}\nreports  http://{LOOPBACK}:{reports_port}\nCtrl-C ends both")
        server.wait()
    finally:
        pages.shutdown()
        stop(server)


def mlflow_server(uri: str, port: int) -> subprocess.Popen[bytes]:
    """MLflow's own server on loopback, one worker, without job runners."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", LOOPBACK]
    command += ["--port", str(port), "--workers", "1"]
    quiet = {
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


class Silent(SimpleHTTPRequestHandler):
    """Files of a folder, without a line a request."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
