"""Which code, packages, data and machines made a number: on every stage and every cell, so that a mixture is seen."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import distributions, version
from pathlib import Path

import diga
from diga.launch import SETTINGS
from diga.launch.answers import without_password
from diga.plan import StageRun

PACKAGES = ("torch", "numpy", "ray", "mlflow", "pydantic", "pyarrow", "pillow")  # of which a tag says the versions
WORDS = ("DIGA_HOME", "DIGA_DATA", "DIGA_THREADS", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")  # of the environment
LONGEST_DIFF = 400_000  # bytes of a change that is kept


def tags() -> dict[str, str]:
    """What is launching: the command, and `origin`; as "git" and "dirty" again, for tables of older launches."""
    command = without_password(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))
    code = origin()
    return {"git": code["code.sha"], "dirty": code["code.dirty"], "command": command} | code


@cache
def origin() -> dict[str, str]:
    """The code and the packages that compute in this process, as tags.

    code.sha: git's revision, "unknown" outside a checkout; code.dirty: whether the tree differed from it;
    code.source: a digest of the package's own text, which tells two dirty trees apart.
    """
    revision = git("rev-parse", "--short=12", "HEAD")
    dirty = bool(revision) and bool(git("status", "--porcelain", "--untracked-files=no") or new_sources())
    code = {"code.sha": revision or "unknown", "code.dirty": str(dirty).lower(), "code.source": source()}
    packages = " ".join(f"{name}=={version(name)}" for name in PACKAGES)  # in one: a store reads tags one by one
    return code | {"python": platform.python_version(), "platform": platform.platform(), "packages": packages}


def artifacts() -> dict[str, str]:
    """Texts by name: what the tree differs by from its revision, all packages, the environment that counts."""
    spoken = {k: os.environ[k] for k in (*WORDS, *SETTINGS) if k in os.environ}
    facts = {"origin": origin(), "packages": installed(), "environment": spoken, "processors": os.cpu_count()}
    return {"provenance/facts.json": json.dumps(facts, indent=1), "provenance/code.diff": difference()}


def data_of(runs: Iterable[StageRun]) -> dict[str, str]:
    """The fingerprint of everything a cell's stages read, as tags."""
    return {f"data.{use}.{name}": digest for run in runs for use, name, digest in run.facts["data"]}


def merged(origins: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """What a cell's stages come from: where they differ, every value once, in the order of the stages."""
    found: dict[str, list[str]] = {}
    for one in origins:
        for key, value in one.items():
            found.setdefault(key, []).append(value)
    return {key: ", ".join(dict.fromkeys(values)) for key, values in found.items()}


def difference() -> str:
    """What differs from the revision: git's text of it, at most LONGEST_DIFF bytes, and the names of new sources."""
    text = git("diff", "HEAD")
    if len(text) > LONGEST_DIFF:
        text = f"{text[:LONGEST_DIFF]}\n… cut: {len(text):,} characters in all"
    return text + "".join(f"\nnew file, not under version control: {name}" for name in new_sources())


def new_sources() -> list[str]:
    """Python files beside the package's that git does not know."""
    return [n for n in git("ls-files", "--others", "--exclude-standard", ":/*.py").splitlines() if n]


@cache
def source() -> str:
    """Digest of the package's text."""
    root = Path(diga.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@cache
def installed() -> dict[str, str]:
    """Every installed package and its version."""
    return dict(sorted((str(d.name).lower(), d.version) for d in distributions() if d.name))


def git(*words: str) -> str:
    """What git says about the tree this package lies in; empty if it cannot."""
    here = Path(__file__).parent
    try:
        said = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return said.stdout.strip()
