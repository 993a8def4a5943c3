"""A real PostgreSQL server on loopback, in a folder of its own, for tests of what is kept in one."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import LONG, free_port

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


class Server:
    """A server that is up while the block runs; `url` is the address of its one database."""

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("psycopg") is None:
            lacking("the driver of PostgreSQL (psycopg)")
        self.programs, self.folder = binaries(), folder
        self.quiet: dict[str, Any] = {"cwd": folder, "capture_output": True, "text": True, "timeout": LONG}
        self.quiet |= as_nobody(folder)
        self.port = free_port()
        self.url = f"postgresql+psycopg://{USER}:secret@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Server:
        made = [str(self.programs / "initdb"), "-D", "data", "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8"]
        done = subprocess.run(made, **self.quiet)
        assert done.returncode == 0, done.stderr
        self.control("-o", f"-h 127.0.0.1 -p {self.port} -k {self.folder} -c fsync=off", "start")
        return self

    def __exit__(self, *failure: object) -> None:
        subprocess.run([*self._words(), "-m", "immediate", "stop"], **self.quiet)

    def control(self, *words: str) -> None:
        """`pg_ctl words`, to its end."""
        done = subprocess.run([*self._words(), *words], **self.quiet)
        assert done.returncode == 0, (done.stdout, done.stderr, (self.folder / "log").read_text())

    def _words(self) -> list[str]:
        return [str(self.programs / "pg_ctl"), "-D", "data", "-w", "-l", "log"]
