"""Every form a table is written in: `write(tables, folder, study)` leaves them all, and `numbers.tex` beside them.

`FORMATS`: what each ending is made by; `<folder>/<name>.<ending>`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from diga.report import exchange, html, latex, macros, markdown
from diga.report.table import Table

NUMBERS = "numbers.tex"
FORMATS: dict[str, Callable[[Table], str | bytes]] = {
    "md": markdown.table,
    "tex": latex.table,
    "html": html.table,
    "csv": exchange.as_csv,
    "json": exchange.as_json,
    "parquet": exchange.as_parquet,
}


def write(tables: Mapping[str, Table], folder: Path, study: str = "") -> None:
    """All tables in all forms; `folder` is made where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        for ending, writer in FORMATS.items():
            _put(folder / f"{name}.{ending}", writer(table))
    _put(folder / NUMBERS, macros.numbers(tables, study))


def _put(path: Path, content: str | bytes) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
