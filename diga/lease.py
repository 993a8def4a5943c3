"""Who computes a stage: a file that its owner keeps touching, and that others take over when it goes cold.

Works on any shared POSIX folder, without a clock in common: a waiter measures on its own clock how
long the file has not changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

BEAT = 1.0  # seconds between two touches by the owner
PATIENCE = 8.0  # seconds without a touch after which the owner counts as dead
POLL = 0.2  # seconds between two looks of a waiter


class Lost(RuntimeError):
    """Another process took this lease over while its owner was frozen."""


class Lease:
    """One process's claim on one path; used as `with lease.held(): ...`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.me = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex})

    def try_take(self) -> bool:
        """Claim the path if nobody holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w") as file:
            file.write(self.me)
        return True

    @contextlib.contextmanager
    def beating(self) -> Iterator[threading.Event]:
        """Touch the path until the block ends, then give it back.  The event says that it was lost."""
        done, lost = threading.Event(), threading.Event()

        def beat() -> None:
            while not done.wait(BEAT):
                if not self._mine():
                    lost.set()
                    return
                os.utime(self.path)

        thread = threading.Thread(target=beat, daemon=True, name="lease")
        thread.start()
        try:
            yield lost
        finally:
            done.set()
            thread.join()
            if self._mine():
                self.path.unlink(missing_ok=True)

    def _mine(self) -> bool:
        try:
            return self.path.read_text() == self.me
        except OSError:
            return False


def wait(path: Path) -> None:
    """Wait one poll for the owner of `path`; take the claim away from an owner found dead."""
    seen, since = _look(path), time.monotonic()
    while seen is not None and not _dead_here(seen[0]):
        time.sleep(POLL)
        now = _look(path)
        if now != seen:
            return
        if time.monotonic() - since > PATIENCE:
            break
    if seen is not None:
        _bury(path, seen)


def owner(path: Path) -> str:
    """Host and process of the holder, for messages."""
    try:
        claim = json.loads(path.read_text())
        return f"process {claim['pid']} on {claim['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"


def _look(path: Path) -> tuple[str, int] | None:
    try:
        return path.read_text(), path.stat().st_mtime_ns
    except OSError:
        return None


def _dead_here(claim: str) -> bool:
    """Whether the claim is of this host and of a process that is no more: no need to wait then."""
    try:
        holder = json.loads(claim)
        if holder["host"] != socket.gethostname():
            return False
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return True
    except (ValueError, KeyError, PermissionError):
        return False
    return False


def _bury(path: Path, seen: tuple[str, int]) -> None:
    """Remove a dead claim; of several waiters the rename lets one win, and a live claim is put back."""
    grave = path.with_suffix(f".dead-{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):
        os.rename(path, grave)
        if _look(grave) != seen:
            os.link(grave, path)
    grave.unlink(missing_ok=True)
