"""`diga diff`: two recipes, cells or stage runs: fields, where they are set, and what came of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from diga.cli.console import catalogue, made, out, recipe_of, study_of
from diga.cli.look import fingerprints
from diga.cli.origins import origin
from diga.cli.work import tracking_uri
from diga.differences import ABSENT, between, fields, flat
from diga.errors import ConfigError, DigaError, expected_one_of, shown
from diga.recipe import Recipe
from diga.study import Study

SCORES = "scores.json"
IOU = "/iou/"
WORDS = "A recipe, STUDY/ROW, STUDY/ROW/SEED, SWEEP/#TRIAL, a recipe's JSON file, or a fingerprint."
What = Annotated[str, typer.Argument(help=WORDS)]


@dataclass(frozen=True)
class Side:
    """One of the two: what it is, and what it scored, if it did here."""

    title: str
    fields: Mapping[str, Any]
    scores: Mapping[str, float] = field(default_factory=dict)
    recipe: Recipe | None = None
    module: str = ""  # of experiments, that made it

    def place(self, path: str, value: Any) -> str:
        """Where a field is set."""
        return "" if self.recipe is None or value is ABSENT else origin(self.recipe, path, value, self.module)


def diff(one: What, other: What) -> None:
    """Show in what two recipes, cells or stage runs differ, where that is set, and what came of it.

    Scores are read from the store: both must have been carried out in this home. Places
    are the likeliest line of an experiment, or the default of the stage's class.

      diga diff diga:streets diga:streets_official
      diga diff "diga:table3/(ii)" "diga:table3/(iii)"       two rows
      diga diff "diga:table3/(iv)/0" "diga:table3/(iv)/1"    two cells
      diga diff "diga.self_training/#0" "diga.self_training/#12"   two trials of a sweep that are done
      diga diff 3fa9c1 77ab01                                two stage runs
    """
    a, b = side(one), side(other)
    if (a.recipe is None) != (b.recipe is None):
        what = f"{one!r} and {other!r} are not of one kind"
        raise ConfigError("diff", what, "two recipes or cells, or two stage runs")
    found = between(a.fields, b.fields)
    out.print(table_of(a, b, found) if found else "no field differs")
    if a.scores and b.scores:
        out.print(scored(a, b))
        out.print(by_class(a, b))
    else:
        lacking = [s.title for s in (a, b) if not s.scores]
        out.print(f"no scores here of {' and '.join(lacking)}", markup=False)


# --- the two sides ---------------------------------------------------------------------------


def side(name: str) -> Side:
    """What a word of the command line stands for."""
    study, _, row = name.partition("/")
    if row and (study in catalogue(Study) or f"{study}" in {full.partition(":")[2] for full in catalogue(Study)}):
        return of_cell(name, study, row)
    if row.startswith("#") and row[1:].isdecimal():
        return of_trial(name, study, int(row[1:]))
    if Path(name).is_file():
        return of_recipe(name, recipe_of(None, Path(name), [], None), "")
    if (manifest := fingerprints(name)) is not None:
        return of_stage(manifest)
    recipe: Recipe = made(name, Recipe)
    return of_recipe(name, recipe, module_of(name, Recipe))


def of_cell(name: str, study: str, row: str) -> Side:
    """A row of a study, with its first seed unless one is named."""
    whole = study_of(study, [], None)
    labels = {r.label: r.label for r in whole.rows} | {a.label: r.label for r in whole.rows for a in r.aliases}
    label, _, seed = row.rpartition("/")
    if row in labels:
        label, seed = row, str(whole.seeds[0])
    if label not in labels or not seed.isdecimal():
        raise ConfigError(name, f"no row {row!r} in {study}", expected_one_of(row, labels))
    chosen = whole.model_copy(update={"seeds": (int(seed),)})
    recipe = next(cell.recipe for cell in chosen.cells() if cell.row.label == labels[label])
    return of_recipe(name, recipe, module_of(study, Study))


def of_trial(name: str, sweep: str, number: int) -> Side:
    """A trial that is done, as it was recorded."""
    from diga.launch.promoted import promoted
    from diga.report.records import client

    return of_recipe(name, promoted(client(tracking_uri(None)), sweep, number).recipe, "")


def module_of(name: str, kind: type[Recipe] | type[Study]) -> str:
    """The module of experiments that makes it."""
    full = next(full for full in catalogue(kind) if name in (full, full.partition(":")[2]))
    return f"experiments.{full.partition(':')[0]}"


def of_recipe(title: str, recipe: Recipe, module: str) -> Side:
    """A recipe, and what its last stage left here."""
    from diga.pipeline import Place

    place, scores = Place.here(), dict[str, float]()
    try:
        last = place.stage_runs(recipe)[-1]
        scores = scores_in(place.store.folder(last.fingerprint))
    except DigaError:  # its data are not here, so it has not been carried out here
        pass
    return Side(title, fields(recipe, needed=True), scores, recipe, module)


def of_stage(manifest: Mapping[str, Any]) -> Side:
    """A finished stage run."""
    facts = manifest["facts"]
    data = {f"data.{domain} ({use})": digest for use, domain, digest in facts["data"]}
    known = flat({"stage": facts["stage"], "recipe": facts["recipe"]}) | {"version": facts["version"]} | data
    return Side(str(manifest["fingerprint"]), known, scores_in(Path(manifest["folder"])))


def scores_in(folder: Path) -> dict[str, float]:
    """What a scoring stage left; nothing, if it is none."""
    try:
        scores: dict[str, float] = json.loads((folder / SCORES).read_text("utf8"))
    except (OSError, ValueError):
        return {}
    return scores


# --- the tables ----------------------------------------------------------------------------


def table_of(a: Side, b: Side, found: Mapping[str, tuple[Any, Any]]) -> Table:
    """Fields that differ, with both values and the places that set them."""
    known = a.recipe is not None
    shown_ = Table("field", a.title, b.title, *(("set for the first", "for the second") if known else ()))
    for path, (x, y) in found.items():
        places = [a.place(path, x), b.place(path, y)] if known else []
        shown_.add_row(path, shown(x), shown(y), *places)
    return shown_


def scored(a: Side, b: Side) -> Table:
    """Every mean IoU that both have, in %."""
    table = numbers("mean IoU", a, b)
    for name in a.scores:
        if name in b.scores and name.endswith("/miou"):
            add(table, name, a.scores[name], b.scores[name])
    return table


def by_class(a: Side, b: Side) -> Table:
    """Each class's IoU in the first column both have, the largest difference first."""
    column = next((n.partition(IOU)[0] for n in a.scores if IOU in n and n in b.scores), "")
    table = numbers(f"{column}, by class", a, b)
    names = [n for n in a.scores if n.startswith(f"{column}{IOU}") and n in b.scores]
    for name in sorted(names, key=lambda n: -abs(a.scores[n] - b.scores[n])):
        add(table, name.partition(IOU)[2], a.scores[name], b.scores[name])
    return table


def numbers(title: str, a: Side, b: Side) -> Table:
    """An empty table of percentages."""
    return Table(title, *(Column(name, justify="right") for name in (a.title, b.title, "difference")))


def add(table: Table, name: str, x: float, y: float) -> None:
    """A row of percentages."""
    table.add_row(name, f"{100 * x:.1f}", f"{100 * y:.1f}", f"{100 * (y - x):+.1f}")
