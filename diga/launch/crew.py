"""Who carries stages out: this process, or Ray's workers.  Both take a stage and say when it has ended."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from diga.engine.stopping import PATIENCE, Told
from diga.errors import DigaError
from diga.launch import room
from diga.launch.answers import first_line
from diga.launch.cluster import cluster, facts_of
from diga.launch.failures import MANNERS, Ended, OutOfMemory, WorkerDied, foreseen
from diga.launch.nodes import see_the_same
from diga.launch.resources import Allotment, Resources
from diga.launch.signs import Signs
from diga.pipeline import Launch, Place, Progress, carry_out, inline
from diga.plan import StageRun

FREE = 32  # stages at once that ask for nothing
KEPT = "its checkpoints are kept"


class Crew(Protocol):
    """Takes stages whose inputs are in the store."""

    def offer(self, runs: Sequence[StageRun], wider: frozenset[str]) -> list[StageRun]:
        """Which of these, the most urgent first, it has room for now; some need more than others of their kind."""

    def send(self, run: StageRun, wider: bool) -> None:
        """Have a stage carried out."""

    def ended(self, patience: float) -> list[tuple[str, DigaError | None]]:
        """Fingerprints of stages that ended within `patience` seconds, each with its error or None."""


class Alone:
    """This process, one stage after the other."""

    def __init__(self, place: Place, launch: Launch = inline, origin: Mapping[str, str] | None = None) -> None:
        self.place, self.launch, self.origin = place, launch, origin or {}
        self.queue: deque[StageRun] = deque()

    def offer(self, runs: Sequence[StageRun], wider: frozenset[str]) -> list[StageRun]:
        """The first, when nothing is waiting."""
        return list(runs[: 1 - len(self.queue)])

    def send(self, run: StageRun, wider: bool) -> None:
        """Put it in the queue."""
        self.queue.append(run)

    def ended(self, patience: float) -> list[tuple[str, DigaError | None]]:
        """Carry out the next one, however long that takes."""
        if not self.queue:
            return []
        run = self.queue.popleft()
        return [(run.fingerprint, attempt(run, self.place, self.launch, self.origin))]


class OnRay:
    """Tasks of a Ray cluster, each with the resources of its stage; several workers are a group of Ray Train."""

    def __init__(
        self,
        place: Place,
        allotment: Allotment,
        origin: Mapping[str, str] | None = None,
        at_once: int = 0,
        launch: Launch | None = None,
    ) -> None:
        import ray

        self.place, self.allotment, self.ray = place, allotment, ray
        self.stop, self.signs = Told.anew(place.store.root), Signs(place.store)
        self.launch = launch or partial(inline, stop=self.stop)
        self.origin = dict(origin or {}) | facts_of(ray)
        self.at_once = at_once or 10**9
        self.task = ray.remote(max_retries=0, retry_exceptions=False)(on_worker)  # what to try again is our table's
        self.waiting: dict[Any, tuple[StageRun, Resources]] = {}

    def needs(self, run: StageRun, wider: bool) -> Resources:
        """What a stage gets; more room after it ran out of memory, if any node has that."""
        asked = self.allotment.of(run.name, run.stage)
        return asked.wider() if wider and room.possible(self.ray, asked.wider()) else asked

    def offer(self, runs: Sequence[StageRun], wider: frozenset[str]) -> list[StageRun]:
        """Those that fit now.  What has to wait keeps its room: nothing that is less urgent takes it.

        Raises StorageError for one that the whole cluster could not hold, when nothing else is under way.
        """
        free = Counter(self.ray.cluster_resources())
        for _, asked in self.waiting.values():
            free.subtract(asked.total())
        slots, chosen = min(self.at_once, FREE + int(free.total())) - len(self.waiting), []
        for run in runs:
            asked = self.needs(run, run.fingerprint in wider)
            if slots > 0 and all(free[kind] >= value for kind, value in asked.total().items()):
                slots -= 1
                chosen.append(run)
            free.subtract(asked.total())
        if runs and not chosen and not self.waiting:
            room.refuse(self.ray, f"stage {runs[0].name!r}", self.allotment.of(runs[0].name, runs[0].stage))
        return chosen

    def send(self, run: StageRun, wider: bool) -> None:
        """Submit the task; Ray starts it when there is room.  Of a group, the workers hold that room, not the task."""
        asked = self.needs(run, wider)
        own = {} if asked.workers else asked.each()
        task = self.task.options(
            num_cpus=own.get("CPU", 0), num_gpus=own.get("GPU", 0), name=f"{run.name} {run.fingerprint}"
        )
        launch = grouped(asked, self.stop) if asked.workers else self.launch
        sent = task.remote(run, self.place, max(1, int(asked.cpus)), launch, self.origin)
        self.waiting[sent] = run, asked
        self.signs.forget(run)

    def ended(self, patience: float) -> list[tuple[str, DigaError | None]]:
        """Look which tasks are over, as soon as one is, and which of the others are lost."""
        over = self.ray.wait(list(self.waiting), timeout=patience)[0] if self.waiting else []
        done = [(self.waiting.pop(task)[0].fingerprint, result_of(task)) for task in over]
        return done + (self._lost() if self.signs.due() else [])

    def _lost(self) -> list[tuple[str, DigaError | None]]:
        """Tasks that show no sign of life, given up: nothing waits for ever for what the cluster has lost."""
        found: list[tuple[str, DigaError | None]] = []
        for task, (run, asked) in list(self.waiting.items()):
            if why := self.signs.lost(
                run, partial(room.free, self.ray, asked), partial(room.possible, self.ray, asked)
            ):
                self.waiting.pop(task)
                self.ray.cancel(task, force=True)
                found.append((run.fingerprint, WorkerDied(f"{run.name} {run.fingerprint}", why, KEPT)))
        return found

    def saved(self) -> None:
        """Wait for the trainings under way as long as patience lasts; whatever else runs has nothing to save."""
        if trains := [task for task, (run, _) in self.waiting.items() if run.steps]:
            self.ray.wait(trains, num_returns=len(trains), timeout=PATIENCE)


def result_of(task: Any) -> Any:
    """What a task returned, or the error a user should read where it, its worker or its node is no more."""
    import ray

    known = ray.exceptions
    try:
        return ray.get(task)
    except known.OutOfMemoryError as death:
        return OutOfMemory("worker", first_line(death), "a node with more memory")
    except known.RayTaskError as failure:
        if os.environ.get("DIGA_DEBUG"):
            raise
        return Ended("worker", str(failure).strip().splitlines()[-1], "--debug shows where")
    except known.RayError as death:
        return WorkerDied("worker", first_line(death), KEPT)


@contextmanager
def ray_crew(
    place: Place,
    address: str | None,
    allotment: Allotment | None = None,
    origin: Mapping[str, str] | None = None,
    at_once: int = 0,
) -> Iterator[OnRay]:
    """A crew on a cluster whose nodes all see the store, or on this machine's cores."""
    with cluster(address):
        see_the_same(place)
        crew = OnRay(place, allotment or Allotment(), origin, at_once)
        with crew.stop.asked_on_the_way_out(crew.saved):
            yield crew


@contextmanager
def train_crew(
    place: Place, address: str | None, workers: int, gpus: float = 0, origin: Mapping[str, str] | None = None
) -> Iterator[Alone]:
    """This process, with several workers of Ray Train for every stage that can be shared."""
    import ray

    from diga.launch.ray_train import on_ray

    with cluster(address):
        see_the_same(place)
        room.refuse(ray, "--workers", Resources(gpus=gpus, workers=workers))
        yield Alone(place, on_ray(workers, gpus), dict(origin or {}) | facts_of(ray))


def grouped(asked: Resources, stop: Told) -> Launch:
    """A launch by several workers of Ray Train."""
    from diga.launch.ray_train import on_ray

    return on_ray(asked.workers, asked.gpus, asked.cpus, stop=stop)


def elsewhere(asked: Resources, stop: Told) -> Launch:
    """A launch for a process that holds no resources: by workers of Ray Train, or one task where a stage has one."""
    group, threads = grouped(asked, stop), max(1, int(asked.cpus))

    def launch(
        run: StageRun, work: Path, inputs: Mapping[str, Path], place: Place, progress: Progress
    ) -> dict[str, Any]:
        if run.stage.shared:
            return group(run, work, inputs, place, progress)
        import ray

        task = ray.remote(max_retries=MANNERS["death"].tries - 1)(in_a_task).options(
            num_cpus=asked.cpus,
            num_gpus=asked.gpus,
            name=f"{run.name} {run.fingerprint}",
            scheduling_strategy="DEFAULT",  # beside the trial's own bundle, which holds a slot and no more
        )
        told = result_of(task.remote(run, work, inputs, place, threads, stop))
        if isinstance(told, DigaError):
            raise told
        return dict(told)

    return launch


def in_a_task(
    run: StageRun, work: Path, inputs: Mapping[str, Path], place: Place, threads: int, stop: Told
) -> DigaError | dict[str, Any]:
    """A stage that one process carries out, in a worker of its own."""
    os.environ.setdefault("DIGA_THREADS", str(threads))
    try:
        return inline(run, work, inputs, place, lambda done, total: None, stop)
    except Exception as failure:
        if os.environ.get("DIGA_DEBUG") and not isinstance(failure, DigaError):
            raise
        return foreseen(failure, f"stage {run.name!r}")


def on_worker(run: StageRun, place: Place, threads: int, launch: Launch, origin: Mapping[str, str]) -> DigaError | None:
    """What a Ray worker does with a stage, in as many threads as it has CPUs unless told otherwise."""
    os.environ.setdefault("DIGA_THREADS", str(threads))
    return attempt(run, place, launch, origin)


def attempt(run: StageRun, place: Place, launch: Launch, origin: Mapping[str, str] | None = None) -> DigaError | None:
    """Carry a stage out; an error is returned, for the others must go on."""
    try:
        carry_out(run, place, launch, origin=origin)
    except Exception as failure:
        if os.environ.get("DIGA_DEBUG") and not isinstance(failure, DigaError):
            raise
        return foreseen(failure, f"stage {run.name!r}")
    return None
