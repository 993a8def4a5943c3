"""The entry commands of deploy/ on a cluster of several raylets, with MLflow and the trials on a real PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pytest

from diga.launch import SETTINGS
from diga.launch.cluster import LOOPBACK, SLOT, cluster
from diga.pipeline import Place
from diga.recipe import dumps
from tests import tiny
from tests.postgres import binaries
from tests.raylets import raylets

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[1] / "deploy/mlflow-postgres.sh"
SHORT = ("warm_up.plan.steps=4", "self_training.plan.steps=2", "centroids.steps=2", "crop=[28,56]", "batch=2")


class Lab(NamedTuple):
    """A cluster, its services and its shared disk."""

    address: str
    tracking: str
    storage: str
    place: Place
    environment: dict[str, str]

    def diga(self, *words: str) -> str:
        """What a command says that is carried out on the cluster; it must come to a good end."""
        where = ("--address", self.address, "--tracking", self.tracking)
        code, said, errors = tiny.diga(self.place.home, *words, *where, **self.environment)
        assert code == 0, (said, errors)
        return said


def services(folder: Path, verb: str, **more: str) -> None:
    """The script of deploy/."""
    paths = os.pathsep.join([str(Path(sys.executable).parent), str(binaries()), os.environ["PATH"]])
    environment = os.environ | {"DIGA_HOME": str(folder / "home"), "PATH": paths} | more
    words = ["bash", SCRIPT, verb, folder / "services"]
    done = subprocess.run(
        words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=tiny.LONG
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, str]]:
    """Addresses of MLflow and of the database for trials."""
    ports = {"PG_PORT": str(tiny.free_port()), "MLFLOW_PORT": str(tiny.free_port())}
    try:
        services(folder, "start", **ports)
        yield f"http://127.0.0.1:{ports['MLFLOW_PORT']}", f"postgresql://diga@127.0.0.1:{ports['PG_PORT']}/optuna"
    finally:
        services(folder, "stop", **ports)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """All of it, in a folder that goes with it."""
    before, folder = dict(os.environ), Path(tempfile.mkdtemp(prefix="diga-lab-"))
    folder.chmod(0o711)  # a database server of root's is another user's
    (folder / "home").mkdir()
    secret = {"RAY_AUTH_MODE": "token", "PGPASSFILE": str(folder / "services/pgpass")}
    os.environ |= SETTINGS | dict([LOOPBACK]) | secret
    try:
        with served(folder) as (tracking, storage), raylets(2, resources={SLOT: 1}) as made:
            yield Lab(made.address, tracking, storage, Place(folder / "home", tiny.data()), secret)
    finally:
        os.environ.clear()
        os.environ |= before
        shutil.rmtree(folder)


def base(folder: Path, **changes: Any) -> Path:
    """A recipe that the space of source-only can change."""
    recipe = tiny.recipe(**changes)
    stages = {
        "warm_up": recipe.stages["train"],
        "score": recipe.stages["score"].model_copy(update={"of": "warm_up"}),
    }
    path = folder / "base.json"
    path.write_text(dumps(recipe.model_copy(update={"stages": stages})))
    return path


def worked(lab: Lab, kind: str, wanted: str) -> list[Any]:
    """Ray's records of the actors or tasks of a name."""
    with cluster(lab.address):
        from ray.util import state

        listed = state.list_actors if kind == "actor" else state.list_tasks
        key = "class_name" if kind == "actor" else "func_or_class_name"
        return list(listed(lab.address, filters=[(key, "=", wanted)], detail=True, limit=1000))


def seen_meanwhile(lab: Lab, *words: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """What a command says; hands of Tune and workers of Train, by id, seen while it goes: Ray may forget them after."""
    found: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    with cluster(lab.address), ThreadPoolExecutor(1) as aside:
        from ray.util import state

        def look(name: str) -> dict[str, Any]:
            wanted = [("class_name", "=", name)]
            listed = state.list_actors(lab.address, filters=wanted, detail=True, limit=1000)
            return {one.actor_id: one for one in listed if one.node_id}

        before, going = look("ImplicitFunc"), aside.submit(lab.diga, *words)
        while not going.done():
            for known, name in zip(found, ("ImplicitFunc", "RayTrainWorker"), strict=True):
                known.update(look(name))
            time.sleep(0.5)
    return going.result(), {k: v for k, v in found[0].items() if k not in before}, found[1]


def held(hand: Any) -> dict[str, float]:
    """What an actor of Tune holds, of the bundle that it has to itself."""
    kinds = {kind.partition("_group_")[0]: value for kind, value in hand.required_resources.items()}
    return {kind: value for kind, value in kinds.items() if kind != "bundle"}


def test_a_sweep_is_carried_out_by_both_nodes_and_all_of_it_is_recorded(lab: Lab, tmp_path: Path) -> None:
    words = ("--base", str(base(tmp_path)), "--trials", "4", "--rungs", "2:4", "--storage", lab.storage)
    said = lab.diga("sweep", "baselines.source_only", *words)
    assert "4 of 4 trials" in said
    trials = tiny.runs(tiny.MlflowClient(lab.tracking), "diga/baselines.source_only", "trial")
    assert [t.data.tags["trial"] for t in trials] == ["0", "1", "2", "3"]
    assert {t.data.tags["status"] for t in trials} <= {"done", "pruned"}
    study = optuna.load_study(study_name="baselines.source_only", storage=lab.storage)
    assert [t.state.is_finished() for t in study.trials] == [True] * 4
    hands = worked(lab, "actor", "ImplicitFunc")
    assert len({hand.node_id for hand in hands}) == 2
    assert [held(hand) for hand in hands] == [{"CPU": 1.0}] * len(hands)


def test_an_ablation_is_carried_out_by_both_nodes_and_all_of_it_is_recorded(lab: Lab) -> None:
    changes = [word for change in SHORT for word in ("--set", change)]
    said = lab.diga("ablate", "diga:table3", "--seeds", "1", "--no-guard", *changes)
    assert "6 of 6 cells done" in said
    cells = tiny.runs(tiny.MlflowClient(lab.tracking), "diga/table3", "cell")
    assert [cell.data.tags["status"] for cell in cells] == ["done"] * 6
    assert {cell.data.tags["ray.nodes"] for cell in cells} == {"3"}
    assert len({task.node_id for task in worked(lab, "task", "on_worker")}) == 2


def test_trials_of_groups_hold_a_slot_and_none_waits_for_ever(lab: Lab, tmp_path: Path) -> None:
    """Two trials under way on two CPUs, each with a worker group and a stage that cannot be shared."""
    long = base(tmp_path, train__plan__steps=400)  # a group that can be seen while it is there
    words = ("--base", str(long), "--trials", "2", "--prune", "none", "--storage", lab.storage)
    more = ("--workers", "1", "--name", "groups", "--no-learn")
    said, hands, groups = seen_meanwhile(lab, "sweep", "baselines.source_only", *words, *more)
    assert "2 carried out whole" in said
    assert len(hands) == 2, "side by side"
    assert [held(hand) for hand in hands.values()] == [{SLOT: 0.001}] * 2
    on_head = {hand.node_id for hand in hands.values()}
    assert len(on_head) == 1
    assert len(groups) == 2
    assert not {worker.node_id for worker in groups.values()} & on_head


def test_a_sweep_at_an_address_that_does_not_answer_is_one_line_and_records_nothing(tmp_path: Path) -> None:
    place, address = tiny.place(tmp_path), f"127.0.0.1:{tiny.free_port()}"
    words = ("baselines.source_only", "--base", str(base(tmp_path)), "--trials", "2", "--prune", "none")
    code, said, errors = tiny.typed(place.home, "sweep", *words, "--address", address)
    assert (code, said) == (4, ""), errors
    (line,) = errors.splitlines()
    assert line.startswith(f"error: Ray at {address}: ")
    assert tiny.client(place).get_experiment_by_name("diga/baselines.source_only") is None
