"""What came of a trial, as values: what a worker tells of a rung, how the trial ended, what the sweep knows of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

NUMBER, DRIVER, SO_FAR = "number", "driver", "so far"  # attributes of a trial in its storage
NOBODYS = ""  # in the place of a driver: what is SO_FAR of the trial is known, and it waits at a rung for its rivals
UNSCORED = "objective"  # where a trial fails whose scores lack what is searched for


class Rung(NamedTuple):
    """What a worker tells of one rung: its scored values by the objectives' names, and what it computed for it."""

    updates: int  # of the last training stage
    last: bool
    values: dict[str, float]
    cell: str  # fingerprint of the stage that scored
    seconds: float  # of what it computed itself
    steps: int  # updates, likewise
    exaflop: float | None = None  # of the whole chain, computed or not; None: unknown
    failure: str = ""  # class of the failure that ended it
    error: str = ""
    at: str = ""  # fingerprint of the stage that failed, or UNSCORED


class Outcome(NamedTuple):
    """Where a trial stands or how it ended."""

    status: str  # done, pruned, failed, stopped, running, waiting (at a rung, for its rivals)
    values: Mapping[str, float] = {}
    rungs: Mapping[str, float] = {}  # value of the first objective by updates, as text
    cell: str = ""
    seconds: float = 0.0
    steps: int = 0
    exaflop: float | None = None
    failure: str = ""
    error: str = ""
    moment: int = 0  # when that was known, in milliseconds


class Tried(NamedTuple):
    """A trial: number, all changes to the base, those that were suggested, and what came of it."""

    number: int
    changes: Mapping[str, Any]
    suggested: Mapping[str, Any]
    outcome: Outcome

    @property
    def done(self) -> bool:
        """Whether it can be ranked at all."""
        return self.outcome.status == "done"


def ended(told: list[Rung], status: str, objective: str) -> Outcome:
    """The outcome of a trial from what its rungs told."""
    if not told:
        return Outcome(status)
    last, good = told[-1], [t for t in told if not t.failure]
    return Outcome(
        status,
        values=last.values if status == "done" else {},
        rungs={str(t.updates): t.values[objective] for t in good},
        cell=good[-1].cell if good else "",
        seconds=sum(t.seconds for t in told),
        steps=sum(t.steps for t in told),
        exaflop=last.exaflop,
        failure=last.failure,
        error=last.error,
    )


def waits(trial: FrozenTrial) -> bool:
    """Whether a trial waits at a rung for its rivals."""
    return SO_FAR in trial.user_attrs and trial.user_attrs.get(DRIVER) == NOBODYS


def numbered(own: Iterable[FrozenTrial]) -> dict[int, FrozenTrial]:
    """Those that have begun, by number."""
    return {t.user_attrs[NUMBER]: t for t in own if NUMBER in t.user_attrs}
