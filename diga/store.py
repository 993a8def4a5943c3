"""Finished stages on disk: published whole, named by fingerprint, verified before they are believed.

<root>/ab/ab12…/            a finished stage: its files and manifest.json with a sha256 of each
<root>/ab/ab12….work/       one under way, or cut short: whoever takes it over goes on from there
<root>/ab/ab12….lease       who computes it now
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from diga import lease
from diga.errors import StorageError
from diga.files import PRIVATE, described, sync, write_whole

MANIFEST = "manifest.json"


class Found(NamedTuple):
    """Where a stage's files are, and whether this call made them."""

    folder: Path
    how: Literal["found", "computed"]


class Store:
    """Content-addressed stage results under one folder that every worker sees."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: dict[str, int] = {}

    def folder(self, fingerprint: str) -> Path:
        """Where the finished stage is, or will be."""
        return self.root / fingerprint[:2] / fingerprint

    def work(self, fingerprint: str) -> Path:
        """Where the stage is being made."""
        return self.folder(fingerprint).with_suffix(".work")

    def has(self, fingerprint: str) -> bool:
        """Whether a finished stage stands there; `find` also verifies it."""
        return (self.folder(fingerprint) / MANIFEST).exists()

    def find(self, fingerprint: str) -> Path | None:
        """The finished stage, every byte verified once by this process; None if there is none.

        A damaged one is set aside under a name that says so, and counts as missing.
        """
        folder = self.folder(fingerprint)
        try:
            changed = (folder / MANIFEST).stat().st_mtime_ns
        except FileNotFoundError:
            return None
        if self._verified.get(fingerprint) == changed:
            return folder
        if damage := damaged(folder):
            set_aside(folder, damage)
            return None
        self._verified[fingerprint] = changed
        return folder

    def manifest(self, fingerprint: str) -> dict[str, Any]:
        """The manifest of a finished stage: facts, files, meta."""
        document: dict[str, Any] = json.loads((self.folder(fingerprint) / MANIFEST).read_text())
        return document

    def obtain(
        self,
        fingerprint: str,
        compute: Callable[[Path], dict[str, Any]],
        facts: dict[str, Any],
        on_wait: Callable[[str], None] = lambda owner: None,
    ) -> Found:
        """The stage's folder, computed by whoever comes first; the others wait.

        `compute(work)` leaves its files in `work` and returns what the manifest should also say.
        Raises StorageError when the disk refuses, and whatever `compute` raises; the work folder
        stays for the next try.
        """
        claim = lease.Lease(self.folder(fingerprint).with_suffix(".lease"))
        while True:
            if folder := self.find(fingerprint):
                return Found(folder, "found")
            if not claim.try_take():
                on_wait(lease.owner(claim.path))
                lease.wait(claim.path)
                continue
            with claim.beating():
                if folder := self.find(fingerprint):
                    return Found(folder, "found")
                return Found(self._compute(fingerprint, compute, facts), "computed")

    def _compute(self, fingerprint: str, compute: Callable[[Path], dict[str, Any]], facts: dict[str, Any]) -> Path:
        work = self.work(fingerprint)
        try:
            work.mkdir(parents=True, exist_ok=True)
            start = time.monotonic()
            meta = compute(work)
            meta |= {"seconds": meta.get("seconds", time.monotonic() - start)}
            return self._publish(fingerprint, {"fingerprint": fingerprint, "facts": facts, "meta": meta})
        except OSError as failure:
            free = shutil.disk_usage(self.root).free if self.root.exists() else 0
            raise StorageError(
                failure.filename or work, f"{failure.strerror or failure}", f"{free:,} bytes are free there"
            ) from failure

    def _publish(self, fingerprint: str, document: dict[str, Any]) -> Path:
        """Seal the work folder and give it its final name; a second publisher adopts the first's."""
        work, folder = self.work(fingerprint), self.folder(fingerprint)
        shutil.rmtree(work / PRIVATE, ignore_errors=True)
        document["files"] = {str(f.relative_to(work)): described(f) for f in sorted(work.rglob("*")) if f.is_file()}
        write_whole(work / MANIFEST, json.dumps(document, indent=1).encode())
        for path in [*work.rglob("*"), work]:
            sync(path)
        try:
            os.rename(work, folder)
        except OSError:
            if self.find(fingerprint) is None:
                raise
            shutil.rmtree(work, ignore_errors=True)
        sync(folder.parent)
        return folder


def damaged(folder: Path) -> str:
    """What differs from the manifest, naming file and digests; empty if nothing does."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError) as failure:
        return f"{folder / MANIFEST}: unreadable ({failure})"
    for name, told in files.items():
        path = folder / name
        if not path.is_file():
            return f"{path}: missing"
        if (found := described(path)) != told:
            return f"{path}: sha256 {found['sha256'][:12]}, manifest says {told['sha256'][:12]}"
    return ""


def set_aside(folder: Path, why: str) -> None:
    """Move a damaged stage out of the way, with a note of what was wrong."""
    grave = folder.with_suffix(f".damaged-{time.time_ns()}")
    try:
        os.rename(folder, grave)
        (grave / "DAMAGE.txt").write_text(why + "\n")
    except OSError:
        if folder.exists():
            raise
    print(f"warning: {why}; it is set aside as {grave.name} and made again", flush=True)
