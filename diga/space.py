"""What may vary: a space is a function of an Optuna trial whose parameter names are paths of a recipe.

    def self_training(trial):
        trial.suggest_float("self_training.distil", 0.05, 2.0, log=True)
        if trial.suggest_categorical("self_training.mix.kind", ["classes", "cut"]) == "classes":
            trial.suggest_float("self_training.mix.fraction", 0.2, 0.8)

`explored` calls it with a trial that only listens, once for every choice of every categorical parameter, and
tries what it hears on the base recipe: an unknown path, a wrong type or a value outside its bound is refused
before anything starts.  Nothing here imports Optuna.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import Field, SerializeAsAny

from diga.errors import ConfigError, shown
from diga.recipe import Recipe, override
from diga.settings import Frozen

Kind = Literal["float", "int", "categorical"]
Bound = Literal["low", "high"]
BOUNDS: tuple[Bound, Bound] = ("low", "high")
Changes = dict[str, Any]  # values by path
MOST = 1000  # choices that are looked at, one by one


class Trial(Protocol):
    """What a space may ask of a trial, Optuna's or another."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number between two bounds, both included."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number between two bounds, both included."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of some values."""


Space = Callable[[Any], Mapping[str, Any] | None]  # may return changes that follow from what was suggested


class Dimension(Frozen):
    """One parameter of a space; `when`: the choices of others under which alone it is asked for."""

    path: str
    kind: Kind
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()
    when: dict[str, tuple[Any, ...]] = Field(default_factory=dict)

    def holds(self, value: Any) -> bool:
        """Whether a value lies in it."""
        if self.kind == "categorical":
            return value in self.choices
        return isinstance(value, int | float) and self.low <= value <= self.high  # type: ignore[operator]

    def asked(self, changes: Mapping[str, Any]) -> bool:
        """Whether it is a parameter of a trial with these values."""
        return all(changes.get(path) in choices for path, choices in self.when.items())

    def told(self) -> str:
        """0.05 to 2, log; or: classes, cut"""
        if self.kind == "categorical":
            return ", ".join(map(str, self.choices))
        return f"{self.low:g} to {self.high:g}{', log' if self.log else ''}"


@dataclass
class Listener:
    """A trial that answers with a script of choices, and numbers at one of their bounds, and notes what was asked."""

    where: str
    script: Changes
    bound: Bound
    asked: dict[str, Dimension] = field(default_factory=dict)
    values: Changes = field(default_factory=dict)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Its bound."""
        return float(self._number("float", name, float(low), float(high), step, log))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Its bound."""
        return int(self._number("int", name, low, high, step, log))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """The script's choice, or the first."""
        some = tuple(tuple(c) if isinstance(c, list) else c for c in choices)
        if len(dict.fromkeys(some)) < 2:
            raise ConfigError(f"{self.where}: {name}", f"found the choices {shown(list(some))}", "two at least")
        self._note(name, Dimension(path=name, kind="categorical", choices=some))
        self.values[name] = self.script.get(name, some[0])
        return self.values[name]

    def _number(self, kind: Kind, name: str, low: float, high: float, step: float | None, log: bool) -> float:
        found = f"found {low:g} to {high:g}"
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ConfigError(f"{self.where}: {name}", found, "two finite bounds, the lower first")
        if log and low <= 0:
            raise ConfigError(f"{self.where}: {name}", f"{found}, log", "a lower bound above 0")
        if step is not None and not 0 < step <= high - low:
            raise ConfigError(
                f"{self.where}: {name}", f"found a step of {step:g}", f"more than 0, {high - low:g} at most"
            )
        self._note(name, Dimension(path=name, kind=kind, low=low, high=high, log=log, step=step))
        self.values[name] = low if self.bound == "low" else high
        return float(self.values[name])

    def _note(self, name: str, found: Dimension) -> None:
        one_range(self.where, self.asked.setdefault(name, found), found)


class Explored(Frozen):
    """What a space turned out to be: its parameters, and recipes at both ends of each choice."""

    dimensions: tuple[Dimension, ...]
    corners: tuple[SerializeAsAny[Recipe], ...]


def explored(space: Space, base: Recipe, where: str) -> Explored:
    """Listen to a space, choice by choice.  Raises ConfigError for what the base recipe cannot be changed by.

    `where` names the space in errors.
    """
    waiting: list[Changes] = [{}]
    seen: set[tuple[str, Any]] = set()
    known: dict[str, Dimension] = {}
    first: dict[str, Changes] = {}  # parameter -> choices under which it was first asked for
    corners: list[Recipe] = []
    while waiting:
        script = waiting.pop(0)
        low, high = (heard(space, base, where, script, bound) for bound in BOUNDS)
        corners += [low.recipe, high.recipe]
        for path, dimension in (low.asked | high.asked).items():
            one_range(where, known.setdefault(path, dimension), dimension)
            first.setdefault(path, low.chosen)
        seen |= set(low.chosen.items())
        for path, choice in [pair for pair in choices(low.asked) if pair not in seen]:
            seen.add((path, choice))
            waiting.append(low.chosen | {path: choice})
        if len(seen) > MOST:
            raise ConfigError(where, f"more than {MOST} choices", "fewer: every one is tried before anything starts")
    if not known:
        raise ConfigError(where, "asks for nothing", "trial.suggest_float('self_training.distil', 0.1, 1.0), say")

    def leads(path: str, script: Changes) -> bool:
        return path in heard(space, base, where, script, "low").asked

    found = [d.model_copy(update={"when": conditions(d, first[d.path], known, leads)}) for d in known.values()]
    return Explored(dimensions=tuple(found), corners=tuple(corners))


class Heard(NamedTuple):
    """One call of a space: the parameters it asked for, its choices, and the recipe it came to."""

    asked: dict[str, Dimension]
    chosen: Changes
    recipe: Recipe


def heard(space: Space, base: Recipe, where: str, script: Changes, bound: Bound) -> Heard:
    """Call a space with a trial that listens."""
    trial = Listener(where, script, bound)
    try:
        more = space(trial)
    except (TypeError, AttributeError) as failure:
        what = f"{type(failure).__name__}: {failure}"
        raise ConfigError(where, what, "suggest_float, suggest_int and suggest_categorical alone") from None
    changes = trial.values | dict(more or {})
    for path in changes:
        if path in ("seed", "name"):
            raise ConfigError(f"{where}: {path}", "is not for a space to vary", "--confirm, which repeats with seeds")
    try:
        recipe = override(base, changes)
    except ConfigError as failure:
        raise ConfigError(f"{where}: {failure.where}", failure.what, failure.expected) from None
    for path in changes:
        if (stage := path.partition(".")[0]) in recipe.stages and stage not in recipe.needed():
            what = f"changes nothing: nothing that is scored reads {stage!r}"
            raise ConfigError(f"{where}: {path}", what, f"a stage of {', '.join(recipe.needed())}")
    chosen = {k: trial.values[k] for k, d in trial.asked.items() if d.kind == "categorical"}
    return Heard(trial.asked, chosen, recipe)


def choices(asked: Mapping[str, Dimension]) -> list[tuple[str, Any]]:
    """Every choice of every categorical parameter."""
    return [(d.path, choice) for d in asked.values() if d.kind == "categorical" for choice in d.choices]


def conditions(
    dimension: Dimension, script: Changes, known: Mapping[str, Dimension], leads: Callable[[str, Changes], bool]
) -> dict[str, tuple[Any, ...]]:
    """The choices that a parameter hangs on: each other one is changed alone, from choices that lead to it."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in script.keys() - {dimension.path}:
        some = tuple(c for c in known[path].choices if leads(dimension.path, script | {path: c}))
        if len(some) < len(known[path].choices):
            found[path] = some
    return {path: found[path] for path in known if path in found}


def one_range(where: str, before: Dimension, now: Dimension) -> None:
    """Raises ConfigError for a parameter that is asked for in two ways: samplers know one range a name."""
    if before != now:
        what = f"asked for as {before.told()} and as {now.told()}"
        raise ConfigError(f"{where}: {now.path}", what, "the same wherever it is asked for")


def differences(before: Sequence[Dimension], now: Sequence[Dimension]) -> list[str]:
    """How two spaces differ, a few words a parameter: `self_training.distil 0.1 to 1 then, 0.1 to 2 now`."""
    then, here = {d.path: d for d in before}, {d.path: d for d in now}
    told = [f"{path} is new" for path in here if path not in then]
    told += [f"{path} is gone" for path in then if path not in here]
    both = [(then[path], here[path]) for path in here if path in then]
    told += [f"{a.path} {a.told()} then, {b.told()} now" for a, b in both if a.told() != b.told()]
    return told + [f"{a.path} under {a.when} then, {b.when} now" for a, b in both if a.told() == b.told() and a != b]
