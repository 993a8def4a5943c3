"""What Ctrl-C and SIGTERM do: the first closes what is under way in order, the second ends the process at once."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def heeding() -> list[int]:
    """Heed both signals from now on; the exit codes of those received, in their order, will be in the list."""
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        for other in SIGNALS:
            signal.signal(other, signal.SIG_DFL)  # the system's: it does not wait for a call to return
        if received:  # somebody put this handler back meanwhile
            os.kill(os.getpid(), number)
        received.append(128 + number)
        if sys.stderr.isatty():
            os.write(2, b"\nstopping; once more stops at once\n")
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    for number in SIGNALS:
        signal.signal(number, stop)
    return received
