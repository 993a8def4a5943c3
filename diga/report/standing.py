"""Whether a report still says what the store holds: then it is made again from what it has kept, and nothing is asked.

Only of SQLite can that be told without MLflow, whose import takes longer than all else: a database that is the same
file, of the same size and time, with the same count of changes, holds the same.  `settle` remembers which database a
report was made from, `stands` asks whether it is still that.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from diga.files import database, write_whole
from diga.report import snapshot, unchanged

if TYPE_CHECKING:
    from diga.report.records import Records

HEADER, CHANGES = 100, slice(24, 28)  # bytes of SQLite's header; in it, how often the file was changed


def stamp(uri: str) -> str:
    """Another text for another state of a database; "" where that cannot be told, or while somebody writes."""
    if (path := database(uri)) is None:
        return ""
    beside = {end: path.with_name(path.name + end) for end in ("-journal", "-wal")}
    try:
        about = path.stat()
        with path.open("rb") as file:
            header = file.read(HEADER)
        if any(p.exists() and p.stat().st_size for p in beside.values()):
            return ""
    except OSError:
        return ""
    return f"{about.st_dev}-{about.st_ino}-{about.st_size}-{about.st_mtime_ns}-{header[CHANGES].hex()}"


def place(cache: Path, uri: str, study: str) -> Path:
    """Where it is remembered."""
    return snapshot.place(cache, uri, study).with_suffix(".json")


def stands(cache: Path, uri: str, study: str, report: Path) -> bool:
    """Whether `report` is what this code would make of the study's records now."""
    try:
        return bool(json.loads(place(cache, uri, study).read_text("utf8")) == _about(stamp(uri), report))
    except (OSError, ValueError):
        return False


def settle(cache: Path, known: Records, report: Path, before: str) -> None:
    """Remember that `report` was made of `known`, read when the store's stamp was `before`.

    Where the store has changed since, by who put the report there, records are asked for once more.
    """
    from diga.report.records import records

    now = stamp(known.uri)
    if now != before:
        again = records(known.uri, known.name, cache)
        if again.study != known.study or not again.same_runs(known) or now != stamp(known.uri):
            return
    if now:
        with suppress(OSError):  # the next report will ask
            write_whole(place(cache, known.uri, known.name), json.dumps(_about(now, report)).encode())


def _about(stamp: str, report: Path) -> dict[str, str]:
    return {"stamp": stamp, "lock": snapshot.digest(report / snapshot.LOCK), "code": unchanged.code()}
