"""Ray Tune's side of a sweep: settings come from the ledger through OptunaSearch, rungs are judged by a scheduler.

Tune carries trials out side by side, restarts those whose worker died, and keeps nothing that counts: what a sweep
knows is in its ledger and in the store, so no experiment of Tune's is ever restored.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from diga.engine.stopping import PATIENCE, Told
from diga.errors import StorageError
from diga.launch.cluster import SLOT, cluster, facts_of
from diga.launch.course import Course
from diga.launch.crew import elsewhere
from diga.launch.failures import MANNERS
from diga.launch.nodes import see_the_same
from diga.launch.resources import Resources
from diga.launch.trial import attempt
from diga.launch.tried import Rung
from diga.lease import POLL
from diga.pipeline import Launch, Place, inline
from diga.sweep import Sweep

TOLD, STEP = "told", 1.0  # key of a result; seconds between two questions that were answered with "later"


class Settings(OptunaSearch):  # type: ignore[misc]
    """OptunaSearch whose trials are the ledger's."""

    def __init__(self, course: Course) -> None:
        sweep = course.ledger.sweep
        names, modes = [o.name for o in sweep.objectives], [o.direction for o in sweep.objectives]
        metric, mode = (names[0], modes[0]) if len(names) == 1 else (names, modes)
        super().__init__(metric=metric, mode=mode)  # without a space: the ledger has the study
        self.course, self.numbers, self.asked = course, dict[str, int](), 0.0

    def set_search_properties(self, metric: Any, mode: Any, config: dict[str, Any], **spec: Any) -> bool:
        """Nothing to set: what is searched is declared."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """A setting, with its number; None where Tune is to ask again."""
        if time.monotonic() - self.asked < STEP:
            return None
        taken = self.course.next()
        if taken == "over":
            return Searcher.FINISHED
        if taken == "later":
            self.asked = time.monotonic()
            return None
        self.numbers[trial_id] = taken.number
        return {"trial": self.course.ledger.called(taken.number), "changes": taken.changes}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: `Judge` is told first, and judges."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial is over, or its worker has died once too often."""
        self.course.end(self.numbers.pop(trial_id), "its worker died, again and again" if error else "")

    def save(self, checkpoint_path: str) -> None:
        """Leave an empty file: the ledger has it all."""
        open(checkpoint_path, "wb").close()

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Judge(FIFOScheduler):  # type: ignore[misc]
    """Takes a trial from its worker that does not go on, or not yet."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """CONTINUE or STOP."""
        told = Rung(*result[TOLD])
        on = self.settings.course.goes_on(self.settings.numbers[trial.trial_id], told)
        return str(TrialScheduler.CONTINUE if on or told.last or told.failure else TrialScheduler.STOP)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def on_worker(
    config: dict[str, Any], sweep: Sweep, place: Place, launch: Launch, origin: Mapping[str, str], threads: int
) -> None:
    """What a worker of Tune does with a trial."""
    os.environ.setdefault("DIGA_THREADS", str(threads))

    def tell(told: Rung) -> None:
        tune.report(dict(told.values) | {TOLD: list(told)})

    attempt(sweep, config["changes"], place, launch, origin, tell, config["trial"])


@contextmanager
def tuned(
    place: Place, address: str | None, room: Resources, at_once: int, origin: Mapping[str, str]
) -> Iterator[Callable[[Course], None]]:
    """Ray Tune on a cluster whose nodes all see the store, or on this machine's cores; a trial occupies `room`.

    A trial whose stages are groups of Ray Train holds a slot and no CPU: its workers need those, and so do the tasks
    of its other stages.
    """
    with cluster(address):
        import ray

        see_the_same(place)
        there = ray.cluster_resources()
        stop = Told.anew(place.store.root)
        launch = elsewhere(room, stop) if room.workers else partial(inline, stop=stop)
        fits = min(int(there.get(kind, 0) // value) for kind, value in room.total().items())
        if fits < 1:
            wants = ", ".join(f"{value:g} {kind}" for kind, value in room.total().items())
            has = ", ".join(f"{there.get(kind, 0):g} {kind}" for kind in ("CPU", "GPU"))
            raise StorageError("a trial", f"wants {wants}; the cluster has {has}", "less, or a larger cluster")
        holds = {slot(there): 1e-3} if room.workers else {kind.lower(): v for kind, v in room.each().items()}
        facts = dict(origin) | facts_of(ray)
        with stop.asked_on_the_way_out(partial(saved, place)):
            yield lambda course: carry_out(course, place, launch, facts, holds, min(at_once or fits, fits))


def saved(place: Place) -> None:
    """Wait until nobody computes in the store, or patience is over: a training that stops gives its lease back."""
    deadline = time.monotonic() + PATIENCE
    while any(place.store.root.glob("??/*.lease.*")) and time.monotonic() < deadline:
        time.sleep(POLL)


def slot(there: Mapping[str, float]) -> str:
    """A resource that is there to be held by who needs nothing else."""
    return SLOT if SLOT in there else "node:__internal_head__"


def carry_out(
    course: Course,
    place: Place,
    launch: Launch,
    origin: Mapping[str, str],
    holds: Mapping[str, float],
    at_once: int,
) -> None:
    """Let Tune carry trials out until there are none left; one holds some resources while it runs."""
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    settings, scratch = Settings(course), course.ledger.scratch
    threads = max(1, int(holds.get("cpu", 1)))
    trainable = tune.with_parameters(
        on_worker, sweep=course.ledger.sweep, place=place, launch=launch, origin=dict(origin), threads=threads
    )
    search = tune.TuneConfig(
        search_alg=settings,
        scheduler=Judge(settings),
        num_samples=-1,
        max_concurrent_trials=at_once,
        reuse_actors=True,
        trial_dirname_creator=lambda trial: str(trial.trial_id),
    )
    failures = tune.FailureConfig(max_failures=MANNERS["death"].tries - 1)
    kept = tune.RunConfig(name="trials", storage_path=str(scratch), verbose=0, failure_config=failures)
    try:
        tune.Tuner(tune.with_resources(trainable, dict(holds)), tune_config=search, run_config=kept).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
