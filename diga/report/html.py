"""Tables as HTML: `table(table)` is a fragment that loads nothing, `STYLE` is how it looks where a page wants it."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape as quoted

from diga.report.markdown import visible
from diga.report.table import DAGGER, Cell, Column, Table

STYLE = """\
.table { overflow-x: auto; margin: 1.5em 0; }
.table table { border-collapse: collapse; border-top: 2px solid; border-bottom: 2px solid; margin-bottom: 1em;
  font-variant-numeric: tabular-nums; }
.table caption { text-align: left; padding-bottom: .5em; }
.table th, .table td { padding: .15em .6em; text-align: right; white-space: nowrap; vertical-align: baseline; }
.table th.text, .table td.text { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 6em; }
.table th.check, .table td.check, .table th.group { text-align: center; }
.table thead tr:last-child > *, .table tr.rule > * { border-bottom: 1px solid; }
.table th.group.titled { border-bottom: 1px solid; }
.table td.best { font-weight: bold; }
.table td.second { text-decoration: underline; text-underline-offset: 3px; }
.table td small { font-weight: normal; display: inline-block; text-decoration: none; }
.table td.nothing, .table td.paper { color: #555; }
.table p.note { font-size: smaller; max-width: 60em; overflow-wrap: anywhere; }
"""
WIDE = 13  # columns, of which more are set closer
PLACES = {1: " best", 2: " second"}


def escape(text: str) -> str:
    """A text that shows as it is, in the direction of its own letters alone; nothing of it is markup."""
    return f"<bdi>{quoted(visible(text))}</bdi>" if not visible(text).isascii() else quoted(visible(text))


def table(table: Table) -> str:
    """Caption, grouped headings, rows, what is below them, and notes."""
    caption = f"<caption><strong>{escape(table.title)}.</strong> {escape(table.caption)}</caption>"
    parts = [_grid(table, caption), *([_grid(table.below, "")] if table.below else [])]
    notes = [f'<p class="note">{escape(note)}</p>' for note in table.remarks]
    wide = " wide" * (len(table.columns) > WIDE)
    return "\n".join([f'<div class="table{wide}">', *parts, *notes, "</div>", ""])


def _grid(table: Table, caption: str) -> str:
    return "\n".join(["<table>", *([caption] if caption else []), *_head(table), *_body(table), "</table>"])


def _named(table: Table) -> int:
    """The column that names the rows: the first, or the one behind a column of their letters."""
    return int(table.columns[0].key == "mark" and len(table.columns) > 1)


def _head(table: Table) -> Iterator[str]:
    yield "<thead>"
    if table.has_groups:
        yield f"<tr>{''.join(_group(span.title, span.width) for span in table.spans())}</tr>"
    yield f"<tr>{''.join(_heading(column, j == _named(table)) for j, column in enumerate(table.columns))}</tr>"
    yield "</thead>"


def _group(title: str, width: int) -> str:
    titled = ' class="group titled" scope="colgroup"' if title else ' class="group"'
    return f'<th colspan="{width}"{titled}>{escape(title)}</th>'


def _heading(column: Column, names: bool) -> str:
    return f'<th class="{column.kind}{" name" * names}" scope="col">{escape(column.header)}</th>'


def _body(table: Table) -> Iterator[str]:
    yield "<tbody>"
    for i, row in enumerate(table.rows):
        last = i + 1 < len(table.rows) and table.rows[i + 1].group != row.group
        yield f"<tr{' class=rule' * last}>{''.join(_cell(table, i, j, cell) for j, cell in enumerate(row.cells))}</tr>"
    yield "</tbody>"


def _cell(table: Table, i: int, j: int, cell: Cell) -> str:
    about, shown = table.about(i, j), table.printed(i, j)
    if not cell.is_number:
        empty = " nothing" if cell.status else ""
        name = " name" * (j == _named(table))
        return f'<td class="{about.kind}{empty}{name}">{escape(shown.text)}</td>'
    behind = [shown.interval + shown.stars, f"± {shown.spread}" if shown.spread else "", shown.seeds]
    small = "".join(f" <small>{part}</small>" for part in behind if part)
    runs = f' title="{len(cell.runs)} runs"' if len(cell.runs) > 1 else ""
    number = shown.text + DAGGER * shown.tied
    return f'<td class="{about.kind}{PLACES.get(shown.place or 0, "")}"{runs}>{number}{small}</td>'
