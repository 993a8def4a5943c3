"""Whether the head of a cluster still answers: without one Ray ends this process after a minute, in its own words."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from diga.errors import TemporaryError

PAUSE = 2.0  # seconds between two looks
REACH = 3.0  # seconds to reach a port
GONE = 50.0  # seconds without an answer after which a head is gone; Ray waits for 60, in case it comes back
AGAIN = "what was finished is kept, and the same command goes on from here"


@contextmanager
def heard(address: str) -> Iterator[None]:
    """While the block runs, end this process with one line, and as temporary, when the head is gone.

    Whatever thread asks Ray then waits inside it: no exception would reach it.
    """
    over = threading.Event()

    def listen() -> None:
        last = time.monotonic()
        while not over.wait(PAUSE):
            if reached(address):
                last = time.monotonic()
            elif time.monotonic() - last > GONE:
                os.write(2, f"error: {TemporaryError(f'Ray at {address}', 'its head is gone', AGAIN)}\n".encode())
                os._exit(TemporaryError.code)

    threading.Thread(target=listen, daemon=True, name="head").start()
    try:
        yield
    finally:
        over.set()


def reached(address: str) -> bool:
    """Whether somebody listens at host:port."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH).close()
    except OSError:
        return False
    return True
