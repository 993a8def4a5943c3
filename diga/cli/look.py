"""`diga list` and `diga show`: what there is, and what it is made of.  Neither needs torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from diga.cli.console import catalogue, out, recipe_of, study_of
from diga.cli.searching import spaces
from diga.cli.work import Changes
from diga.errors import ConfigError, expected_one_of
from diga.recipe import Recipe, dumps, plain
from diga.registry import names_in
from diga.space import Dimension, listened
from diga.study import Study


def list_() -> None:
    """Recipes, studies, spaces, networks, masks, label rules and protocols by name."""
    for title, kind in (("recipes", Recipe), ("studies", Study)):
        out.print(f"[bold]{title}[/bold]")
        for name, make in catalogue(kind).items():
            out.print(f"  {name:32} {(make.__doc__ or '').splitlines()[0]}", markup=False)
    out.print("[bold]spaces[/bold]")
    for name, space in spaces().items():
        out.print(f"  {name:32} {(space.__doc__ or '').splitlines()[0]}", markup=False)
    modules = {"networks": "diga.models", "masks": "diga.ops.masks", "label rules": "diga.ops.rules"}
    modules |= {"protocols": "diga.engine.protocols"}
    for title, module in modules.items():
        out.print(f"[bold]{title}[/bold]\n  {', '.join(sorted(names_in(module)))}")


def show(
    name: Annotated[
        str | None, typer.Argument(help="A recipe, a study, a space, or the fingerprint of a stage run.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--recipe", help="JSON of a resolved recipe.")] = None,
    changes: Changes = None,
    seed: Annotated[int | None, typer.Option(help="The recipe's seed.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The resolved recipe, every default written out.")] = False,
) -> None:
    """Show a recipe's resolved values, a study's rows, a space's parameters, or what a stage run is made of.

    diga show diga:streets             every value, by the path --set takes
    diga show diga:table3              rows, their components and their stages
    diga show diga.self_training       what a sweep of it varies, and how far
    diga show 3fa9c1                   manifest of the stage run that starts so
    diga show diga:streets --json      what `diga run --recipe` runs again
    """
    if name and name in (known_spaces := spaces()):
        dimensions, _ = listened(known_spaces[name], f"space {name}")
        out.print_json(json.dumps([d.model_dump(mode="json") for d in dimensions])) if as_json else out.print(
            dimensions_of(name, dimensions)
        )
    elif name in catalogue(Study):
        study = study_of(str(name), changes or [], None)
        out.print_json(json.dumps(study.layout())) if as_json else out.print(rows_of(study))
    elif name and (found := fingerprints(name)):
        out.print_json(json.dumps(found))
    else:
        if name and name not in (known := [*catalogue(Recipe), *catalogue(Study), *known_spaces]):
            raise ConfigError(
                name, "no such recipe, study or space", f"{expected_one_of(name, known)}; see `diga list`"
            )
        recipe = recipe_of(name, file, changes or [], seed)
        out.print(dumps(recipe), markup=False) if as_json else out.print(tree(recipe))


def fingerprints(start: str) -> dict[str, Any] | None:
    """Folder and manifest of the one stage run whose fingerprint starts so; None for other names."""
    if len(start) < 6 or set(start) - set("0123456789abcdef"):
        return None
    from diga.pipeline import Place

    store = Place.here().store
    found = [p.parent.name for p in store.root.glob(f"{start[:2]}/{start}*/manifest.json")]
    if len(found) != 1:
        raise ConfigError(start, f"{len(found)} stage runs start so", "the fingerprint of one; see `diga plan`")
    return {"folder": str(store.folder(found[0]))} | store.manifest(found[0])


def tree(recipe: Recipe) -> Table:
    """A recipe as a table of dotted paths; stages that are not needed are left out."""
    table = Table("path", "value", title=recipe.name)
    whole = plain(recipe)
    for key, value in whole.items():
        if key not in ("stages", "name"):
            table.add_row(key, json.dumps(value))
    for stage in recipe.needed():
        table.add_section()
        for path, value in leaves(whole["stages"][stage], stage):
            table.add_row(path, json.dumps(value))
    return table


def leaves(value: dict[str, Any], path: str) -> Iterable[tuple[str, Any]]:
    """Dotted paths and values of a nested document."""
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from leaves(inner, f"{path}.{key}")
        else:
            yield f"{path}.{key}", inner


def dimensions_of(name: str, dimensions: Iterable[Dimension]) -> Table:
    """A space as a table: paths, what they are drawn from, and the choices under which alone they are asked for."""
    table = Table(Column("path", no_wrap=True), "from", "when", title=name)
    for one in dimensions:
        when = "; ".join(f"{path} is {' or '.join(map(str, choices))}" for path, choices in one.when.items())
        table.add_row(one.path, one.told(), when)
    return table


def rows_of(study: Study) -> Table:
    """A study's rows: components, the stages each needs, and what other designs call the row."""
    table = Table(Column("row", no_wrap=True), *study.components, "stages", title=study.title or study.name)
    for row in study.rows:
        marks = ["✓" if c in row.components else "" for c in study.components]
        again = "".join(f", also {alias.label}" for alias in row.aliases)
        table.add_row(row.label + again, *marks, " → ".join(row.recipe.needed()))
    return table
