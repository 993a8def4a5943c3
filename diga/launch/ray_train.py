"""One stage in several workers of Ray Train: the same call as `pipeline.inline`, on CPUs or GPUs.

Workers meet at the stage's work folder, which all nodes must see: there the first worker saves
checkpoints, and there a restarted group goes on.  Ray's own reports only say how far it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diga.errors import DigaError, TemporaryError
from diga.pipeline import Launch, Place, Progress, inline, surroundings
from diga.plan import StageRun

RESTARTS = 3  # of a worker group that died, before the launch gives up


def on_ray(workers: int, gpus: float = 0, pace: Mapping[str, int] | None = None) -> Launch:
    """A launch in `workers` workers, each with a CPU and `gpus` GPUs; stages that cannot be shared stay here."""

    def launch(
        run: StageRun, work: Path, inputs: Mapping[str, Path], place: Place, progress: Progress
    ) -> dict[str, Any]:
        if not run.stage.shared:
            return inline(run, work, inputs, place, progress)
        job = {"run": run, "work": work, "inputs": dict(inputs), "place": place, "pace": dict(pace or {})}
        failure = fitted(run, job, workers, gpus, place)
        if isinstance(failure, DigaError):
            raise failure
        return surroundings() | {"workers": workers, "gpus": gpus}

    return launch


def fitted(run: StageRun, job: dict[str, Any], workers: int, gpus: float, place: Place) -> Any:
    """What the first worker returned: None, or the error a user should read."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    resources = {"CPU": 1.0} | ({"GPU": gpus} if gpus else {})
    trainer = TorchTrainer(
        work_on,
        train_loop_config=job,
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=bool(gpus), resources_per_worker=resources),
        run_config=RunConfig(
            name=run.fingerprint,
            storage_path=str(place.home / "ray"),
            failure_config=FailureConfig(max_failures=RESTARTS),
        ),
    )
    try:
        return trainer.fit().return_value
    except TrainingFailedError as failure:
        reason = (str(failure).strip().splitlines() or ["no reason given"])[-1]
        raise TemporaryError(
            f"{run.name} {run.fingerprint}", reason, "its checkpoints are kept; try again"
        ) from failure


def work_on(job: dict[str, Any]) -> DigaError | None:
    """What each worker does.  A user's error is returned: raised, it would be retried in vain."""
    import ray.train
    import torch
    from ray.train.torch import get_device

    from diga.engine.run import Pace, Run

    run, place = job["run"], job["place"]
    torch.set_num_threads(int(os.environ.get("DIGA_THREADS", "1")))

    def progress(done: int, total: int) -> None:
        ray.train.report({"step": done, "steps": total})

    try:
        run.stage(
            Run(
                run.recipe,
                run.name,
                job["work"],
                job["inputs"],
                place.data,
                place.manifests,
                get_device(),
                Pace(**job["pace"]),
                progress,
            )
        )
    except DigaError as failure:
        return failure
    return None
