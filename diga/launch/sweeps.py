"""A sweep, carried out: declared, taught what others have learnt, searched, recorded."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from diga.cost import exaflop
from diga.errors import ConfigError, DigaError
from diga.identity import Digest
from diga.launch import storage
from diga.launch.answers import REFUSALS, refusal, without_password
from diga.launch.course import Course, Watch
from diga.launch.ledger import Ledger
from diga.launch.studies import every
from diga.launch.tracking import Tracker
from diga.launch.trial import chain_of, digest_at
from diga.launch.trial_mirror import TrialMirror, lessons
from diga.launch.tried import Tried
from diga.pipeline import Place
from diga.plan import StageRun, stage_runs
from diga.space import Changes, Explored, Space
from diga.sweep import COMPUTE, Sweep, ranked

TELLING = 3.0  # seconds between two rounds to MLflow
PATIENCE = 60.0  # seconds without a record taken after which a finished search gives MLflow up

Hands = Callable[[Course], None]  # what carries trials out until there are none left


class Terms(NamedTuple):
    """How far a search goes: hours after which no trial is begun, what of GPUs (of workers, where it has none) a trial
    occupies, whether others teach it.
    """

    budget: float = float("inf")
    each: float = 1.0
    learn: bool = True


class Search:
    """One driver's part in a sweep."""

    def __init__(self, sweep: Sweep, space: Space, found: Explored, place: Place, url: str | None = None) -> None:
        self.sweep, self.place = sweep, place
        folder = storage.folder_of(place.home, sweep.name)
        self.chain = stage_runs(sweep.base, digest_at(place))
        if exaflop(self.chain) is None and any(o.metric == COMPUTE for o in sweep.objectives):
            what = "compute, and a network or a stage has no cost model"
            raise ConfigError("--objective", what, "another objective, or its cost in diga/cost.py")
        self.shared = shared(self.chain, found, digest_at(place))
        self.question = question(sweep, self.chain[-1].fingerprint)
        where = without_password(url or str(folder))
        self.ledger = Ledger(sweep, space, storage.storage_at(url, folder), folder, where)
        self.ledger.declare(self.question)
        self.taught = 0  # settings that others had measured and this one was fed
        self.trouble = ""  # what MLflow answered last, if it lacks something

    def __call__(
        self,
        tracker: Tracker,
        hands: Hands,
        watch: Watch,
        terms: Terms = Terms(),  # noqa: B008 - a value that cannot change
        tags: Mapping[str, str] | None = None,
        artifacts: Mapping[str, str] | None = None,
    ) -> list[Tried]:
        """Search until the sweep has its trials, or has spent its budget; all of its trials.

        Raises StorageError where MLflow or the storage cannot be used, and what kept every trial from going on.
        """
        mirror = TrialMirror(tracker, self.sweep, self.place, self.question, self.ledger.id, tags or {})
        try:
            mirror.declare(artifacts or {})
            taught = lessons(tracker, self.sweep, self.question, self.place) if terms.learn else []
        except REFUSALS as failure:
            raise refusal(tracker.uri, failure) from failure
        self.taught = self.ledger.feed(taught)
        self._default_first()
        course = Course(self.ledger, self.place, self.shared, watch, lambda: self.hours(terms.each) < terms.budget)
        try:
            with self.ledger.alive(), every(TELLING, partial(self._tell, mirror)):
                if self.ledger.open():
                    hands(course)
        except BaseException:
            with suppress(Exception):  # a record that cannot be written does not hold up a stop
                mirror.abandon(self.ledger.mine())
            raise
        self._tell_all(mirror)
        with suppress(Exception):
            mirror.abandon(self.ledger.mine())  # of a search that broke, or has spent its budget
        if course.broken:
            raise course.broken
        return self.ledger.tried()

    def _default_first(self) -> None:
        """The base's own setting is the first trial, where it lies in the space."""
        if (changes := self.sweep.default) is not None:
            self.ledger.enqueue(changes)

    def _tell(self, mirror: TrialMirror) -> None:
        with suppress(DigaError):  # the storage is away: it is asked again
            mirror.sync(self.ledger.tried())

    def _tell_all(self, mirror: TrialMirror) -> None:
        tried, left, deadline = self.ledger.tried(), float("inf"), 0.0
        while rest := mirror.sync(tried):
            if rest < left:
                left, deadline = rest, time.monotonic() + PATIENCE
            elif time.monotonic() >= deadline:
                break
            time.sleep(0.5)
        self.trouble = mirror.trouble

    def hours(self, each: float) -> float:
        """What the sweep's trials have computed, in hours of a GPU, or of a worker where they have none."""
        return sum(one.outcome.seconds for one in self.ledger.tried()) / 3600 * each

    def best(self, tried: list[Tried]) -> dict[int, Changes]:
        """The trials to be confirmed, the best first, each setting once and the default never."""
        if self.sweep.confirm is None:
            return {}
        done = {one.number: dict(one.outcome.values) for one in tried if one.done}
        changes = {one.number: dict(one.changes) for one in tried}
        seen = {self.chain[-1].fingerprint}
        found: dict[int, Changes] = {}
        for number in ranked(done, self.sweep.objectives):
            cell = chain_of(self.sweep, changes[number], None, self.place)[-1].fingerprint
            if cell not in seen and len(found) < self.sweep.confirm.top:
                found[number] = changes[number]
            seen.add(cell)
        return found


def shared(chain: Sequence[StageRun], found: Explored, digest: Digest) -> frozenset[str]:
    """Fingerprints of the base's stage runs that no parameter of the space touches."""
    others = [{run.fingerprint for run in stage_runs(recipe, digest)} for recipe in found.corners]
    return frozenset({run.fingerprint for run in chain}.intersection(*others))


def question(sweep: Sweep, cell: str) -> str:
    """What a setting's value means, as a digest: the base with its data and seed, and the objectives."""
    told = [cell, *((o.metric, o.direction) for o in sweep.objectives)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
