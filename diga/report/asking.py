"""How MLflow is asked: quickly refused where nothing answers, in pages, for no more than has changed, and for very
many runs by several processes."""

from __future__ import annotations

import gc
import re
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from functools import reduce
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa

from diga.errors import StorageError, TemporaryError
from diga.files import database
from diga.processes import cores, pool
from diga.report import runs, trials
from diga.report.snapshot import Snapshot, redacted

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from mlflow import MlflowClient
    from mlflow.entities import Run
    from sqlalchemy.orm import Session

PAGE = 1000
SKEW = 600_000  # milliseconds that clocks of a launch and of a reader may differ by
PATIENCE = 10.0  # seconds until a server is said to be down
IDS = 200  # runs named in one question
FEW = 3 * PAGE  # runs that one process has read when a second one could begin
LEAST = 4_000  # bytes of a database that a cell takes at least
DIGITS = "0123456789abcdef"  # of a run's id, a random number in hexadecimal
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}
LIGHT = ContextVar("LIGHT", default=False)  # whether a page is read here
ACTIVE, DELETED = 1, 2  # as mlflow.entities.ViewType has them


# --- is anybody there? -------------------------------------------------------------------


def reachable(uri: str) -> None:
    """Raises StorageError when nothing answers at a server's address: its client would try again for minutes."""
    try:
        parts = urlsplit(uri)
        kind, host, port = parts.scheme.partition("+")[0], parts.hostname, parts.port
    except ValueError:
        example = "such as sqlite:///mlflow.db or http://127.0.0.1:5000"
        raise StorageError(redacted(uri), "no address", example) from None
    if kind not in PORTS or not host:
        return
    try:
        if kind.startswith("http"):
            urllib.request.urlopen(f"{redacted(uri).rstrip('/')}/health", timeout=PATIENCE).close()
        else:
            socket.create_connection((host, port or PORTS[kind]), PATIENCE).close()
    except urllib.error.HTTPError:
        return  # it answers
    except (OSError, HTTPException) as failure:
        why = f"no answer: {_why(getattr(failure, 'reason', failure))}"
        raise StorageError(redacted(uri), why, "start that server, or name another store") from None
    if not kind.startswith("http"):
        _knock(uri)


def _knock(uri: str) -> None:
    """Connect once: of a database that is not there MLflow would go on asking for minutes."""
    from sqlalchemy import create_engine

    with answered(uri):
        engine = create_engine(uri)
        try:
            engine.connect().close()
        finally:
            engine.dispose()


@contextmanager
def answered(uri: str) -> Iterator[None]:
    """Whatever a store refuses with becomes one line that names it, without anybody's password."""
    try:
        yield
    except Exception as failure:
        module = type(failure).__module__.partition(".")[0]
        if module not in ("mlflow", "sqlalchemy", "requests", "psycopg") and not isinstance(
            failure, OSError | ImportError
        ):
            raise
        why = _why(failure)
        if isinstance(failure, ImportError):
            raise StorageError(redacted(uri), why, "its driver: the extra `diga[postgres]` for PostgreSQL") from failure
        if "database is locked" in str(failure):
            raise TemporaryError(redacted(uri), why, "try again when the process that writes is done") from failure
        raise StorageError(redacted(uri), why, "an MLflow store that answers and can be read") from failure


def _why(failure: Any) -> str:
    """The first line of a failure, without passwords."""
    text = getattr(failure, "strerror", "") or str(failure).strip()
    first = (text.splitlines() or [type(failure).__name__])[0][:300]
    return re.sub(r"//[^/@\s]+@", "//", first)


# --- questions ---------------------------------------------------------------------------


def pages(asked: MlflowClient, experiment: str, wanted: str, deleted: bool = False) -> Iterator[list[Run]]:
    """Runs of an experiment that a filter lets through, oldest first: what is new comes last, and shifts no page."""
    order, token = ["attributes.start_time ASC"], None
    while True:
        with lightly():
            page = asked.search_runs([experiment], wanted, DELETED if deleted else ACTIVE, PAGE, order, token)
        yield list(page)
        token = page.token
        if not token:
            return


def every(asked: MlflowClient, experiment: str, wanted: str) -> list[Run]:
    """All of `pages`, for few runs."""
    return [run for page in pages(asked, experiment, wanted) for run in page]


@contextmanager
def lightly() -> Iterator[None]:
    """Without what goes through the 70,000 objects of a page once more: the collector, again and again, and SQLAlchemy,
    where this process asks a database itself, which at the end of a question takes from each what was read."""
    was, before = gc.isenabled(), LIGHT.set(True)
    gc.disable()
    if "sqlalchemy" in sys.modules:
        from sqlalchemy import event, orm

        if not event.contains(orm.Session, "after_begin", _unexpired):
            event.listen(orm.Session, "after_begin", _unexpired)
    try:
        yield
    finally:
        LIGHT.reset(before)
        if was:
            gc.enable()


def _unexpired(session: Session, *_: object) -> None:
    if LIGHT.get():  # here, and in no other thread's session
        session.expire_on_commit = False


# --- what is new -------------------------------------------------------------------------


class Kind(NamedTuple):
    """Runs of one kind: which they are, which a later launch has retired, what of one is kept, and its schema."""

    name: str
    wanted: str
    retired: str
    line: Callable[[MlflowClient, Run], dict[str, Any]]
    fields: pa.Schema

    def table(self, asked: MlflowClient, found: Iterable[list[Run]]) -> pa.Table:
        """The table of runs, made page by page: MLflow's own objects are ten times its size."""
        return runs.table([self.line(asked, run) for page in found for run in page], self.fields)

    def merged(self, before: pa.Table, fresh: pa.Table, without: Iterable[str] = ()) -> pa.Table:
        """Both, where `fresh` counts, less some runs."""
        return runs.merged(before, fresh, without, self.fields)


CELL = Kind("", "tags.kind = 'cell'", "tags.kind = 'superseded cell'", lambda _, run: runs.line(run), runs.FIELDS)
TRIAL = Kind(".trials", "tags.kind = 'trial'", "tags.kind = 'superseded trial'", trials.line, trials.FIELDS)


def news(
    asked: MlflowClient,
    experiment: str,
    before: Snapshot | None,
    kind: Kind = CELL,
    expected: int = 0,
    crew: Executor | None = None,
) -> Snapshot:
    """All runs of a kind, about `expected`: of those that `before` has, only what may have changed is asked for.

    A run that MLflow calls FINISHED keeps its numbers.  Asked for are all others; those that were finished since
    the last time, or within SKEW before it; those that were open then; and the names of those that are deleted,
    or retired by a later launch, for they may come back.
    """
    old, now = before or Snapshot(runs.table([], kind.fields)), int(time.time() * 1000)
    gone = _gone(asked, experiment, kind)
    since = max(0, old.asked - SKEW)
    finished = f"attributes.status = 'FINISHED' AND attributes.end_time >= {since}"
    fresh = kind.merged(
        kind.table(asked, pages(asked, experiment, f"{kind.wanted} AND attributes.status != 'FINISHED'")),
        _all(asked, experiment, kind, f"{kind.wanted} AND {finished}", expected - old.runs.num_rows, crew),
    )
    seen = set(fresh["run_id"].to_pylist())
    doubtful = (old.open | (old.gone - gone)) - seen - gone
    fresh = kind.merged(fresh, kind.table(asked, _named(asked, experiment, kind.wanted, doubtful)))
    lost = doubtful - set(fresh["run_id"].to_pylist())
    if len(seen) > PAGE and _gone(asked, experiment, kind) != gone:
        now = 0  # what left a page while another was read may have hidden a run: next time all is asked for
    return Snapshot(kind.merged(old.runs, fresh, gone | lost), now, frozenset(gone))


def hands() -> int:
    """Processes that read beside this one."""
    return min(cores(), len(DIGITS)) - 1


@contextmanager
def helpers(uri: str, connected: bool) -> Iterator[Executor | None]:
    """These processes, as copies of this one before it connects: MLflow's import takes as long as 2,000 cells.

    Whether the study is large is not known yet; they cost some milliseconds each.  None where this process has threads
    or may have connections, where a database is too small for very many runs, and where there is no room for them.
    """
    file = database(uri)
    small = file is not None and file.stat().st_size < FEW * LEAST
    with ExitStack() as stack:
        crew = None
        if not (connected or small or threading.active_count() > 1) and hands():
            with suppress(OSError, BrokenProcessPool):
                crew = stack.enter_context(pool(hands(), copies=True))
        yield crew


def _all(
    asked: MlflowClient, experiment: str, kind: Kind, wanted: str, expected: int, crew: Executor | None
) -> pa.Table:
    """Runs that a filter lets through; where they are very many, each core reads those whose ids begin alike."""
    if expected <= FEW or not hands():
        return kind.table(asked, pages(asked, experiment, wanted))
    first, *parts = (f"{wanted} AND attributes.run_id LIKE '{digit}%'" for digit in DIGITS)
    read = [kind.table(asked, pages(asked, experiment, first))]
    if read[0].num_rows * len(DIGITS) > FEW:  # not only expected
        try:
            return reduce(kind.merged, [*read, *_shared(asked, experiment, kind, parts, crew)])
        except BrokenProcessPool:  # one was killed, or a script may not be begun anew
            pass
    return reduce(kind.merged, [*read, *(kind.table(asked, pages(asked, experiment, part)) for part in parts)])


def _shared(
    asked: MlflowClient, experiment: str, kind: Kind, parts: Sequence[str], crew: Executor | None
) -> list[pa.Table]:
    """Runs that each filter lets through, read by this process from the last on and by others from the first."""
    with nullcontext(crew) if crew else pool(hands()) as others:
        sent = [others.submit(_part, str(asked.tracking_uri), experiment, kind.name, part) for part in parts]
        own = [
            kind.table(asked, pages(asked, experiment, part))
            for part, one in zip(reversed(parts), reversed(sent), strict=True)
            if one.cancel()  # nobody has begun it
        ]
        return own + [one.result() for one in sent if not one.cancelled()]


def _part(uri: str, experiment: str, name: str, wanted: str) -> pa.Table:
    """Runs of a kind that a filter lets through, read by a process of the pool."""
    from diga.report.records import client

    asked, kind = client(uri), next(k for k in (CELL, TRIAL) if k.name == name)
    return kind.table(asked, pages(asked, experiment, wanted))


def _gone(asked: MlflowClient, experiment: str, kind: Kind) -> frozenset[str]:
    retired = (run for page in pages(asked, experiment, kind.retired) for run in page)
    deleted = (run for page in pages(asked, experiment, "", deleted=True) for run in page)
    return frozenset(run.info.run_id for found in (retired, deleted) for run in found)


def _named(asked: MlflowClient, experiment: str, wanted: str, ids: Iterable[str]) -> Iterator[list[Run]]:
    """Runs with these ids, of those that are there."""
    names = sorted(i for i in ids if i.isalnum())
    for at in range(0, len(names), IDS):
        some = ", ".join(f"'{name}'" for name in names[at : at + IDS])
        yield from pages(asked, experiment, f"{wanted} AND attributes.run_id IN ({some})")
