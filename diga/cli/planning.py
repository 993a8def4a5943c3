"""`diga plan`: what would run and why, what it would take, what fits; nothing is started.  It needs no torch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress, TaskID
from rich.table import Column, Table

from diga.cli.console import (
    catalogue,
    full_name,
    need_streets,
    out,
    recipe_of,
    seeds_of,
    study_of,
    title,
    unknown,
)
from diga.cli.searching import Base, Confirmed, Number, Objectives, Prune, Rungs, Typed
from diga.cli.words import readable, spoken
from diga.cli.work import Changes
from diga.errors import StorageError
from diga.recipe import Recipe
from diga.study import Order, Study

if TYPE_CHECKING:
    from diga.forecast import Forecast
    from diga.pipeline import Place

Watch = Callable[[str, int, int], None]
Labelled = list[tuple[str, Recipe, int]]  # the label of a cell's row, its recipe, how many rows come to it
REASONS = 12  # lines, unless all are asked for


def plan(
    name: Annotated[str, typer.Argument(help="A study, a recipe, or a space that would be searched.")],
    seeds: Annotated[str | None, typer.Option(help="How many, or which: 5, or 0,1,7.")] = None,
    changes: Changes = None,
    order: Annotated[
        Order, typer.Option(help="What comes first: all rows of a seed (seeds), or all seeds of a row (rows).")
    ] = "seeds",
    gpus: Annotated[int, typer.Option(min=1, help="Stages that would run at once, a GPU each.")] = 1,
    deadline: Annotated[
        float | None, typer.Option(min=0, help="Hours from now; says which cells and rows would be complete.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(min=0, help="GPU-hours; exit code 4 if the plan takes more, or nobody knows.")
    ] = None,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Time a few steps of every training that was never measured, here."),
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="A line for every stage run, with the reason.")] = False,
    base: Base = "diga:streets",
    trials: Number = 24,
    objectives: Objectives = None,
    prune: Prune = None,
    rungs: Rungs = "2:6",
    confirmed: Confirmed = None,
) -> None:
    """What would run, what is there and why the rest is not, and what it would take; nothing is started.

    Hours are the median of what such stages took in this store; a class that
    was never run is unknown, unless [bold]--probe[/bold] times it. A dataset that is new
    is read once, for its fingerprint.

      diga plan diga:table3 --gpus 8 --deadline 72     does it fit a long weekend?
      diga plan diga:table3 --budget 500               exit code 4 if it takes more
      diga plan diga:table3 --all                      why is this stage not reused?
      diga plan diga.self_training --trials 64         what would a sweep take, three ways?
    """
    if "." in name and ":" not in name:
        from diga.cli.prospects import plan_sweep

        one = seeds_of(seeds)[0] if seeds else None
        wanted = objectives or ["target"]
        typed = Typed(name, base, changes or [], one, None, trials, wanted, "tpe", prune, rungs, confirmed)
        plan_sweep(typed, gpus, budget)
        return
    plan_cells(name, cells_of(name, changes or [], seeds, order), gpus, deadline, budget, probe, every)


def plan_cells(
    name: str, cells: Labelled, gpus: int, deadline: float | None, budget: float | None, probe: bool, every: bool
) -> None:
    """The plan of a study's cells, or of a recipe.  Raises StorageError where it takes more than the budget."""
    from diga.forecast import Forecast
    from diga.past import Past
    from diga.pipeline import Place
    from diga.plan import digests, stage_runs

    place = Place.here()
    for recipe in {r.sources + r.targets: r for _, r, _ in cells}.values():
        need_streets(recipe, place.data)
    with reading() as watch:
        digest = digests(place.data, place.manifests, watch)
        chains = [stage_runs(recipe, digest) for _, recipe, _ in cells]
    found = Forecast(chains, Past.read(place.store.root), names=[often for *_, often in cells])
    if probe:
        found = replace(found, probed=probed(found, place))
    out.print(of_kinds(name, found))
    tell_reasons(found, every)
    tell_savings(found)
    tell_disk(found, place.home)
    tell_fit(found, [label for label, *_ in cells], gpus, deadline)
    if budget is not None:
        keep_to(name, found, budget)


def cells_of(name: str, changes: Sequence[str], seeds: str | None, order: Order) -> Labelled:
    """The recipes a name stands for, each with its row.  Raises ConfigError for a name of neither kind."""
    studies, recipes = catalogue(Study), catalogue(Recipe)
    if full_name(name, studies):
        cells = study_of(name, changes, seeds).cells(order)
        return [(cell.row.label, cell.recipe, 1 + len(cell.row.aliases)) for cell in cells]
    if not full_name(name, recipes):
        raise unknown(name, "recipe or study", [*recipes, *studies])
    numbers = seeds_of(seeds) if seeds else (None,)
    return [(recipe.name, recipe, 1) for recipe in (recipe_of(name, None, changes, seed) for seed in numbers)]


@contextmanager
def reading() -> Iterator[Watch]:
    """Bars of the datasets that are read for their fingerprints, on a terminal."""
    with Progress(console=out, transient=True, disable=not out.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def watch(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(f"reading {what}", total=total)
            progress.update(tasks[what], completed=done)

        yield watch


def probed(found: Forecast, place: Place) -> Mapping[str, float]:
    """Seconds a step of every training that the store says nothing about."""
    from diga.launch.timing import seconds_a_step

    unknown = [run for run in found.todo.values() if run.steps and found.estimates[run.fingerprint].seconds is None]
    with Progress(console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("timing a few steps")
        return seconds_a_step(unknown, place, lambda done, total: progress.update(task, completed=done, total=total))


# --- the tables ----------------------------------------------------------------------------


def of_kinds(name: str, found: Forecast) -> Table:
    """A line a class of stage: how many, what is there, what the rest would take, and how that is known."""
    right = [Column(c, justify="right") for c in ("distinct", "there", "to run", "steps to run", "time to run")]
    table = Table("stage", *right, "known from", title=name)
    for kind in dict.fromkeys(run.kind for run in found.once.values()):
        runs = [run for run in found.once.values() if run.kind == kind]
        todo = [run for run in runs if run.fingerprint in found.todo]
        told = [str(len(runs)), str(len(runs) - len(todo)), str(len(todo)), f"{sum(r.steps for r in todo):,}"]
        bases = dict.fromkeys(found.estimates[run.fingerprint].basis for run in todo)
        table.add_row(kind, *told, hours(found, todo), "; ".join(bases))
    return table


def tell_reasons(found: Forecast, every: bool) -> None:
    """Why what is to run is not there, most of it first."""
    if every:
        for run in found.once.values():
            out.print(f"  {title(run)}: {found.past.why(run)}", markup=False)
        return
    reasons = sorted(found.reasons().items(), key=lambda item: -len(item[1]))
    if reasons:
        out.print("not there, by comparison with what is most like it:")
    for (stage, why), runs in reasons[:REASONS]:
        out.print(f"  {len(runs):4} × {stage}: {why}", markup=False)
    if len(reasons) > REASONS:
        out.print(f"  and {len(reasons) - REASONS} reasons more: --all")


def tell_savings(found: Forecast) -> None:
    """End to end against every stage once: runs, steps, hours, operations."""
    from diga.cost import EXA, compared

    naive = [run for chain in found.each for run in chain]
    names = f", {len(found.each)} as rows of all designs" if len(found.each) > len(found.cells) else ""
    out.print(f"{len(found.cells)} cells{names}, {len(naive)} stage runs end to end, {len(found.once)} distinct")
    steps = sum(run.steps for run in naive), sum(run.steps for run in found.once.values())
    out.print(f"steps: {steps[0]:,} end to end, {steps[1]:,} with every stage once")
    out.print(f"time: {hours(found, naive)} end to end, {hours(found, found.once.values())} with every stage once")
    if exa := compared(found.each):
        flop = [f"{x / EXA:.4g}" for x in exa]
        out.print(f"EFLOP of networks: {flop[0]} end to end, {flop[1]} with every stage once")
    else:
        out.print("EFLOP: unknown, for a network or a stage has no cost model (diga/cost.py)")


def tell_disk(found: Forecast, home: Path) -> None:
    """What the plan would leave, and what is free."""
    sizes = [found.past.bytes(run) for run in found.todo.values()]
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    known, free = sum(size or 0 for size in sizes), shutil.disk_usage(there).free
    unknown = f", and {sizes.count(None)} stage runs of unknown size" if None in sizes else ""
    out.print(f"disk: {readable(known)} to come{unknown}; {readable(free)} free")


def tell_fit(found: Forecast, labels: Sequence[str], gpus: int, deadline: float | None) -> None:
    """When it would be over, and what is complete in time."""
    _, unknown = found.hours(found.todo.values())
    over = max(found.ends(gpus).values(), default=0.0)
    told = (
        f"over after{' at least' if unknown else ''} {spoken(over)}" if over or not unknown else "nobody knows how long"
    )
    out.print(f"{gpus} at once: {told}")
    if unknown:
        kinds = ", ".join(run.kind for run in unknown)
        out.print(f"  not counted, for nothing is known of them: {kinds}")
    if deadline is not None:
        done = found.done_by(gpus, deadline * 3600)
        rows = {label: all(d for d, own in zip(done, labels, strict=True) if own == label) for label in labels}
        most = " at most" if unknown else ""
        told = f"{sum(done)} of {len(done)} cells and {sum(rows.values())} of {len(rows)} rows complete"
        out.print(f"in {deadline:g} h:{most} {told}")


def keep_to(name: str, found: Forecast, budget: float) -> None:
    """Raises StorageError where the plan takes more than the budget, or where nobody can say."""
    total, unknown = found.hours(found.todo.values())
    if total > budget:
        raise StorageError(name, f"{total:.4g} GPU-hours to run", f"a budget of {budget:g}")
    if unknown:
        kinds = ", ".join(run.kind for run in unknown)
        raise StorageError(name, f"hours of {kinds} are unknown", "a store with such runs, or --probe; else no budget")


# --- words -----------------------------------------------------------------------------------


def hours(found: Forecast, runs: Any) -> str:
    """How long some stage runs take one after the other, as far as that is known."""
    total, unknown = found.hours(runs)
    return (f"{spoken(3600 * total)} and more" if total else "unknown") if unknown else spoken(3600 * total)
