"""A part of a domain's training images: `@1/16` is the first sixteenth of a fixed shuffle, `@not-1/16` the others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from diga.errors import ConfigError, DataError

SEED = 0  # of the shuffle; another one would be another labelled sixteenth
FORM = re.compile(r"(not-)?1/([1-9][0-9]{0,8})")


@dataclass(frozen=True)
class Part:
    """One `shares`-th of the training images, or with `others` all but it; a sixteenth lies within an eighth."""

    shares: int
    others: bool = False

    def __str__(self) -> str:
        return "not-" * self.others + f"1/{self.shares}"

    def of(self, stems: Iterable[str], where: object) -> frozenset[str]:
        """The stems that belong to it, of N: floor(N / shares + 1/2) of them, or the rest.

        Raises DataError, naming `where`, when there are more parts than images.
        """
        ordered = sorted(stems)
        if len(ordered) < self.shares:
            what = f"{len(ordered)} training images, {self.shares} parts"
            raise DataError(where, what, f"one image a part: 1/{max(2, len(ordered))} at most")
        first = (2 * len(ordered) + self.shares) // (2 * self.shares)
        shuffled = np.random.default_rng(SEED).permutation(len(ordered))
        return frozenset(ordered[i] for i in (shuffled[first:] if self.others else shuffled[:first]))


def parted(name: str) -> tuple[str, Part | None]:
    """The path of a domain's name and the part it ends in, if any.

    Raises ConfigError, with the nearest right name, for a part that is none: 1/n and n of 2 or more only.
    """
    path, mark, text = name.partition("@")
    if not mark:
        return name, None
    form = FORM.fullmatch(text)
    if not form or form[2] == "1":
        raise ConfigError(name, f"{text!r} is no part of a domain", _nearest(path, text))
    return path, Part(int(form[2]), bool(form[1]))


def _nearest(path: str, text: str) -> str:
    numbers = [int(digits) for digits in re.findall(r"[0-9]{1,9}", text)][-2:]
    top, bottom = [1, *numbers][-2:] if numbers else (0, 0)
    if not bottom and not top:
        return f"a part such as '{path}@1/16' or '{path}@not-1/16'"
    others = "not" in text.lower() or 1 < top == bottom - 1  # fifteen of sixteen are all but a sixteenth
    shares = bottom if top == bottom - 1 else round(bottom / max(1, top))
    return f"did you mean '{path}@{Part(max(2, shares), others)}'?"
