"""Processes of Python's own pool that neither outlive their parent nor speak when it is stopped."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """So many processes, started anew; what they have not begun when the block fails is not begun any more."""
    spawn = multiprocessing.get_context("spawn")  # a fork of a process with threads may never wake
    with ProcessPoolExecutor(workers, spawn, initializer=_follow) as crew:
        try:
            yield crew
        except BaseException:
            crew.shutdown(wait=False, cancel_futures=True)
            raise


def _follow() -> None:
    """A killed parent must not leave workers that wait for ever; one that is stopped says so itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
