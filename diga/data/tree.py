"""A folder that appears whole or not at all, and says in a manifest what it holds.

It is written under a hidden name beside its place and renamed when complete, so a run that is killed
leaves nothing that looks finished; the next run sweeps up what it left.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diga.errors import ConfigError, StorageError

Manifest = Mapping[str, Any]  # "name", "version", and "knobs": what decided every byte
STRANGER = 3600  # seconds without a change after which another machine's partial folder counts as abandoned


def grow(root: Path, file: str, manifest: Manifest, write: Callable[[Path], None]) -> Path:
    """Let `write` fill the folder `root`, unless a folder of the same manifest is there already.

    The manifest is kept in `root / file`.  Raises ConfigError where another manifest is found there,
    StorageError where something else is.
    """
    root = Path(root).absolute()
    if finished(root, file, manifest):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    sweep(root)
    owner = f"{socket.gethostname()}.{os.getpid()}."
    partial = Path(tempfile.mkdtemp(prefix=_prefix(root) + owner, dir=root.parent))
    try:
        partial.chmod(0o755)
        write(partial)
        (partial / file).write_text(json.dumps(manifest, indent=2) + "\n")
        _publish(partial, root, file, manifest)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root


def finished(root: Path, file: str, manifest: Manifest) -> bool:
    """Is `root` there with this manifest?  Raises ConfigError or StorageError as `grow` does."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / file).read_text())
        version, knobs = found["version"], dict(found["knobs"])
    except (OSError, ValueError, KeyError, TypeError):
        raise StorageError(root, f"is there without a readable {file}", "an empty or a new folder") from None
    if version != manifest["version"]:
        raise ConfigError(root, f"holds version {version}", f"{manifest['version']}, in another folder")
    wanted = manifest["knobs"]
    changed = [key for key in sorted({*knobs, *wanted}) if knobs.get(key) != wanted.get(key)]
    if changed:
        has, asked = (", ".join(f"{key}={side.get(key)}" for key in changed) for side in (knobs, wanted))
        raise ConfigError(root, f"was made with {has}", f"asked for {asked}; choose another folder")
    return True


def sweep(root: Path) -> None:
    """Remove what runs that died left beside `root`; what a living run writes stays."""
    for left in root.parent.glob(f"{_prefix(root)}*"):
        host, _, pid = left.name.removeprefix(_prefix(root)).rpartition(".")[0].rpartition(".")
        here = host == socket.gethostname() and pid.isdigit()
        if not _alive(int(pid)) if here else time.time() - left.stat().st_mtime > STRANGER:
            shutil.rmtree(left, ignore_errors=True)


def _prefix(root: Path) -> str:
    return f".{root.name}.partial."


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _publish(partial: Path, root: Path, file: str, manifest: Manifest) -> None:
    """Give the finished folder its name; whoever was first wins, and both wrote the same."""
    try:
        os.rename(partial, root)
    except OSError as error:
        if not finished(root, file, manifest):
            raise StorageError(root, f"cannot be written: {error.strerror}", "a new folder") from error
