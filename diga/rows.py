"""Rows: a recipe each, made of the whole method by switching parts off, and what it may differ in from its parent.

An ablation that changes nothing, or more than it says, is found before it costs anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any, Self

from pydantic import Field, ModelWrapValidatorHandler, SerializeAsAny, ValidationError, model_validator

from diga.differences import below, between, fields
from diga.errors import ConfigError, expected_one_of, shown
from diga.identity import facts, fingerprint_of
from diga.recipe import Recipe, override
from diga.settings import Frozen


class Declared(Frozen):
    """A value a user writes in an experiment; what it cannot mean is a ConfigError of one line."""

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_line(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as failure:
            first = failure.errors(include_url=False)[0]
            where = ".".join([cls.__name__.lower(), *map(str, first["loc"])])
            raise ConfigError(where, f"found {shown(first['input'])}", first["msg"]) from None


class Component(Declared):
    """A part of the whole method and how to switch it off; `needs` names parts it cannot be without."""

    name: str = Field(min_length=1)
    off: dict[str, Any]
    needs: tuple[str, ...] = ()


class Alias(Declared):
    """A row that another design has too: what it is called there, and what it is compared with there."""

    label: str
    parent: str = ""
    declared: tuple[str, ...] | None = None


class Row(Declared):
    """One line of a table: a recipe, which components are on, and the row it is compared with.

    `declared` are the paths in which it may differ from its parent; None: nothing is declared.
    """

    label: str = Field(min_length=1)
    recipe: SerializeAsAny[Recipe]
    components: tuple[str, ...] = ()
    parent: str = ""
    declared: tuple[str, ...] | None = None
    aliases: tuple[Alias, ...] = ()

    def links(self) -> Iterator[tuple[str, tuple[str, ...] | None]]:
        """The rows it is compared with, each with the paths in which the two may differ."""
        places: tuple[Row | Alias, ...] = (self, *self.aliases)
        yield from ((place.parent, place.declared) for place in places if place.parent)


def off_states(components: Sequence[Component], on: Iterable[str]) -> dict[str, Any]:
    """The changes that switch off all but `on`; a part whose need is off has gone with it.

    Raises ConfigError for a need that is no component: it would never be on.
    """
    on = set(on)
    _needs_are_known(components)
    changes: dict[str, Any] = {}
    for component in components:
        if component.name not in on and on.issuperset(component.needs):
            changes |= component.off
    return changes


def checked(whole: Recipe, components: Sequence[Component]) -> dict[str, Component]:
    """The components by name.  Raises ConfigError unless they can be told apart, switched and ordered.

    That is: each has a name of its own; what it needs is there, and no circle; no two switch the same
    field, or a field inside what the other replaces, unless the finer one needs the coarser one; and
    each changes something of the whole method.
    """
    known = {component.name: component for component in components}
    if len(known) < len(components):
        names = [component.name for component in components]
        raise ConfigError("components", f"found {shown(names)}", "names of their own")
    _needs_are_known(components)
    for name in known:
        if name in (far := _needed_by(name, known)):
            raise ConfigError(f"component {name!r}", f"needs itself, by way of {', '.join(far)}", "needs in no circle")
    for one, other in combinations(components, 2):
        _apart(one, other, known)
    before = fields(whole)
    for component in components:
        if not between(before, fields(changed(whole, f"component {component.name!r}", component.off))):
            what = "its off state is what the whole method already is"
            raise ConfigError(f"component {component.name!r}", what, "a value that changes something")
    return known


def meaning(recipe: Recipe) -> str:
    """What a recipe comes to: equal for two recipes exactly if they would be one cell on the same data."""
    named: dict[str, str] = {}
    for name in recipe.needed():
        named[name] = fingerprint_of(facts(recipe, name, lambda domain, use: domain, named))
    return named[name]


def undeclared(rows: Sequence[Row]) -> None:
    """Raises ConfigError, naming row and fields, where a row differs from its parent by nothing, or by more than said.

    Rows that declare nothing may differ in anything.
    """
    known = {row.label: row for row in rows}
    for row in rows:
        for parent, declared in row.links():
            if parent not in known or declared is None:
                continue
            found = between(fields(known[parent].recipe), fields(row.recipe))
            if more := [path for path in found if not below(path, declared)]:
                what = f"differs from {parent!r} in {', '.join(more[:3])}"
                raise ConfigError(f"row {row.label!r}", what, f"in {', '.join(declared) or 'nothing'} alone")
            if not found:
                what = f"is {parent!r} again: {', '.join(declared)} changes nothing"
                raise ConfigError(f"row {row.label!r}", what, "a switch that changes something")


def row_of(whole: Recipe, components: Sequence[Component], on: set[str], label: str, parent: Row | None) -> Row:
    """The row in which the components `on` are on, compared with `parent`, if any."""
    changes = off_states(components, on)
    before = off_states(components, parent.components) if parent else {}
    return Row(
        label=label,
        recipe=changed(whole, label, changes),
        components=tuple(c.name for c in components if c.name in on),
        parent=parent.label if parent else "",
        declared=tuple(between(before, changes)) if parent else None,
    )


def changed(whole: Recipe, label: str, changes: Mapping[str, Any]) -> Recipe:
    """The whole with changes, under the row's name.  Raises ConfigError, naming the row too."""
    try:
        return override(whole, {"name": f"{whole.name} {label}"} | dict(changes))
    except ConfigError as failure:
        raise ConfigError(f"row {label!r}, {failure.where}", failure.what, failure.expected) from None


def _needs_are_known(components: Sequence[Component]) -> None:
    known = {component.name for component in components}
    for component in components:
        for unknown in sorted({*component.needs} - known):
            raise ConfigError(f"component {component.name!r}", f"needs {unknown!r}", expected_one_of(unknown, known))


def _needed_by(name: str, known: Mapping[str, Component]) -> tuple[str, ...]:
    """All that a component needs, directly or not."""
    found: dict[str, None] = {}
    ahead = list(known[name].needs)
    while ahead:
        if (need := ahead.pop(0)) not in found:
            found[need] = None
            ahead += known[need].needs
    return tuple(found)


def needing(name: str, known: Mapping[str, Component]) -> set[str]:
    """All components that need this one, directly or not."""
    return {other for other in known if name in _needed_by(other, known)}


def _apart(one: Component, other: Component, known: Mapping[str, Component]) -> None:
    for a, b in product(one.off, other.off):
        finer, coarser = (one, other) if below(a, (b,)) else (other, one)
        if a != b and (not (below(a, (b,)) or below(b, (a,))) or coarser.name in _needed_by(finer.name, known)):
            continue
        place = min(a, b, key=len)
        what = f"{one.name!r} and {other.name!r} both switch {place}"
        hint = "one component a field" if a == b else f"{finer.name!r} to need {coarser.name!r}"
        raise ConfigError("components", what, hint)
