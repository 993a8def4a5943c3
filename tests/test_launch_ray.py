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

from diga.files import PRIVATE, SPOOL
from diga.launch.cluster import cluster
from diga.launch.crew import OnRay
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


def on_ray(place):
    return lambda: nullcontext(OnRay(place, 1, 0))


def working() -> list[psutil.Process]:
    """Ray's processes that are carrying out a stage now."""
    found = []
    for process in tiny.alive(tiny.children(os.getpid())):
        try:
            if process.cmdline()[0].startswith(("ray::on_worker", "ray::RayTrainWorker", "ray::Worker")):
                found.append(process)
        except (psutil.Error, IndexError):
            continue
    return found


def kill_one(home: Path, killed: list[int]) -> None:
    """Kill a worker once its stage has a checkpoint."""
    if tiny.until(lambda: any(home.glob(f"stages/??/*.work*/{PRIVATE}/*.pt")), 120) and (found := working()):
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


def losses(home: Path) -> list[dict[str, float]]:
    """Values of every step of the stage that trained."""
    (spool,) = (p for p in home.glob(f"stages/??/*/{SPOOL}") if '"loss/source"' in p.read_text())
    return [json.loads(line)["values"] for line in spool.read_text().splitlines()]


def steps_told(home: Path) -> list[int]:
    (spool,) = (p for p in home.glob(f"stages/??/*/{SPOOL}") if '"loss/source"' in p.read_text())
    return [json.loads(line)["step"] for line in spool.read_text().splitlines()]


def train(address: str, folder: Path, *words: str):
    """`diga run` with workers of Ray Train on the cluster."""
    folder.mkdir()
    place = tiny.place(folder)
    (folder / "recipe.json").write_text(dumps(tiny.recipe(train__plan__steps=STEPS)))
    joined = {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "token"}
    return place, tiny.spawn(place.home, "run", "--recipe", str(folder / "recipe.json"), *words, **joined)


def test_two_workers_do_what_one_does_and_outlive_a_kill(address, tmp_path):
    ends = {}
    for name, workers in (("one", "1"), ("two", "2"), ("killed", "2")):
        place, process = train(address, tmp_path / name, "--workers", workers)
        killed: list[int] = []
        if name == "killed":
            kill_one(place.home, killed)
        code, said, errors = tiny.ended(process)
        assert (code, errors) == (0, ""), said
        assert steps_told(place.home) == list(range(STEPS))
        assert bool(killed) == (name == "killed")
        ends[name] = place.home
    one, two = losses(ends["one"]), losses(ends["two"])
    for a, b in zip(one[:10], two[:10], strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    assert tiny.digests(ends["two"]) == tiny.digests(ends["killed"])


def test_what_diverges_in_a_worker_is_not_tried_again(address, tmp_path):
    place, process = train(address, tmp_path / "bad", "--workers", "2", "--set", "train.plan.lr=1e6")
    code, said, errors = tiny.ended(process)
    assert code == 5, (said, errors)
    (line,) = errors.splitlines()
    assert line.startswith("error: train step ")
    assert any((place.home / "ray").iterdir()), "it ran on Ray"
