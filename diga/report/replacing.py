"""A folder that is replaced as a whole: whoever looks finds the old one or the new one, and never none.

`final` is a symbolic link to a version beside it, in `.versions/<its name>/`, and the one step that a reader can see is
the renaming of a new link over the old, which every file system of POSIX does at once.  The version before the last
is kept, for readers who are in it; those before that are removed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from diga.errors import ConfigError

VERSIONS = ".versions"


@contextmanager
def replacing(final: Path, is_ours: Callable[[Path], bool]) -> Iterator[Path]:
    """A new folder that takes `final`'s place when the block ends well; else nothing has changed.

    Raises ConfigError where `final` holds something that `is_ours` does not know.
    """
    if (final.exists() or final.is_symlink()) and not is_ours(final):
        raise ConfigError(final, "is in the way and is no report", "another folder for reports, or none there")
    versions = final.parent / VERSIONS / final.name
    versions.mkdir(parents=True, exist_ok=True)
    fresh = versions / f".new-{uuid.uuid4().hex[:12]}"
    fresh.mkdir()
    try:
        yield fresh
        with _alone(versions):
            _publish(fresh, final, versions)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        _tidy(versions)
        raise


@contextmanager
def _alone(versions: Path) -> Iterator[None]:
    """One writer of a report at a time; how long others write before is nobody's business."""
    with (versions / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _publish(fresh: Path, final: Path, versions: Path) -> None:
    version = versions / fresh.name.removeprefix(".new-")
    fresh.rename(version)
    before = Path(os.readlink(final)).name if final.is_symlink() else _moved_in(final, versions)
    link = versions / f".link-{version.name}"
    link.symlink_to(Path(VERSIONS) / final.name / version.name)
    os.replace(link, final)
    for old in versions.iterdir():
        if old.is_dir() and not old.name.startswith(".") and old.name not in (version.name, before):
            shutil.rmtree(old, ignore_errors=True)


def _moved_in(final: Path, versions: Path) -> str:
    """A folder of an older layout becomes a version; for this once there is a moment without."""
    if not final.exists():
        return ""
    name = f"before-{uuid.uuid4().hex[:12]}"
    final.rename(versions / name)
    return name


def _tidy(versions: Path) -> None:
    """No trace of a report that was never there."""
    for folder in (versions, versions.parent):
        try:
            folder.rmdir()
        except OSError:
            return
