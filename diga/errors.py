"""What can go wrong, each with its exit code and one line that says what to do next.

DigaError            1
├── ConfigError      2   configuration or usage: an unknown key, a value outside its bound
├── DataError        3   images and labels: missing, truncated, mismatched, unknown ids
├── StorageError     4   disk, store, database, memory
├── Diverged         5   a loss that is not finite
├── SomeCellsFailed  6   a study finished, its report is written, some cells failed
└── TemporaryError  75   try again: another process holds what is needed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class DigaError(Exception):
    """One line: `<where>: <what> (<what was expected>)`."""

    code: ClassVar[int] = 1

    def __init__(self, where: object, what: str, expected: str = "") -> None:
        super().__init__(where, what, expected)
        self.where, self.what, self.expected = str(where), what, expected

    def __str__(self) -> str:
        line = " ".join(f"{self.where}: {self.what}{f' ({self.expected})' if self.expected else ''}".split())
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)  # no escape reaches a terminal


class ConfigError(DigaError):
    """A recipe, key, value or command line that cannot be meant."""

    code = 2


class DataError(DigaError):
    """A dataset that is missing, damaged or inconsistent."""

    code = 3


class StorageError(DigaError):
    """Disk, store or database refuse."""

    code = 4


class Diverged(DigaError):
    """A loss or a weight that is no longer finite."""

    code = 5


class SomeCellsFailed(DigaError):
    """The study ended and its report is written, but some cells failed."""

    code = 6


class TemporaryError(DigaError):
    """Typing the same command again may succeed."""

    code = 75


class Stopped(TemporaryError):
    """A training that was asked to stop and has saved: typing the same command again goes on there."""


def shown(value: object) -> str:
    """`value` as a message quotes it: one short line, whatever it is."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a list inside itself
        text = type(value).__name__
    return text if len(text) <= 80 else f"{text[:60]}… of {len(text)} characters"


def expected_one_of(name: str, known: Iterable[str]) -> str:
    """What to answer to a name that is not known: the nearest right one, else all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, 1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
