"""What two documents differ in: dotted paths, and the value on either side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diga.errors import shown
from diga.recipe import Recipe, plain

Pair = tuple[Any, Any]


class Absent:
    """What stands where a path is on the other side alone."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT = Absent()


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted path: {"warm_up": {"alpha": 1}} -> {"warm_up.alpha": 1}."""
    out: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, dict) and inner:
            out |= flat(inner, f"{prefix}{name}.")
        else:
            out[f"{prefix}{name}"] = inner
    return out


def fields(recipe: Recipe, needed: bool = False) -> dict[str, Any]:
    """Every value of a recipe by the path that `override` takes; of its needed stages alone, if asked."""
    whole = plain(recipe)
    stages = {k: v for k, v in whole.pop("stages").items() if not needed or k in recipe.needed()}
    del whole["name"]
    return flat(whole | stages)


def between(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Pair]:
    """Paths in which two flat documents differ, in the order of the first, with both values."""
    paths = [*one, *(path for path in other if path not in one)]
    pairs = {path: (one.get(path, ABSENT), other.get(path, ABSENT)) for path in paths}
    return {path: (a, b) for path, (a, b) in pairs.items() if type(a) is not type(b) or a != b}


def below(path: str, heads: Mapping[str, Any] | tuple[str, ...]) -> bool:
    """Whether a path is one of `heads`, or inside one."""
    return any(path == head or path.startswith(f"{head}.") for head in heads)


def told(pair: Pair) -> str:
    """0.3 -> 0.5"""
    return " -> ".join(shown(value) for value in pair)
