"""Runs as a table with a schema: one line a run, its facts, then a column a metric; and the cells they are."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from mlflow.entities import Run
    from pandas import DataFrame

FACTS = (  # columns every frame of cells has, before its metrics
    *("row", "row_index", "parent", "components", "seed", "status"),
    *("error", "protocol", "classes", "git", "dirty", "run_id", "cell", "artifacts"),
    *("code", "source", "data", "stages", "machine"),
)
FIELDS = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        ("row", pa.string()),  # null, as is the seed, in a run of an older layout
        ("row_index", pa.int64()),
        ("parent", pa.string()),
        ("components", pa.list_(pa.string())),
        ("seed", pa.int64()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("protocol", pa.string()),
        ("classes", pa.string()),
        ("git", pa.string()),
        ("dirty", pa.bool_()),
        ("cell", pa.string()),
        ("artifacts", pa.string()),
        ("code", pa.string()),  # revisions that its stages were computed by
        ("source", pa.string()),  # digests of that code's own text
        ("data", pa.string()),  # JSON: fingerprint of each domain that was read, by use
        ("stages", pa.string()),  # JSON: fingerprint and updates of each stage, by name
        ("machine", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("closed", pa.bool_()),  # MLflow calls it FINISHED: nothing a number depends on changes any more
    ]
)
LARGEST = 1.7e308  # beyond it MLflow's databases keep an infinity


def line(run: Run) -> dict[str, Any]:
    """A run's facts and metrics."""
    tags, info = run.data.tags, run.info
    as_is = {name: tags.get(name, "") for name in ("status", "error", "protocol", "git", "cell")}
    facts = as_is | {
        "row": tags.get("row"),
        "seed": whole(tags.get("seed")),
        "classes": run.data.params.get("classes", ""),  # a parameter only where rows differ in it
        "row_index": whole(tags.get("row.index")),
        "parent": tags.get("row.parent", ""),
        "components": _names(tags.get("components", "[]")),
        "dirty": any("true" in tags.get(k, "").lower() for k in ("dirty", "code.dirty")),
        "run_id": info.run_id,
        "artifacts": info.artifact_uri,
        "code": tags.get("code.sha", ""),
        "source": tags.get("code.source", ""),
        "data": _below(tags, "data."),
        "stages": _stages(tags),
        "machine": tags.get("platform", ""),
        "start": getattr(info, "start_time", None) or 0,
        "end": getattr(info, "end_time", None) or 0,
        "closed": getattr(info, "status", "") == "FINISHED",
    }
    return {k: number(v) for k, v in run.data.metrics.items()} | facts


def number(value: float) -> float:
    """A metric as it was before a database made the largest number of an infinity."""
    return math.copysign(math.inf, value) if abs(value) > LARGEST else float(value)


def whole(text: str | None) -> int | None:
    """A tag's whole number, if it is one."""
    try:
        return int(text or "")
    except ValueError:
        return None


def _names(text: str) -> list[str]:
    found = _parsed(text)
    return [str(name) for name in found] if isinstance(found, list) else []


def _parsed(text: str) -> Any:
    """A tag's JSON; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # brackets in brackets
        return None


def _below(tags: Mapping[str, str], prefix: str) -> str:
    found = {k.removeprefix(prefix): v for k, v in sorted(tags.items()) if k.startswith(prefix)}
    return json.dumps(found) if found else ""


def _stages(tags: Mapping[str, str]) -> str:
    names = [k.removeprefix("stage.") for k in sorted(tags) if k.startswith("stage.")]
    steps = updates(tags)
    found = {name: [tags[f"stage.{name}"], steps.get(name)] for name in names}
    return json.dumps(found) if found else ""


def updates(tags: Mapping[str, str]) -> dict[str, int | None]:
    """Updates of each stage of a cell; older stores have a tag a stage."""
    own = {k.removeprefix("steps."): whole(v) for k, v in tags.items() if k.startswith("steps.")}
    found = _parsed(tags.get("steps", "{}"))
    return own | {str(k): whole(str(v)) for k, v in found.items()} if isinstance(found, dict) else own


# --- as a table --------------------------------------------------------------------------


def table(lines: Iterable[Mapping[str, Any]], fields: pa.Schema = FIELDS) -> pa.Table:
    """Lines under the schema: `fields`, then metrics by name; what a line lacks is null."""
    lines = list(lines)
    metrics = sorted({name for one in lines for name in one} - set(fields.names))
    schema = pa.schema([*fields, *(pa.field(name, pa.float64()) for name in metrics)])
    return pa.Table.from_pylist(lines, schema)


def under_schema(read: pa.Table, fields: pa.Schema = FIELDS) -> pa.Table:
    """The same in one piece, with the very schema that `table` gives: files name the items of lists their own way."""
    metrics = [name for name in read.column_names if name not in fields.names]
    schema = pa.schema([*fields, *(pa.field(name, pa.float64()) for name in metrics)])
    return read.select(schema.names).combine_chunks().cast(schema)


def merged(before: pa.Table, fresh: pa.Table, without: Iterable[str] = (), fields: pa.Schema = FIELDS) -> pa.Table:
    """Both, where `fresh` counts, less some runs; in the order of their start, columns as `table` has them."""
    dropped = pa.array([*without, *fresh["run_id"].to_pylist()], pa.string())
    kept = before.filter(pc.invert(pc.is_in(before["run_id"], value_set=dropped)))
    both = pa.concat_tables([kept, fresh], promote_options="default")
    metrics = sorted(set(both.column_names) - set(fields.names))
    return both.select([*fields.names, *metrics]).sort_by([("start", "ascending"), ("run_id", "ascending")])


# --- as cells ----------------------------------------------------------------------------


def cells(read: pa.Table, study: Mapping[str, Any] | None = None) -> DataFrame:
    """One row a cell, FACTS and then metrics; what is not finite is no number.

    Of several runs of a (row, seed) the latest counts.  What `study` declares of a row is what its cells have:
    their own tags may be of an earlier launch.
    """
    from pandas import DataFrame, notna

    known = read.to_pandas()
    texts = [field.name for field in FIELDS if field.type == pa.string()]
    known = known.astype(dict.fromkeys(texts, object))  # they are gone through one by one
    known = known[notna(known["row"]) & notna(known["seed"])]
    known = known.drop_duplicates(["row", "seed"], keep="last")
    known = known.astype({"seed": "int64"})
    known["row_index"] = known["row_index"].fillna(-1).astype("int64")
    known["components"] = [tuple(names) for names in known["components"]]
    rows = {r["label"]: r for r in (study or {}).get("rows", ())}
    for name, of in (("row_index", "index"), ("parent", "parent"), ("components", "components")):
        pairs = zip(known["row"], known[name], strict=True)
        known[name] = [_declared(rows.get(row, {}), of, own) for row, own in pairs]
    metrics = [name for name in known.columns if name not in FIELDS.names]
    known[metrics] = known[metrics].where(known[metrics].abs() < math.inf)
    ordered: DataFrame = known.sort_values(["row_index", "seed"], kind="stable").reset_index(drop=True)
    return DataFrame(ordered[[*FACTS, *metrics]])


def _declared(row: Mapping[str, Any], name: str, own: Any) -> Any:
    """What a row is declared to be, as its cell has it."""
    value = row.get(name, own)
    return tuple(value) if name == "components" else (value or "") if name == "parent" else value


def of_cells(known: DataFrame) -> pa.Table:
    """Cells that no store gave as a table of runs, for who keeps one."""
    lines = [{k: v for k, v in line.items() if v is not None} for line in known.to_dict("records")]
    order = {"start": 0, "end": 0, "closed": False}
    return table(
        order | {str(k): list(v) if k == "components" else v for k, v in line.items() if v == v or k in FACTS}
        for line in lines
    )
