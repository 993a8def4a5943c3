"""A recipe, carried out stage by stage; a stage that is in the store is not carried out again."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from diga.engine.stopping import Stop, signalled
from diga.home import data_root, home
from diga.plan import StageRun, digests, stage_runs
from diga.recipe import Recipe
from diga.store import Found, Store

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Place:
    """Where work happens: the run home and the data root."""

    home: Path
    data: Path

    @classmethod
    def here(cls) -> Place:
        """As the environment says: $DIGA_HOME and $DIGA_DATA."""
        return cls(home(), data_root())

    @property
    def store(self) -> Store:
        """Finished stages."""
        return store_at(self.home / "stages")

    @property
    def manifests(self) -> Path:
        """Cached data manifests."""
        return self.home / "manifests"

    def stage_runs(self, recipe: Recipe) -> list[StageRun]:
        """What the recipe needs, with the data as it is here."""
        return stage_runs(recipe, digests(self.data, self.manifests))


@cache
def store_at(root: Path) -> Store:
    """One store a folder, so that what this process has verified it need not verify again."""
    return Store(root)


Launch = Callable[[StageRun, Path, Mapping[str, Path], Place, Progress], dict[str, Any]]


def inline(
    run: StageRun,
    work: Path,
    inputs: Mapping[str, Path],
    place: Place,
    progress: Progress,
    stop: Stop = signalled,
) -> dict[str, Any]:
    """Carry one stage out in this process, on the GPU if there is one."""
    import torch

    from diga.engine.run import Run
    from diga.engine.use import measured

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and (threads := os.environ.get("DIGA_THREADS")):
        torch.set_num_threads(int(threads))
    own = Run(run.recipe, run.name, work, inputs, place.data, place.manifests, device, progress=progress, stop=stop)
    with measured(device) as use:
        run.stage(own)
    return surroundings() | {"workers": 1, "device": device.type, "use": use}


def carry_out(
    run: StageRun,
    place: Place,
    launch: Launch = inline,
    progress: Progress = lambda done, total: None,
    on_wait: Callable[[str], None] = lambda owner: None,
    origin: Mapping[str, str] | None = None,
) -> Found:
    """The stage's folder: found, waited for, or computed here; `origin` says in its manifest what code did it.

    Raises StorageError unless all it reads is in the store, undamaged.
    """
    store = place.store

    def compute(work: Path) -> dict[str, Any]:
        inputs = {ref: store.found(fingerprint) for ref, fingerprint in run.inputs.items()}
        return launch(run, work, inputs, place, progress) | {"origin": dict(origin or {})}

    return store.obtain(run.fingerprint, compute, run.facts, on_wait)


def execute(recipe: Recipe, place: Place, launch: Launch = inline) -> dict[str, Path]:
    """Each needed stage's folder, in order, after carrying out those that are not there yet: all a notebook needs."""
    return {run.name: carry_out(run, place, launch).folder for run in place.stage_runs(recipe)}


def surroundings() -> dict[str, Any]:
    """Host and versions, for the manifest: they do not decide a result, but explain one."""
    from importlib.metadata import version

    packages = {p: version(p) for p in ("torch", "numpy", "diga")}
    return {"host": platform.node(), "python": platform.python_version(), "packages": packages}
