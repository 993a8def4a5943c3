r"""Numbers as LaTeX commands, so that a text that cites one is never behind its table.

`\newcommand{\DigaTableThreeSourceOnlyLast}{38.3}`: the study, the table, the row and the column in letters alone; with
Sd, Low, High and N behind it, what is known of its spread, its interval and the number of its seeds.  A cell without a
number has a command too, which prints why, so that a draft compiles while a study runs.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from string import ascii_lowercase

from diga.report.table import Cell, Column, Table, number

DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
LONGEST = 48  # letters of a part of a name
SIGNS = {"+": "Plus", "*": "Star", "Δ": "Delta"}


def numbers(tables: Mapping[str, Table], study: str = "") -> str:
    """numbers.tex: one command a cell of every table, by the names of the tables' files."""
    names: set[str] = set()
    lines = ["% one command a number: \\input{numbers} in the preamble"]
    for name, table in tables.items():
        for part, below in ((table, ""), (table.below, "Below")):
            for full, value in _cells(part) if part else ():
                lines.append(f"\\newcommand{{\\{_fresh(_name(study, name, below) + full, names)}}}{{{value}}}")
    return "\n".join(lines) + "\n"


def _cells(table: Table) -> Iterator[tuple[str, str]]:
    for i, row in enumerate(table.rows):
        for j, column in enumerate(table.columns):
            cell = row.cells[j]
            if table.about(i, j).kind in ("text", "check") or not (cell.is_number or cell.status):
                continue
            text, name = table.printed(i, j).text, _name(row.key, column.key)
            yield name, f"${text}$" if text[0] in "+-" and cell.is_number else text
            yield from ((name + end, value) for end, value in _around(cell, table.about(i, j)))


def _around(cell: Cell, about: Column) -> Iterator[tuple[str, str]]:
    """What is known around a number: spread, bounds of its interval, how many seeds."""
    step = about.kind == "delta"
    if cell.is_number and about.kind != "paper":
        known = {"Sd": cell.sd if cell.has_spread else math.nan, "Low": cell.low, "High": cell.high}
        for end, value in known.items():
            if math.isfinite(value):
                text = number(value, about.decimals, step and end != "Sd")
                yield end, f"${text}$" if text[0] in "+-" else text
        if cell.n is not None:
            yield "N", str(cell.n)


def _name(*parts: str) -> str:
    return "".join(map(_letters, parts))


def _letters(text: str) -> str:
    """A text in letters, each word with a capital: whatever else it holds becomes a hash where it must."""
    spoken = "".join(SIGNS.get(c, c) for c in unicodedata.normalize("NFKD", text))
    words = re.findall(r"[A-Za-z]+|[0-9]", spoken)
    name = "".join(DIGITS[int(w)] if w.isdigit() else w[0].upper() + w[1:] for w in words)
    if len(name) <= LONGEST and (name or not text):
        return name
    digest = hashlib.sha256(text.encode("utf8", "surrogatepass")).digest()
    return name[:LONGEST] + "".join(ascii_lowercase[b % 26] for b in digest[:8])


def _fresh(name: str, names: set[str]) -> str:
    """A name that no other cell has."""
    full, k = f"Diga{name}", 0
    while full in names:
        full, k = f"Diga{name}{_roman(k)}", k + 1
    names.add(full)
    return full


def _roman(k: int) -> str:
    """B, C, ... Z, BB: behind the second, third, ... of a name."""
    before, last = divmod(k, 25)
    return (_roman(before - 1) if before else "") + "BCDEFGHIJKLMNOPQRSTUVWXYZ"[last]
