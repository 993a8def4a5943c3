"""A stop is carried out wherever it meets the process, and a second one at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGIN = """
import os, signal, sys, time, weakref
from diga.cli.stopping import heeding
received = heeding()
class Thing: pass
def hit(number):
    os.kill(os.getpid(), number)
    for _ in range(1000): pass
"""
CALLBACK = "thing = Thing(); watch = weakref.ref(thing, lambda _: hit({number})); del thing\n"
DYING = "Thing.__del__ = lambda self: hit({number})\nthing = Thing(); del thing\n"
PLAIN = "hit({number})\n"
WAIT = "try:\n    {body}\n    time.sleep(120); print('went on')\nfinally:\n    print(received)\n"


def ended(body: str, number: int) -> tuple[int, str, str]:
    """Exit code, output and errors of a process that a signal meets in this line."""
    lines = body.format(number=number).strip().replace("\n", "\n    ")
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + WAIT.format(body=lines)], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("body", [PLAIN, CALLBACK, DYING], ids=["in plain code", "in a callback", "in a __del__"])
def test_a_stop_ends_the_process_in_order_wherever_it_comes(body):
    assert ended(body, 15) == (143, "[143]\n", "")
    code, said, errors = ended(body, 2)
    assert (said, code, errors.splitlines()[-1]) == ("[130]\n", -2, "KeyboardInterrupt")
    assert "ignored" not in errors


def test_a_second_one_ends_it_at_once():
    assert ended("try: hit({number})\nfinally: hit(15)", 15) == (-15, "", "")


def test_what_else_a_callback_swallows_is_told_as_ever():
    code, said, errors = ended("thing = Thing(); watch = weakref.ref(thing, lambda _: 1 / 0); del thing\nhit(15)", 15)
    assert (code, said) == (143, "[143]\n")
    assert "Exception ignored in" in errors
    assert "ZeroDivisionError" in errors
