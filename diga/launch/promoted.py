"""A trial as it was recorded: its recipe, and all that says where it is from."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from mlflow import MlflowClient

from diga.errors import ConfigError, expected_one_of
from diga.launch.recorded import text_of
from diga.recipe import Recipe, loads


class Promoted(NamedTuple):
    """What a trial was: its whole recipe, the name of the recipe it was searched from, and its provenance."""

    recipe: Recipe
    base: str
    told: dict[str, Any]


def promoted(asked: MlflowClient, sweep: str, trial: int) -> Promoted:
    """The trial of that number.  Raises ConfigError for a sweep or a trial that is not there or is not done."""
    found = asked.get_experiment_by_name(f"diga/{sweep}")
    runs = asked.search_runs([found.experiment_id], "tags.kind = 'trial'", max_results=10_000) if found else []
    if not runs:
        names = [e.name.removeprefix("diga/") for e in asked.search_experiments() if e.name.startswith("diga/")]
        known = [name for name in names if not name.startswith("_")]
        raise ConfigError(f"sweep {sweep!r}", "no trial recorded under this name", expected_one_of(sweep, known))
    by_number = {int(run.data.tags["trial"]): run for run in runs}
    if trial not in by_number:
        raise ConfigError(f"sweep {sweep!r}", f"no trial {trial}", f"0 to {max(by_number)}")
    run = by_number[trial]
    if (status := run.data.tags.get("status", "")) != "done":
        raise ConfigError(f"trial {trial}", f"is {status}", "one that is done: others have no whole recipe to show")
    tags, metrics = run.data.tags, run.data.metrics
    told: dict[str, Any] = {"sweep": sweep, "trial": trial, "space": tags["space"], "seed of the search": tags["seed"]}
    told |= {k.removeprefix("objective/"): v for k, v in metrics.items() if k.startswith("objective/")}
    told |= {"code": tags.get("code.sha", "unknown"), "run": run.info.run_id}
    recipe = loads(text_of(asked, run, "recipe.json"), f"trial {trial}")
    return Promoted(recipe, json.loads(text_of(asked, run, "base.json"))["name"], told)
