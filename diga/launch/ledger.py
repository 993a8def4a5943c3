"""The trials of a sweep, in an Optuna storage that several drivers may share: who takes which, what came of each.

A trial is taken under a lock, and its driver holds a lease while it lives: what a dead driver had taken is taken over
by the next, setting and all.  Whether a trial goes on after a rung follows from what the storage holds, so a driver
that starts late, or again, knows what the others know.  A trial that waits there for its rivals is nobody's: whoever
asks next when the last of them has come takes it up again, or ends it.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from diga.launch.declared import settled
from diga.launch.halving import counted, ended_at, goes_on
from diga.launch.storage import Draws, distribution, one_at_a_time, patiently, sampler_of
from diga.launch.tried import DRIVER, NOBODYS, NUMBER, SO_FAR, Outcome, Tried, numbered, waits
from diga.lease import Lease
from diga.space import Changes, Space
from diga.sweep import Sweep

OUTCOME, KNOWN, EXTRA = "outcome", "known", "extra"
FAILS = "fails"  # the constraint that a setting breaks which has no score
T = TypeVar("T")


class Taken(NamedTuple):
    """A trial to be carried out: its number among the sweep's own, and its setting."""

    number: int
    changes: Changes


Answer = Taken | Literal["later", "over"]


class Ledger:
    """A driver's view of a sweep's trials."""

    def __init__(self, sweep: Sweep, space: Space, storage: BaseStorage, folder: Path, where: str) -> None:
        self.sweep, self.space, self.where, self.folder = sweep, space, where, folder
        self.driver = uuid.uuid4().hex[:12]
        self.id = ""  # of the sweep in its storage, once it is declared
        self.study: optuna.Study = patiently(partial(self._opened, storage), where, patience=10.0)
        self._mine: dict[int, int] = {}  # number -> Optuna's id of a trial that this driver carries out
        self._left = set[int]()  # that wait at a rung since this driver had them
        self._outdone: list[tuple[int, Outcome]] = []  # that waited, and were ended here
        self._others: dict[str, Lease] = {}
        self._dead: set[str] = set()

    def _opened(self, storage: BaseStorage) -> optuna.Study:
        directions = ["maximize" if o.direction == "max" else "minimize" for o in self.sweep.objectives]
        return optuna.create_study(
            storage=storage, study_name=self.sweep.name, load_if_exists=True, directions=directions
        )

    # --- one driver among several -----------------------------------------------------------

    @contextmanager
    def alive(self) -> Iterator[None]:
        """While the block runs, this driver lives, and others leave its trials alone."""
        own = Lease(self._lease(self.driver))
        assert own.try_take()
        for left in self.scratch.parent.glob("*"):
            if not self._lives(left.name):
                shutil.rmtree(left, ignore_errors=True)
        with own.beating():
            yield

    @property
    def scratch(self) -> Path:
        """A folder for what this driver needs while it lives; that of one that was killed goes with the next."""
        return self.folder / "scratch" / self.driver

    def _lease(self, driver: str) -> Path:
        return self.folder / "drivers" / driver

    def _lives(self, driver: str) -> bool:
        """Whether another driver holds its lease; one that died is seen at once on its host, elsewhere after a while.

        This one is none: a trial of its own that it has not in hand was lost sight of while the storage was away.
        """
        if driver not in self._dead | {self.driver, NOBODYS}:
            lease = self._others.setdefault(driver, Lease(self._lease(driver)))
            if lease.try_take():
                lease.release()
                self._dead.add(driver)
        return driver not in self._dead | {self.driver, NOBODYS}

    def _locked(self, work: Callable[[], T]) -> T:
        """`work` by one driver at a time; again, from its start, if the storage was away meanwhile."""

        def alone() -> T:
            with one_at_a_time(self.folder):
                return work()

        return patiently(alone, self.where)

    # --- declared ----------------------------------------------------------------------------

    def declare(self, question: str) -> None:
        """Say what is searched, once.  Raises ConfigError where there is a sweep of this name and another kind.

        question: what a trial's value means beside its setting, as a digest.
        """
        self.id = self._locked(partial(settled, self.study, self.sweep, question, self.folder, self.where))

    def called(self, number: int) -> str:
        """A trial's name among those of all sweeps."""
        return f"{self.id}#{number}"

    def feed(self, points: Sequence[tuple[str, Changes, Sequence[float]]]) -> int:
        """Enter settings that other sweeps have measured, each with where it is from; how many are new."""

        def work() -> int:
            there = {t.user_attrs.get(KNOWN) for t in self._trials()}
            fresh = [point for point in points if point[0] not in there]
            for source, changes, values in fresh:
                dimensions = {d.path: distribution(d) for d in self.sweep.dimensions if d.path in changes}
                trial = optuna.trial.create_trial(
                    params=changes, distributions=dimensions, values=list(values), user_attrs={KNOWN: source}
                )
                self.study.add_trial(trial)
            return len(fresh)

        return self._locked(work) if points else 0

    def enqueue(self, changes: Changes) -> None:
        """Let this setting be the first trial, if there is none yet."""

        def work() -> None:
            if not self._own():
                self.study.enqueue_trial(changes)

        self._locked(work)

    def open(self) -> bool:
        """Whether there may be a trial to take: one that was not begun, or that is not over."""
        own = patiently(self._own, self.where)
        return len(own) < self.sweep.trials or not all(t.state.is_finished() for t in own)

    # --- taking --------------------------------------------------------------------------------

    def take(self, more: bool = True) -> Answer:
        """A trial that a dead driver left, else a new one if there are to be `more`; else whether to ask again."""
        answer: Answer = self._locked(partial(self._take, more))
        return answer

    def _take(self, more: bool) -> Answer:
        own = self._own()
        for found in self._running(own):
            if waits(found) and self._still_waits(found, own):
                continue
            if not self._lives(found.user_attrs.get(DRIVER, NOBODYS)) and not self._closed(found):
                return self._adopted(found, own)
        if more and sum(t.state != TrialState.WAITING for t in own) < self.sweep.trials:
            number = 1 + max(numbered(own), default=-1)
            self.study.sampler = sampler_of(self.sweep, number, before=self.study.sampler)
            return self._begun(self.study.ask(), number)
        to_come = self._running(self._own()) or (self.sweep.halving and self.sweep.halving.in_turn and self._mine)
        return "later" if to_come and more else "over"

    def _running(self, own: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those that are not over and not in this driver's hands."""
        return [t for t in own if t.state == TrialState.RUNNING and t._trial_id not in self._mine.values()]

    def _adopted(self, found: FrozenTrial, own: Sequence[FrozenTrial]) -> Taken:
        """A trial taken over; one whose driver died before it could number it gets the next number."""
        number = found.user_attrs.get(NUMBER, 1 + max(numbered(own), default=-1))
        self.study.sampler = sampler_of(self.sweep, number, before=self.study.sampler)
        return self._begun(optuna.Trial(self.study, found._trial_id), number)

    def _begun(self, trial: optuna.Trial, number: int) -> Taken:
        """Ask the space; a trial that has a setting already gives the same again."""
        trial.set_user_attr(NUMBER, number)
        trial.set_user_attr(DRIVER, self.driver)
        more = dict(self.space(Draws(trial, self.sweep, number)) or {})
        if more:
            trial.set_user_attr(EXTRA, more)
        self._mine[number] = trial._trial_id
        return Taken(number, trial.params | more)

    def others_at_work(self) -> bool:
        """Whether another driver that lives carries out a trial."""
        running = self._running(patiently(self._own, self.where))
        return any(self._lives(t.user_attrs.get(DRIVER, NOBODYS)) for t in running)

    def _closed(self, found: FrozenTrial) -> bool:
        """Finish a trial of which all is known but that it is over."""
        outcome = found.user_attrs.get(OUTCOME)
        if outcome is not None:
            self._tell(found._trial_id, Outcome(**json.loads(outcome)))
        return outcome is not None

    # --- what comes of it ------------------------------------------------------------------------

    def goes_on(self, number: int, rung: int, value: float) -> bool:
        """Note the value of a trial at a rung but the last, and whether it is known to go on.

        Optuna's own pruner would count a trial that was taken over twice.
        """
        assert self.sweep.halving
        steps = counted(self.sweep.halving, rung)

        def work() -> bool:
            self.study._storage.set_trial_intermediate_value(self._mine[number], steps, value)
            return goes_on(self.sweep, number, steps, numbered(self._own()))

        return patiently(work, self.where)

    def _still_waits(self, found: FrozenTrial, own: Sequence[FrozenTrial]) -> bool:
        """Whether a trial that waits has to go on waiting; one that a rival has outdone is told so."""
        number, so_far = found.user_attrs[NUMBER], found.user_attrs[SO_FAR]
        outcome = Outcome(**json.loads(so_far))
        verdict = ended_at(self.sweep, number, outcome, numbered(own))
        if verdict == "over":
            self.study._storage.set_trial_user_attr(found._trial_id, OUTCOME, so_far)
            self._tell(found._trial_id, outcome)
            self._outdone.append((number, outcome))
        return verdict != "on"

    def outdone(self) -> list[tuple[int, Outcome]]:
        """Trials that waited and were ended by this driver since it was last asked."""
        found, self._outdone = self._outdone, []
        return found

    def end(self, number: int, outcome: Outcome) -> bool:
        """A trial is over, said twice it is said once; or it is the best of its rung so far: whether it waits."""

        def work() -> bool:
            trial, storage = self._mine[number], self.study._storage
            found, told = storage.get_trial(trial), json.dumps(outcome._asdict())
            if found.state.is_finished() or found.user_attrs.get(DRIVER) != self.driver:  # an answer had been lost
                return waits(found)
            if ended_at(self.sweep, number, outcome, numbered(self._own())) == "over":
                storage.set_trial_user_attr(trial, OUTCOME, told)
                self._tell(trial, outcome)
                return False
            storage.set_trial_user_attr(trial, SO_FAR, told)
            storage.set_trial_user_attr(trial, DRIVER, NOBODYS)
            return True

        left: bool = patiently(work, self.where)
        self._mine.pop(number, None)
        if left:
            self._left.add(number)
        return left

    def _tell(self, trial: int, outcome: Outcome) -> None:
        """Samplers do not look at a trial of Optuna's state FAIL: one whose worker died says nothing of its setting.

        They would come back for ever to settings that cannot be trained; a broken constraint is worse than any value.
        """
        done, dead = outcome.status == "done", outcome.failure == "death"
        state = TrialState.COMPLETE if done else TrialState.FAIL if dead else TrialState.PRUNED
        values = [outcome.values[o.name] for o in self.sweep.objectives] if done else None
        if outcome.status == "failed" and not dead:
            optuna.Trial(self.study, trial).set_constraint(FAILS, 1.0)
        self.study.tell(self.study._storage.get_trial(trial).number, values, state, skip_if_finished=True)

    # --- looking -----------------------------------------------------------------------------------

    def _trials(self) -> list[FrozenTrial]:
        found: list[FrozenTrial] = self.study.get_trials(deepcopy=False)
        return found

    def _own(self) -> list[FrozenTrial]:
        return [t for t in self._trials() if KNOWN not in t.user_attrs]

    def mine(self) -> list[Tried]:
        """Those that this driver has in hand, or left waiting."""
        return [
            one
            for one in self.tried()
            if one.number in self._mine or (one.number in self._left and one.outcome.status == "waiting")
        ]

    def tried(self) -> list[Tried]:
        """Every trial of the sweep's own that has begun, by number."""
        found = []
        for number, trial in numbered(patiently(self._own, self.where)).items():
            told = trial.user_attrs.get(OUTCOME) or trial.user_attrs.get(SO_FAR)
            outcome = Outcome(**json.loads(told)) if told else Outcome("running")
            if OUTCOME not in trial.user_attrs:
                outcome = outcome._replace(status="waiting" if waits(trial) else "running")
            changes = trial.params | trial.user_attrs.get(EXTRA, {})
            found.append(Tried(number, changes, dict(trial.params), outcome))
        return sorted(found, key=lambda one: one.number)
