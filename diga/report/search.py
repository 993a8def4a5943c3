"""What tables and figures ask of a sweep: its objectives, its trials in their order, and what they cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from diga.errors import ConfigError
from diga.report import ablation, cells
from diga.report.cells import PERCENT
from diga.report.records import Records
from diga.report.table import number
from diga.report.trials import OBJECTIVE, STATES

if TYPE_CHECKING:  # and where they are used: reports of other studies need no recipes
    from diga.space import Dimension
    from diga.sweep import Halving, Objective

COUNTS = ("label_free/vanished", "cost/")  # beginnings of metrics that are no shares
ENOUGH = 8  # trials below which nothing is said of parameters
READS = "labels of the target"


class Compared(NamedTuple):
    """The main objective of trials that can be compared, by number, and which trials those are."""

    values: dict[int, float]
    which: str


@dataclass(frozen=True, eq=False)
class Search:
    """A sweep as it was declared, and its trials."""

    known: Records
    told: Mapping[str, Any]

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        """What was searched for, the main one first."""
        from diga.sweep import Objective

        return tuple(Objective(**o) for o in self.told["objectives"])

    @property
    def main(self) -> Objective:
        """What trials were ended and ranked by."""
        return self.objectives[0]

    @cached_property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The parameters of the space."""
        from diga.space import Dimension

        return tuple(Dimension(**tupled(d)) for d in self.told["dimensions"])

    @cached_property
    def halving(self) -> Halving | None:
        """The rungs, if trials had any."""
        from diga.sweep import Halving

        return Halving(**tupled(told)) if (told := self.told.get("halving")) else None

    @property
    def early(self) -> tuple[int, ...]:
        """Updates of every rung but the last, which is the whole."""
        return self.halving.rungs[:-1] if self.halving else ()

    @cached_property
    def names(self) -> dict[str, str]:
        """Every parameter by the shortest end of its path that no other has."""
        return {path: _shortest(path, self.paths) for path in self.paths}

    @property
    def paths(self) -> list[str]:
        """Of the parameters, in the order of the space."""
        return [d.path for d in self.dimensions]

    # --- trials -------------------------------------------------------------------------

    @cached_property
    def params(self) -> dict[int, dict[str, Any]]:
        """The setting of every trial: what was asked for, by path."""
        return self._column("params")

    @cached_property
    def rungs(self) -> dict[int, dict[int, float]]:
        """The main objective of every trial by the updates of its rungs, all finite."""
        found = self._column("rungs")
        return {n: {k: v for k, v in rungs.items() if math.isfinite(v)} for n, rungs in found.items()}

    @cached_property
    def status(self) -> dict[int, str]:
        """Of every trial."""
        return self._column("status")

    @cached_property
    def run_of(self) -> dict[int, str]:
        """The run of every trial."""
        return self._column("run_id")

    def values(self, metric: str) -> dict[int, float]:
        """Finite values of a metric in trials that are done: those alone can be compared."""
        found = self._column(metric) if metric in self.known.trials else {}
        return {n: float(v) for n, v in found.items() if self.status[n] == "done" and math.isfinite(v)}

    def scores(self, objective: Objective) -> dict[int, float]:
        """Of every trial that is done, as an objective has it."""
        return self.values(OBJECTIVE + objective.name)

    @cached_property
    def compared(self) -> Compared:
        """What settings are compared by: trials that are done or, of too few, those of the last rung with ENOUGH."""
        done = Compared(self.scores(self.main), "that are done")
        at = {steps: {n: r[steps] for n, r in self.rungs.items() if steps in r} for steps in self.early}
        enough = [Compared(at[k], f"at the rung of {k} updates") for k in reversed(self.early) if len(at[k]) >= ENOUGH]
        return done if len(done.values) >= ENOUGH or not enough else enough[0]

    @cached_property
    def ranked(self) -> list[int]:
        """Trials that are done and have every objective, the best first; of several, what none dominates."""
        from diga.sweep import ranked

        columns = {o.name: self.scores(o) for o in self.objectives}
        whole = set.intersection(*map(set, columns.values()))
        return ranked({n: {name: of[n] for name, of in columns.items()} for n in sorted(whole)}, self.objectives)

    def _column(self, name: str) -> dict[int, Any]:
        trials = self.known.trials
        return dict(zip(map(int, trials["trial"]), trials[name], strict=True))


def of(known: Records) -> Search:
    """The sweep of a study.  Raises ConfigError for a study that is none."""
    if known.sweep is None:
        raise ConfigError(f"study {known.name!r}", "is no sweep", "a study of `diga sweep` for this table")
    return Search(known, known.sweep)


def tupled(value: Any) -> Any:
    """The same with tuples for lists: JSON has none, and declarations have nothing else."""
    if isinstance(value, dict):
        return {k: tupled(v) for k, v in value.items()}
    return tuple(map(tupled, value)) if isinstance(value, list | tuple) else value


def _shortest(path: str, paths: Sequence[str]) -> str:
    parts = path.split(".")
    for n in range(1, len(parts)):
        end = ".".join(parts[-n:])
        if sum(other == end or other.endswith(f".{end}") for other in paths) == 1:
            return end
    return path


# --- how values are said -----------------------------------------------------------------


def scale(metric: str) -> float:
    """What a metric is multiplied by to be printed: shares are percent."""
    return 1.0 if metric.startswith(COUNTS) else PERCENT


def heading(objective: Objective) -> str:
    """An objective with its unit."""
    unit = {"cost/exaflop": "EFLOP"}.get(objective.metric, "%" if scale(objective.metric) == PERCENT else "")
    name = {"target": "target mIoU", "source": "source mIoU"}.get(objective.name, objective.name)
    return f"{name} ({unit})" if unit else name


def shown(value: Any) -> str:
    """A value of a setting in few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def setting(search: Search, number: int) -> str:
    """A trial's setting in one line."""
    asked = search.params.get(number, {})
    return ", ".join(f"{search.names[path]} {shown(asked[path])}" for path in search.paths if path in asked)


# --- sentences ---------------------------------------------------------------------------


def counts(search: Search) -> str:
    """How many trials there are of each state, failures by their kind."""
    states = Counter(search.status.values())
    kinds = Counter(
        str(k) or "unknown" for k in search.known.trials["failure"][search.known.trials["status"] == "failed"]
    )
    why = f" ({', '.join(f'{n} {kind}' for kind, n in kinds.items())})" if kinds else ""
    said = [f"{states[s]} {s}{why if s == 'failed' else ''}" for s in STATES if states[s] or s == "done"]
    total = states.total()
    asked = int(search.told["trials"])
    more = f" of {asked}" if asked != total else ""
    return f"{total}{more} trial{'s' * (total != 1)}: {', '.join(said)}"


def aims(search: Search) -> str:
    """What was searched for, and whether that reads labels of the target."""
    said = [
        f"{o.name} ({o.metric}), {'the more' if o.direction == 'max' else 'the less'} the better, which "
        + (f"reads {READS}: an oracle" if o.oracle else f"reads no {READS}")
        for o in search.objectives
    ]
    return f"Searched for: {'; and '.join(said)}."


def saved(search: Search) -> Iterator[str]:
    """Updates that were computed, against every chain whole and alone."""
    trials = search.known.trials
    over = trials[trials["status"].isin(["done", "pruned", "failed"])]
    steps = over["cost/steps"].sum() if "cost/steps" in over else 0
    if steps and (naive := search.told.get("naive_steps")):
        alone = naive / search.told["trials"] * len(over)
        less = number(100 * (1 - steps / alone), 0)
        yield (
            f"Updates computed: {int(steps):,}; {len(over)} chains, each whole and alone, would take "
            f"{int(alone):,}: {less} % less, by sharing stages and by ending trials."
        )


def caption(search: Search) -> str:
    """Which sweep it is."""
    known, told = search.known, search.told
    return (
        f"Sweep {known.name}: space {told['space']} from {told['base']}, sampler {told['sampler']}, "
        f"seed {told['seed']}. {counts(search)}. {aims(search)}"
    )


def target(known: Records) -> str:
    """The metric that confirmation is about: of the first target, the student as it is, last weights."""
    return str(ablation.plain(cells.metric_of(known)))
