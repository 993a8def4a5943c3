"""Which code made a number: on every cell, so that a report can warn of mixtures."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from diga.launch.tracking import shown


def tags() -> dict[str, str]:
    """Git revision, whether the tree was dirty, and the command; "unknown" outside a checkout."""
    revision = git("rev-parse", "--short=12", "HEAD")
    dirty = bool(revision) and bool(git("status", "--porcelain", "--untracked-files=no"))
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {"git": revision or "unknown", "dirty": str(dirty).lower(), "command": shown(command)}


def git(*words: str) -> str:
    """What git says about the tree this package lies in; empty if it cannot."""
    here = Path(__file__).parent
    try:
        said = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.strip()
