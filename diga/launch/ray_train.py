"""One stage in several workers of Ray Train: the same call as `pipeline.inline`, on CPUs or GPUs.

Workers meet at the stage's work folder, which all nodes must see: there the first worker saves
checkpoints, and there a restarted group goes on.  Ray's own reports only say how far it is.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from diga.engine.stopping import PATIENCE, Told, signalled
from diga.errors import DigaError, Diverged, Stopped
from diga.launch.failures import WorkerDied, foreseen
from diga.pipeline import Launch, Place, Progress, inline, surroundings
from diga.plan import StageRun

RESTARTS = 3  # of a worker group that died, before the launch gives up
STARTS = 120  # times 30 s (diga.launch.SETTINGS) to get a group's workers from a busy cluster; Ray would try for ever


def on_ray(
    workers: int, gpus: float = 0, cpus: float = 1, pace: Mapping[str, int] | None = None, stop: Told | None = None
) -> Launch:
    """A launch in `workers` workers, each with so many CPUs and GPUs; stages that cannot be shared stay here.

    stop: how the launch is asked to stop, if not by a signal to this process.
    """

    def launch(
        run: StageRun, work: Path, inputs: Mapping[str, Path], place: Place, progress: Progress
    ) -> dict[str, Any]:
        if not run.stage.shared:
            return inline(run, work, inputs, place, progress, stop or signalled)
        own = Told.anew(place.store.root)
        job = {"run": run, "work": work, "inputs": dict(inputs), "place": place, "pace": dict(pace or {})}
        each = {"CPU": cpus} | ({"GPU": gpus} if gpus else {})
        training = aside(lambda: fitted(run, job | {"stop": stop or own}, workers, each, place))
        with nullcontext() if stop else own.asked_on_the_way_out(lambda: wait([training], PATIENCE)):
            told: DigaError | dict[str, Any] = training.result()
        if isinstance(told, DigaError):
            raise told
        return surroundings() | {"workers": workers, "gpus": gpus} | told

    return launch


def aside(work: Callable[[], Any]) -> Future[Any]:
    """What `work` will return, called in a thread of its own: there Ray Train leaves Ctrl-C to us."""
    result: Future[Any] = Future()

    def call() -> None:
        try:
            result.set_result(work())
        except BaseException as failure:
            result.set_exception(failure)

    threading.Thread(target=call, daemon=True, name="ray train").start()
    return result


def fitted(run: StageRun, job: dict[str, Any], workers: int, each: dict[str, float], place: Place) -> Any:
    """What the first worker returned: what the manifest should say of it, or the error a user should read."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    trainer = TorchTrainer(
        work_on,
        train_loop_config=job,
        scaling_config=ScalingConfig(num_workers=workers, use_gpu="GPU" in each, resources_per_worker=each),
        run_config=RunConfig(
            name=run.fingerprint,
            storage_path=str(place.home / "ray"),
            failure_config=FailureConfig(max_failures=RESTARTS, controller_failure_limit=STARTS),
        ),
    )
    try:
        return trainer.fit().return_value
    except TrainingFailedError as failure:
        raise cause(run, failure) from failure


def cause(run: StageRun, failure: Exception) -> DigaError:
    """What a user should read of a training that failed in spite of restarts."""
    for raised in getattr(failure, "worker_failures", {}).values():
        known = getattr(raised, "_base_exc", raised)
        if isinstance(known, DigaError):
            return known
        if type(known).__module__.partition(".")[0] != "ray":  # the stage's own, not the loss of a worker
            return foreseen(known, f"stage {run.name!r}")
    reason = (str(failure).strip().splitlines() or ["no reason given"])[-1]
    return WorkerDied(f"{run.name} {run.fingerprint}", reason, "its checkpoints are kept; try again")


def work_on(job: dict[str, Any]) -> DigaError | dict[str, Any]:
    """What each worker does; its device and what it used, of which the first worker's are kept.

    A divergence or a stop, which all workers meet at the same step, is returned: raised, it would be tried
    again in vain.  Any other error may be one worker's alone, for which the others would wait: it is raised.
    """
    import ray.train
    import torch
    from ray.train.torch import get_device

    from diga.engine.run import Pace, Run
    from diga.engine.use import measured

    run, place = job["run"], job["place"]
    torch.set_num_threads(int(os.environ.get("DIGA_THREADS", "1")))

    def progress(done: int, total: int) -> None:
        ray.train.report({"step": done, "steps": total})

    stage = Run(
        recipe=run.recipe,
        stage=run.name,
        folder=job["work"],
        inputs=job["inputs"],
        data_root=place.data,
        cache=place.manifests,
        device=get_device(),
        pace=Pace(**job["pace"]),
        progress=progress,
        stop=job["stop"],
    )
    try:
        with measured(stage.device) as use:
            run.stage(stage)
    except (Diverged, Stopped) as failure:
        return failure
    return {"device": stage.device.type, "use": use}
