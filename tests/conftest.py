"""One tiny town, one small chain of stages on it, and what the tests of engine and methods do with them."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from diga.data.streets import Knobs, make
from diga.engine.checkpoint import read_weights
from diga.engine.run import ARTIFACT, Pace, Run
from diga.files import SPOOL
from diga.pipeline import Place, execute
from diga.recipe import Recipe, override
from diga.stage import Stage
from experiments.diga import streets

torch.set_num_threads(1)
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # loopback alone: Ray reads it when it is imported
os.environ.setdefault("RAY_worker_niceness", "0")  # else what a test waits for starves beside another test's work
# a suite in the background ignores Ctrl-C, and all it starts would; its workers are told a terminal that a pipe has not
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.pop("COLUMNS", None)


COUNTS = {"source_train": 6, "source_val": 1, "target_train": 5, "target_val": 3, "third_train": 0, "third_val": 0}
VOID_ROWS = (0.0, 0.9, 0.2, 0.5, 0.0, 0.75)  # of the source images, from the top
BRIEF = Pace(log=2, save=3, picture=2)


CLUSTERS = (  # of Ray, a dozen processes each: two at once, and a machine of two cores does not start either in time
    *("test_cli_stopping", "test_deploy_cluster", "test_launch_killed", "test_launch_lost", "test_launch_nodes"),
    *("test_launch_ray", "test_sweep_killed"),
)


def group(nodeid: str) -> str:
    """What one process carries out together: a file, or those of CLUSTERS."""
    stem = PurePath(nodeid.partition("::")[0]).stem
    return "clusters" if stem in CLUSTERS else stem


@pytest.hookimpl(tryfirst=True)  # before those that were not asked for are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first; whatever starts a cluster does."""
    for item in items:
        if group(item.nodeid) == "clusters":
            item.add_marker("slow")
    slow = Counter(group(item.nodeid) for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (-slow[group(item.nodeid)], group(item.nodeid)))  # stable: a file's own order stays


@pytest.hookimpl(optionalhook=True)  # without xdist there is no such hook
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Groups stay together where files would."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return ByGroup(config, log) if config.getvalue("dist") == "loadfile" else None


class Chain(NamedTuple):
    """A recipe that has been carried out, and where."""

    recipe: Recipe
    place: Place
    folders: dict[str, Path]


def small(**changes: Any) -> Recipe:
    """The recipe of the embedded benchmark, long enough to tell classes apart; dots of a path are written `__`."""
    brief: dict[str, Any] = {"crop": (28, 56), "centroids.steps": 3, "score.samples": 2}
    for stage, steps in (("warm_up", 24), ("self_training", 4)):
        brief |= {f"{stage}.plan.steps": steps, f"{stage}.plan.ramp": 0, f"{stage}.plan.snapshots": 2}
    return override(streets(), brief | {path.replace("__", "."): value for path, value in changes.items()})


def until(recipe: Recipe, last: str) -> Recipe:
    """The same, with no stage after `last`."""
    names = list(recipe.stages)
    return recipe.model_copy(update={"stages": {n: recipe.stages[n] for n in names[: names.index(last) + 1]}})


def with_stage(recipe: Recipe, name: str, stage: Stage) -> Recipe:
    """The same with another stage in the place of `name`."""
    return recipe.model_copy(update={"stages": dict(recipe.stages) | {name: stage}})


def stage_run(chain: Chain, recipe: Recipe, stage: str, folder: Path, inputs: Mapping[str, Path] | None = None) -> Run:
    """A stage about to be carried out on what the chain left."""
    read = dict(chain.folders) | dict(inputs or {})
    return Run(recipe, stage, folder, read, chain.place.data, chain.place.manifests, pace=BRIEF)


def left_by(folder: Path) -> dict[str, Tensor]:
    """Every tensor of an artifact by its full name."""
    parts = read_weights(folder / ARTIFACT)
    return {f"{part}.{name}": x for part, state in parts.items() for name, x in state.items()}


def told_by(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """Steps and values of a spool, in the order of its lines."""
    lines = map(json.loads, (folder / SPOOL).read_text().splitlines())
    return [(line["step"], line["values"]) for line in lines]


def png(path: Path) -> NDArray[np.uint8]:
    """A picture, decoded whole."""
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        return np.array(image)


def carried_out(chain: Chain, recipe: Recipe, stage: str, folder: Path, **inputs: Path) -> dict[str, Tensor]:
    """What a stage leaves."""
    run = stage_run(chain, recipe, stage, folder, inputs)
    recipe.stages[stage](run)
    return left_by(folder)


def differing(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors that are not the same bit for bit."""
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


def paint_void(root: Path) -> None:
    """Void in the upper part of every source label, a lot here and none there."""
    for share, path in zip(VOID_ROWS, sorted((root / "gta5/labels").glob("*.png")), strict=False):
        label = Image.open(path)
        ids = np.array(label)
        ids[: round(share * len(ids))] = 0
        painted = Image.fromarray(ids)
        painted.putpalette(label.getpalette() or [])
        painted.save(path)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the domains streets/gta5 and streets/cityscapes, 32 x 64 pixels, void unevenly spread."""
    root = tmp_path_factory.mktemp("town")
    make(root / "streets", Knobs(height=32, width=64, **COUNTS))
    paint_void(root / "streets")
    return root


@pytest.fixture
def own_data(data: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(data, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture(scope="session")
def chain(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """All stages of the small recipe, carried out one after the other."""
    place = Place(tmp_path_factory.mktemp("home"), data)
    return Chain(small(), place, execute(small(), place))
