"""What in a store nobody refers to any more, and how it is taken away without harm to whoever works there."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from diga.errors import StorageError, TemporaryError
from diga.lease import PATIENCE, POLL, Lease

FINISHED = "finished, and no cell refers to it"
LEFT = "cut short, and no cell refers to it"
DAMAGED = "set aside as damaged"
GONE = "half deleted"
NAME = re.compile(r"(?P<fingerprint>[0-9a-f]{16})(?P<rest>\.(?P<kind>work|copy|damaged|gone)-[0-9a-z]+)?")
SLACK = 2.0  # seconds beyond a lease's patience


class Waste(NamedTuple):
    """A folder of a store that may go: of which stage run, why, and how large it is."""

    path: Path
    fingerprint: str
    why: str
    bytes: int


def waste(root: Path, referred: Collection[str]) -> Iterator[Waste]:
    """Folders under a store's root that none of the stage runs `referred` to needs; other things are not looked at.

    What a stage that is referred to left when it was cut short stays: it goes on from there.
    """
    for path in sorted(root.glob("??/*")):
        found = NAME.fullmatch(path.name)
        if not found or not path.is_dir() or path.is_symlink() or path.parent.name != path.name[:2]:
            continue
        kind, fingerprint = found["kind"], found["fingerprint"]
        why = {None: FINISHED, "work": LEFT, "copy": LEFT, "damaged": DAMAGED, "gone": GONE}[kind]
        if why in (DAMAGED, GONE) or fingerprint not in referred:
            yield Waste(path, fingerprint, why, size_of(path))


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file() or p.is_symlink())


def idle(root: Path) -> None:
    """Raises TemporaryError, naming the owner, while somebody computes a stage in the store.

    A lease whose owner has died is told from a living one as a waiter does: by its silence.
    """
    claims = [Lease(base) for base in sorted({path.with_suffix("") for path in root.glob("??/*.lease.*")})]
    deadline = time.monotonic() + PATIENCE + SLACK
    while claims := [claim for claim in claims if not _dead(claim)]:
        if time.monotonic() > deadline:
            stage = claims[0].base.stem
            raise TemporaryError(root, f"{claims[0].owner()} computes {stage}", "a store in which nobody works")
        time.sleep(POLL)


def _dead(claim: Lease) -> bool:
    if taken := claim.try_take():
        claim.release()
    return taken


def remove(item: Waste) -> bool:
    """Delete a folder; False where somebody has begun to work on its stage.  Raises StorageError if the disk refuses.

    It is claimed and given another name first: whoever looks for it finds all of it, or nothing.
    """
    claim = Lease(item.path.parent / f"{item.fingerprint}.lease")
    if not claim.try_take():
        return False
    grave = item.path.with_name(f"{item.fingerprint}.gone-{claim.id}")
    try:
        item.path.rename(grave)
    except OSError as failure:
        raise StorageError(item.path, failure.strerror or str(failure), "a folder that may be deleted") from None
    finally:
        claim.release()
    try:
        shutil.rmtree(grave)
    except OSError as failure:
        raise StorageError(grave, failure.strerror or str(failure), "a folder that may be deleted") from None
    return True
