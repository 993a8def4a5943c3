"""Trials of a sweep as a table with a schema, a line a run; and as a frame, a line a trial."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from diga.report.runs import number, whole

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from pandas import DataFrame

STATES = ("done", "pruned", "failed", "stopped", "running")
FIELDS = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        ("trial", pa.int64()),
        ("status", pa.string()),
        ("failure", pa.string()),  # its class: divergence, memory, …
        ("error", pa.string()),
        ("cell", pa.string()),
        ("seed", pa.int64()),
        ("protocol", pa.string()),
        ("params", pa.string()),  # JSON: the values that were suggested, by path
        ("rungs", pa.string()),  # JSON: the main objective by the updates of a rung
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("closed", pa.bool_()),
    ]
)
FACTS = ("trial", "status", "failure", "error", "run_id", "cell", "seed", "protocol", "params", "rungs")
RUNG, OBJECTIVE = "rung/", "objective/"


def line(asked: MlflowClient, run: Run) -> dict[str, Any]:
    """A trial's facts and metrics; its rungs are the history of a metric."""
    tags, info = run.data.tags, run.info
    rungs = {
        str(point.step): point.value
        for name in run.data.metrics
        if name.startswith(RUNG)
        for point in asked.get_metric_history(info.run_id, name)
    }
    facts = {name: tags.get(name, "") for name in ("status", "failure", "error", "cell", "protocol")} | {
        "run_id": info.run_id,
        "trial": whole(tags.get("trial")),
        "seed": whole(tags.get("seed")),
        "params": json.dumps({path: _value(text) for path, text in sorted(run.data.params.items())}),
        "rungs": json.dumps({step: rungs[step] for step in sorted(rungs, key=int)}) if rungs else "",
        "start": info.start_time or 0,
        "end": info.end_time or 0,
        "closed": info.status == "FINISHED",
    }
    metrics = {k: number(v) for k, v in run.data.metrics.items() if not k.startswith(RUNG)}
    return metrics | facts


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def frame(read: pa.Table | None) -> DataFrame:
    """One row a trial by its number, FACTS and then metrics, `params` and `rungs` as dictionaries.

    Of several runs of a trial the latest counts; what is not finite is no number.
    """
    from pandas import DataFrame, notna

    if read is None:
        return DataFrame(columns=list(FACTS))
    known = read.to_pandas()
    known = known[notna(known["trial"])].drop_duplicates("trial", keep="last").astype({"trial": "int64"})
    known["params"] = [json.loads(text) for text in known["params"]]
    known["rungs"] = [{int(k): v for k, v in json.loads(text or "{}").items()} for text in known["rungs"]]
    metrics = [name for name in known.columns if name not in FIELDS.names]
    known[metrics] = known[metrics].where(known[metrics].abs() < math.inf)
    ordered: DataFrame = known.sort_values("trial", kind="stable").reset_index(drop=True)
    return DataFrame(ordered[[*FACTS, *metrics]])
