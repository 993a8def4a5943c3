"""Losses and scores by step, appended to a file beside the stage; whoever tracks reads it from there.

A run that goes on after a kill repeats itself exactly, so steps that are already in the file are
not written again, and each stands there once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from diga.files import SPOOL


class Spool:
    """Lines `{"step": 3, "time": 1.7e12, "values": {"loss/source": 0.5}}`, time in milliseconds."""

    def __init__(self, folder: Path, write: bool = True) -> None:
        self.path = folder / SPOOL
        self.write = write
        self.last = self._mend() if write else -1

    def _mend(self) -> int:
        """Drop a line that a kill cut short, and find the last step."""
        if not self.path.exists():
            return -1
        text = self.path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:
            self.path.write_bytes(whole)
        return max((line["step"] for line in map(json.loads, whole.splitlines())), default=-1)

    def append(self, rows: Mapping[int, Mapping[str, float]]) -> None:
        """Add the values of steps that are not there yet."""
        new = {step: values for step, values in rows.items() if step > self.last}
        if not new or not self.write:
            return
        now = int(time.time() * 1000)
        lines = [json.dumps({"step": s, "time": now, "values": dict(v)}) for s, v in sorted(new.items())]
        with self.path.open("a") as file:
            file.write("\n".join(lines) + "\n")
        self.last = max(new)
