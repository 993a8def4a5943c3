"""Where a training can go on: written whole, digested, and the one before kept in case of damage."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from diga.files import write_whole

KEEP = 2


def save(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write the state after `step` finished steps; older ones than the last two go."""
    folder.mkdir(exist_ok=True)  # inside the work folder; where that is gone, somebody else has taken over
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    write_whole(folder / f"{step:08d}.{digest[:16]}.pt", content)
    for old in sorted(folder.glob("*.pt"))[:-KEEP]:
        old.unlink(missing_ok=True)


def latest(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The newest state whose digest is right; a damaged one is named, removed and passed over."""
    for path in sorted(folder.glob("*.pt"), reverse=True):
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # another worker found it damaged
            continue
        found, told = hashlib.sha256(content).hexdigest()[:16], path.name.split(".")[1]
        if found == told:
            state: dict[str, Any] = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
            return state
        print(f"warning: {path}: sha256 {found}, its name says {told}; going back to the one before", flush=True)
        path.unlink(missing_ok=True)
    return None


def write_weights(path: Path, state: dict[str, Any]) -> None:
    """A file of tensors, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(path, buffer.getvalue())


def read_weights(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The tensors of a file; nothing in it is executed."""
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state
