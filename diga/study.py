"""What a table compares: rows, each a recipe, times seeds.  A component is described by its off state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field, SerializeAsAny, model_validator

from diga.errors import ConfigError, expected_one_of
from diga.recipe import Recipe, override
from diga.settings import Frozen


class Component(Frozen):
    """A part of the whole method and how to switch it off; `needs` names parts it cannot be without."""

    name: str
    off: dict[str, Any]
    needs: tuple[str, ...] = ()


class Row(Frozen):
    """One line of a table: a recipe, which components are on, and the row it is compared with."""

    label: str
    recipe: SerializeAsAny[Recipe]
    components: tuple[str, ...] = ()
    parent: str = ""


class Cell(Frozen):
    """A row with a seed."""

    row: Row
    index: int = Field(description="of the row in its study")
    recipe: SerializeAsAny[Recipe]

    @property
    def seed(self) -> int:
        """The recipe's seed."""
        return self.recipe.seed


class Study(Frozen):
    """A set of cells and what their table should compare."""

    name: str = Field(min_length=1, max_length=200)
    title: str = ""
    rows: tuple[Row, ...] = Field(min_length=1)
    components: tuple[str, ...] = ()
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    metric: str = Field(description="the number of a cell that the table compares")
    reference: str = Field("", description="file of reports/paper with the published numbers")
    tables: tuple[str, ...] = Field((), description="modules of reports/")

    @model_validator(mode="after")
    def _told_apart(self) -> Study:
        labels = [row.label for row in self.rows]
        for what, values in (("labels of rows", labels), ("seeds", self.seeds)):
            if len(set(values)) < len(values):
                raise ValueError(f"found {what} {list(values)}, expected different ones")
        for place, row in enumerate(self.rows):
            if row.parent and row.parent not in labels[:place]:
                answer = expected_one_of(row.parent, labels[:place])
                raise ValueError(f"row {row.label!r} has the parent {row.parent!r}, no row above it; {answer}")
        return self

    def cells(self) -> Iterator[Cell]:
        """Every row with every seed; all rows of one seed first, so that a first table comes early."""
        for seed in self.seeds:
            for index, row in enumerate(self.rows):
                yield Cell(row=row, index=index, recipe=override(row.recipe, {"seed": seed}))

    def layout(self) -> dict[str, Any]:
        """What a report must know beside the cells, as JSON."""
        rows = [
            {"label": r.label, "index": i, "parent": r.parent, "components": list(r.components)}
            for i, r in enumerate(self.rows)
        ]
        return self.model_dump(mode="json", exclude={"rows"}) | {"rows": rows}


def ladder(whole: Recipe, components: Sequence[Component], labels: Sequence[str]) -> tuple[Row, ...]:
    """From everything off to everything on, one component a rung; each rung's parent is the one below."""
    if len(labels) != len(components) + 1:
        raise ConfigError("ladder", f"{len(labels)} labels", f"{len(components) + 1}: one more than components")
    rows: list[Row] = []
    for on, label in enumerate(labels):
        names = tuple(c.name for c in components[:on])
        changes: dict[str, Any] = {"name": f"{whole.name} {label}"}
        recipe = override(whole, changes | off_states(components, names))
        rows.append(Row(label=label, recipe=recipe, components=names, parent=rows[-1].label if rows else ""))
    return tuple(rows)


def off_states(components: Sequence[Component], on: Sequence[str]) -> dict[str, Any]:
    """The changes that switch off all but `on`; a part whose need is off has gone with it.

    Raises ConfigError for a need that is no component: it would never be on.
    """
    changes: dict[str, Any] = {}
    known = {component.name for component in components}
    for component in components:
        for unknown in {*component.needs} - known:
            raise ConfigError(f"component {component.name!r}", f"needs {unknown!r}", expected_one_of(unknown, known))
        if component.name not in on and all(need in on for need in component.needs):
            changes |= component.off
    return changes
