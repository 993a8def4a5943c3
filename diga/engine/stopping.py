"""Asking a training to stop: it saves at the step it is at, and only then comes what was to stop it.

A `Stop` is a block around a training loop whose value answers, after every step, whether to stop.
"""

from __future__ import annotations

import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 5.0  # seconds a step and its checkpoint may take once a stop is asked for; else the last checkpoint counts

Stop = Callable[[], AbstractContextManager[Callable[[], bool]]]


@contextmanager
def never() -> Iterator[Callable[[], bool]]:
    """Nobody asks."""
    yield lambda: False


@dataclass(frozen=True)
class Told:
    """Asked by a file, from any process that sees its folder."""

    path: Path

    @classmethod
    def anew(cls, folder: Path) -> Told:
        """A name in a folder that nobody has used."""
        return cls(folder / f".stop-{uuid.uuid4().hex[:12]}")

    @contextmanager
    def asked_on_the_way_out(self, wait: Callable[[], object]) -> Iterator[None]:
        """Whatever ends the block but its own end asks all that look here, and `wait` gives them time to save."""
        try:
            yield
        except BaseException:
            with suppress(Exception), self._asking():  # a full disk, a cluster that is gone: nobody can save either
                wait()
            raise

    @contextmanager
    def _asking(self) -> Iterator[None]:
        self.path.touch()
        try:
            yield
        finally:
            self.path.unlink(missing_ok=True)

    @contextmanager
    def __call__(self) -> Iterator[Callable[[], bool]]:
        yield self.path.exists


@contextmanager
def signalled() -> Iterator[Callable[[], bool]]:
    """Asked by Ctrl-C or SIGTERM, which do what they did before when the block ends, or PATIENCE has.

    A second one ends the process at once.  Signals reach the main thread alone: elsewhere nobody asks.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    waiting: list[int] = []

    def heed(number: int, frame: FrameType | None) -> None:
        waiting.append(number)
        for other in SIGNALS:
            signal.signal(other, signal.SIG_DFL)  # the system's: it does not wait for a call to return
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)

    def deliver(*alarm: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        if waiting:
            signal.raise_signal(waiting.pop())

    signal.signal(signal.SIGALRM, deliver)
    for number in SIGNALS:
        signal.signal(number, heed)
    try:
        yield lambda: bool(waiting)
    finally:
        deliver()
