"""Finished stages on disk: published whole, named by fingerprint, verified before they are believed.

<root>/ab/ab12…/            a finished stage: its files and manifest.json with a sha256 of each
<root>/ab/ab12….work-5e…/   one under way, or cut short: each owner has its own, begun as what the last one left
<root>/ab/ab12….lease.1     who computes it now
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from diga import lease
from diga.errors import StorageError
from diga.files import PRIVATE, TEMPORARY, described, sync, write_whole

MANIFEST = "manifest.json"
SEAL = "sha256"  # of the manifest itself
FULL = {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG}  # what a disk answers, whoever writes


class Found(NamedTuple):
    """Where a stage's files are, and whether this call made them."""

    folder: Path
    how: Literal["found", "computed"]


class Raised(Exception):
    """A stage's own OSError on its way out, past what is said of the disk's."""

    def __init__(self, failure: OSError) -> None:
        super().__init__(failure)
        self.failure = failure


class Store:
    """Content-addressed stage results under one folder that every worker sees."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: dict[str, int] = {}

    def folder(self, fingerprint: str) -> Path:
        """Where the finished stage is, or will be."""
        return self.root / fingerprint[:2] / fingerprint

    def work(self, fingerprint: str) -> Path:
        """Where the stage is being made, or was when it was cut short; a name nobody uses if nowhere."""
        folder = self.folder(fingerprint)
        return next(iter(sorted(folder.parent.glob(f"{fingerprint}.work-*"))), folder.with_suffix(".work"))

    def claims(self, fingerprint: str) -> Path:
        """What the claims on the stage are called, but for their numbers."""
        return self.folder(fingerprint).with_suffix(".lease")

    def has(self, fingerprint: str) -> bool:
        """Whether a finished stage stands there; `find` also verifies it."""
        return (self.folder(fingerprint) / MANIFEST).exists()

    def find(self, fingerprint: str) -> Path | None:
        """The finished stage, every byte verified once by this process; None if there is none, or a damaged one.

        Nothing is written: `obtain` sets a damaged one aside and has it made again.
        """
        return None if self._missing(fingerprint) else self.folder(fingerprint)

    def found(self, fingerprint: str) -> Path:
        """The finished stage.  Raises StorageError if there is none, or a damaged one, and names the file."""
        if why := self._missing(fingerprint):
            raise StorageError(why, "a finished stage was expected", "type the command again: it is made anew")
        return self.folder(fingerprint)

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
        Raises StorageError when the disk refuses, is full or is read-only, and whatever else `compute`
        raises, as it is; what it has written stays for the next try.
        """
        with self._refusals():
            claim = lease.Lease(self.claims(fingerprint))
            while not (folder := self.find(fingerprint)):
                if not claim.try_take():
                    on_wait(claim.owner())
                    time.sleep(lease.POLL)
                elif made := self._made(fingerprint, compute, facts, claim):
                    return made
            return Found(folder, "found")

    def _made(
        self,
        fingerprint: str,
        compute: Callable[[Path], dict[str, Any]],
        facts: dict[str, Any],
        claim: lease.Lease,
    ) -> Found | None:
        """The stage, made under a claim; None if another process took over while this one was frozen."""
        with claim.beating():
            if why := self._missing(fingerprint):
                set_aside(self.folder(fingerprint), why)
            else:
                return Found(self.folder(fingerprint), "found")
            work = self._own(fingerprint, claim)
            start = time.monotonic()
            try:
                if damaged(work):  # else its owner was killed between sealing and naming it
                    meta = by_itself(compute, work)
                    meta |= {"seconds": meta.get("seconds", time.monotonic() - start)}
                    document = {"fingerprint": fingerprint, "facts": facts, "meta": meta}
                    self._publish(work, self.folder(fingerprint), document)
                else:
                    self._name(work, self.folder(fingerprint))
            except Exception:
                if claim.held() and self._missing(fingerprint):
                    raise
                return None  # whoever took over has taken the folder away, or has published first
            if claim.held():
                self._sweep(self.folder(fingerprint))
            return Found(self.folder(fingerprint), "computed")

    def _own(self, fingerprint: str, claim: lease.Lease) -> Path:
        """This claim's own work folder, with what the last owner left.

        A dead owner's folder is taken; one that may wake up has it copied, so that nothing it still
        writes, by an open file or by name, is in ours.
        """
        folder = self.folder(fingerprint)
        own = folder.with_suffix(f".work-{claim.id}")
        left = self.work(fingerprint)
        if left.exists() and claim.silent:
            copy = folder.with_suffix(f".copy-{claim.id}")
            shutil.copytree(left, copy)
            os.rename(copy, own)
        elif left.exists():
            os.rename(left, own)
        own.mkdir(exist_ok=True)
        self._sweep(folder, own)
        return own

    def _publish(self, work: Path, folder: Path, document: dict[str, Any]) -> None:
        """Seal the work folder and give it its final name; a second publisher adopts the first's."""
        for torn in [*work.rglob(f"*{TEMPORARY}"), work / MANIFEST]:  # of an owner killed while it wrote
            torn.unlink(missing_ok=True)
        kept = sorted(p for p in work.rglob("*") if PRIVATE not in p.relative_to(work).parts)
        document["files"] = {str(p.relative_to(work)): described(p) for p in kept if p.is_file()}
        write_whole(work / MANIFEST, sealed(document))
        for path in [*kept, work]:
            sync(path)
        self._name(work, folder)

    def _name(self, work: Path, folder: Path) -> None:
        """Give a sealed work folder its final name, without its checkpoints."""
        shutil.rmtree(work / PRIVATE, ignore_errors=True)
        try:
            os.rename(work, folder)
        except OSError:
            if damaged(folder):
                raise
            shutil.rmtree(work, ignore_errors=True)
        for parent in (folder.parent, self.root):
            sync(parent)

    def _sweep(self, folder: Path, but: Path | None = None) -> None:
        """Remove what earlier owners left."""
        for kind in ("work", "copy"):
            for left in folder.parent.glob(f"{folder.name}.{kind}-*"):
                if left != but:
                    shutil.rmtree(left, ignore_errors=True)

    def _missing(self, fingerprint: str) -> str:
        """Why the finished stage cannot be used, naming the file; empty if it can."""
        folder = self.folder(fingerprint)
        try:
            changed = (folder / MANIFEST).stat().st_mtime_ns
        except OSError as failure:
            return f"{folder / MANIFEST}: {failure.strerror}"
        if self._verified.get(fingerprint) != changed:
            if damage := damaged(folder):
                return damage
            self._verified[fingerprint] = changed
        return ""

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Say what the disk refuses as StorageError."""
        try:
            yield
        except Raised as own:
            raise own.failure from own.failure.__cause__
        except OSError as failure:
            free = shutil.disk_usage(self.root).free if self.root.exists() else 0
            place = failure.filename or self.root
            raise StorageError(place, failure.strerror or str(failure), f"{free:,} bytes are free there") from failure


def by_itself(compute: Callable[[Path], dict[str, Any]], work: Path) -> dict[str, Any]:
    """What `compute` returns.  Raises its OSError as Raised, unless it is the disk that refuses."""
    try:
        return compute(work)
    except OSError as failure:
        if failure.errno in FULL:
            raise
        raise Raised(failure) from failure


def sealed(document: dict[str, Any]) -> bytes:
    """The text of a manifest, closed by a digest of the rest of itself."""
    document = {k: v for k, v in document.items() if k != SEAL}
    digest = hashlib.sha256(json.dumps(document, indent=1).encode()).hexdigest()
    return json.dumps(document | {SEAL: digest}, indent=1).encode()


def damaged(folder: Path) -> str:
    """What differs from the manifest, naming file and digests; empty if nothing does."""
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
        document = json.loads(content)
        files = document["files"]
        if content != sealed(document):
            return f"{path}: its own digest differs"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as failure:
        return f"{path}: unreadable ({failure})"
    for name, told in files.items():
        path = folder / name
        if not path.is_file():
            return f"{path}: missing"
        if (found := described(path)) != told:
            return f"{path}: sha256 {found['sha256'][:12]}, manifest says {told['sha256'][:12]}"
    return ""


def set_aside(folder: Path, why: str) -> None:
    """Move a damaged stage, if there is one, out of the way, with a note of what was wrong."""
    if not folder.exists():
        return
    grave = folder.with_suffix(f".damaged-{time.time_ns()}")
    os.rename(folder, grave)
    with suppress(OSError):  # a full disk
        (grave / "DAMAGE.txt").write_text(why + "\n")
    print(f"warning: {why}; it is set aside as {grave.name} and made again", flush=True)
