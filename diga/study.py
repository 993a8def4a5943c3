"""What a table compares: rows, each a recipe, times seeds; how they are made: `diga.design`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, Field, SerializeAsAny, model_validator

from diga.design import MAX_CELLS as MAX_CELLS
from diga.design import Design as Design
from diga.design import factorial as factorial
from diga.design import ladder as ladder
from diga.design import leave_one_out as leave_one_out
from diga.design import swap as swap
from diga.design import union as union
from diga.errors import ConfigError, expected_one_of, shown
from diga.recipe import Recipe, override
from diga.rows import Component as Component
from diga.rows import Declared
from diga.rows import Row as Row
from diga.rows import off_states as off_states

Order = Literal["seeds", "rows"]


class Cell(Declared):
    """A row with a seed."""

    row: Row
    index: int = Field(description="of the row in its study")
    recipe: SerializeAsAny[Recipe]

    @property
    def seed(self) -> int:
        """The recipe's seed."""
        return self.recipe.seed


class Study(Declared):
    """A set of cells and what their table should compare.

    Its name may hold any character: folders and clusters see a harmless form of it, records the name itself.
    """

    name: str = Field(min_length=1, max_length=200)
    title: str = ""
    rows: tuple[Row, ...] = Field(min_length=1)
    components: tuple[str, ...] = ()
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    metric: str = Field(description="the number of a cell that the table compares")
    reference: str = Field("", description="file of reports/paper with the published numbers")
    tables: tuple[str, ...] = Field((), description="modules of reports/")
    sweep: dict[str, Any] | None = Field(None, description="the search that its rows come from, as JSON")
    max_cells: int = Field(MAX_CELLS, ge=1, description="more are an error, never a sample")

    @model_validator(mode="after")
    def _told_apart(self) -> Study:
        labels = [row.label for row in self.rows]
        for what, values in (("labels of rows", labels), ("seeds", self.seeds)):
            if len(set(values)) < len(values):
                raise ConfigError(f"study {self.name!r}", f"found {what} {shown(list(values))}", "different ones")
        known = set(labels)
        for place, row in enumerate(self.rows):
            for parent in {link for link, _ in row.links()} - known:
                answer = expected_one_of(parent, labels[:place])
                raise ConfigError(f"row {row.label!r}", f"the parent {parent!r} is no row above it", answer)
            if row.parent in labels[place:]:
                answer = expected_one_of(row.parent, labels[:place])
                raise ConfigError(f"row {row.label!r}", f"the parent {row.parent!r} is no row above it", answer)
        if (cells := len(self.rows) * len(self.seeds)) > self.max_cells:
            what = f"{len(self.rows)} rows times {len(self.seeds)} seeds are {cells} cells"
            raise ConfigError(f"study {self.name!r}", what, f"{self.max_cells} at most: max_cells={cells}, or fewer")
        return self

    def cells(self, order: Order = "seeds") -> Iterator[Cell]:
        """Every row with every seed: all rows of one seed first, or ("rows") all seeds of one row."""
        for seed in self.seeds:
            override(self.rows[0].recipe, {"seed": seed})  # raises for one out of bounds; no other field minds a seed
        rows = list(enumerate(self.rows))
        pairs = [(i, row, seed) for seed in self.seeds for i, row in rows]
        if order == "rows":
            pairs = [(i, row, seed) for i, row in rows for seed in self.seeds]
        for i, row, seed in pairs:
            yield Cell(row=row, index=i, recipe=BaseModel.model_copy(row.recipe, update={"seed": seed}))

    def layout(self) -> dict[str, Any]:
        """What a report must know beside the cells, as JSON."""
        rows = [
            {"label": r.label, "index": i, "parent": r.parent, "components": list(r.components)}
            | ({"aliases": [{"label": a.label, "parent": a.parent} for a in r.aliases]} if r.aliases else {})
            for i, r in enumerate(self.rows)
        ]
        without = {"rows"} if self.sweep else {"rows", "sweep"}
        return self.model_dump(mode="json", exclude=without) | {"rows": rows}
