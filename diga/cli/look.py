"""`diga list`, `show`, `plan`, `status`: what there is and what it would cost.  None of it needs torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from diga.cli.console import catalogue, need_streets, out, recipe_of, seeds_of, study_of
from diga.cli.work import Changes, Tracking, tracking_uri
from diga.errors import ConfigError
from diga.recipe import Recipe, dumps, plain
from diga.registry import names_in
from diga.study import Study


def list_() -> None:
    """Recipes, studies, networks, masks and protocols by name."""
    for title, kind in (("recipes", Recipe), ("studies", Study)):
        out.print(f"[bold]{title}[/bold]")
        for name, make in catalogue(kind).items():
            out.print(f"  {name:28} {(make.__doc__ or '').splitlines()[0]}", markup=False)
    modules = {"networks": "diga.models", "masks": "diga.ops.masks", "protocols": "diga.engine.protocols"}
    for title, module in modules.items():
        out.print(f"[bold]{title}[/bold]\n  {', '.join(sorted(names_in(module)))}")


def show(
    name: Annotated[str | None, typer.Argument(help="A recipe, a study, or the fingerprint of a stage run.")] = None,
    file: Annotated[Path | None, typer.Option("--recipe", help="JSON of a resolved recipe.")] = None,
    changes: Changes = None,
    seed: Annotated[int | None, typer.Option(help="The recipe's seed.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The resolved recipe, every default written out.")] = False,
) -> None:
    """Show a recipe's resolved values, a study's rows, or what a stage run is made of."""
    if name in catalogue(Study):
        study = study_of(str(name), changes or [], None)
        out.print_json(json.dumps(study.layout())) if as_json else out.print(rows_of(study))
    elif name and (found := fingerprints(name)):
        out.print_json(json.dumps(found))
    else:
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


def rows_of(study: Study) -> Table:
    """A study's rows: components, and the stages each needs."""
    table = Table(Column("row", no_wrap=True), *study.components, "stages", title=study.title or study.name)
    for row in study.rows:
        marks = ["✓" if c in row.components else "" for c in study.components]
        table.add_row(row.label, *marks, " → ".join(row.recipe.needed()))
    return table


def plan(
    name: Annotated[str, typer.Argument(help="A study or a recipe.")],
    seeds: Annotated[str | None, typer.Option(help="How many, or which: 5, or 0,1,7.")] = None,
    changes: Changes = None,
) -> None:
    """What would run, what is there already, and what it would cost; nothing is started."""
    from diga.pipeline import Place
    from diga.plan import distinct

    place = Place.here()
    if name in catalogue(Study):
        recipes = [cell.recipe for cell in study_of(name, changes or [], seeds).cells()]
    else:
        numbers = seeds_of(seeds) if seeds else (None,)
        recipes = [recipe_of(name, None, changes or [], seed) for seed in numbers]
    for recipe in recipes:
        need_streets(recipe, place.data)
    naive = [run for recipe in recipes for run in place.stage_runs(recipe)]
    once = distinct(naive)
    table = Table("stage", "distinct", "there", "to run", "steps to run", "measured s", title=name)
    spent = history(place)
    for kind in dict.fromkeys(run.kind for run in once.values()):
        runs = [run for run in once.values() if run.kind == kind]
        todo = [run for run in runs if not place.store.has(run.fingerprint)]
        seconds = f"{spent[kind] * len(todo):.0f}" if kind in spent else "?"
        numbers_ = (len(runs), len(runs) - len(todo), len(todo), sum(r.steps for r in todo))
        table.add_row(kind, *map(str, numbers_), seconds)
    out.print(table)
    steps = sum(run.steps for run in naive), sum(run.steps for run in once.values())
    out.print(f"{len(recipes)} cells, {len(naive)} stage runs end to end, {len(once)} distinct")
    out.print(f"steps: {steps[0]:,} end to end, {steps[1]:,} with every stage once")


def history(place: Any) -> dict[str, float]:
    """Mean seconds of a finished stage by class, from the store's manifests."""
    seconds: dict[str, list[float]] = {}
    for path in place.store.root.glob("*/*/manifest.json"):
        document = json.loads(path.read_text())
        kind = document["facts"]["stage"]["is"].rpartition(".")[2]
        seconds.setdefault(kind, []).append(document["meta"]["seconds"])
    return {kind: sum(values) / len(values) for kind, values in seconds.items()}


def status(
    study: Annotated[str, typer.Argument(help="Name of a study that was launched, such as table3.")],
    tracking: Tracking = None,
) -> None:
    """A line a row: what each seed has come to, and mean ± sample standard deviation so far."""
    from diga.report.cells import metric_of
    from diga.report.records import records
    from diga.report.statistics import over_seeds

    known = records(tracking_uri(tracking), study.rpartition(":")[2])
    spreads = over_seeds(known.done, str(metric_of(known)))
    table = Table("row", *(f"seed {s}" for s in known.seeds), "mean ± sd", "n", title=known.name)
    for row in known.rows:
        states = [known.status(row.label, seed) for seed in known.seeds]
        spread = spreads.get(row.label)
        text = (
            "" if spread is None else f"{100 * spread.mean:.1f}" + (f" ± {100 * spread.sd:.1f}" if spread.n > 1 else "")
        )
        table.add_row(row.label, *states, text, str(spread.n if spread else 0))
    out.print(table)
