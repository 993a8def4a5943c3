"""Several nodes: one that dies, one that sees another disk, a job that is submitted, a cluster that does not answer."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from diga.errors import ConfigError, StorageError
from diga.files import PRIVATE, SPOOL
from diga.launch import SETTINGS
from diga.launch.cluster import LOOPBACK, cluster, knock
from diga.launch.crew import ray_crew
from diga.launch.nodes import see_the_same
from diga.launch.studies import last_step
from diga.recipe import dumps
from tests import tiny
from tests.raylets import raylets

SAVE = 100  # steps between two checkpoints
ODD = """
import sys, time
from ray._private.node import Node
from ray._private.parameter import RayParams
ports = {"min_worker_port": 0, "max_worker_port": 0, "node_manager_port": 0}
head = {"redis_address": sys.argv[1], "gcs_address": sys.argv[1], "node_ip_address": "127.0.0.1"}
params = RayParams(num_cpus=1, num_gpus=0, object_store_memory=150 << 20, include_log_monitor=False, **ports, **head)
node = Node(params, head=False, shutdown_at_exit=True, spawn_reaper=True)
time.sleep(120)
"""
RAY = [sys.executable, "-m", "ray.scripts.scripts"]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A head that takes jobs and no stage, and three raylets of a CPU each, all on loopback."""
    before = dict(os.environ)
    os.environ |= SETTINGS | dict([LOOPBACK]) | {"RAY_AUTH_MODE": "token"}
    try:
        with raylets(3) as made:
            yield made
    finally:
        os.environ.clear()
        os.environ |= before


def raylet(node: Any) -> int:
    """The process number of a node's raylet."""
    return int(node.all_processes["raylet"][0].process.pid)


def training(pid: int) -> bool:
    """Whether a worker under a raylet is carrying out a stage that trains."""
    try:
        return any(" ".join(p.cmdline()).startswith("ray::train ") for p in psutil.Process(pid).children(True))
    except psutil.Error:
        return False


class Killer(threading.Thread):
    """Kills the raylet under the stage that trains, or its node, at a random moment after the first checkpoint."""

    def __init__(self, nodes: Any, home: Path, moment: float, whole: bool) -> None:
        super().__init__()
        self.pids, self.home, self.moment = [raylet(n) for n in nodes.worker_nodes], home, moment
        self.killed, self.repeated, self.whole = 0.0, -1, whole

    def run(self) -> None:
        checkpoints = lambda: sorted(self.home.glob(f"stages/??/*.work*/{PRIVATE}/*.pt"))  # noqa: E731
        assert tiny.until(checkpoints)
        time.sleep(self.moment)
        under = [pid for pid in self.pids if training(pid)]
        assert under, "the stage was over before the kill"
        workers = psutil.Process(under[0]).children(True) if self.whole else []
        for pid in [under[0], *(p.pid for p in workers)]:
            os.kill(pid, signal.SIGKILL)
        self.killed, kept = time.monotonic(), checkpoints()[-1]
        self.repeated = last_step(kept.parents[1] / SPOOL) + 1 - int(kept.name.split(".")[0])


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True], ids=["raylet", "node"])
def test_a_stage_whose_node_dies_ends_in_the_same_bits(nodes, tmp_path, whole):
    """A worker outlives its raylet until its stage is over; one that dies with it is followed on another node."""
    moment = random.SystemRandom().uniform(0, 1)
    print(f"killed {moment:.3f} s after the first checkpoint")
    study = tiny.study(("base", tiny.recipe(train__plan__steps=800)))
    place = tiny.place(tmp_path)
    killer = Killer(nodes, place.home, moment, whole)
    killer.start()
    launched, states, seen = tiny.launch(study, place, lambda: ray_crew(place, nodes.address))
    killer.join()
    print(f"over {time.monotonic() - killer.killed:.1f} s after the kill, {killer.repeated} steps repeated")
    assert states == {"done": 1}, launched.errors()
    assert [tries for _, tries in seen.tried] == ([1] if whole else [])
    assert 0 <= killer.repeated <= SAVE
    (tmp_path / "calm").mkdir()
    calm = tiny.place(tmp_path / "calm")
    tiny.launch(study, calm)
    assert tiny.digests(place.home) == tiny.digests(calm.home)
    assert not list(place.store.root.glob(".probe*"))


@pytest.mark.slow
def test_a_job_is_submitted_and_joins_the_cluster_it_runs_on(nodes, tmp_path):
    place = tiny.place(tmp_path)
    (tmp_path / "recipe.json").write_text(dumps(tiny.recipe()))
    env = {"env_vars": {"DIGA_HOME": str(place.home), "DIGA_DATA": str(place.data), "DIGA_THREADS": "1"}}
    words = ["job", "submit", "--address", f"http://{nodes.head_node.webui_url}", "--runtime-env-json", json.dumps(env)]
    command = [*tiny.DIGA, "run", "--recipe", str(tmp_path / "recipe.json"), "--workers", "1"]
    for _ in range(30):
        done = subprocess.run([*RAY, *words, "--", *command], capture_output=True, text=True, timeout=tiny.LONG)
        if "No available agent" not in done.stdout + done.stderr:
            break
        time.sleep(2)  # a head's agent may come up later than its dashboard
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tiny: 1 of 1 cells done" in done.stdout
    (cell,) = tiny.runs(tiny.client(place), "diga/tiny", "cell")
    assert cell.data.tags["ray.address"] == nodes.address, "not a cluster of its own"
    assert cell.data.tags["status"] == "done"


@pytest.mark.slow
def test_a_store_that_a_node_does_not_see_is_refused_before_anything_starts(nodes, tmp_path):
    """The node has a disk of its own where the others have the store: a mount of its own name space."""
    place = tiny.place(tmp_path)
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        if os.environ.get("CI") == "true":
            pytest.fail("a mount of one's own needs root")
        pytest.skip("a mount of one's own needs root")
    script = f"mount -t tmpfs tmpfs {place.home} && exec {shlex.join([sys.executable, '-c', ODD, nodes.address])}"
    words, quiet = ["unshare", "-m", "sh", "-c", script], {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    odd = subprocess.Popen(words, start_new_session=True, **quiet)
    try:
        with cluster(nodes.address):
            import ray

            before = {node["NodeID"] for node in ray.nodes()}
            assert tiny.until(lambda: {node["NodeID"] for node in ray.nodes() if node["Alive"]} - before)
            with pytest.raises(StorageError, match=f"{place.store.root}: node 127.0.0.1 does not see this store"):
                see_the_same(place)
        assert list(place.store.root.iterdir()) == []
    finally:
        os.killpg(odd.pid, signal.SIGKILL)
        odd.wait()


# --- addresses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["closed", "mute", "nonsense"])
def test_an_address_that_does_not_answer_is_one_line_in_time(tmp_path, kind):
    place = tiny.place(tmp_path)
    (tmp_path / "recipe.json").write_text(dumps(tiny.recipe()))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if kind == "mute":
            listener.listen()
        address = {"nonsense": "nowhere:port"}.get(kind, f"127.0.0.1:{listener.getsockname()[1]}")
        words = ("run", "--recipe", str(tmp_path / "recipe.json"), "--workers", "1", "--address", address)
        begun = time.monotonic()
        code, said, errors = tiny.typed(place.home, *words)
        assert time.monotonic() - begun < 15
    assert code == 4, (said, errors)
    (line,) = errors.splitlines()
    assert line.startswith(f"error: Ray at {address}: ")
    assert line.endswith("(a cluster that answers)")
    assert tiny.manifests(place.home) == {}
    assert tiny.client(place).get_experiment_by_name("diga/tiny") is None, "nothing is half started"


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "http://127.0.0.1:8265"])
def test_the_address_of_clients_or_jobs_is_answered_with_what_to_type(address):
    with pytest.raises(ConfigError, match="ray job submit"):
        knock(address)


def test_the_settings_can_be_read_by_a_shell():
    done = subprocess.run([sys.executable, "-m", "diga.launch"], capture_output=True, text=True, check=True)
    told = dict(line.removeprefix("export ").split("=", 1) for line in done.stdout.splitlines())
    assert told == SETTINGS
