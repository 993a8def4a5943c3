"""The name of a stage run: a fingerprint of everything that can change its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

from diga.recipe import Recipe, plain
from diga.stage import Stage, ref_fields

# labelled training images, target images alone, labelled validation, one file beside the domains
Use = Literal["train", "unlabelled", "val", "file"]
Digest = Callable[[str, Use], str]  # of a domain's files: a domain's name and what is read of it -> hex digits

# what a recipe says that is of no one stage; its domains count by their data, for the stages that read them
RECIPE_FACTS = set(Recipe.model_fields) - {"name", "sources", "targets", "stages", "pretrained"}


def facts(recipe: Recipe, name: str, digest: Digest, named: Mapping[str, str]) -> dict[str, Any]:
    """What decides the result of stage `name`: its fields with defaults, what it reads, the data, the recipe.

    `named` holds the fingerprints of the stages before it.  Names of recipes and stages, workers,
    intervals, devices and paths are not among the facts.
    """
    stage = recipe.stages[name]
    fields = plain(stage)
    for field in ref_fields(type(stage)):
        fields[field] = _named(fields[field], named)
    return {
        "stage": fields,
        "version": stage.version,
        "data": data_read(recipe, stage, digest),
        "recipe": recipe.model_dump(mode="json", include=RECIPE_FACTS),
    }


def data_read(recipe: Recipe, stage: Stage, digest: Digest) -> list[list[str]]:
    """[use, domain, digest] of each domain's files that `stage` reads.

    A list, for order and repetition count: images are drawn by their place in it.
    """
    reads = stage.reads()
    uses: list[tuple[str, Use]] = []
    uses += [(d, "train") for d in recipe.sources] if "source" in reads else []
    uses += [(d, "unlabelled") for d in recipe.targets] if "target" in reads else []
    uses += [(d, "train") for d in recipe.targets] if stage.judges() else []
    uses += [(d, "val") for d in stage.scores()]
    uses += [(file, "file") for file in stage.files(recipe)]
    return [[use, domain, digest(domain, use)] for domain, use in uses]


def fingerprint_of(facts: dict[str, Any]) -> str:
    """The fingerprint of canonical facts: sorted keys, no white space, no NaN."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _named(refs: Any, named: Mapping[str, str]) -> Any:
    if isinstance(refs, list):
        return [named[r] for r in refs]
    return refs if refs is None else named[refs]
