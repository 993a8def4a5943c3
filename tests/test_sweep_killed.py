"""Killed while Ray Tune carries trials out: the same command finishes the sweep, and nobody is left behind."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from diga.recipe import dumps
from tests import tiny
from tests.searching import source_only

N = 6


@pytest.mark.slow
def test_killed_twice_by_ray_tune(tmp_path: Path) -> None:
    """Real trainings side by side; a driver's death leaves nobody behind, and exactly so many trials."""
    chance = random.Random(0)
    place = tiny.place(tmp_path)
    (tmp_path / "base.json").write_text(dumps(source_only(warm_up__plan__steps=8)))
    words = ["sweep", "baselines.source_only", "--base", str(tmp_path / "base.json"), "--trials", str(N)]
    words += ["--name", "s", "--rungs", "2:2", "--at-once", "2"]
    before: dict[str, Any] = {}
    for _ in range(2):
        wanted = len(tiny.manifests(place.home)) + 2
        process = tiny.spawn(place.home, *words)
        assert tiny.until(lambda p=process, w=wanted: p.poll() is not None or len(tiny.manifests(place.home)) >= w)
        time.sleep(chance.uniform(0, 1))
        started = tiny.children(process.pid)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert tiny.until(lambda s=started: not tiny.alive(s), tiny.SOON), f"left: {tiny.alive(started)}"
        assert before.items() <= tiny.marks(place.home).items()
        before = tiny.marks(place.home)
    code, said, errors = tiny.diga(place.home, *words)
    assert code == 0, (said, errors)
    assert f"{N} of {N} trials" in said
    runs = tiny.runs(tiny.client(place), "diga/s", "trial")
    assert sorted(int(r.data.tags["trial"]) for r in runs) == list(range(N))
    assert {r.data.tags["status"] for r in runs} <= {"done", "pruned"}
    for run in runs:
        rungs = [p.step for p in tiny.client(place).get_metric_history(run.info.run_id, "rung/target")]
        assert rungs == ([4, 8] if run.data.tags["status"] == "done" else [4])
    assert before.items() <= tiny.marks(place.home).items()
    assert not list(place.home.glob("sweeps/*/scratch/*")), "no scratch is left"
