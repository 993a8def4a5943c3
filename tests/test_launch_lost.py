"""What a cluster loses without a word: a worker that stops, a task that does not begin, its own head."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from diga.errors import TemporaryError
from diga.files import SPOOL
from diga.launch import signs
from diga.launch.cluster import STARTS, cluster, connect
from diga.launch.crew import OnRay
from diga.launch.resources import Allotment
from diga.pipeline import inline
from tests import tiny


def test_a_node_that_does_not_start_in_time_is_worth_another_try(monkeypatch):
    """Ray's own words, of a machine with ten times the work it can do."""
    import ray

    tries: list[str] = []
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

    def late(where, **how):
        tries.append(where)
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", ray.__file__])
        raise Exception("The current node timed out during startup. This could happen because of an overload.")

    monkeypatch.setattr(ray, "init", late)
    with pytest.raises(TemporaryError, match=r"Ray at this machine: The current node timed out.*less busy"):
        connect(None, 1)
    assert tries == ["local"] * STARTS
    assert other.poll() is None, "what is not Ray's is left alone"
    other.kill()
    other.wait()
    assert tiny.until(lambda: not tiny.alive(tiny.children(os.getpid())), tiny.SOON)


@pytest.mark.slow
def test_a_node_that_did_not_start_in_time_is_ended_and_followed(monkeypatch):
    """A real one that its driver does not see for Ray's half a minute, by a clock that runs ahead."""
    from ray._private import node, services

    real, seen, ahead = services.get_node, list[set[str]](), [0.0]

    def late(*where):
        seen.append({f"{p.pid} {p.name()}" for p in tiny.children(os.getpid()) if p.name() in ("raylet", "gcs_server")})
        if len(seen) == 1:
            ahead[0] += 31
            raise RuntimeError("not there")
        return real(*where)

    clock = SimpleNamespace(**{name: getattr(time, name) for name in dir(time) if not name.startswith("_")})
    clock.monotonic = lambda: time.monotonic() + ahead[0]
    monkeypatch.setattr(services, "get_node", late)
    monkeypatch.setattr(node, "time", clock)
    with cluster(cpus=1):
        import ray

        assert ray.get(ray.remote(num_cpus=1)(lambda: 7).remote()) == 7
        assert {len(found) for found in seen} == {2}, "no try but the last has left a process"
        assert not seen[0] & seen[-1]


def frozen(run, work, inputs, place, progress):
    """A stage whose worker stops without a word the first time, and no process ends."""
    if not (place.home / "second").exists():
        (place.home / "second").touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    return inline(run, work, inputs, place, progress)


@pytest.mark.slow
def test_a_worker_without_a_sign_of_life_is_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(signs, "COLD", 12.0)
    place, study = tiny.place(tmp_path), tiny.study(("base", tiny.recipe()))
    with cluster(cpus=2):
        crew = OnRay(place, Allotment(), launch=frozen)
        launched, states, seen = tiny.launch(study, place, lambda: nullcontext(crew))
    (train, _) = launched.stages.values()
    assert (states, seen.tried) == ({"done": 1}, [(train.fingerprint, 1)])


def test_what_does_not_begin_is_lost_only_where_it_could(tmp_path, monkeypatch):
    """And a lease that somebody keeps touching is never cold."""
    place = tiny.place(tmp_path)
    (run, _) = place.stage_runs(tiny.recipe())
    clock = [0.0]
    monkeypatch.setattr(signs.time, "monotonic", lambda: clock[0])
    free, full = (lambda: True), (lambda: False)

    def lost(after: float, room, possible=free) -> str:
        seen = signs.Signs(place.store)
        assert seen.lost(run, room, possible) == ""
        clock[0] += after
        return seen.lost(run, room, possible)

    assert lost(signs.LATE - 1, free) == lost(signs.LATE + 1, full) == ""
    assert "though there is room" in lost(signs.LATE + 1, free)
    assert "no node that could hold it" in lost(signs.LATE + 1, full, full)
    claims = place.store.claims(run.fingerprint)
    claims.parent.mkdir(parents=True)
    (claim := claims.with_name(f"{claims.name}.1")).write_text("{}")
    assert lost(signs.COLD + 1, free) == "", "what was there before may be a dead owner's"
    seen = signs.Signs(place.store)
    seen.lost(run, free, free)
    for beat in range(100):
        clock[0] += 1
        os.utime(claim, (beat, beat))
        assert seen.lost(run, free, free) == ""
    clock[0] += signs.COLD + 1
    assert "no sign of life" in seen.lost(run, free, free)


@pytest.mark.slow
def test_a_head_that_is_gone_is_one_line_and_the_same_command_goes_on(tmp_path):
    place = tiny.place(tmp_path)
    changes = ("warm_up.plan.steps=3000", "self_training.plan.steps=10", "crop=[28,56]", "batch=2")
    words = ["ablate", "diga:table3", "--no-guard", "--seeds", "1", *(w for c in changes for w in ("--set", c))]
    hasty = "from diga.launch import head; head.GONE = 8; from diga.cli import main; main()"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    driver = [sys.executable, "-c", hasty, *words]
    process = subprocess.Popen(driver, env=tiny.environment(place.home), start_new_session=True, **pipes)
    assert tiny.until(lambda: process.poll() is not None or any(place.home.glob(f"stages/??/*.work*/{SPOOL}")))
    assert process.poll() is None, process.communicate()
    started = tiny.children(process.pid)
    (head,) = (p for p in started if p.name() == "gcs_server")
    head.kill()
    code, _, errors = tiny.ended(process)
    assert code == 75
    line = errors.splitlines()[-1]
    assert line.startswith("error: Ray at 127.0.0.1:")
    assert line.endswith("its head is gone (what was finished is kept, and the same command goes on from here)")
    assert tiny.until(lambda: not tiny.alive(started), tiny.SOON), f"left: {tiny.alive(started)}"
