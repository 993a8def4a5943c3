"""What a stage used of its machine: for whoever packs stages on CPUs and GPUs, and no part of what the stage is."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

STATUS, MARKS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
FORGET_PEAK = "5"  # what Linux takes for: the peak begins anew


@contextmanager
def measured(device: torch.device) -> Iterator[dict[str, float]]:
    """A table that the end of the block fills with what this process used in it.

    cpu_seconds: of all its threads and the processes it has waited for; wall_seconds; peak_bytes: the most it
    held in memory, libraries and driver included; on a GPU also gpu_peak_bytes, the most torch had
    allocated there, and gpu_bytes, all the device has.  After a restart they are of the last process alone.
    """
    use: dict[str, float] = {}
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):  # another system: the peak is then the process's since it began, which is no less
        MARKS.write_text(FORGET_PEAK)
    cpu, wall = cpu_seconds(), time.monotonic()
    yield use
    use |= {"cpu_seconds": cpu_seconds() - cpu, "wall_seconds": time.monotonic() - wall, "peak_bytes": peak()}
    if on_gpu:
        total = torch.cuda.get_device_properties(device).total_memory
        use |= {"gpu_peak_bytes": torch.cuda.max_memory_allocated(device), "gpu_bytes": total}


def cpu_seconds() -> float:
    """Of this process and the children it has waited for, in the system or not."""
    waited_for = os.times()  # in hundredths, within which a short stage is over
    return time.process_time() + waited_for.children_user + waited_for.children_system


def peak() -> int:
    """The most bytes this process held in memory since MARKS was written."""
    with suppress(OSError, StopIteration):
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
