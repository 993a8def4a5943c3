"""However a launch is ended, typing the same command again finishes it, and nothing finished is done twice."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from diga.cli.console import study_of
from diga.launch.tracking import STAGES
from tests import tiny

CHANGES = ("warm_up.plan.steps=40", "self_training.plan.steps=10", "crop=[28,56]", "batch=2", "centroids.steps=5")
WORDS = ["ablate", "diga:table3", "--no-guard", "--seeds", "1", *(w for c in CHANGES for w in ("--set", c))]


class Ending(NamedTuple):
    """A way to end a launch once it has finished so many stages, and the exit code it must have."""

    number: int
    stages: int
    code: int
    inline: bool = False


ENDINGS = (
    Ending(signal.SIGKILL, 0, -signal.SIGKILL),
    Ending(signal.SIGINT, 1, 130),
    Ending(signal.SIGKILL, 2, -signal.SIGKILL),
    Ending(signal.SIGTERM, 1, 143, inline=True),
)


def end(home: Path, ending: Ending, chance: random.Random) -> None:
    """Start the command, end it at a random moment after enough stages, and look what that leaves."""
    wanted = len(tiny.manifests(home)) + ending.stages
    process = tiny.spawn(home, *WORDS, *(["--inline"] if ending.inline else []))
    assert tiny.until(lambda: process.poll() is not None or len(tiny.manifests(home)) >= wanted)
    time.sleep(chance.uniform(0, 0.7) if ending.stages else chance.uniform(2, 6))
    started, before = tiny.children(process.pid), tiny.marks(home)
    if ending.number == signal.SIGINT:
        os.killpg(process.pid, ending.number)  # as a terminal does: to all of them
    else:
        process.send_signal(ending.number)
    code, said, errors = tiny.ended(process)
    assert code == ending.code, (said, errors)
    assert tiny.until(lambda: not tiny.alive(started), tiny.SOON), f"left: {tiny.alive(started)}"
    if ending.code > 0:
        told = "stopped; what was finished is kept, and the same command goes on from here"
        assert errors.strip().splitlines()[-1] == told
        assert "Traceback" not in errors
        check_stopped(home)
    assert before.items() <= tiny.marks(home).items()


def check_stopped(home: Path) -> None:
    """No cell and no stage is left as if it still ran."""
    where = tiny.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    cells = {c.data.tags["status"] for c in tiny.runs(where, "diga/table3", "cell")}
    assert "stopped" in cells
    assert cells <= {"stopped", "done"}
    assert {s.data.tags["status"] for s in tiny.runs(where, STAGES)} <= {"stopped", "done"}


@pytest.mark.slow
def test_however_it_is_ended_the_same_command_goes_on(tmp_path):
    seed = random.SystemRandom().randrange(10**6)
    print(f"moments of seed {seed}")
    chance = random.Random(seed)
    place = tiny.place(tmp_path)
    for ending in ENDINGS:
        end(place.home, ending, chance)
    before = tiny.marks(place.home)
    code, said, errors = tiny.diga(place.home, *WORDS)
    assert (code, errors) == (0, ""), said
    assert f"{len(before)} of 14 stages were there" in said
    assert "6 of 6 cells done" in said
    assert before.items() <= tiny.marks(place.home).items(), "a finished stage was made again"

    (tmp_path / "calm").mkdir()
    calm = tiny.place(tmp_path / "calm")
    tiny.launch(study_of("diga:table3", CHANGES, "1"), calm)
    assert tiny.digests(place.home) == tiny.digests(calm.home)
    assert any(name.endswith(".pt") for files in tiny.digests(calm.home).values() for name in files)

    where = tiny.client(place)
    assert len(tiny.runs(where, STAGES)) == 14
    for run in [*tiny.runs(where, STAGES), *tiny.runs(where, "diga/table3", "cell")]:
        assert run.data.tags["status"] == "done"
        assert all(sorted(set(steps)) == steps for steps in tiny.histories(where, run).values())
