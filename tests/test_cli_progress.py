"""Progress: lines for a file, bars for a person."""

from __future__ import annotations

import os
import pty
import re
import subprocess

import pytest

from diga.cli.console import Bars, seeds_of, settings, title
from tests import tiny

CHANGES = ("score.of=warm_up", "warm_up.plan.steps=120", "batch=2", "crop=[28,56]")
WORDS = ["run", "diga:streets", *(w for c in CHANGES for w in ("--set", c))]
LINE = re.compile(r"\[\d/3\] \w+ [0-9a-f]{6} seed 0  \d+\.\d s")


@pytest.mark.slow
def test_a_file_gets_a_line_a_stage_and_nothing_else(tmp_path):
    place = tiny.place(tmp_path)
    code, said, errors = tiny.diga(place.home, *WORDS, "--set", "warm_up.plan.steps=9")
    assert (code, errors) == (0, "")
    assert "\x1b" not in said
    assert "\r" not in said
    lines = said.splitlines()
    assert all(LINE.fullmatch(line) for line in lines[:3]), lines
    assert lines[3:] == ["diga/streets: 1 of 1 cells done", "  next: diga report diga/streets"]
    code, said, errors = tiny.diga(place.home, *WORDS, "--set", "warm_up.plan.steps=9")
    assert (code, errors) == (0, "")
    assert said.splitlines()[0] == "3 of 3 stages were there"
    assert len(said.splitlines()) == 3


@pytest.mark.slow
def test_a_terminal_gets_live_bars(tmp_path):
    place = tiny.place(tmp_path)
    ours, theirs = pty.openpty()
    env = tiny.environment(place.home, TERM="xterm-256color", COLUMNS="100")
    process = subprocess.Popen([*tiny.DIGA, *WORDS], env=env, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # how a terminal says that nobody writes to it any more
        pass
    assert process.wait(60) == 0
    text = shown.decode()
    assert "\x1b[?25l" in text, "the cursor is hidden while bars are drawn"
    assert text.rstrip().endswith("diga report diga/streets")
    done = {int(n) for n in re.findall(r"warm_up [0-9a-f]{6} seed 0.{0,200}?(\d+)/120", text, re.DOTALL)}
    assert len(done) >= 2, "a bar moves while its stage runs"
    assert "\x1b[?25h" in text, "and the cursor comes back"


def test_a_bar_does_not_come_back_after_its_stage_ended(tmp_path):
    place = tiny.place(tmp_path)
    runs = {run.fingerprint: run for run in place.stage_runs(tiny.recipe())}
    (first, *_) = runs.values()
    bars = Bars(runs)
    bars.started(first)
    bars.moved(first, 2)
    assert bars.tasks
    bars.ended(first, 1.5, None)
    bars.moved(first, 4)
    assert not bars.tasks
    assert title(first) == f"train {first.fingerprint[:6]} seed 0"


def test_values_and_seeds_as_they_are_typed():
    assert settings(["a.b=1", "c=true", "d=x=y", 'e=["f"]', "g="]) == {
        "a.b": 1,
        "c": True,
        "d": "x=y",
        "e": ["f"],
        "g": "",
    }
    assert (seeds_of("3"), seeds_of("0,4,7"), seeds_of("7,5")) == ((0, 1, 2), (0, 4, 7), (7, 5))
