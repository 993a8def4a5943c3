"""A study as it was launched, with whatever was changed then: from MLflow, where every cell left its recipe."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from diga.errors import ConfigError, StorageError, expected_one_of
from diga.recipe import loads
from diga.rows import Alias, Row
from diga.study import Study

MOST = 10_000  # cells of a study


def study_of(client: MlflowClient, name: str) -> Study:
    """The study of that name as its last launch declared it, over the seeds of all its cells.

    Raises ConfigError for a name that nothing is recorded of, StorageError for records that lack something.
    """
    found = client.get_experiment_by_name(f"diga/{name}")
    runs = client.search_runs([found.experiment_id], max_results=MOST) if found else []
    declared = [run for run in runs if run.data.tags.get("kind") == "study"]
    if not declared:
        known = [e.name.removeprefix("diga/") for e in client.search_experiments() if e.name.startswith("diga/")]
        raise ConfigError(f"study {name!r}", "nothing recorded under this name", expected_one_of(name, known))
    layout = json.loads(text_of(client, declared[0], "study.json"))
    cells = [run for run in runs if run.data.tags.get("kind") == "cell"]
    known_rows = {run.data.tags["row"]: run for run in cells}
    rows = [row_of(client, row, known_rows) for row in layout["rows"]]
    seeds = dict.fromkeys([*layout["seeds"], *sorted(int(run.data.tags["seed"]) for run in cells)])
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in layout.items() if k in Study.model_fields}
    return Study(**values | {"rows": tuple(rows), "seeds": tuple(seeds)})


def row_of(client: MlflowClient, row: dict[str, Any], cells: dict[str, Run]) -> Row:
    """A row of a layout with the recipe of one of its cells."""
    if row["label"] not in cells:
        raise StorageError(f"row {row['label']!r}", "no cell of it is recorded", "launch the study again")
    recipe = loads(text_of(client, cells[row["label"]], "recipe.json"), f"row {row['label']!r}")
    aliases = tuple(Alias(**alias) for alias in row.get("aliases", ()))
    components, parent = tuple(row["components"]), row["parent"]
    return Row(label=row["label"], recipe=recipe, components=components, parent=parent, aliases=aliases)


def text_of(client: MlflowClient, run: Run, path: str) -> str:
    """The text of a run's artifact.  Raises StorageError where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return Path(client.download_artifacts(run.info.run_id, path, folder)).read_text("utf8")
        except (OSError, ValueError) as failure:
            raise StorageError(f"MLflow run {run.info.run_id}", f"{path} cannot be read: {failure}") from None
