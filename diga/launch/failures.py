"""How a stage can fail and what is done about it: a table, and a note beside the store of what failed for good.

No manner of trying again touches what a stage is: its fingerprint, and so its result, stay.  A try
after running out of memory gets more room; the others get just what they had.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from diga.errors import ConfigError, DataError, DigaError, Diverged, StorageError, TemporaryError
from diga.files import write_whole
from diga.store import Store


class Ended(DigaError):
    """A stage ended in an error nobody foresaw."""


class OutOfMemory(StorageError):
    """A stage asked for more memory than there was."""


class WorkerDied(TemporaryError):
    """The process that carried a stage out, or its node, is no more."""


class Manner(NamedTuple):
    """What is done about one class of failure."""

    error: type[DigaError]
    tries: int  # in one launch, the first included
    wider: bool  # whether the next try gets more room
    typed_again: bool  # whether typing the launch again tries again; else only `diga retry` does
    meaning: str


MANNERS = {  # the first whose error a failure is
    "memory": Manner(OutOfMemory, 2, True, True, "out of memory, of the node or of the device"),
    "death": Manner(WorkerDied, 4, False, True, "the worker process or its node died"),
    "divergence": Manner(Diverged, 1, False, False, "a loss that is not finite, and would be again"),
    "data": Manner(DataError, 1, False, True, "images or labels that cannot be used"),
    "storage": Manner(StorageError, 1, False, True, "a disk or a store that refuses"),
    "setting": Manner(ConfigError, 1, False, True, "a value that cannot be meant"),
    "other": Manner(DigaError, 1, False, True, "an error nobody foresaw"),
}
LASTING = frozenset(kind for kind, manner in MANNERS.items() if not manner.typed_again)


def kind_of(failure: DigaError) -> str:
    """The class of a failure: a key of MANNERS."""
    return next(kind for kind, manner in MANNERS.items() if isinstance(failure, manner.error))


def foreseen(failure: Exception, where: str) -> DigaError:
    """What a user should read of an exception that a stage raised."""
    if isinstance(failure, DigaError):
        return failure
    text = f"{type(failure).__name__}: {failure}"
    if isinstance(failure, MemoryError) or "OutOfMemory" in text or "can't allocate memory" in text:
        return OutOfMemory(where, text, "less at once, or a larger node")
    return Ended(where, text, "--debug shows where")


# --- what failed for good ------------------------------------------------------------------


def note(store: Store, fingerprint: str, failure: DigaError, tries: int) -> None:
    """Write down beside the store how a stage failed."""
    told = {"class": kind_of(failure), "tries": tries, "line": [failure.where, failure.what, failure.expected]}
    path = noted_at(store, fingerprint)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(told).encode())


def noted(store: Store, fingerprint: str) -> DigaError | None:
    """How a stage failed for good before; None where nothing that can be read is noted."""
    try:
        told = json.loads(noted_at(store, fingerprint).read_bytes())
        return MANNERS[told["class"]].error(*told["line"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget(store: Store, fingerprint: str, kinds: Collection[str]) -> None:
    """A stage that failed so may be tried again."""
    failure = noted(store, fingerprint)
    if failure is None or kind_of(failure) in kinds:
        noted_at(store, fingerprint).unlink(missing_ok=True)


def noted_at(store: Store, fingerprint: str) -> Path:
    """Where the note lies."""
    return store.folder(fingerprint).with_suffix(".failed")
