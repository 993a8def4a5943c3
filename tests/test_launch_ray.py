"""Stages on a cluster: workers that die, one stage in several workers, and the same bits in the end."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest

from diga.errors import StorageError
from diga.files import PRIVATE, SPOOL
from diga.launch.cluster import cluster
from diga.launch.crew import OnRay
from diga.launch.failures import WorkerDied
from diga.launch.resources import Allotment, Resources
from diga.launch.studies import last_step
from diga.pipeline import inline
from diga.recipe import dumps
from tests import tiny

pytestmark = pytest.mark.slow
STEPS = 130  # beyond the first checkpoint, after 100


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two cores, of this process."""
    with cluster(cpus=2):
        import ray

        yield ray.get_runtime_context().gcs_address


def on_ray(place, **resources):
    return lambda: nullcontext(OnRay(place, Allotment(default=Resources(**resources)), {"code.sha": "abc"}))


def working(*kinds: str) -> list[psutil.Process]:
    """Ray's processes that are carrying out a stage now."""
    found = []
    for process in tiny.alive(tiny.children(os.getpid())):
        try:
            if process.cmdline()[0].startswith(kinds):
                found.append(process)
        except (psutil.Error, IndexError):
            continue
    return found


def kill_one(home: Path, killed: list[int], kind: str = "ray::train ") -> None:
    """Kill a worker once its stage has a checkpoint."""
    if tiny.until(lambda: any(home.glob(f"stages/??/*.work*/{PRIVATE}/*.pt"))) and (found := working(kind)):
        os.kill(found[0].pid, signal.SIGKILL)
        killed.append(found[0].pid)


def test_everything_listens_on_loopback_alone(address):
    assert address.startswith("127.0.0.1:")
    assert (Path.home() / ".ray/auth_token").stat().st_mode & 0o077 == 0
    for process in [psutil.Process(), *tiny.children(os.getpid())]:
        listening = (c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN)
        assert {ip.removeprefix("::ffff:") for ip in listening} <= {"127.0.0.1", "::1"}, process.cmdline()


def test_a_cell_that_diverges_stops_no_other(address, tmp_path):
    place = tiny.place(tmp_path)
    tiny.check_failure(place, *tiny.launch(tiny.with_a_failure(), place, on_ray(place)))


def test_a_stage_whose_worker_is_killed_goes_on_from_its_checkpoint(address, tmp_path):
    study = tiny.study(("base", tiny.recipe(train__plan__steps=200)))
    place, killed = tiny.place(tmp_path), []
    killer = threading.Thread(target=kill_one, args=(place.home, killed))
    killer.start()
    launched, states, _ = tiny.launch(study, place, on_ray(place))
    killer.join()
    assert killed
    assert (states, launched.warning()) == ({"done": 1}, "")
    (tmp_path / "calm").mkdir()
    calm = tiny.place(tmp_path / "calm")
    tiny.launch(study, calm)
    assert tiny.digests(place.home) == tiny.digests(calm.home)
    assert steps_told(place.home) == list(range(200))


def steps_told(home: Path) -> list[int]:
    """Steps of the stage that trained, as its spool has them."""
    (spool,) = (p for p in home.glob(f"stages/??/*/{SPOOL}") if '"loss/source"' in p.read_text())
    return [json.loads(line)["step"] for line in spool.read_text().splitlines()]


def losses(home: Path) -> list[dict[str, float]]:
    """Values of every step of the stage that trained."""
    (spool,) = (p for p in home.glob(f"stages/??/*/{SPOOL}") if '"loss/source"' in p.read_text())
    return [json.loads(line)["values"] for line in spool.read_text().splitlines()]


def test_a_group_of_two_inside_a_study_does_what_one_does_and_outlives_a_kill(address, tmp_path):
    """The stage that trains has two workers of Ray Train; the one that scores cannot be shared, and is one task."""
    study, homes = tiny.study(("base", tiny.recipe(train__plan__steps=STEPS))), {}
    for name in ("one", "two", "killed"):
        (tmp_path / name).mkdir()
        place, killed = tiny.place(tmp_path / name), []
        killer = threading.Thread(target=kill_one, args=(place.home, killed, "ray::RayTrainWorker"))
        if name == "killed":
            killer.start()
        launched, states, seen = tiny.launch(study, place, None if name == "one" else on_ray(place, workers=2))
        assert (states, seen.tried) == ({"done": 1}, []), launched.errors()
        assert steps_told(place.home) == list(range(STEPS))
        if name == "killed":
            killer.join()
            assert killed
        homes[name] = place.home
        metas = [json.loads(m.read_text())["meta"] for m in tiny.manifests(place.home).values()]
        assert sorted(meta["workers"] for meta in metas) == ([1, 1] if name == "one" else [1, 2])
        assert all(meta["use"]["cpu_seconds"] > 0 and meta["device"] == "cpu" for meta in metas)
    for a, b in zip(losses(homes["one"])[:10], losses(homes["two"])[:10], strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    assert tiny.digests(homes["two"]) == tiny.digests(homes["killed"])


def test_what_diverges_in_a_worker_is_not_tried_again(address, tmp_path):
    place = tiny.place(tmp_path)
    (tmp_path / "recipe.json").write_text(dumps(tiny.recipe(train__plan__steps=STEPS)))
    words = ("run", "--recipe", str(tmp_path / "recipe.json"), "--workers", "2", "--set", "train.plan.lr=1e6")
    code, said, errors = tiny.diga(place.home, *words, RAY_ADDRESS=address, RAY_AUTH_MODE="token")
    assert code == 5, (said, errors)
    (line,) = errors.splitlines()
    assert line.startswith("error: train step ")
    assert any((place.home / "ray").iterdir()), "it ran on Ray"


@pytest.mark.parametrize("more", [(), ("--give", "warm_up:workers=1")], ids=["tasks", "group"])
def test_a_stop_saves_whatever_step_workers_of_a_cluster_are_at(address, tmp_path, more):
    """The workers outlive the launch here: what makes them save is not their own end."""
    place = tiny.place(tmp_path)
    changes = ("warm_up.plan.steps=3000", "self_training.plan.steps=10", "crop=[28,56]", "batch=2")
    words = ["ablate", "diga:table3", "--no-guard", "--seeds", "1", *(w for c in changes for w in ("--set", c)), *more]
    words += ["--at-once", "1"] if more else []
    process = tiny.spawn(place.home, *words, RAY_ADDRESS=address, RAY_AUTH_MODE="token")
    spools = lambda: list(place.home.glob(f"stages/??/*.work*/{SPOOL}"))  # noqa: E731
    assert tiny.until(lambda: process.poll() is not None or spools())
    os.kill(process.pid, signal.SIGINT)
    code, said, errors = tiny.ended(process)
    assert code == 130, (said, errors)
    for spool in spools():
        kept = max(int(p.name.split(".")[0]) for p in (spool.parent / PRIVATE).glob("*.pt"))
        assert kept == last_step(spool) + 1 < 3000
    assert tiny.until(lambda: not working("ray::warm_up", "ray::RayTrainWorker"), tiny.SOON)
    assert not list(place.store.root.glob(".stop-*"))


# --- resources ---------------------------------------------------------------------------------


def test_what_waits_keeps_its_room_and_what_cannot_be_is_refused(address, tmp_path):
    place = tiny.place(tmp_path)
    (small, _), (large, _) = (place.stage_runs(tiny.recipe(train__plan__lr=lr)) for lr in (1e-3, 2e-3))
    crew = OnRay(place, Allotment(), at_once=1)
    assert crew.offer([small, large], frozenset()) == [small], "one at once"
    crew = OnRay(place, Allotment())
    assert crew.offer([small, large], frozenset()) == [small, large]
    assert crew.needs(large, True).cpus == 2, "after it ran out of memory"
    assert crew.offer([large, small], frozenset({large.fingerprint})) == [large], "it takes both CPUs"
    crew.waiting["a task"] = "another", Resources(cpus=1)
    assert crew.offer([large, small], frozenset({large.fingerprint})) == [], "one CPU is free, and kept for the first"
    assert OnRay(place, Allotment(default=Resources(cpus=2))).needs(large, True).cpus == 2, "no node has four"
    with pytest.raises(StorageError, match=r"stage 'train': wants 1 GPU; the cluster has 2 CPU, 0 GPU"):
        OnRay(place, Allotment(default=Resources(cpus=0, gpus=1))).offer([small], frozenset())
    with pytest.raises(StorageError, match="wants 4 times 1 CPU"):
        OnRay(place, Allotment(default=Resources(workers=4))).offer([small], frozenset())


def test_every_number_says_what_code_and_cluster_made_it(address, tmp_path):
    place = tiny.place(tmp_path)
    tiny.launch(tiny.study(), place, on_ray(place))
    (cell,) = tiny.runs(tiny.client(place), "diga/tiny", "cell")
    assert cell.data.tags["code.sha"] == "abc"
    assert (cell.data.tags["ray.nodes"], cell.data.tags["ray.cpus"]) == ("1", "2")
    assert cell.data.tags["ray.address"] == address
    meta = [json.loads(m.read_text())["meta"]["origin"] for m in tiny.manifests(place.home).values()]
    assert [m["ray.version"] for m in meta] == [cell.data.tags["ray.version"]] * 2


def test_workers_no_cluster_has_room_for_are_refused_at_once(address, tmp_path):
    place = tiny.place(tmp_path)
    (tmp_path / "recipe.json").write_text(dumps(tiny.recipe(batch=4)))
    words = ("run", "--recipe", str(tmp_path / "recipe.json"), "--workers", "4")
    code, _, errors = tiny.diga(place.home, *words, RAY_ADDRESS=address, RAY_AUTH_MODE="token")
    assert code == 4
    assert errors == "error: --workers: wants 4 times 1 CPU; the cluster has 2 CPU, 0 GPU (a node that has)\n"


# --- failures ----------------------------------------------------------------------------------


def hungry(run, work, inputs, place, progress):
    """A stage that runs out of memory the first time."""
    if not (place.home / "second").exists():
        (place.home / "second").touch()
        raise MemoryError("2 TiB")
    return inline(run, work, inputs, place, progress)


def suicidal(run, work, inputs, place, progress):
    """A stage whose worker dies every time."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_memory_is_tried_again_with_more_room_and_death_four_times(address, tmp_path):
    place, study = tiny.place(tmp_path), tiny.study(("base", tiny.recipe()))
    crew = OnRay(place, Allotment(), launch=hungry)
    launched, states, seen = tiny.launch(study, place, lambda: nullcontext(crew))
    assert states == {"done": 1}
    (train, _) = launched.stages.values()
    assert (seen.tried, launched.wider) == ([(train.fingerprint, 1)], {train.fingerprint})
    other = tiny.study(("other", tiny.recipe(train__plan__lr=3e-3)))
    launched, states, seen = tiny.launch(other, place, lambda: nullcontext(OnRay(place, Allotment(), launch=suicidal)))
    assert states == {"failed": 1}
    assert [tries for _, tries in seen.tried] == [1, 2, 3]
    ((_, error),) = launched.errors()
    assert isinstance(error, WorkerDied)
    assert error.code == 75
