"""Who carries stages out: this process, or Ray's workers.  Both take a stage and say when it has ended."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from diga.errors import DigaError, TemporaryError
from diga.launch.cluster import cluster
from diga.pipeline import Launch, Place, carry_out, inline
from diga.plan import StageRun

FREE = 32  # stages at once that ask for nothing
DEATHS = 3  # of a worker process on one stage, before the stage counts as failed


class Ended(DigaError):
    """A stage ended in an error nobody foresaw."""


class Crew(Protocol):
    """Takes stages whose inputs are in the store."""

    def room(self) -> int:
        """How many stages it wants to have at once; more would only wait, and in the order they came."""

    def send(self, run: StageRun) -> None:
        """Have a stage carried out."""

    def ended(self, patience: float) -> list[tuple[str, DigaError | None]]:
        """Fingerprints of stages that ended within `patience` seconds, each with its error or None."""


class Alone:
    """This process, one stage after the other."""

    def __init__(self, place: Place, launch: Launch = inline) -> None:
        self.place, self.launch = place, launch
        self.queue: deque[StageRun] = deque()

    def room(self) -> int:
        """One."""
        return 1

    def send(self, run: StageRun) -> None:
        """Put it in the queue."""
        self.queue.append(run)

    def ended(self, patience: float) -> list[tuple[str, DigaError | None]]:
        """Carry out the next one, however long that takes."""
        if not self.queue:
            return []
        run = self.queue.popleft()
        return [(run.fingerprint, attempt(run, self.place, self.launch))]


class OnRay:
    """Tasks of a Ray cluster; a task whose worker dies is sent again and goes on from its checkpoint."""

    def __init__(self, place: Place, cpus: float, gpus: float) -> None:
        import ray

        self.place, self.ray = place, ray
        self.task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=DEATHS, retry_exceptions=False)(on_worker)
        self.threads = max(1, int(cpus))
        self.needs = {"CPU": cpus, "GPU": gpus}
        self.waiting: dict[Any, str] = {}

    def room(self) -> int:
        """Twice what the cluster can carry now, so that a worker that is free finds the next one."""
        there = self.ray.cluster_resources()
        fits = [there.get(kind, 0) / need for kind, need in self.needs.items() if need]
        return max(1, int(2 * min(fits, default=FREE)))

    def send(self, run: StageRun) -> None:
        """Submit the task; Ray starts it when there is room."""
        self.waiting[self.task.remote(run, self.place, self.threads)] = run.fingerprint

    def ended(self, patience: float) -> list[tuple[str, DigaError | None]]:
        """Look which tasks are over, as soon as one is."""
        over = self.ray.wait(list(self.waiting), timeout=patience)[0] if self.waiting else []
        return [(self.waiting.pop(task), self._result(task)) for task in over]

    def _result(self, task: Any) -> DigaError | None:
        try:
            failure: DigaError | None = self.ray.get(task)
        except self.ray.exceptions.RayTaskError as failure:
            if os.environ.get("DIGA_DEBUG"):
                raise
            return Ended("worker", str(failure).strip().splitlines()[-1], "--debug shows where")
        except self.ray.exceptions.RayError as death:
            why = (str(death).strip().splitlines() or [type(death).__name__])[0]
            return TemporaryError("worker", why, f"died {DEATHS + 1} times; its checkpoints are kept")
        return failure


@contextmanager
def ray_crew(place: Place, address: str | None, cpus: float = 1, gpus: float = 0) -> Iterator[OnRay]:
    """A crew on a cluster, or on this machine's cores."""
    with cluster(address):
        yield OnRay(place, cpus, gpus)


@contextmanager
def train_crew(place: Place, address: str | None, workers: int, gpus: float = 0) -> Iterator[Alone]:
    """This process, with several workers of Ray Train for every stage that can be shared."""
    from diga.launch.ray_train import on_ray

    with cluster(address):
        yield Alone(place, on_ray(workers, gpus))


def on_worker(run: StageRun, place: Place, threads: int) -> DigaError | None:
    """What a Ray worker does with a stage, in as many threads as it has CPUs unless told otherwise."""
    os.environ.setdefault("DIGA_THREADS", str(threads))
    return attempt(run, place, inline)


def attempt(run: StageRun, place: Place, launch: Launch) -> DigaError | None:
    """Carry a stage out; an error is returned, for the others must go on."""
    try:
        carry_out(run, place, launch)
    except DigaError as failure:
        return failure
    except Exception as failure:
        if os.environ.get("DIGA_DEBUG"):
            raise
        return Ended(f"stage {run.name!r}", f"{type(failure).__name__}: {failure}", "--debug shows where")
    return None
