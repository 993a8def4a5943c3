"""Which stage runs the cells of an MLflow store refer to: what must be kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlflow import MlflowClient

from diga.errors import StorageError
from diga.files import database
from diga.launch.answers import REFUSALS, refusal

PAGE = 1000
STAGE = "stage."  # how tags begin that name a cell's stage runs


def referred(uri: str) -> tuple[set[str], int]:
    """Fingerprints that recorded cells refer to, and the number of cells, of every study and whatever their state.

    Cells that a later launch of their study has replaced do not count.  Raises StorageError where no store
    answers; none is made.
    """
    if (file := database(uri)) and not file.is_file():
        return set(), 0
    try:
        found, cells = set(), 0
        client = MlflowClient(uri)
        for experiment in experiments(client):
            for run in runs(client, experiment):
                found |= {v for k, v in run.data.tags.items() if k.startswith(STAGE)}
                cells += 1
    except REFUSALS as failure:
        raise refusal(uri, failure) from failure
    if cells and not found:
        raise StorageError(uri, f"{cells} cells without a stage", "cells that name their stages")
    return found, cells


def experiments(client: MlflowClient) -> Iterator[str]:
    """Ids of all studies."""
    token: str | None = None
    while True:
        page: Any = client.search_experiments(max_results=PAGE, page_token=token)
        yield from (str(e.experiment_id) for e in page if e.name.startswith("diga/"))
        token = page.token
        if not token:
            return


def runs(client: MlflowClient, experiment: str) -> Iterator[Any]:
    """All cells of a study, and a sweep's trials that are done."""
    for wanted in ("tags.kind = 'cell'", "tags.kind = 'trial' AND tags.status = 'done'"):
        token: str | None = None
        while True:
            page: Any = client.search_runs([experiment], wanted, max_results=PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                break
