"""Which values of its recipe a cell shows as parameters: those in which the rows of its study differ."""

from __future__ import annotations

import json
from typing import Any

from diga.recipe import Recipe, plain
from diga.study import Study


def varying(study: Study) -> set[str]:
    """Paths of the recipe fields that differ between the rows of a study."""
    flats = [flat(plain(row.recipe)) for row in study.rows]
    return {k for f in flats for k in f if len({json.dumps(g.get(k)) for g in flats}) > 1} - {"name"}


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """{"stages": {"warm_up": {"alpha": 1}}} -> {"warm_up.alpha": 1}: the paths `override` takes."""
    out: dict[str, Any] = {}
    for k, v in value.items():
        path = prefix if k == "stages" and not prefix else f"{prefix}{k}"
        out |= flat(v, f"{path}." if path else "") if isinstance(v, dict) else {path: v}
    return out


def of_recipe(recipe: Recipe, paths: set[str]) -> dict[str, Any]:
    """The values of some paths, as far as the recipe's needed stages have them."""
    idle = set(recipe.stages) - set(recipe.needed())
    return {k: v for k, v in flat(plain(recipe)).items() if k in paths and k.split(".")[0] not in idle}
