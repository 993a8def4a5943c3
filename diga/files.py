"""Writing files so that a reader finds all of one or nothing, and knowing them by their digest."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

SPOOL = "metrics.jsonl"  # losses and scores by step, beside a stage
TEMPORARY = ".tmp"  # how names of files under way end; a kill may leave one, nothing reads it
PRIVATE = "resume"  # folder of checkpoints inside a stage under way; not part of the result


def described(path: Path) -> dict[str, Any]:
    """Size and sha256 of a file."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def write_whole(path: Path, content: bytes) -> None:
    """All of `content` under the final name, or nothing: temporary name, fsync, rename, fsync of the folder."""
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Force a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
