"""How many trials share a machine: by what stages like theirs were seen to use of one."""

from __future__ import annotations

import math
from collections.abc import Iterable

from diga.errors import ConfigError
from diga.launch.resources import Resources
from diga.past import Past
from diga.plan import StageRun

ROOM = 1.15  # of what was measured: an allocator's pieces are larger than what lies in them


def packed(chain: Iterable[StageRun], past: Past) -> Resources:
    """CPUs and the part of a GPU that the hungriest stage of a trial takes.

    CPUs: processor seconds by seconds, rounded to tenths, one at least where the stage trains.  GPU: one in as many
    as fit into its memory with some room; none where no such stage ran on one.  Raises ConfigError where a training
    stage was never measured.
    """
    cpus, memory = 1.0, 0.0
    for run in chain:
        uses = past.uses(run)
        if not uses and run.steps:
            what = f"nothing is known of what {run.name!r} uses"
            raise ConfigError("--pack", what, "a first trial without --pack: `diga sweep … --trials 1`")
        for use in uses:
            cpus = max(cpus, use["cpu_seconds"] / max(use["wall_seconds"], 1e-9))
            memory = max(memory, ROOM * use.get("gpu_peak_bytes", 0.0) / use.get("gpu_bytes", 1.0))
    gpus = 1 / max(1, math.floor(1 / memory)) if memory else 0.0
    return Resources(cpus=round(cpus, 1), gpus=math.floor(gpus * 1e4) / 1e4)
