"""Writing files so that a reader finds all of one or nothing, knowing them by their digest, naming them safely."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

SPOOL = "metrics.jsonl"  # losses and scores by step, beside a stage
TEMPORARY = ".tmp"  # how names of files under way end; a kill may leave one, nothing reads it
PRIVATE = "resume"  # folder of checkpoints inside a stage under way; not part of the result
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # device names of one system
HARMLESS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?", re.ASCII)
HASHED = re.compile(r".*-[0-9a-f]{8}")


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


def database(uri: str) -> Path | None:
    """The file of an MLflow store that is one, of SQLite."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def slug(name: str) -> str:
    """A name for folders, and for Ray, from any text: itself if harmless, else what is harmless of it and a hash.

    At most 73 characters of [A-Za-z0-9._-].  Two names never share a slug but by a collision of eight
    hexadecimal digits, and a name that looks as if it had been hashed is hashed again.
    """
    if HARMLESS.fullmatch(name) and not RESERVED.fullmatch(name) and not HASHED.fullmatch(name):
        return name
    clean = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:64].strip("-_")
    digest = hashlib.sha256(name.encode("utf8", "surrogatepass")).hexdigest()[:8]
    return f"{clean or 'study'}-{digest}"
