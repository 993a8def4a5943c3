"""Tables for other programs: CSV for spreadsheets, JSON for everything else.

Numbers are written in full and untouched; texts that a spreadsheet would take for a formula are quoted.
"""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict
from typing import Any

from diga.report.table import Cell, Column, Table

FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # full-width forms are folded by some


def inert(text: str) -> str:
    """A text that no spreadsheet evaluates: a leading apostrophe where it would."""
    text = text.encode("utf8", "replace").decode()  # half a surrogate pair cannot be written
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # a lone return is not quoted by every writer
    dangerous = text.lstrip().startswith(FORMULA) or text.startswith(("\t", "\r", "\n"))
    return f"'{text}" if dangerous else text


def as_csv(table: Table) -> str:
    """One line a row; a number is followed by its spread or interval, its n and, without it, the reason.

    Where some rows are other than their columns, a column says what the numbers of each row are.  What
    is below the table follows in lines and columns of its own.
    """
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    parts = [_lines(part) for part in (table, table.below) if part]
    before, after = 0, sum(len(part[0]) for part in parts)
    lines.writerow([name for part in parts for name in part[0]])
    for head, *body in parts:
        after -= len(head)
        lines.writerows([""] * before + line + [""] * after for line in body)
        before += len(head)
    return out.getvalue()


def _lines(table: Table) -> list[list[str]]:
    """Names of the fields, then the fields of every row."""
    mixed = table.is_mixed
    lines = [[inert(name) for column in table.columns for name in _names(column, mixed)] + ["kind"] * mixed]
    for row in table.rows:
        pairs = zip(table.columns, row.cells, strict=True)
        values = [value for column, cell in pairs for value in _values(column, cell, mixed)]
        lines.append(values + [row.about.kind if row.about else "score"] * mixed)
    return lines


def as_json(table: Table) -> str:
    """The whole table; a number that is not there is null, and texts come back exactly."""
    document = asdict(table)
    return json.dumps(_finite(document), indent=1, allow_nan=False) + "\n"


def _names(column: Column, mixed: bool) -> list[str]:
    key = column.key
    bounds = [f"{key}_low", f"{key}_high"] * mixed
    return {
        "score": [key, f"{key}_sd", *bounds, f"{key}_n", f"{key}_status"],
        "delta": [key, f"{key}_low", f"{key}_high", f"{key}_n"],
    }.get(column.kind, [key])


def _values(column: Column, cell: Cell, mixed: bool) -> list[str]:
    mean, n = _digits(cell.mean), "" if cell.n is None else str(cell.n)
    bounds = [_digits(cell.low), _digits(cell.high)] * mixed
    match column.kind:
        case "text":
            return [inert(cell.text)]
        case "check":
            return ["1" if cell.text else "0"]
        case "score":
            return [mean, _digits(cell.sd), *bounds, n, cell.status]
        case "delta":
            return [mean, _digits(cell.low), _digits(cell.high), n]
        case "paper":
            return [mean]


def _digits(value: float) -> str:
    """Ten significant digits: more than is known, fewer than rounding noise."""
    return f"{value + 0.0:.10g}" if math.isfinite(value) else ""


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value
