"""Who computes a stage: a numbered claim that its owner keeps touching; when it goes cold the next number takes over.

Works on any shared POSIX folder, without a clock in common: a waiter measures on its own clock how
long the claim has not changed.  Only the highest number counts, and a claim is only ever followed,
never replaced: of several processes that find an owner dead, creating the next number lets one win.
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
from functools import cache
from pathlib import Path
from typing import NamedTuple

BEAT = 1.0  # seconds between two touches by the owner
PATIENCE = 8.0  # seconds without a touch after which the owner counts as dead
POLL = 0.2  # seconds between two looks of a waiter


class Seen(NamedTuple):
    """The highest claim as it was at one look: its number, who wrote it, when it was last touched."""

    number: int
    text: str = ""
    touched: int = 0


NOBODY = Seen(0)


class Lease:
    """One process's claim on one name: `<base>.1`, `<base>.2`, …; not to be shared by threads."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.id = uuid.uuid4().hex[:12]
        self.mine = NOBODY
        self.seen, self.since = NOBODY, time.monotonic()
        self.silent = False  # whether the owner before was only silent, and so may wake up

    def try_take(self) -> bool:
        """Claim the name if nobody holds it, or if its owner is dead.  To be asked every POLL."""
        seen = look(self.base)
        if seen != self.seen:
            self.seen, self.since = seen, time.monotonic()
        gone = seen is NOBODY or _dead_here(seen.text)
        self.silent = not gone and time.monotonic() - self.since > PATIENCE
        return (gone or self.silent) and self._claim(seen.number + 1)

    def held(self) -> bool:
        """Whether the claim still counts: False once another process took over."""
        return self.mine is not NOBODY and look(self.base)[:2] == self.mine[:2]

    def owner(self) -> str:
        """Process and host of the holder when last looked at, for messages."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            claim = json.loads(self.seen.text)
            return f"process {claim['pid']} on {claim['host']}"
        return "another process"

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Touch the claim until the block ends, then give it back."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(BEAT):  # of a claim that is lost, too: its file is nobody else's
                with contextlib.suppress(OSError):  # a share that hiccups: the next beat may pass
                    os.utime(_file(self.base, self.mine.number))

        thread = threading.Thread(target=beat, daemon=True, name="lease")
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.release()

    def release(self) -> None:
        """Give the claim back, if it still counts."""
        if self.held():
            _file(self.base, self.mine.number).unlink(missing_ok=True)
        self.mine = NOBODY

    def _claim(self, number: int) -> bool:
        self.base.parent.mkdir(parents=True, exist_ok=True)
        path = _file(self.base, number)
        text = json.dumps({"host": socket.gethostname(), "where": _where(), "pid": os.getpid(), "id": self.id})
        try:
            with path.open("x") as file:
                file.write(text)
        except FileExistsError:
            return False
        except OSError:  # a full disk: an empty claim would keep the others waiting
            path.unlink(missing_ok=True)
            raise
        self.mine = Seen(number, text)
        if not self.held():  # we looked long ago, and the name has gone on to higher numbers
            path.unlink(missing_ok=True)
            self.mine = NOBODY
            return False
        for older in range(1, number):
            _file(self.base, older).unlink(missing_ok=True)
        return True


def look(base: Path) -> Seen:
    """The claim that counts."""
    try:
        names = os.listdir(base.parent)
    except OSError:
        return NOBODY
    ends = [name.removeprefix(f"{base.name}.") for name in names if name.startswith(f"{base.name}.")]
    number = max((int(end) for end in ends if end.isdecimal()), default=0)
    if not number:
        return NOBODY
    path = _file(base, number)
    try:
        return Seen(number, path.read_text(), path.stat().st_mtime_ns)
    except OSError:  # given back between two lines
        return Seen(number)


def _file(base: Path, number: int) -> Path:
    return base.with_name(f"{base.name}.{number}")


def _dead_here(text: str) -> bool:
    """Whether the claim is of this host and of a process that is no more: no need to wait then."""
    try:
        holder = json.loads(text)
        if holder["where"] != _where():
            return False
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return True
    except (ValueError, KeyError, TypeError, OSError):
        return False
    return False


@cache
def _where() -> str:
    """What process numbers are counted in: two containers may share a host's name and not its processes."""
    found = [socket.gethostname()]
    with contextlib.suppress(OSError):
        found += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(found)
