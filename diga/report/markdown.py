"""Tables as GitHub Markdown."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from diga.report.table import Cell, Column, Table, number, words

MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\\": "&#92;"} | {c: f"\\{c}" for c in "|`*_[]~$"})


def visible(text: str) -> str:
    """One line without control, bidirectional or unassigned characters: none can reorder or break a line."""
    spaced = "".join(" " if c.isspace() else c for c in text)
    return " ".join("".join(c for c in spaced if unicodedata.category(c)[0] != "C").split())


def escape(text: str) -> str:
    """A text that shows as it is and stays within its cell, heading or sentence."""
    return visible(text).translate(MARKUP)


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
    notes = [escape(note) for note in table.notes]
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
    about = table.about(i, j)
    if not cell.is_number:
        return escape(words(cell))
    text = number(cell.mean, about.decimals, about.signed or about.kind == "delta")
    text = f"**{text}**" if (i, j) in table.best else text
    if about.kind == "delta" and cell.has_interval:
        low, high = (number(bound, about.decimals, signed=True) for bound in (cell.low, cell.high))
        text += f" [{low}, {high}]"
    if about.kind == "score" and about.spread and cell.has_spread:
        text += f" ± {number(cell.sd, about.decimals)}"
    return text + (f" ({cell.n})" if table.shows_count(cell, about) else "")
