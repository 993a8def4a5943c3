"""What may vary: a space is a function of an Optuna trial whose parameter names are paths of a recipe.

    def self_training(trial):
        trial.suggest_float("self_training.distil", 0.05, 2.0, log=True)
        if trial.suggest_categorical("self_training.mix.kind", ["classes", "cut"]) == "classes":
            trial.suggest_float("self_training.mix.fraction", 0.2, 0.8)

`explored` calls it with a trial that only listens, for every combination of choices, numbers at either end, and
tries what it hears on the base recipe: an unknown path, a wrong type or a value outside its bound is refused
before anything starts.  Nothing here imports Optuna.
"""

from __future__ import annotations

import math
from collections import deque
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
MOST = 1000  # combinations of choices that are listened to
TRIED = 128  # of them, those that are tried on the recipe too


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
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole or (self.kind == "float" and isinstance(value, float))):
            return False
        assert self.low is not None and self.high is not None
        steps = (value - self.low) / self.step if self.step else 0.0
        return bool(self.low <= value <= self.high) and abs(steps - round(steps)) < 1e-8  # as Optuna sees it

    def asked(self, changes: Mapping[str, Any]) -> bool:
        """Whether it is a parameter of a trial with these values."""
        return all(changes.get(path) in choices for path, choices in self.when.items())

    def told(self) -> str:
        """0.05 to 2, log; 4 to 16, whole, by 4; or: classes, cut"""
        if self.kind == "categorical":
            return ", ".join(map(str, self.choices))
        marks = {", whole": self.kind == "int", ", log": self.log, f", by {self.step}": self.step not in (None, 1)}
        return f"{self.low:.10g} to {self.high:.10g}{''.join(mark for mark, there in marks.items() if there)}"


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
        some = tuple(choices)
        if not all(c is None or isinstance(c, str | int | float) for c in some):
            told = "text, numbers, true, false or none; what follows from a choice may be returned"
            raise ConfigError(f"{self.where}: {name}", f"found the choices {shown(list(some))}", told)
        if len(set(some)) < max(2, len(some)):
            what = f"found the choices {shown(list(some))}"
            raise ConfigError(f"{self.where}: {name}", what, "two or more, all different")
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
            what = f"found a step of {step:g}"
            raise ConfigError(f"{self.where}: {name}", what, f"more than 0, {high - low:g} at most")
        if log and step is not None and (kind == "float" or step != 1):
            raise ConfigError(f"{self.where}: {name}", f"{found}, log, in steps of {step:g}", "log or steps, not both")
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
    """Listen to a space, then try it on a recipe.  Raises ConfigError for what the base cannot be changed by.

    The first combinations of choices are tried, TRIED at most.  `where` names the space in errors.
    """
    dimensions, found = listened(space, where)
    corners = [tried(base, where, one.changes) for one in found[: 2 * TRIED]]
    return Explored(dimensions=dimensions, corners=tuple(corners))


def listened(space: Space, where: str) -> tuple[tuple[Dimension, ...], list[Heard]]:
    """A space's parameters, and all it said, with every combination of choices, MOST at most.

    A few changes away from the first choices come before many.  Raises ConfigError for a space that is none.
    """
    waiting: deque[Changes] = deque([{}])
    met: set[frozenset[tuple[str, Any]]] = set()
    known: dict[str, Dimension] = {}
    found: list[Heard] = []
    while waiting and len(found) < 2 * MOST:
        script = waiting.popleft()
        for one in (heard(space, where, script, bound) for bound in BOUNDS):
            found.append(one)
            for path, dimension in one.asked.items():
                one_range(where, known.setdefault(path, dimension), dimension)
            met.add(frozenset(one.chosen.items()))
            further = [one.chosen | {path: choice} for path, choice in choices(one.asked)]
            fresh = {key: script for script in further if (key := frozenset(script.items())) not in met}
            met |= fresh.keys()
            waiting += fresh.values()
        if (many := len(choices(known))) > TRIED:
            raise ConfigError(where, f"{many} choices", f"{TRIED} at most: every one is tried before anything starts")
    if not known:
        raise ConfigError(where, "asks for nothing", "trial.suggest_float('self_training.distil', 0.1, 1.0), say")
    return tuple(d.model_copy(update={"when": conditions(d, known, found)}) for d in known.values()), found


class Heard(NamedTuple):
    """One call of a space: the parameters it asked for, all changes it comes to, and the choices among them."""

    asked: dict[str, Dimension]
    changes: Changes
    chosen: Changes


def heard(space: Space, where: str, script: Changes, bound: Bound) -> Heard:
    """Call a space with a trial that listens."""
    trial = Listener(where, script, bound)
    try:
        more = dict(space(trial) or {})
    except ConfigError:
        raise
    except Exception as failure:  # of a user's function: whatever it is, it is a line
        what = f"{type(failure).__name__}: {failure}"
        raise ConfigError(where, what, "suggest_float, suggest_int and suggest_categorical alone") from None
    chosen = {k: trial.values[k] for k, d in trial.asked.items() if d.kind == "categorical"}
    return Heard(trial.asked, trial.values | more, chosen)


def tried(base: Recipe, where: str, changes: Changes) -> Recipe:
    """The base with changes.  Raises ConfigError for one that it cannot take, or that changes nothing that counts."""
    for path in changes:
        if path in ("seed", "name"):
            raise ConfigError(f"{where}: {path}", "is not for a space to vary", "--confirm, which repeats with seeds")
        stage, _, field = path.partition(".")
        scores = stage in base.stages and base.stages[stage].scores()
        if path in ("sources", "targets") or (scores and field in ("protocol", "domains")):
            what = "is not for a space to vary: trials would be measured by different yardsticks"
            raise ConfigError(f"{where}: {path}", what, "a sweep each, by --set and --name")
    try:
        recipe = override(base, changes)
    except ConfigError as failure:
        raise ConfigError(f"{where}: {failure.where}", failure.what, failure.expected) from None
    for path in changes:
        if (stage := path.partition(".")[0]) in recipe.stages and stage not in recipe.needed():
            what = f"changes nothing: nothing that is scored reads {stage!r}"
            raise ConfigError(f"{where}: {path}", what, f"a stage of {', '.join(recipe.needed())}")
    return recipe


def choices(asked: Mapping[str, Dimension]) -> list[tuple[str, Any]]:
    """Every choice of every categorical parameter."""
    return [(d.path, choice) for d in asked.values() if d.kind == "categorical" for choice in d.choices]


def conditions(
    dimension: Dimension, known: Mapping[str, Dimension], found: Sequence[Heard]
) -> dict[str, tuple[Any, ...]]:
    """The choices that a parameter hangs on: those of each other one with which alone it was asked for."""
    under = [one.chosen for one in found if dimension.path in one.asked]
    always = [d for d in known.values() if d.path != dimension.path and all(d.path in chosen for chosen in under)]
    some = {d.path: tuple(c for c in d.choices if any(chosen[d.path] == c for chosen in under)) for d in always}
    return {path: picked for path, picked in some.items() if len(picked) < len(known[path].choices)}


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
