"""What Ctrl-C and SIGTERM do: the first closes what is under way in order, the second ends the process at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN = 0.1  # seconds until a stop that a callback swallowed comes again; by then the callback has returned


@contextmanager
def heeding() -> Iterator[list[int]]:
    """Heed both signals; the exit codes of those received, in their order, will be in the list.

    A signal may come while Python runs a weak reference's callback or a `__del__`, which let no exception
    out.  Such a stop is not told as an "Exception ignored": it comes again a moment later, until the block ends.
    """
    received: list[int] = []
    repeats: list[threading.Timer] = []
    before = sys.unraisablehook

    def stop(number: int, frame: FrameType | None) -> None:
        for other in SIGNALS:
            signal.signal(other, signal.SIG_DFL)  # the system's: it does not wait for a call to return
        if repeats:
            repeats.pop()
        elif received:  # somebody put this handler back meanwhile
            os.kill(os.getpid(), number)
        else:
            received.append(128 + number)
            if sys.stderr.isatty():
                os.write(2, b"\nstopping; once more stops at once\n")
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def swallowed(unraisable: sys.UnraisableHookArgs) -> None:
        if not received or not isinstance(unraisable.exc_value, KeyboardInterrupt | SystemExit):
            before(unraisable)
            return
        listen()
        repeats.append(threading.Timer(AGAIN, signal.pthread_kill, (threading.get_ident(), received[0] - 128)))
        repeats[-1].start()

    def listen() -> None:
        for number in SIGNALS:
            signal.signal(number, stop)

    listen()
    sys.unraisablehook = swallowed
    try:
        yield received
    finally:
        sys.unraisablehook = before
        for one in repeats:
            one.cancel()
