"""What `diga sweep` and `diga plan` share: spaces by name, and a sweep as it was typed, checked as a whole."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

import search_spaces
from diga.cli.console import need_streets, recipe_of
from diga.errors import ConfigError, expected_one_of
from diga.recipe import Recipe
from diga.space import Explored, Space, explored
from diga.sweep import OBJECTIVES, Sampler, Sweep, confirm, halving, objective, with_source

Base = Annotated[
    str, typer.Option("--base", help="The recipe that is searched from, such as diga:streets, or a JSON file of one.")
]
Number = Annotated[int, typer.Option("--trials", help="Settings to try in all; typed again with more, it goes on.")]
Objectives = Annotated[
    list[str] | None,
    typer.Option("--objective", help=f"{', '.join(OBJECTIVES)}; twice for a Pareto front. target reads target labels."),
]
Prune = Annotated[
    Literal["sha", "asha", "watch", "none"] | None,
    typer.Option(
        help="From a rung of fewer updates go on: the best of each E trials in turn (sha), whoever is among the best "
        "so far (asha), all (watch). none: no rungs, as with two objectives. sha by default."
    ),
]
Rungs = Annotated[
    str, typer.Option(metavar="R:E", help="R rungs, the whole plan included; of E trials of a rung one goes on.")
]
Confirmed = Annotated[
    str | None, typer.Option("--confirm", metavar="K:N", help="Repeat the K best trials with N other seeds.")
]


def spaces() -> dict[str, Space]:
    """Functions of `search_spaces` that take a trial and nothing else, by "module.function"."""
    found: dict[str, Space] = {}
    for info in pkgutil.iter_modules(search_spaces.__path__):
        module = importlib.import_module(f"search_spaces.{info.name}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and list(inspect.signature(function).parameters) == ["trial"]:
                found[f"{info.name}.{name}"] = function
    return found


def space_of(name: str) -> Space:
    """The space of that name.  Raises ConfigError with the nearest one."""
    known = spaces()
    if name not in known:
        raise ConfigError(f"space {name!r}", "no such space", f"{expected_one_of(name, known)}; `diga list` shows all")
    return known[name]


class Typed(NamedTuple):
    """A sweep as it was typed."""

    space: str
    base: str
    changes: list[str]
    seed: int | None
    name: str | None
    trials: int
    objectives: list[str]
    sampler: Sampler
    prune: str | None
    rungs: str
    confirmed: str | None


class Declared(NamedTuple):
    """A sweep, with the function of its space and what that turned out to be."""

    sweep: Sweep
    space: Space
    explored: Explored


def declared(typed: Typed) -> Declared:
    """What was typed, checked as a whole before anything starts.  Raises ConfigError, DataError."""
    if typed.trials < 1:
        raise ConfigError("--trials", f"found {typed.trials}", "1 or more")
    function, file = space_of(typed.space), Path(typed.base) if typed.base.endswith(".json") else None
    base = recipe_of(None if file else typed.base, file, typed.changes, typed.seed)
    base = scored_on_source(base, typed.objectives)
    heard = explored(function, base, f"space {typed.space}")
    objectives = tuple(objective(one, base) for one in dict.fromkeys(typed.objectives))
    prune = typed.prune or ("sha" if len(objectives) == 1 else "none")
    rungs = halving(base, *two(typed.rungs), prune != "watch", prune == "sha") if prune != "none" else None
    if rungs and any(rungs.updates(corner) != rungs.updates(base) for corner in heard.corners):
        raise ConfigError("--prune", f"the space varies {rungs.stage}.plan.steps", "none: rungs are of one length")
    sweep = Sweep(
        name=typed.name or typed.space,
        space=typed.space,
        base=base,
        dimensions=heard.dimensions,
        objectives=objectives,
        trials=typed.trials,
        sampler=typed.sampler,
        halving=rungs,
        confirm=confirm(typed.confirmed, base.seed),
        typed_base=typed.base,
        changes=tuple(typed.changes),
    )
    return Declared(sweep, function, heard)


def two(rungs: str) -> tuple[int, int]:
    """ "3:4" as numbers."""
    many, colon, eta = rungs.partition(":")
    if not (colon and many.isdecimal() and eta.isdecimal() and int(eta) > 1):
        raise ConfigError("--rungs", f"found {rungs!r}", "R:E, R rungs of which one trial in E goes on, such as 2:6")
    return int(many), int(eta)


def scored_on_source(base: Recipe, objectives: list[str]) -> Recipe:
    """The base, scored on its sources' validation images too where they have some, or where the objective is that."""
    from diga.data.domain import domain
    from diga.errors import DataError
    from diga.home import data_root

    need_streets(base, data_root())
    whole = with_source(base)
    try:
        there = all(domain(name, data_root()).samples("val", True) for name in base.sources if "@" not in name)
    except DataError:
        there = False
    if "source" in objectives and not there:
        what = f"no validation images of {', '.join(base.sources)}"
        raise DataError("--objective source", what, "target, or one that needs no labels: agreement, say")
    return whole if there else base
