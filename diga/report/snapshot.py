"""What was read of a study, as one Parquet file with a schema (`diga.report.runs`), for two who would read it again.

The next report: `place`, `load` and `save` keep a `Snapshot` in a folder, and only what is new is asked for.
The same report: `keep(records, folder)`, the last thing a report writes, leaves `runs.parquet` and `runs.lock.json`
there, with a digest of every file of `folder/evidence`; `read_back(folder)` gives records whose `folder` is set, from
which the report is built again byte for byte, without a store.  No password of an address gets into either.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.parquet as pq

import diga
from diga.errors import ConfigError, StorageError
from diga.files import slug, write_whole
from diga.report import runs, trials

if TYPE_CHECKING:
    from diga.report.records import Records

LAYOUT = 1  # of both files; another is not read
TABLE, TRIALS, LOCK = "runs.parquet", "trials.parquet", "runs.lock.json"
EVIDENCE = "evidence"  # a folder
BYTES = (
    "matplotlib",
    "numpy",
    "optuna",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "scipy",
)  # packages that a report's bytes depend on
SAID = ("row", "seed", "status", "run_id", "cell", "protocol", "code", "source", "data", "stages")  # of a run, in LOCK


@dataclass(frozen=True, eq=False)
class Snapshot:
    """All runs of a study's cells, when they were asked for (ms; 0: ask for all again), and those not to be counted."""

    runs: pa.Table
    asked: int = 0
    gone: frozenset[str] = frozenset()

    @cached_property
    def open(self) -> frozenset[str]:
        """Runs that may have changed."""
        pairs = zip(self.runs["run_id"].to_pylist(), self.runs["closed"].to_pylist(), strict=True)
        return frozenset(run for run, closed in pairs if not closed)


# --- addresses ---------------------------------------------------------------------------


def redacted(uri: str) -> str:
    """A tracking address without the user and password it may hold."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return "(an address that cannot be shown)"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host, query="", fragment="")) if parts.netloc else uri.partition("?")[0]


# --- for the next report -----------------------------------------------------------------


def place(cache: Path, uri: str, study: str, kind: str = "") -> Path:
    """The file in `cache` for a study in a store; of another kind of run than cells, one beside it."""
    return cache / f"{slug(study)}-{hashlib.sha256(redacted(uri).encode()).hexdigest()[:8]}{kind}.parquet"


def load(path: Path, uri: str, experiment: str, fields: pa.Schema = runs.FIELDS) -> Snapshot | None:
    """What `save` left of this experiment; None where that is nothing, damaged, or of another layout."""
    try:
        read = pq.read_table(path)
        about = _about(read)
        if about["layout"] != LAYOUT or (about["uri"], about["experiment"]) != (redacted(uri), str(experiment)):
            return None
        return Snapshot(_checked(read, fields), int(about["asked"]), frozenset(about["gone"]))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None


def save(path: Path, uri: str, experiment: str, known: Snapshot, fields: pa.Schema = runs.FIELDS) -> None:
    """Keep a snapshot; where that is not possible the next report costs as much as this one."""
    about = {"layout": LAYOUT, "uri": redacted(uri), "experiment": str(experiment)}
    about |= {"asked": known.asked, "gone": sorted(known.gone)}
    with suppress(OSError):  # the one before stays, and is as true as it was
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, _bytes(known.runs, about, fields))


def _bytes(table: pa.Table, about: dict[str, Any], fields: pa.Schema = runs.FIELDS) -> bytes:
    """A file that is the same whether its table was just made or read back."""
    sink = pa.BufferOutputStream()
    kept = runs.under_schema(table, fields).replace_schema_metadata({"diga": json.dumps(about, sort_keys=True)})
    pq.write_table(kept, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _about(read: pa.Table) -> dict[str, Any]:
    return dict(json.loads((read.schema.metadata or {}).get(b"diga", b"{}")))


def _checked(read: pa.Table, wanted: pa.Schema = runs.FIELDS) -> pa.Table:
    """Raises ValueError for a table without the schema that it should have."""
    fields = pa.schema([read.schema.field(name) for name in wanted.names])
    others = [field.type for field in read.schema if field.name not in wanted.names]
    if not fields.equals(wanted) or any(kind != pa.float64() for kind in others):
        raise ValueError("not a table of runs")
    return read


# --- for the same report -----------------------------------------------------------------


def keep_runs(known: Records, folder: Path) -> pa.Table:
    """Write the runs, as they are in the table that is returned."""
    table = known.runs if known.runs is not None else runs.of_cells(known.cells)
    about = {"layout": LAYOUT, "uri": redacted(known.uri), "study": known.study}
    (folder / TABLE).write_bytes(_bytes(table, about))
    if known.trial_runs is not None:
        (folder / TRIALS).write_bytes(_bytes(known.trial_runs, {"layout": LAYOUT}, trials.FIELDS))
    return table


def keep(known: Records, table: pa.Table, folder: Path, so_far: str = "") -> None:
    """Write what else `read_back` needs, and how far a study is; the runs, and what figures show, are there by now."""
    from diga.report import bootstrap

    for domain, found in known.kept_images.items():
        bootstrap.keep(found, domain, folder)
    evidence = sorted(p for p in (folder / EVIDENCE).rglob("*") if p.is_file())
    tables = [folder / name for name in (TABLE, TRIALS) if (folder / name).is_file()]
    files = {p.relative_to(folder).as_posix(): digest(p) for p in (*tables, *evidence)}
    lines = table.select(SAID).to_pylist()
    lock = {"layout": LAYOUT, "study": known.name, "records": redacted(known.uri), "made_with": made_with()}
    lock |= {"so_far": so_far, "files": files, "runs": lines}
    if known.trial_runs is not None:
        lock["trials"] = known.trial_runs.select(["trial", "status", "run_id", "cell"]).to_pylist()
    text = json.dumps(lock, indent=1)
    (folder / LOCK).write_text(text + "\n", "utf8", newline="\n")


def read_back(folder: Path) -> Records:
    """The records that a report was made from.

    Raises ConfigError for a folder that is no report, and StorageError for one whose files are not what its lock
    says, or that another version wrote in a layout of its own.
    """
    from diga.report.records import declared_well, made

    lock = read_lock(folder)
    wrong = [name for name, then in lock["files"].items() if digest(folder / name) != then]
    if wrong:
        what = f"{wrong[0]} is not what {LOCK} says" + (f", nor are {len(wrong) - 1} others" if wrong[1:] else "")
        raise StorageError(folder, what, "the folder as it was written, or a report from the records themselves")
    read = pq.read_table(folder / TABLE)
    about = _about(read)
    study = declared_well(about["study"], str(folder), "a report from the records themselves")
    tried = _checked(pq.read_table(folder / TRIALS), trials.FIELDS) if TRIALS in lock["files"] else None
    return made(study, _checked(read), about["uri"], folder, tried)


def read_lock(folder: Path) -> dict[str, Any]:
    """`runs.lock.json` of a report.  Raises as `read_back` does."""
    try:
        lock = json.loads((folder / LOCK).read_text("utf8"))
        layout, files = lock["layout"], dict(lock["files"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            folder, f"no report that can be made again: no {LOCK} there", "a folder of `diga report`"
        ) from None
    if layout != LAYOUT or TABLE not in files or any(not _inside(name) for name in files):
        expected = f"layout {LAYOUT}: a report from the records themselves"
        raise StorageError(folder, f"{LOCK} has layout {layout!r}", expected)
    return dict(lock)


def made_with() -> dict[str, str]:
    """Versions that the bytes of a report depend on."""
    return {"diga": diga.__version__} | {name: version(name) for name in BYTES}


def _inside(name: str) -> bool:
    """Whether a name of a lock is one of the files that `keep` writes."""
    return name in (TABLE, TRIALS) or (name.startswith(f"{EVIDENCE}/") and ".." not in Path(name).parts)


def digest(path: Path) -> str:
    """sha256 of a file; "" of one that cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
