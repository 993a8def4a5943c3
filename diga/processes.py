"""Processes of Python's own pool that neither outlive their parent nor speak when it is stopped."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager


@contextmanager
def pool(workers: int, copies: bool = False) -> Iterator[ProcessPoolExecutor]:
    """So many processes; what they have not begun when the block fails is not begun any more.

    Started anew, or `copies` of this one, which have at once all that it has imported: they are made here and now, and
    it must have neither threads nor connections yet.  Either way the block ends when they have.  Raises OSError or
    BrokenProcessPool where not all copies could be made; then there are none.
    """
    context = multiprocessing.get_context("fork" if copies else "spawn")
    crew = ProcessPoolExecutor(workers, context, initializer=_follow)
    if copies:
        _copied(crew)
    try:
        yield crew
    except BaseException:
        crew.shutdown(cancel_futures=True)
        raise
    crew.shutdown()


def _copied(crew: ProcessPoolExecutor) -> None:
    """Make its processes; if one cannot be made, end the others: nobody would ever tell them that all is over."""
    before = multiprocessing.active_children()
    try:
        crew.submit(os.getpid).result()
    except (OSError, BrokenProcessPool):
        for process in multiprocessing.active_children():
            if process not in before:
                process.kill()
                process.join()
        raise


def cores() -> int:
    """Those that this process may use, where the system says so: a container may have few of a large machine's."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _follow() -> None:
    """A killed parent must not leave workers that wait for ever; one that is stopped says so itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a copy has its parent's, and a broken pool ends the others by it
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
