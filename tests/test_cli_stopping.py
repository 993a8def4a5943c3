"""Ctrl-C: the first closes in order, the second ends at once; and a status that is watched."""

from __future__ import annotations

import os
import signal
import time
from contextlib import nullcontext

import pytest

from diga.launch.crew import Alone
from diga.recipe import dumps
from tests import tiny


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_the_first_signal_saves_and_the_second_ends_at_once(tmp_path, times):
    place = tiny.place(tmp_path)
    (tmp_path / "recipe.json").write_text(dumps(tiny.recipe(train__plan__steps=4000)))
    process = tiny.spawn(place.home, "run", "--recipe", str(tmp_path / "recipe.json"))
    assert tiny.until(lambda: any(place.home.glob("stages/??/*.work*/resume/*.pt")), 60)
    sent = time.monotonic()
    for _ in range(times):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.1)
    code, _, errors = tiny.ended(process, 15)
    assert time.monotonic() - sent < (10 if times == 1 else 2)
    assert code == (130 if times == 1 else -signal.SIGINT)  # which a shell calls 130, too
    assert times == 2 or "the same command goes on from here" in errors  # before the second, it may just be said
    assert "Traceback" not in errors
    (kept,) = {p.parents[1] for p in place.home.glob("stages/??/*.work*/resume/*.pt")}
    steps = max(int(p.name.split(".")[0]) for p in kept.glob("resume/*.pt"))
    assert steps >= 100
    words = ("run", "--recipe", str(tmp_path / "recipe.json"), "--set", "train.plan.steps=4")
    assert tiny.typed(place.home, *words)[0] == 0, "nothing is held by what was ended"


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
