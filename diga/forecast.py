"""A plan's numbers: what would run and why, what it would take, what fits; from recipes and manifests alone.

Nothing here starts anything, opens a dataset or needs torch.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from diga.past import HERE, Estimate, Past
from diga.plan import StageRun, distinct


@dataclass(frozen=True)
class Forecast:
    """What some cells would take: `cells` are the stage runs of each, in the order in which they would be started.

    `probed` are seconds a step that were measured just now, by fingerprint; `names` says of each cell how many
    rows of designs come to it.
    """

    cells: Sequence[Sequence[StageRun]]
    past: Past
    probed: Mapping[str, float] = field(default_factory=dict)
    names: Sequence[int] = ()

    @cached_property
    def once(self) -> dict[str, StageRun]:
        """Every distinct stage run."""
        return distinct(run for chain in self.cells for run in chain)

    @cached_property
    def todo(self) -> dict[str, StageRun]:
        """Those that are not in the store."""
        return {f: run for f, run in self.once.items() if f not in self.past.kept}

    @cached_property
    def each(self) -> list[Sequence[StageRun]]:
        """The stage runs of every row of every design with every seed, as if it were carried out for itself."""
        names = self.names or [1] * len(self.cells)
        return [chain for chain, often in zip(self.cells, names, strict=True) for _ in range(often)]

    # --- why ------------------------------------------------------------------------------

    def reasons(self) -> dict[tuple[str, str], list[StageRun]]:
        """Stage runs that are not in the store, by name of the stage and by why."""
        found: dict[tuple[str, str], list[StageRun]] = defaultdict(list)
        memory: dict[str, str] = {}
        for run in self.todo.values():
            found[run.name, self.past.why(run, memory)].append(run)
        return dict(found)

    # --- how long, how large ----------------------------------------------------------------

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """Of every distinct stage run; what is in the store took what its manifest says."""
        kept = self.past.kept
        known = {f: Estimate(kept[f].seconds, HERE) for f in self.once if f in kept}
        known |= {f: Estimate(self.probed[f] * self.once[f].steps, "probe") for f in self.todo if f in self.probed}
        return known | {f: self.past.estimate(run) for f, run in self.todo.items() if f not in known}

    def hours(self, runs: Iterable[StageRun]) -> tuple[float, list[StageRun]]:
        """Hours of the runs that can be estimated, and the first of each class that cannot."""
        total = 0.0
        unknown: dict[str, StageRun] = {}
        for run in runs:
            seconds = self.estimates[run.fingerprint].seconds
            total += seconds or 0.0
            if seconds is None:
                unknown.setdefault(run.kind, run)
        return total / 3600, list(unknown.values())

    # --- what fits ------------------------------------------------------------------------

    def ends(self, workers: int) -> dict[str, float]:
        """Seconds after the start at which each stage run is over, `workers` at once, first come first served.

        Stage runs of unknown length take no time here: who asks must say so.
        """
        order = {fingerprint: place for place, fingerprint in enumerate(self.todo)}
        missing = {f: {i for i in run.inputs.values() if i in order} for f, run in self.todo.items()}
        readers: dict[str, list[str]] = defaultdict(list)
        for fingerprint, inputs in missing.items():
            for needed in inputs:
                readers[needed].append(fingerprint)
        ready = [(order[f], f) for f, inputs in missing.items() if not inputs]
        heapq.heapify(ready)
        over: dict[str, float] = {}
        busy: list[tuple[float, str]] = []
        now = 0.0
        while ready or busy:
            while ready and len(busy) < workers:
                _, fingerprint = heapq.heappop(ready)
                heapq.heappush(busy, (now + (self.estimates[fingerprint].seconds or 0.0), fingerprint))
            now = busy[0][0]
            while busy and busy[0][0] == now:  # all that end together, before anything is begun
                _, ended = heapq.heappop(busy)
                over[ended] = now
                for reader in readers[ended]:
                    missing[reader].discard(ended)
                    if not missing[reader]:
                        heapq.heappush(ready, (order[reader], reader))
        return over

    def done_by(self, workers: int, deadline: float) -> list[bool]:
        """Which cells would be complete after `deadline` seconds."""
        over = self.ends(workers)
        return [all(over.get(run.fingerprint, 0.0) <= deadline for run in chain) for chain in self.cells]
