"""One trial of a sweep where it is carried out: rung by rung, every stage through the store, a word after each rung."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from diga.cost import exaflop
from diga.errors import ConfigError, DigaError, Diverged
from diga.identity import Digest
from diga.launch.failures import foreseen, kind_of
from diga.launch.tried import UNSCORED, Rung
from diga.pipeline import Launch, Place, carry_out
from diga.plan import StageRun, digests, stage_runs
from diga.sweep import COMPUTE, Sweep

Tell = Callable[[Rung], None]
MARK = "trial"  # of a manifest: the trial that computed the stage, as ledger#number


class Unscored(ConfigError):
    """What is searched for is not among the scores of the recipe, whatever its setting."""


def attempt(
    sweep: Sweep,
    changes: Mapping[str, Any],
    place: Place,
    launch: Launch,
    origin: Mapping[str, str],
    tell: Tell,
    trial: str,
) -> None:
    """Carry out a setting, rung by rung, and tell what each came to.

    An error is told, not raised: it is this trial's alone.  `tell` may end the trial by raising something that is no
    Exception.  `trial` is written into the manifest of every stage that is computed for it: what it cost is known
    even where a driver died before it could tell.
    """

    def marked(*words: Any) -> dict[str, Any]:
        return launch(*words) | {MARK: trial}

    counted: set[str] = set()
    for rung in sweep.rungs:
        told = carried_out(sweep, changes, rung, place, marked, origin, trial, counted)
        tell(told)
        if told.failure:
            return


def carried_out(
    sweep: Sweep,
    changes: Mapping[str, Any],
    rung: int | None,
    place: Place,
    launch: Launch,
    origin: Mapping[str, str],
    trial: str,
    counted: set[str],
) -> Rung:
    """One rung of a trial; `counted` are stages whose cost an earlier rung has told, and this one adds its own."""
    last = rung in (None, sweep.rungs[-1])
    chain: list[StageRun] = []
    at = ""

    def spent() -> tuple[float, int]:
        there = [run for run in chain if run.fingerprint not in counted and place.store.has(run.fingerprint)]
        metas = [(run, place.store.manifest(run.fingerprint)["meta"]) for run in there]
        mine = [(run, meta) for run, meta in metas if meta.get(MARK) == trial]
        counted.update(run.fingerprint for run, _ in mine)
        return float(sum(meta["seconds"] for _, meta in mine)), sum(run.steps for run, _ in mine)

    try:
        chain = chain_of(sweep, changes, rung, place)
        for run in chain:
            at = run.fingerprint
            carry_out(run, place, launch, origin=origin)
        values = values_of(sweep, chain, place.store.folder(chain[-1].fingerprint))
    except Exception as failure:
        if os.environ.get("DIGA_DEBUG") and not isinstance(failure, DigaError):
            raise
        told, at = foreseen(failure, "trial"), UNSCORED if isinstance(failure, Unscored) else at
        return Rung(rung or 0, last, {}, "", *spent(), failure=kind_of(told), error=str(told), at=at)
    return Rung(rung or 0, last, values, chain[-1].fingerprint, *spent(), exaflop=exaflop(chain))


def chain_of(sweep: Sweep, changes: Mapping[str, Any], rung: int | None, place: Place) -> list[StageRun]:
    """The stage runs of a rung.  Raises ConfigError for a setting the recipe refuses."""
    return stage_runs(sweep.recipe_of(changes, rung), digest_at(place))


@cache
def digest_at(place: Place) -> Digest:
    """Digests of the data, each read once by this process."""
    return digests(place.data, place.manifests)


def values_of(sweep: Sweep, chain: list[StageRun], folder: Path) -> dict[str, float]:
    """The objectives' values by name.  Raises Unscored for one that is not among the scores, Diverged for NaN."""
    scores: dict[str, float] = json.loads((folder / "scores.json").read_text())
    if (cost := exaflop(chain)) is not None:
        scores[COMPUTE] = cost
    found = {}
    for objective in sweep.objectives:
        if objective.metric not in scores:
            what = f"no {objective.metric!r} is scored"
            raise Unscored(f"objective {objective.name!r}", what, "another objective")
        found[objective.name] = scores[objective.metric]
        if not math.isfinite(found[objective.name]):
            raise Diverged(f"objective {objective.name!r}", f"is {found[objective.name]}", "a finite number")
    return found
