"""The same records in a real PostgreSQL server: the same frame, whole and piece by piece."""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from diga.errors import StorageError
from diga.report.records import client, records
from tests import make_records as make

USER = "diga"


def lacking(what: str) -> None:
    """Skip, or fail where all of it must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have {what}")
    pytest.skip(f"{what} is not installed")


def binaries() -> Path:
    """The folder of the newest server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3]))
    on_path = shutil.which("postgres")
    if not (found or on_path):
        lacking("a PostgreSQL server")
    return Path(found[-1] if found else str(on_path)).parent


def as_nobody(folder: Path) -> dict[str, int]:
    """A server refuses to be root's: then it is somebody's who owns nothing else."""
    if os.getuid() != 0:
        return {}
    other = pwd.getpwnam("nobody")
    for path in (folder, *folder.parents):
        if path.owner() == "root" and path != Path("/") and path.stat().st_mode & 0o077 == 0:
            path.chmod(path.stat().st_mode | 0o011)  # pytest's own folders are its user's alone
    os.chown(folder, other.pw_uid, other.pw_gid)
    return {"user": other.pw_uid, "group": other.pw_gid}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a database on loopback, in a folder of its own, gone when the tests are."""
    if importlib.util.find_spec("psycopg") is None:
        lacking("the driver of PostgreSQL (psycopg)")
    programs, folder = binaries(), tmp_path_factory.mktemp("postgres")
    who = as_nobody(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = {"cwd": folder, "capture_output": True, "text": True, "timeout": 120, **who}
    made = [str(programs / "initdb"), "-D", "data", "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8"]
    done = subprocess.run(made, **quiet)
    assert done.returncode == 0, done.stderr
    options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
    control = [str(programs / "pg_ctl"), "-D", "data", "-w", "-l", "log"]
    done = subprocess.run([*control, "-o", options, "start"], **quiet)
    assert done.returncode == 0, (folder / "log").read_text()
    try:
        yield f"postgresql+psycopg://{USER}:secret@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **quiet)


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
