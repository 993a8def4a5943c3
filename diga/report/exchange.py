"""Tables for other programs: CSV for spreadsheets, Parquet for data frames, JSON for everything else.

Numbers are written in full and untouched; texts that a spreadsheet would take for a formula are quoted.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import asdict
from typing import Any

from diga.report.table import Cell, Column, Table

FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # full-width forms are folded by some

BEGINS = re.compile(f"([;\t\n] *)([{re.escape(''.join(FORMULA))}])")  # a cell, to who parts them at something else


def inert(text: str) -> str:
    """A text that no spreadsheet evaluates: a leading apostrophe where it would."""
    text = text.encode("utf8", "replace").decode()  # half a surrogate pair cannot be written
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")  # not quoted by every writer
    text = BEGINS.sub(r"\1'\2", text)
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


def as_parquet(table: Table) -> bytes:
    """One line a row, the fields of `as_csv` with their types; title, caption and notes are in the schema's metadata.

    What is below the table follows in lines and columns of its own.  Texts are exact.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = [_typed(part) for part in (table, table.below) if part]
    seen, columns, at, total = set[str](), [], 0, sum(n for _, n in parts)
    for fields, n in parts:
        for name, kind, values in fields:
            own = name if name not in seen else f"{name}_below"
            seen.add(own)
            columns.append((own, pa.array([None] * at + values + [None] * (total - at - n), pa.type_for_alias(kind))))
        at += n
    said = {"title": table.title, "caption": table.caption, "notes": list(table.remarks)}
    whole = pa.table([values for _, values in columns], names=[_unicode(name) for name, _ in columns])
    sink = pa.BufferOutputStream()
    pq.write_table(whole.replace_schema_metadata({"diga": json.dumps(said)}), sink)
    return bytes(sink.getvalue().to_pybytes())


def _typed(table: Table) -> tuple[list[tuple[str, str, list[Any]]], int]:
    """Name, type and values of every field, and how many rows there are."""
    fields: list[tuple[str, str, list[Any]]] = []
    for j, column in enumerate(table.columns):
        found = [_fields(table, column, row.cells[j]) for row in table.rows]
        kinds = _kinds(table, column)
        fields += [(name, kind, [one[k] for one in found]) for k, (name, kind) in enumerate(kinds.items())]
    if table.is_mixed:
        fields.append(("kind", "string", [row.about.kind if row.about else "score" for row in table.rows]))
    return fields, len(table.rows)


def _lines(table: Table) -> list[list[str]]:
    """Names of the fields, then the fields of every row."""
    fields, n = _typed(table)
    return [[inert(name) for name, _, _ in fields], *([_text(values[i]) for _, _, values in fields] for i in range(n))]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return inert(value)
    return "" if value is None else f"{value + 0.0:.10g}"  # more than is known, fewer than rounding noise


def _unicode(text: str) -> str:
    """Half a surrogate pair cannot be written."""
    return text.encode("utf8", "replace").decode()


def as_json(table: Table) -> str:
    """The whole table; a number that is not there is null, and texts come back exactly."""
    document = asdict(table)
    return json.dumps(_finite(document), indent=1, allow_nan=False) + "\n"


def _kinds(table: Table, column: Column) -> dict[str, str]:
    """Name and type of every field of a column."""
    key = column.key
    bounds = dict.fromkeys([f"{key}_low", f"{key}_high"], "double")
    match column.kind:
        case "score":
            known = {key: "double", f"{key}_sd": "double"} | (bounds if table.is_mixed or column.interval else {})
            return known | {f"{key}_n": "int64", f"{key}_status": "string"}
        case "delta":
            p = {f"{key}_p": "double"} if table.has_p else {}
            return {key: "double"} | bounds | {f"{key}_n": "int64"} | p
        case _:
            return {key: {"text": "string", "check": "int64"}.get(column.kind, "double")}


def _fields(table: Table, column: Column, cell: Cell) -> list[Any]:
    """Values of the same fields; None where there is none."""
    mean, bounds = _finite(cell.mean), [_finite(cell.low), _finite(cell.high)]
    match column.kind:
        case "text":
            return [_unicode(cell.text)]
        case "check":
            return [int(bool(cell.text))]
        case "score":
            return [mean, _finite(cell.sd), *(bounds if table.is_mixed or column.interval else []), cell.n, cell.status]
        case "delta":
            return [mean, *bounds, cell.n, *([_finite(cell.p)] if table.has_p else [])]
        case "paper":
            return [mean]


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value
