"""Ctrl-C: the first saves and closes in order, the second ends at once; and a status that is watched."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from diga.engine.stopping import PATIENCE
from diga.files import PRIVATE, SPOOL
from diga.launch.crew import Alone
from diga.launch.studies import last_step
from diga.recipe import dumps
from tests import tiny


def started(home: Path, recipe: Path, *words: str) -> subprocess.Popen[str]:
    """A launch whose training has told its first losses."""
    process = tiny.spawn(home, "run", "--recipe", str(recipe), *words)
    assert tiny.until(lambda: process.poll() is not None or any(home.glob(f"stages/??/*.work*/{SPOOL}")))
    return process


def written(folder: Path, **changes: Any) -> Path:
    """A recipe as a file."""
    path = folder / "recipe.json"
    path.write_text(dumps(tiny.recipe(**changes)))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "steps"), [(0, 400), (2, 200)])  # long enough to be met by a signal
def test_a_signal_saves_at_the_step_it_meets_and_the_same_command_goes_on_there(tmp_path, workers, steps):
    place, recipe = tiny.place(tmp_path), written(tmp_path, train__plan__steps=steps)
    words = ["--workers", str(workers)] if workers else []
    process = started(place.home, recipe, *words)
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM if workers else signal.SIGINT)
    code, _, errors = tiny.ended(process)
    assert time.monotonic() - sent < 30, "as docs/cluster.md says"
    assert code == (143 if workers else 130)
    assert errors.splitlines()[-1].endswith("the same command goes on from here")
    assert "Traceback" not in errors
    (spool,) = place.home.glob(f"stages/??/*.work*/{SPOOL}")
    told, step = spool.read_bytes(), last_step(spool)
    kept = max((spool.parent / PRIVATE).glob("*.pt"))
    assert int(kept.name.split(".")[0]) == step + 1 < steps, "nothing it did is done again"
    assert not list(place.store.root.glob(".stop-*"))
    code, _, errors = tiny.diga(place.home, "run", "--recipe", str(recipe), *words)
    assert (code, errors) == (0, "")
    (spool,) = (p for p in place.home.glob(f"stages/??/*/{SPOOL}") if '"loss/source"' in p.read_text())
    assert spool.read_bytes().startswith(told)
    assert [json.loads(line)["step"] for line in spool.read_text().splitlines()] == list(range(steps))
    if not workers:  # of several workers see test_engine_stopping
        (tmp_path / "calm").mkdir()
        calm = tiny.place(tmp_path / "calm")
        tiny.launch(tiny.study(("tiny", tiny.recipe(train__plan__steps=steps))), calm)
        assert tiny.digests(place.home) == tiny.digests(calm.home)


@pytest.mark.slow
def test_a_second_signal_ends_at_once_and_holds_nothing(tmp_path):
    place, recipe = tiny.place(tmp_path), written(tmp_path, train__plan__steps=4000)
    process = started(place.home, recipe)
    sent = time.monotonic()
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    code, _, errors = tiny.ended(process)
    assert time.monotonic() - sent < PATIENCE
    assert code == -signal.SIGINT  # which a shell calls 130, too
    assert "Traceback" not in errors
    assert tiny.typed(place.home, "run", "--recipe", str(recipe), "--set", "train.plan.steps=4")[0] == 0


def test_status_is_a_line_a_row_and_goes_on_until_nothing_is_open(tmp_path):
    place = tiny.place(tmp_path)
    rows = (("base", tiny.recipe()), ("bad", tiny.recipe(**tiny.BAD)))
    shown: list[str] = []

    class Looked(Alone):
        def ended(self, patience):
            shown.append(tiny.typed(place.home, "status", "tiny")[1])
            return super().ended(patience)

    tiny.launch(tiny.study(*rows, seeds=(0, 1)), place, lambda: nullcontext(Looked(place)))
    assert "0/2 waiting" in shown[0]
    assert "4 running of 4 cells" in shown[0]
    code, told, errors = tiny.typed(place.home, "status", "tiny", "--watch")
    assert (code, errors) == (0, "")
    (base,) = (line for line in told.splitlines() if "base" in line)
    assert "±" in base
    assert base.split("│")[5].strip() == "2"
    assert base.split("│")[6].strip() == "done"
    (bad,) = (line for line in told.splitlines() if "bad" in line)
    assert bad.count("failed: divergence") == 2
    assert "2 done, 2 failed of 4 cells" in told
