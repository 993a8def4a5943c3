"""A report in MLflow: the study's own run carries it, and the experiment has views that its page opens by a link.

A view is a tag of the experiment, `mlflow.sharedViewState.<name>`, which MLflow's page reads when its address ends in
`?viewStateShareKey=<name>`: which runs, in which order, under which columns, and by which tag they are grouped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from diga.report import asking, cells, search
from diga.report.records import PREFIX, Records, client, delete

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

FOLDER = "report"  # of the run's artifacts
VIEW = "mlflow.sharedViewState."
ROWS, CELLS, TROUBLE, STAGES, TRIALS = "rows", "cells", "trouble", "stages", "trials"
COLUMNS = ("plain/last", "teacher/last", "adabn/last", "plain/best")


def publish(known: Records, folder: Path) -> None:
    """Log the report in `folder` to the run of the study, and its views to the experiment.

    The run carries what is in `folder` and no more: what the report before had and this one lacks is deleted.  Raises
    StorageError where the store does not take it.
    """
    with asking.answered(known.uri):
        asked = client(known.uri)
        experiment = asked.get_experiment_by_name(PREFIX + known.name)
        if experiment is None:
            return
        _set(asked, experiment, views(known))
        for run in asking.every(asked, experiment.experiment_id, "tags.kind = 'study'")[-1:]:
            asked.log_artifacts(run.info.run_id, str(folder), FOLDER)
            _delete_others(asked, run.info.run_id, folder)
        stages = asked.get_experiment_by_name(f"{PREFIX}_stages")
        if stages:
            _set(asked, stages, {STAGES: _stages()})


def _delete_others(asked: MlflowClient, run: str, folder: Path) -> None:
    """Delete what the run carries that `folder` has not."""
    kept = {f"{FOLDER}/{p.relative_to(folder).as_posix()}" for p in folder.rglob("*") if p.is_file()}
    delete(asked, run, sorted(set(_files(asked, run, FOLDER)) - kept))


def _files(asked: MlflowClient, run: str, folder: str) -> Iterator[str]:
    for found in asked.list_artifacts(run, folder):
        if found.is_dir:
            yield from _files(asked, run, found.path)
        else:
            yield found.path


def _set(asked: MlflowClient, experiment: Experiment, views: dict[str, dict[str, Any]]) -> None:
    """Save the views that are not there as they are: a store that need not change should not."""
    for name, state in views.items():
        if experiment.tags.get(VIEW + name) != (text := json.dumps(state)):
            asked.set_experiment_tag(experiment.experiment_id, VIEW + name, text)


def views(known: Records) -> dict[str, dict[str, Any]]:
    """By name: means over the seeds of every row; all cells; those that are not done."""
    metric = cells.metric_of(known)
    scores = [f"metrics.`{metric.domain}/{column}/miou`" for column in COLUMNS]
    facts = ["tags.`seed`", "tags.`status`"]
    return (_trials(known) if known.sweep else {}) | {
        ROWS: _view("tags.kind = 'cell'", [*scores, "metrics.`cost/seconds`"], group="row"),
        CELLS: _view("tags.kind = 'cell'", [*facts, *scores, "metrics.`cost/seconds`", "tags.`protocol`"]),
        TROUBLE: _view("tags.kind = 'cell' AND tags.status != 'done'", [*facts, "tags.`error`"]),
    }


def _trials(known: Records) -> dict[str, Any]:
    """All trials of a sweep: what was asked for, what came of it."""
    found = search.of(known)
    scores = [f"metrics.`objective/{o.name}`" for o in found.objectives]
    asked = [f"params.`{path}`" for path in found.paths]
    return {TRIALS: _view("tags.kind = 'trial'", ["tags.`status`", *scores, *asked, "metrics.`cost/seconds`"])}


def _stages() -> dict[str, Any]:
    """Stage runs, grouped by what they are called in recipes."""
    return _view("tags.kind = 'stage'", ["tags.`seed`", "metrics.`cost/seconds`", "tags.`fingerprint`"], group="stage")


def _view(wanted: str, columns: list[str], group: str = "") -> dict[str, Any]:
    """The state of MLflow's page."""
    by = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": group}]}
    return {
        "searchFilter": wanted,
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
        "lifecycleFilter": "Active",
        "selectedColumns": columns,
        "runsHiddenMode": "SHOW_ALL",
        "groupBy": by if group else None,
    }


def addresses(uri: str, page: str) -> dict[str, str]:
    """Where MLflow's page at `page` shows the rows of each study that has such a view, by its name."""
    with asking.answered(uri):
        known = client(uri).search_experiments(order_by=["name ASC"])
    return {
        e.name.removeprefix(PREFIX): f"{page}/#/experiments/{quote(e.experiment_id)}/runs?viewStateShareKey={ROWS}"
        for e in known
        if e.name.startswith(PREFIX) and VIEW + ROWS in e.tags
    }
