"""Designs: which rows an ablation has, made from one whole method and the off states of its parts.

Each row knows the row it is compared with and the paths in which the two may differ (`diga.rows`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

from diga.errors import ConfigError, expected_one_of, shown
from diga.recipe import Recipe
from diga.rows import Alias, Component, Row, changed, checked, meaning, needing, row_of

MAX_CELLS = 1000  # of a study, unless it says otherwise, and rows of one design


class Design(tuple[Row, ...]):
    """Rows in order; `a | b` is their union, in which a cell that both have is one."""

    def __or__(self, other: Iterable[Row]) -> Design:
        return union(self, other)


# --- the designs -------------------------------------------------------------------------


def ladder(whole: Recipe, components: Sequence[Component], labels: Sequence[str] = ()) -> Design:
    """From everything off to everything on, one component a rung; each rung's parent is the one below.

    Without labels the rungs are "none", "+ a", "+ b".  Raises ConfigError for a component that stands
    below one it needs.
    """
    checked(whole, components)
    labels = labels or ("none", *(f"+ {c.name}" for c in components))
    if len(labels) != len(components) + 1:
        raise ConfigError("ladder", f"{len(labels)} labels", f"{len(components) + 1}: one more than components")
    for place, component in enumerate(components):
        if missing := set(component.needs) - {c.name for c in components[:place]}:
            what = f"component {component.name!r} stands below {', '.join(map(repr, sorted(missing)))}"
            raise ConfigError("ladder", what, "a component above those it needs")
    rows: list[Row] = []
    for on, label in enumerate(labels):
        rows.append(row_of(whole, components, {c.name for c in components[:on]}, label, rows[-1] if rows else None))
    return Design(rows)


def leave_one_out(
    whole: Recipe,
    components: Sequence[Component],
    only: Sequence[str] = (),
    label: str = "whole",
    each: str = "without {}",
) -> Design:
    """The whole method, and one row for each component (or of each of `only`) that is off alone.

    What needs a component goes with it.
    """
    known = checked(whole, components)
    for name in only:
        if name not in known:
            raise ConfigError("leave_one_out", f"no component {name!r}", expected_one_of(name, known))
    rows = [row_of(whole, components, set(known), label, None)]
    for name in only or known:
        rows.append(row_of(whole, components, set(known) - {name, *needing(name, known)}, each.format(name), rows[0]))
    return Design(rows)


def swap(whole: Recipe, what: str | Component, values: Mapping[str, Any] | Sequence[Any]) -> Design:
    """One part over alternatives; each row but the first is compared with the first.

    `what` is a path, and `values` its values by label (or values alone, labelled "path=value").  Or it
    is a component: the first row is the whole method, called as the component, and `values` are the
    changes that put something else in its place, by label.
    """
    if isinstance(what, Component):
        if not isinstance(values, Mapping) or not all(isinstance(v, Mapping) and v for v in values.values()):
            raise ConfigError(
                f"swap of {what.name!r}", f"found {shown(values)}", "changes by label: {label: {path: …}}"
            )
        changes: dict[str, Mapping[str, Any]] = {what.name: {}, **values}
    else:
        named = values if isinstance(values, Mapping) else {f"{what}={value}": value for value in values}
        changes = {label: {what: value} for label, value in named.items()}
    if len(changes) < 2:
        raise ConfigError("swap", f"{len(changes)} alternatives", "two at least")
    first = next(iter(changes))
    rows = []
    for label, change in changes.items():
        declared = tuple(dict.fromkeys([*changes[first], *change])) if label != first else None
        recipe = changed(whole, label, change)
        rows.append(Row(label=label, recipe=recipe, parent="" if label == first else first, declared=declared))
    return Design(rows)


def factorial(
    whole: Recipe, components: Sequence[Component], generators: Mapping[str, Sequence[str]] | None = None
) -> Design:
    """Every combination of components on and off; with `generators`, a regular two-level fraction of them.

    A full design leaves out combinations in which a component is on and one it needs is off: they
    cannot be made.  Each row is compared with the one that has its last part less.

    `generators={"E": ("A", "B", "C", "D")}` says that E is on where an even number of A, B, C and D are
    off (x_E = x_A x_B x_C x_D with levels +1 and -1): half as many rows.  The price is the resolution,
    the length of the shortest word of the defining relation (`resolution`): at III a main effect cannot
    be told from an interaction of two parts, at IV main effects are clear of those but interactions of
    two are not of each other, at V both are clear.  Below III is refused.  The whole method is always a
    row, and rows are compared with the first.  A fraction is balanced only if every combination can be
    made, so its components need nothing.
    """
    known = checked(whole, components)
    made = dict(generators or {})
    free = [name for name in known if name not in made]
    if made:
        _regular(known, made)
    if 2 ** len(free) > MAX_CELLS:
        raise ConfigError("factorial", f"2^{len(free)} rows", f"{MAX_CELLS} at most; `generators` take a fraction")
    rows: dict[frozenset[str], Row] = {}
    for levels in product((False, True), repeat=len(free)):
        on = {name for name, level in zip(reversed(free), levels, strict=True) if level}
        on |= {name for name, word in made.items() if sum(part not in on for part in word) % 2 == 0}
        if all(set(known[name].needs) <= on for name in on):
            parent = rows.get(_one_less(on, known)) or next(iter(rows.values()), None)
            label = " + ".join(name for name in known if name in on) or "none"
            rows[frozenset(on)] = row_of(whole, components, on, label, parent)
    return Design(rows.values())


def resolution(generators: Mapping[str, Sequence[str]]) -> int:
    """Length of the shortest word of a fraction's defining relation: III, IV, V … as a number.

    Each generator E = ABCD is the word ABCDE; words multiply, and what stands twice cancels.
    """
    words = [frozenset({*word}) ^ {name} for name, word in generators.items()]
    lengths = []
    for some in range(1, len(words) + 1):
        for chosen in combinations(words, some):
            relation: frozenset[str] = frozenset()
            for word in chosen:
                relation ^= word
            lengths.append(len(relation))
    return min(lengths, default=0)


def union(*designs: Iterable[Row]) -> Design:
    """The rows of several designs, each cell once: the first design names it, the others' names are its aliases.

    Raises ConfigError where one label means two rows, or where rows of one design are the same.
    """
    kept: dict[str, Row] = {}  # what a row comes to -> the row
    for design in designs:
        own: dict[str, str] = {}  # what a row of this design comes to -> its label here
        here: dict[str, str] = {}  # label in this design -> label in the union
        for row in design:
            key = meaning(row.recipe)
            if key in own:
                what = f"are the same: {own[key]!r} and {row.label!r}"
                raise ConfigError("rows of one design", what, "a switch between them that changes something")
            moved = row.model_copy(update={"parent": here.get(row.parent, row.parent)})
            kept[key] = _merged(kept[key], moved) if key in kept else _new(moved, kept.values())
            own[key], here[row.label] = row.label, kept[key].label
    return Design(kept.values())


# --- how ---------------------------------------------------------------------------------


def _one_less(on: set[str], known: Mapping[str, Component]) -> frozenset[str]:
    """`on` without its last part that no other one of them needs."""
    last = [name for name in known if name in on and not needing(name, known) & on][-1:]
    return frozenset(on - {*last})


def _regular(known: Mapping[str, Component], generators: Mapping[str, Sequence[str]]) -> None:
    """Raises ConfigError for generators that make no fraction, or one of too low a resolution."""
    for name, word in generators.items():
        for part in (name, *word):
            if part not in known:
                raise ConfigError("generators", f"no component {part!r}", expected_one_of(part, known))
            if part in generators and part != name:
                raise ConfigError(f"generators[{name!r}]", f"{part!r} is generated itself", "components that are free")
        if name in word or len(set(word)) < len(word):
            raise ConfigError(
                f"generators[{name!r}]", f"found {list(word)}", f"other components than {name!r}, each once"
            )
    if needing := [component.name for component in known.values() if component.needs]:
        raise ConfigError("generators", f"{needing[0]!r} needs another component", "a full factorial for such parts")
    if (found := resolution(generators)) < 3:
        raise ConfigError("generators", f"resolution {found}: two components always switch together", "III or more")


def _merged(first: Row, again: Row) -> Row:
    """A row that a later design has too."""
    alias = Alias(label=again.label, parent=again.parent, declared=again.declared)
    others = [
        a
        for a in (alias, *again.aliases)
        if (a.label, a.parent) not in ((first.label, first.parent), (first.label, ""))
    ]
    components = first.components or again.components
    return first.model_copy(update={"aliases": (*first.aliases, *others), "components": components})


def _new(row: Row, kept: Iterable[Row]) -> Row:
    if row.label in {other.label for other in kept}:
        raise ConfigError(f"row {row.label!r}", "two designs call different rows so", "labels of their own")
    return row
