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
Status = Literal["", "missing", "failed", "running", "n/a"]
NOTHING = "--"


@dataclass(frozen=True, kw_only=True)
class Column:
    """What the cells under one heading have in common.

    `score` is ours and may be ranked, `delta` is signed with an interval, `paper` is published: it stands
    beside ours and is never ranked.  `spread` off prints means alone, `signed` shows a plus sign.
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
    def best(self) -> frozenset[tuple[int, int]]:
        """(row, column) of every cell in first place."""
        columns = range(len(self.columns))
        return frozenset((i, j) for j in columns for i, rank in enumerate(self.ranks(j)) if rank == 1)

    def about(self, row: int, column: int) -> Column:
        """What says how a cell is printed: its row, where that has a say about numbers, else its column."""
        own, below = self.rows[row].about, self.columns[column]
        return below if own is None or below.kind in ("text", "check") else own

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
