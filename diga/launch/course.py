"""The course of a search on one driver: which trial comes next, whether it goes on, how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, Protocol

from diga.errors import DigaError
from diga.launch.failures import MANNERS
from diga.launch.ledger import Answer, Ledger, Taken
from diga.launch.trial import attempt
from diga.launch.tried import UNSCORED, Outcome, Rung, ended
from diga.pipeline import Launch, Place

COMMON = frozenset({"storage", "data"})  # failures that the next trial would meet as well
LATER = 0.5  # seconds until a question that was answered with "later" is asked again


class Watch(Protocol):
    """Whoever shows the progress of trials."""

    def began(self, number: int, changes: Mapping[str, Any]) -> None:
        """A trial was taken."""

    def ended(self, number: int, outcome: Outcome) -> None:
        """A trial is over, or waits at a rung."""


class Course:
    """The trials that are under way here.

    `shared` are fingerprints of stages that every trial reads: until they are in the store one trial alone is under
    way, which computes them, and no other waits with its hands full.  `more` says whether another may begin.
    """

    def __init__(
        self, ledger: Ledger, place: Place, shared: Collection[str], watch: Watch, more: Callable[[], bool]
    ) -> None:
        self.ledger, self.place, self.shared, self.watch, self.more = ledger, place, shared, watch, more
        self.told: dict[int, list[Rung]] = {}
        self.broken: DigaError | None = None  # why a stage that every trial reads cannot be had

    def ready(self) -> bool:
        """Whether all that trials share is in the store."""
        return all(self.place.store.has(fingerprint) for fingerprint in self.shared)

    def next(self) -> Answer:
        """A trial to carry out, "later" or "over"."""
        if self.broken:
            return "over"
        if not self.ready() and (self.told or self.ledger.others_at_work()):
            return "later"
        taken = self.ledger.take(more=self.more())
        for number, outcome in self.ledger.outdone():
            self.watch.ended(number, outcome)
        if isinstance(taken, Taken):
            self.told[taken.number] = []
            self.watch.began(taken.number, taken.changes)
        return taken

    def goes_on(self, number: int, told: Rung) -> bool:
        """Note what a rung came to; whether the trial goes on to the next."""
        self.told[number].append(told)
        if told.failure or told.last:
            return False
        return self.ledger.goes_on(number, told.updates, told.values[self.ledger.sweep.objectives[0].name])

    def end(self, number: int, died: str = "") -> None:
        """A trial is over; `died`: of something it could not tell.

        What is no setting's fault, a full disk or a damaged image, ends the search and leaves the trial to the next.
        """
        told = self.told.pop(number)
        outcome = came_to(told, self.ledger.sweep.objectives[0].name, died)
        at = {rung.at for rung in told} & {*self.shared, UNSCORED}
        if outcome.failure in COMMON or at or (died and not self.ready()):
            again = "typed again it goes on from here"
            self.broken = MANNERS[outcome.failure].error("the search", outcome.error, again)
        elif self.ledger.end(number, outcome):
            outcome = outcome._replace(status="waiting")
        self.watch.ended(number, outcome)


def came_to(told: list[Rung], objective: str, died: str = "") -> Outcome:
    """The outcome of a trial from what its rungs told."""
    last = told[-1] if told else None
    whole = last is not None and not last.failure and not died
    outcome = ended(told, "failed" if not whole else "done" if last and last.last else "pruned", objective)
    outcome = outcome._replace(moment=int(1000 * time.time()))
    return outcome._replace(failure="death", error=died) if died else outcome


class Outdone(BaseException):
    """A trial does not go on, or not yet; no Exception, so that nothing on its way takes it for a failure."""


def alone(course: Course, place: Place, launch: Launch, origin: Mapping[str, str]) -> None:
    """Carry trials out in this process, one after the other."""
    while (taken := course.next()) != "over":
        if isinstance(taken, str):
            time.sleep(LATER)
            continue
        number = taken.number

        def tell(told: Rung, number: int = number) -> None:
            if not course.goes_on(number, told) and not told.last and not told.failure:
                raise Outdone

        with suppress(Outdone):
            attempt(course.ledger.sweep, taken.changes, place, launch, origin, tell, course.ledger.called(number))
        course.end(number)
