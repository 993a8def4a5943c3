"""Ray, started on this machine when no address is given, with the settings that a killed part asks for."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import psutil

from diga.errors import ConfigError, StorageError, TemporaryError
from diga.launch import SETTINGS
from diga.launch.head import heard
from diga.launch.keeper import kept

OURS = ("DIGA_HOME", "DIGA_DATA", "DIGA_THREADS", "DIGA_DEBUG")  # of the environment, that workers need
LOOPBACK = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on any system: never several nodes, so 127.0.0.1 alone
REACH, PATIENCE = 3.0, 7  # seconds to reach a port, and for an answer; Ray would try for 80, and end the process
STARTS = 4  # tries to start Ray: it gives a node half a minute, which a busy machine may not have
IMPORT = 60.0  # seconds that a busy machine may take to import Ray, which is not the cluster's silence
ASK = """
import signal, sys, ray
from ray._private.services import canonicalize_bootstrap_address_or_die as whole
signal.alarm(int(sys.argv[2]))
ray._raylet.GcsClient(address=whole(sys.argv[1]))
"""
SLOT = "trial_slot"  # held by a trial whose stages are groups of workers: they need the CPUs
ANSWERS = "a cluster that answers"


@contextmanager
def cluster(address: str | None = None, cpus: int | None = None) -> Iterator[None]:
    """A connection to a Ray cluster: at `address` or $RAY_ADDRESS, else one of this process's own.

    The own one listens on loopback alone and ends with the block.  Raises StorageError where no
    cluster answers, ConfigError for an address no driver can stand at.
    """
    address = given(address)
    if address:
        knock(address)
    with kept() as settled:
        with own_signals():
            connect(address, cpus)
        settled()
        import ray

        try:
            with heard(ray.get_runtime_context().gcs_address):
                yield
        finally:
            ray.shutdown()


def given(address: str | None) -> str | None:
    """The address of a cluster, as typed or as the environment says; None: there is none, and one is to be started."""
    return address or os.environ.get("RAY_ADDRESS") or None


@cache
def knock(address: str) -> None:
    """See whether a cluster answers at an address, in time and in another process: Ray ends the one that asks in vain.

    Raises StorageError if none does, ConfigError for the address of jobs or of clients.
    """
    if "://" in address:
        raise ConfigError("--address", f"found {address!r}", "host:port of the head, or `ray job submit`; see docs")
    host, colon, port = address.rpartition(":")
    if colon:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=REACH).close()
        except (OSError, ValueError, OverflowError) as failure:
            raise StorageError(
                f"Ray at {address}", getattr(failure, "strerror", None) or str(failure), ANSWERS
            ) from None
    stay_here(address)
    words = [sys.executable, "-c", ASK, address, str(PATIENCE)]  # it keeps time itself, from when Ray is imported
    silent = f"no answer in {PATIENCE} s"
    try:
        told = subprocess.run(words, capture_output=True, text=True, timeout=IMPORT + PATIENCE, start_new_session=True)
    except subprocess.TimeoutExpired:
        raise StorageError(f"Ray at {address}", silent, ANSWERS) from None
    if told.returncode:
        lines = [line.strip() for line in (told.stderr + told.stdout).splitlines() if line.strip()]
        why = silent if told.returncode == -signal.SIGALRM or not lines else lines[-1][:300]
        raise StorageError(f"Ray at {address}", why, ANSWERS)


def stay_here(address: str | None) -> None:
    """Let Ray take a loopback address for what it is: else it asks for this host's own in its place."""
    if not address or address.startswith(("127.", "localhost")):
        os.environ.setdefault(*LOOPBACK)


def connect(address: str | None, cpus: int | None) -> None:
    """Start Ray or join it.  Raises TemporaryError where a busy machine does not start it in time, or StorageError."""
    stay_here(address)
    import ray  # reads its environment now

    workers = {"env_vars": {k: os.environ[k] for k in [*SETTINGS, *OURS] if k in os.environ}}
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    try:
        if address:
            ray.init(address=address, runtime_env=workers, **quiet)
        else:
            # "local", else it joins any
            start(partial(ray.init, "local", num_cpus=cpus, include_dashboard=False, resources={SLOT: 1}, **quiet))
            keep_secret(Path.home() / ".ray" / "auth_token")
    except Exception as failure:
        where, why = f"Ray at {address or 'this machine'}", (str(failure).strip() or type(failure).__name__)
        if type(failure) is Exception:
            raise TemporaryError(where, why.splitlines()[0], "a machine that is less busy") from failure
        if not isinstance(failure, ConnectionError | RuntimeError | ValueError):
            raise
        raise StorageError(where, why.splitlines()[0], ANSWERS) from failure


def start(init: Callable[[], object]) -> object:
    """Start a cluster of this process's own, and once more, up to STARTS times, where its node was not there in time.

    Ray raises a bare Exception for that, and leaves what it had started.
    """
    import ray

    ours = str(Path(ray.__file__).parent)  # in the command of all that Ray starts, and of no other thread's
    for left in reversed(range(STARTS)):
        before = set(psutil.Process().children(recursive=True))
        try:
            return init()
        except Exception as failure:
            if type(failure) is not Exception:
                raise
            for process in set(psutil.Process().children(recursive=True)) - before:
                with suppress(psutil.NoSuchProcess):  # it has ended
                    if ours in " ".join(process.cmdline()):
                        process.kill()
            if not left:
                raise
    return None


def facts_of(ray: Any) -> dict[str, str]:
    """What cluster a driver is on, as tags."""
    there, nodes = ray.cluster_resources(), [node for node in ray.nodes() if node["Alive"]]
    counts = {"cpus": there.get("CPU", 0), "gpus": there.get("GPU", 0), "nodes": len(nodes)}
    kinds = sorted(kind.removeprefix("accelerator_type:") for kind in there if kind.startswith("accelerator_type:"))
    session = ray.get_runtime_context().gcs_address
    words = {"version": ray.__version__, "address": session, "accelerators": ", ".join(kinds)}
    return {f"ray.{k}": f"{v:g}" for k, v in counts.items()} | {f"ray.{k}": str(v) for k, v in words.items() if v}


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
