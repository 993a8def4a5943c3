"""Ray, started on this machine when no address is given, with the settings that a killed part asks for."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from diga.errors import StorageError
from diga.launch import SETTINGS
from diga.launch.keeper import kept

OURS = ("DIGA_HOME", "DIGA_DATA", "DIGA_THREADS", "DIGA_DEBUG")  # of the environment, that workers need
LOOPBACK = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on any system: never several nodes, so 127.0.0.1 alone


@contextmanager
def cluster(address: str | None = None, cpus: int | None = None) -> Iterator[None]:
    """A connection to a Ray cluster: at `address` or $RAY_ADDRESS, else one of this process's own.

    The own one listens on loopback alone and ends with the block.  Raises StorageError where no
    cluster answers.
    """
    address = address or os.environ.get("RAY_ADDRESS") or None
    with kept() as settled:
        with own_signals():
            connect(address, cpus)
        settled()
        try:
            yield
        finally:
            import ray

            ray.shutdown()


def connect(address: str | None, cpus: int | None) -> None:
    """Start Ray or join it."""
    if not address or address.startswith(("127.", "localhost")):
        os.environ.setdefault(*LOOPBACK)
    import ray  # reads its environment now

    workers = {"env_vars": {k: os.environ[k] for k in [*SETTINGS, *OURS] if k in os.environ}}
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    try:
        if address:
            ray.init(address=address, runtime_env=workers, **quiet)
        else:
            ray.init(num_cpus=cpus, include_dashboard=False, **quiet)
            keep_secret(Path.home() / ".ray" / "auth_token")
    except (ConnectionError, RuntimeError, ValueError) as failure:
        why = (str(failure).strip().splitlines() or [type(failure).__name__])[0]
        raise StorageError(f"Ray at {address or 'this machine'}", why, "a cluster that answers") from failure


def keep_secret(token: Path) -> None:
    """Ray writes its token for everybody to read; it is its owner's."""
    with suppress(OSError):
        token.chmod(0o600)


@contextmanager
def own_signals() -> Iterator[None]:
    """What Ctrl-C and SIGTERM do stays as it was, whatever the block puts in their place."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
