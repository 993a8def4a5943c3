"""A table as a value: columns, rows and cells that know what they mean and not how they are printed.

Writers turn a table into text; they share what is decided here: how a number is rounded, which cell of
a column is the best, and what stands in a cell that has no number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Literal, NamedTuple

Kind = Literal["text", "check", "score", "delta", "paper"]
Status = Literal["", "missing", "failed", "stopped", "running", "n/a"]
NOTHING = "--"
LEVELS = (0.05, 0.01, 0.001)
DAGGER = "†"
TIE = (
    f"{DAGGER}: not told apart from the best of its column: the 95 % interval of their difference, paired by seed, "
    "holds zero."
)
STARS = "*, **, ***: p below 0.05, 0.01, 0.001, from all sign flips of the paired differences, Holm over the rows."


@dataclass(frozen=True, kw_only=True)
class Column:
    """What the cells under one heading have in common.

    `score` is ours and may be ranked, `delta` is signed with an interval, `paper` is published: it stands
    beside ours and is never ranked.  `spread` off prints means alone, `signed` shows a plus sign, `interval`
    the bounds of a score.
    """

    key: str
    header: str
    group: str = ""
    kind: Kind = "text"
    better: Literal["max"] | None = None
    decimals: int = 1
    spread: bool = True
    count: bool = False  # always say n; else only where it differs from the table's
    signed: bool = False
    interval: bool = False  # a score that prints its bounds, as a difference does

    def __post_init__(self) -> None:
        if self.better and self.kind != "score":
            raise ValueError(f"column {self.key!r}: only our scores are ranked, not {self.kind}")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One entry: a text, or a number with what is known of its uncertainty and the runs it comes from."""

    text: str = ""
    mean: float = math.nan
    sd: float = math.nan
    n: int | None = None
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan  # of a difference, adjusted for the rows of its table
    tied: bool = False  # not told apart from the best of its column
    status: Status = ""
    runs: tuple[str, ...] = ()

    @property
    def is_number(self) -> bool:
        return math.isfinite(self.mean)

    @property
    def has_spread(self) -> bool:
        """Whether a ± may stand there: never for one seed."""
        return (self.n or 0) >= 2 and math.isfinite(self.sd)

    @property
    def has_interval(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def stars(self) -> str:
        """How far below LEVELS its p is; none without one."""
        return "*" * sum(self.p < level for level in LEVELS)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line; a change of `group` from one row to the next is a rule between them.

    `about` says what the row's numbers are where that is not what their columns say, such as steps below
    scores.  Such a row is never ranked.
    """

    key: str
    cells: tuple[Cell, ...]
    group: str = ""
    about: Column | None = None


class Printed(NamedTuple):
    """A cell in words: its number, or why there is none, and what stands behind it."""

    text: str
    place: int | None = None  # in its column: 1 the best, 2 the second
    tied: bool = False
    interval: str = ""  # [low, high]
    stars: str = ""
    spread: str = ""  # behind a ±
    seeds: str = ""  # in parentheses, how many


class Span(NamedTuple):
    """A group heading over neighbouring columns."""

    title: str
    first: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Table:
    """What is printed.  `n` is the number of seeds that a cell without a count speaks of.

    `below` is printed under it, with columns of its own, for numbers that must not stand in the same.
    """

    title: str
    caption: str
    label: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    n: int | None = None
    below: Table | None = None

    def __post_init__(self) -> None:
        wrong = [r.key for r in self.rows if len(r.cells) != len(self.columns)]
        if wrong or not self.columns:
            raise ValueError(f"rows {wrong} do not have the table's {len(self.columns)} columns")

    def ranks(self, column: int) -> tuple[int | None, ...]:
        """Place of every row in a ranked column, 1 the best; what prints alike shares its place.

        None where nothing is ranked: other kinds, cells without a number, a column with one number.
        """
        about = self.columns[column]
        printed = [None if row.about else self._printed(row.cells[column], about) for row in self.rows]
        order = sorted({p for p in printed if p is not None}, reverse=True)
        if sum(p is not None for p in printed) < 2:
            return (None,) * len(printed)
        return tuple(None if p is None else order.index(p) + 1 for p in printed)

    @cached_property
    def _places(self) -> tuple[tuple[int | None, ...], ...]:
        return tuple(self.ranks(j) for j in range(len(self.columns)))

    @cached_property
    def best(self) -> frozenset[tuple[int, int]]:
        """(row, column) of every cell in first place."""
        columns = range(len(self.columns))
        return frozenset((i, j) for j in columns for i, rank in enumerate(self.ranks(j)) if rank == 1)

    def about(self, row: int, column: int) -> Column:
        """What says how a cell is printed: its row, where that has a say about numbers, else its column."""
        own, below = self.rows[row].about, self.columns[column]
        return below if own is None or below.kind in ("text", "check") else own

    def printed(self, row: int, column: int) -> Printed:
        """A cell as every writer prints it."""
        cell, about = self.rows[row].cells[column], self.about(row, column)
        if not cell.is_number:
            return Printed(words(cell))
        is_step = about.kind == "delta"
        known = (cell.low, cell.high) if cell.has_interval and (is_step or about.interval) else ()
        bounds = [number(bound, about.decimals, is_step) for bound in known]
        place, ranked = self._places[column][row], sum(p is not None for p in self._places[column])
        return Printed(
            number(cell.mean, about.decimals, about.signed or is_step),
            place=place if place == 1 or ranked > 2 else None,
            tied=place is not None and cell.tied,
            interval=f"[{', '.join(bounds)}]" if bounds else "",
            stars=cell.stars if is_step else "",
            spread=number(cell.sd, about.decimals)
            if about.kind == "score" and about.spread and cell.has_spread
            else "",
            seeds=f"({cell.n})" if self.shows_count(cell, about) else "",
        )

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """The notes, and what the marks mean that stand in cells."""
        known = [self.printed(i, j) for i, row in enumerate(self.rows) for j in range(len(row.cells))]
        marks = [TIE] * any(p.tied for p in known) + [STARS] * any(p.stars for p in known)
        return (*self.notes, *marks)

    @cached_property
    def has_p(self) -> bool:
        """Whether a difference has a p."""
        return any(math.isfinite(cell.p) for row in self.rows for cell in row.cells)

    @property
    def is_mixed(self) -> bool:
        """Whether some rows are other than their columns."""
        return any(row.about for row in self.rows)

    def shows_count(self, cell: Cell, column: Column) -> bool:
        """Whether the number of seeds stands beside a number."""
        return cell.is_number and cell.n is not None and (column.count or cell.n != self.n)

    def spans(self) -> Iterator[Span]:
        """Neighbouring columns of one group, in order; columns without a group have an empty title."""
        at = 0
        for title, members in groupby(self.columns, key=lambda c: c.group):
            width = len(list(members))
            yield Span(title, at, width)
            at += width

    @property
    def has_groups(self) -> bool:
        return any(c.group for c in self.columns)

    @staticmethod
    def _printed(cell: Cell, about: Column) -> float | None:
        return float(number(cell.mean, about.decimals)) if about.better and cell.is_number else None


def number(value: float, decimals: int = 1, signed: bool = False) -> str:
    """A finite value in plain digits, the same in every locale, and no negative zero."""
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        return text.lstrip("-")
    return f"+{text}" if signed and value > 0 else text


def words(cell: Cell) -> str:
    """What stands in a cell that has no number: its text, or why there is nothing."""
    return cell.text or {"": "", "missing": NOTHING}.get(cell.status, cell.status)
