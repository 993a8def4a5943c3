"""A large study in MLflow's own tables, put there in bulk: what reading costs must be measured at full size."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from hashlib import md5
from typing import Any

from tests.make_records import DOMAIN, wobble

START = 1_700_000_000_000  # milliseconds
CLASSES = [f"iou/class{k}" for k in range(19)]
NAMES = [f"{DOMAIN}/plain/last/{name}" for name in ("miou", "miou16", "miou13", *CLASSES)]
NAMES += [f"{DOMAIN}/plain/best/miou", "cost/seconds", "cost/steps"]  # 25 in all
ORIGIN = {  # what a launch leaves on every cell, beside what the tables ask for
    "packages": "torch==2.13.0 numpy==2.4.6 ray==2.60.0 mlflow==3.14.0 pydantic==2.13.4 pyarrow==24.0.0 pillow==12.3.0",
    **{f"stage.{s}": f"{i:064x}" for i, s in enumerate(("translator", "warm_up", "centroids", "train", "score"))},
    "steps": json.dumps(dict.fromkeys(("translator", "warm_up", "centroids", "train", "score"), 500)),
    **{f"data.{use}": "0" * 64 for use in ("source", "target", "val")},
    "code.sha": "abc1234abc12",
    "code.dirty": "false",
    "code.source": "0123456789ab",
    "python": "3.11.2",
    "platform": "Linux-6.1.0-x86_64-with-glibc2.36",
    "command": "diga ablate large --seeds 100",
}


def layout(name: str, rows: int, seeds: Sequence[int]) -> dict[str, Any]:
    """study.json of rows that each build on the first."""
    lines = [
        {"label": f"row {i}", "index": i, "parent": "row 0" if i else "", "components": [f"c{i}"] if i else []}
        for i in range(rows)
    ]
    about = {"name": name, "title": name, "metric": NAMES[0], "components": [], "reference": "", "tables": ["table5"]}
    return about | {"rows": lines, "seeds": list(seeds)}


def fill(uri: str, experiment: str, name: str, rows: Iterable[int], seeds: Sequence[int], end: int = START) -> int:
    """Insert the finished cells of some rows and seeds; their number.  `end`: when the first of them was finished."""
    from mlflow.store.tracking.dbmodels import models
    from sqlalchemy import create_engine, insert

    engine = create_engine(uri)
    cells = [(i, seed) for i in rows for seed in seeds]
    with engine.begin() as connection:
        for at in range(0, len(cells), 500):
            tables = _lines(experiment, name, cells[at : at + 500], end + at)
            for model, lines in zip(
                (models.SqlRun, models.SqlTag, models.SqlLatestMetric, models.SqlMetric), tables, strict=True
            ):
                connection.execute(insert(model), lines)
    engine.dispose()
    return len(cells)


def _lines(experiment: str, name: str, cells: Sequence[tuple[int, int]], end: int) -> tuple[list[dict[str, Any]], ...]:
    """Lines of the tables runs, tags, latest_metrics and metrics."""
    runs, tags, points = [], [], []
    for k, (row, seed) in enumerate(cells):
        run = md5(f"{row} {seed} {end}".encode()).hexdigest()  # 32 digits at random, as MLflow has them
        runs.append(_run(run, experiment, f"row {row} seed {seed}", end + k))
        tags += [{"run_uuid": run, "key": key, "value": value} for key, value in _tags(name, row, seed).items()]
        points += [
            {"run_uuid": run, "key": key, "value": value, "timestamp": end, "step": 0, "is_nan": False}
            for key, value in _metrics(row, seed)
        ]
    return runs, tags, points, points


def _run(run: str, experiment: str, name: str, end: int) -> dict[str, Any]:
    return {
        "run_uuid": run,
        "name": name,
        "source_type": "UNKNOWN",
        "user_id": "x",
        "status": "FINISHED",
        "start_time": end - 1000,
        "end_time": end,
        "lifecycle_stage": "active",
        "artifact_uri": f"/nowhere/{run}/artifacts",
        "experiment_id": int(experiment),
    }


def _tags(name: str, row: int, seed: int) -> dict[str, str]:
    own = {
        "kind": "cell",
        "key": f"{row:016x}{seed:016x}",
        "study": name,
        "row": f"row {row}",
        "row.index": str(row),
        "row.parent": "row 0" if row else "",
        "components": json.dumps([f"c{row}"] if row else []),
        "seed": str(seed),
        "cell": f"{row:032x}{seed:032x}",
        "recipe": "large",
        "status": "done",
        "error": "",
        "failure": "",
        "protocol": "single_scale",
        "git": "abc1234abc12",
        "dirty": "false",
    }
    return own | ORIGIN


def _metrics(row: int, seed: int) -> Iterator[tuple[str, float]]:
    base = 0.3 + 0.002 * row + wobble(row, seed % 5) / 3
    for k, name in enumerate(NAMES):
        yield name, 500.0 if name.startswith("cost/") else base + 0.001 * k
