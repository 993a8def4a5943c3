"""Ends what a killed driver's Ray leaves behind: a small process that holds one end of a pipe from the driver.

Most of Ray ends with its driver, but its agents try for a minute to report that to a server that has
ended too.  The pipe closes when the driver dies, however it dies; what it had started has a second
to go by itself.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil

LOOK = 0.2  # seconds between two looks at what the driver starts
GRACE = 1.0  # seconds


@contextmanager
def kept() -> Iterator[Callable[[], None]]:
    """If this process is killed in the block, what it has started ends too; to be called when all has started."""
    words = [sys.executable, "-m", __name__, str(os.getpid())]
    with subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True) as keeper:

        def settled() -> None:
            assert keeper.stdin is not None
            keeper.stdin.write(b"\n")
            keeper.stdin.flush()

        try:
            yield settled
        finally:
            keeper.kill()


def keep(driver: psutil.Process) -> None:
    """Watch what a driver starts until it says that this is all, and kill that when it is dead."""
    started: set[psutil.Process] = set()
    with suppress(psutil.NoSuchProcess):
        said = False
        while not said:
            said = bool(select.select([sys.stdin], [], [], LOOK)[0])
            started |= set(driver.children(recursive=True))
    sys.stdin.buffer.read()
    time.sleep(GRACE)
    for process in started - {psutil.Process()}:
        with suppress(psutil.NoSuchProcess):  # as it should be
            process.kill()


if __name__ == "__main__" and os.getppid() == int(sys.argv[1]):
    keep(psutil.Process(os.getppid()))
