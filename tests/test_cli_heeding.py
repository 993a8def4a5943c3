"""A stop is carried out wherever it meets the process; what else nobody can catch is told as ever."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import tiny

BEGIN = """
import os, signal, sys, time, weakref
from diga.cli.stopping import heeding
class Thing: pass
def hit(number):
    os.kill(os.getpid(), number)
    for _ in range(1000): pass
"""
CALLBACK = "thing = Thing(); watch = weakref.ref(thing, lambda _: hit({number})); del thing\n"
DYING = "Thing.__del__ = lambda self: hit({number})\nthing = Thing(); del thing\n"
PLAIN = "hit({number})\n"
WAIT = """
with heeding() as received:
    try:
        {body}
        time.sleep(120); print('went on')
    finally:
        print(received)
"""


def ended(body: str, number: int) -> tuple[int, str, str]:
    """Exit code, output and errors of a process that a signal meets in this line."""
    return run(BEGIN + WAIT.format(body=body.format(number=number).strip().replace("\n", "\n        ")))


def run(text: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a program."""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=tiny.LONG, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("body", [PLAIN, CALLBACK, DYING], ids=["in plain code", "in a callback", "in a __del__"])
def test_a_stop_ends_the_process_in_order_wherever_it_comes(body):
    assert ended(body, 15) == (143, "[143]\n", "")
    code, said, errors = ended(body, 2)
    assert (said, code, errors.splitlines()[-1]) == ("[130]\n", -2, "KeyboardInterrupt")
    assert "ignored" not in errors


def test_a_second_one_ends_it_at_once():
    assert ended("try: hit({number})\nfinally: hit(15)", 15) == (-15, "", "")


LAST = """
import atexit
for i in range(3): atexit.register(print, i)
with heeding() as received:
    thing = Thing(); watch = weakref.ref(thing, lambda _: hit(15)); del thing
time.sleep(0.5)
print(received)
"""


def test_one_that_comes_last_of_all_is_known_and_disturbs_no_end():
    """The command is over before the stop comes again."""
    assert run(BEGIN + LAST) == (0, "[143]\n2\n1\n0\n", "")


def test_what_else_a_callback_swallows_is_told_as_ever():
    code, said, errors = ended("thing = Thing(); watch = weakref.ref(thing, lambda _: 1 / 0); del thing\nhit(15)", 15)
    assert (code, said) == (143, "[143]\n")
    assert "Exception ignored in" in errors
    assert "ZeroDivisionError" in errors
