"""Sweeps whose stages only pretend: a score that is a known function of the setting, at once; all else is real."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diga.launch.course import alone
from diga.launch.ledger import Ledger
from diga.launch.storage import folder_of, storage_at
from diga.launch.sweeps import Search, Terms
from diga.launch.tracking import Tracker
from diga.launch.tried import Outcome, Tried
from diga.pipeline import Place, Progress
from diga.plan import StageRun
from diga.recipe import Recipe, override
from diga.space import Space, explored
from diga.sweep import Sweep, halving, objective
from experiments.diga import streets
from tests import tiny

PEAK = 2e-3  # learning rate at which the pretended score is best
BEYOND = 0.2
PATH = "self_training.plan.lr"
BRIEF = {"warm_up.plan.steps": 32, "self_training.plan.steps": 16, "self_training.plan.ramp": 4, "centroids.steps": 4}
Fate = Callable[[StageRun], None]


def base(**changes: Any) -> Recipe:
    """DiGA's recipe on the tiny town, as short as it may be; dots of a path are written `__`."""
    small = {"crop": (28, 56), "batch": 2, "score.samples": 0} | BRIEF
    return override(streets(), small | {k.replace("__", "."): v for k, v in changes.items()})


def source_only(**changes: Any) -> Recipe:
    """A training and its score alone, the training under the name that `baselines` has for it."""
    whole = tiny.recipe("tiny/base")
    stages = {"warm_up": whole.stages["train"], "score": whole.stages["score"].model_copy(update={"of": "warm_up"})}
    return override(whole.model_copy(update={"stages": stages}), {k.replace("__", "."): v for k, v in changes.items()})


def space(trial: Any) -> None:
    """A rate, and a mask with what one of its kinds has."""
    trial.suggest_float(PATH, 1e-4, 1e-1, log=True)
    if trial.suggest_categorical("self_training.mix.kind", ("classes", "cut", "grid")) == "grid":
        trial.suggest_int("self_training.mix.side", 4, 16)


def rate(trial: Any) -> None:
    """A rate alone."""
    trial.suggest_float(PATH, 1e-4, 1e-1, log=True)


def worth(recipe: Recipe) -> float:
    """The pretended mIoU of a setting: a hill over the rate, a step for the mask, less with fewer updates.

    Beyond a rate of BEYOND it is no number.
    """
    stage: Any = recipe.stages.get("self_training") or recipe.stages["warm_up"]
    if stage.plan.lr > BEYOND:
        return float("nan")
    hill = 0.5 - 0.05 * math.log10(stage.plan.lr / PEAK) ** 2
    mix = getattr(stage, "mix", None)
    extra = {"cut": 0.02, "grid": 0.001 * mix.side}.get(mix.kind, 0.0) if mix else 0.0
    return hill + extra - 0.1 / stage.plan.steps


def pretended(
    run: StageRun, work: Path, inputs: Mapping[str, Path], place: Place, progress: Progress
) -> dict[str, Any]:
    """A stage that leaves a file, and scores if it is to score."""
    (work / "artifact.pt").write_text(run.fingerprint)
    if domains := run.stage.scores():
        value = worth(run.recipe)
        scores = {f"{d}/plain/last/miou": value + 0.01 * i for i, d in enumerate(domains)}
        free = {"entropy": 1 - value, "confidence": value, "agreement": value / 2}
        scores |= {f"label_free/{k}": v for k, v in free.items()} if getattr(run.stage, "label_free", True) else {}
        (work / "scores.json").write_text(json.dumps(scores))
    return {}


class Hands:
    """Pretended stages, with what befalls some of them and which were begun."""

    def __init__(self, fate: Fate = lambda run: None) -> None:
        self.fate = fate
        self.begun: list[StageRun] = []

    def __call__(
        self, run: StageRun, work: Path, inputs: Mapping[str, Path], place: Place, progress: Progress
    ) -> dict[str, Any]:
        self.begun.append(run)
        self.fate(run)
        return pretended(run, work, inputs, place, progress)

    def of(self, name: str) -> list[StageRun]:
        """Those of one stage."""
        return [run for run in self.begun if run.name == name]


class Seen:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.began_: list[tuple[int, dict[str, Any]]] = []
        self.over: dict[int, Outcome] = {}

    def began(self, number: int, changes: Mapping[str, Any]) -> None:
        self.began_.append((number, dict(changes)))

    def ended(self, number: int, outcome: Outcome) -> None:
        self.over[number] = outcome


def sweep(trials: int, function: Space = space, whole: Recipe | None = None, rungs: int = 0, **more: Any) -> Sweep:
    """A declaration; halving by 2 if there are rungs."""
    whole = whole or base()
    names, ends = more.pop("objectives", ("target",)), more.pop("ends", True)
    in_turn = more.pop("in_turn", False)
    values: dict[str, Any] = {
        "name": "s",
        "space": "tests.space",
        "base": whole,
        "dimensions": explored(function, whole, "space").dimensions,
        "objectives": tuple(objective(name, whole) for name in names),
        "trials": trials,
        "halving": halving(whole, rungs, 2, ends, in_turn) if rungs else None,
    }
    return Sweep(**(values | more))


def search(asked: Sweep, place: Place, function: Space = space, url: str | None = None) -> Search:
    """A driver's part of a sweep, declared."""
    return Search(asked, function, explored(function, asked.base, "space"), place, url)


def carried_out(
    asked: Sweep, place: Place, hands: Any = pretended, function: Space = space, url: str | None = None, **terms: Any
) -> tuple[list[Tried], Seen]:
    """A sweep in this process, as `--inline` has it: its trials, and what its watcher saw."""
    seen, tracker = Seen(), Tracker(tiny.uri(place), place.home / "mlflow-artifacts")
    one = search(asked, place, function, url)
    tried = one(tracker, lambda course: alone(course, place, hands, {}), seen, Terms(**terms))
    return tried, seen


def ledger(asked: Sweep, place: Place, function: Space = space) -> Ledger:
    """The ledger alone, as another driver would have it."""
    folder = folder_of(place.home, asked.name)
    return Ledger(asked, function, storage_at(None, folder), folder, "here")


def settings(tried: list[Tried]) -> list[dict[str, Any]]:
    """Of trials, by number."""
    assert [one.number for one in tried] == list(range(len(tried)))
    return [dict(one.changes) for one in tried]
