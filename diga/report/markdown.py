"""Tables as GitHub Markdown: the best of a column is bold, the second in italics, which Markdown has."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from diga.report.table import DAGGER, Cell, Column, Table, words

MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\\": "&#92;"} | {c: f"\\{c}" for c in "|`*_[]~$"})

BEGINS = re.compile(r"^(\d{0,9})([#=+.)-])")


def visible(text: str) -> str:
    """One line without control, bidirectional or unassigned characters: none can reorder or break a line."""
    spaced = "".join(" " if c.isspace() else c for c in text)
    return " ".join("".join(c for c in spaced if unicodedata.category(c)[0] != "C").split())


def escape(text: str) -> str:
    """A text that shows as it is and stays within its cell, heading or sentence."""
    return visible(text).translate(MARKUP)


def paragraph(text: str) -> str:
    """The same at the beginning of a line, where `#`, `-`, `+`, `=` and numbers mean something."""
    return BEGINS.sub(r"\1\\\2", escape(text))


def code(text: str) -> str:
    """A fenced block of one line; the fence is longer than any run of backticks in it."""
    line = visible(text)
    fence = "```"
    while fence in line:
        fence += "`"
    return f"{fence}\n{line}\n{fence}"


def table(table: Table) -> str:
    """Heading, pipe table, what is below it, and notes."""
    grids = [_grid(part) for part in (table, table.below) if part]
    notes = [paragraph(note) for note in table.remarks]
    return "\n\n".join([f"**{escape(table.title)}.** {escape(table.caption)}", *grids, *notes]) + "\n"


def _grid(table: Table) -> str:
    lines = [_line(_header(c) for c in table.columns), _line(_rule(c) for c in table.columns)]
    for i, row in enumerate(table.rows):
        lines.append(_line(_cell(table, i, j, cell) for j, cell in enumerate(row.cells)))
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _header(column: Column) -> str:
    grouped = column.group and column.kind != "check"
    return escape(f"{column.group}: {column.header}" if grouped else column.header)


def _rule(column: Column) -> str:
    return {"text": "---", "check": ":-:"}.get(column.kind, "---:")


def _cell(table: Table, i: int, j: int, cell: Cell) -> str:
    if not cell.is_number:
        return escape(words(cell))
    shown = table.printed(i, j)
    around = {1: "**", 2: "_"}.get(shown.place or 0, "")
    parts = [around + shown.text + around + DAGGER * shown.tied]
    parts += [escape(part) if part == shown.stars else part for part in (shown.interval, shown.stars) if part]
    parts += [f"± {shown.spread}"] * bool(shown.spread) + [shown.seeds] * bool(shown.seeds)
    return " ".join(parts)
