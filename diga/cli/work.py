"""`diga run`, `diga ablate`, `diga retry`: carry out one recipe, a study of many, or what failed of it."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from diga.cli.console import Bars, need_streets, out, recipe_of, study_of
from diga.errors import ConfigError, DigaError, SomeCellsFailed, expected_one_of
from diga.home import home
from diga.study import Row, Study

Changes = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="PATH=VALUE", help="Change a value of the recipe, e.g. warm_up.alpha=0.3."),
]
Address = Annotated[
    str | None,
    typer.Option(help="host:port of a Ray cluster, or auto; $RAY_ADDRESS; its own is started without one."),
]
Tracking = Annotated[
    str | None,
    typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow store; SQLite under the run home by default."),
]
Order = Annotated[
    Literal["rows", "seeds"],
    typer.Option(help="rows: complete the row that is nearest to it; seeds: a table of the first seed before others."),
]
Inline = Annotated[bool, typer.Option("--inline", help="In this process, one stage after the other, no Ray.")]
Cpus = Annotated[float, typer.Option(min=0, help="CPUs a stage, or each of its workers, occupies.")]
Gpus = Annotated[float, typer.Option(min=0, help="GPUs, or part of one, a stage, or each of its workers, occupies.")]
Workers = Annotated[int, typer.Option(min=0, help="Workers of Ray Train a training stage gets; 0: one process.")]
Give = Annotated[
    list[str] | None,
    typer.Option(metavar="STAGE:KEY=VALUE,…", help="Other resources for one stage: self_training:gpus=1,workers=2."),
]
AtOnce = Annotated[int, typer.Option(min=0, help="Stages at once, at most; 0: as many as the cluster holds.")]


def tracking_uri(given: str | None) -> str:
    """The MLflow store a command talks to."""
    return given or f"sqlite:///{home() / 'mlflow.db'}"


def run(
    recipe: Annotated[str | None, typer.Argument(help="Name of a recipe, such as diga:streets.")] = None,
    file: Annotated[Path | None, typer.Option("--recipe", help="JSON of a resolved recipe instead of a name.")] = None,
    changes: Changes = None,
    seed: Annotated[int | None, typer.Option(help="The recipe's seed.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Workers of Ray Train; 0 trains in this process.")] = 0,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs of each worker.")] = 0,
    address: Address = None,
    tracking: Tracking = None,
) -> None:
    """Carry out one recipe, stage by stage; finished stages are not run again.

    A run that was stopped, or killed, goes on from its last checkpoint when the same command is typed again.
    """
    wanted = recipe_of(recipe, file, changes or [], seed)
    row = Row(label=wanted.name, recipe=wanted)
    study = Study(name=wanted.name, title=wanted.name, rows=(row,), seeds=(wanted.seed,), metric=headline(row))
    if wanted.batch % max(workers, 1):
        raise ConfigError("--workers", f"found {workers}", f"a divisor of the batch of {wanted.batch}")
    if workers:
        from diga.launch.cluster import given
        from diga.launch.crew import train_crew

        crew = lambda place, origin: train_crew(place, address, workers, gpus, origin)  # noqa: E731
        launch(study, tracking, crew, address=given(address))
    else:
        launch(study, tracking, alone)


def ablate(
    study: Annotated[str, typer.Argument(help="Name of a study, such as diga:table3.")],
    seeds: Annotated[str | None, typer.Option(help="How many, or which: 5, or 0,1,7.")] = None,
    changes: Changes = None,
    order: Order = "rows",
    inline: Inline = False,
    cpus: Cpus = 1,
    gpus: Gpus = 0,
    workers: Workers = 0,
    give: Give = None,
    at_once: AtOnce = 0,
    address: Address = None,
    tracking: Tracking = None,
    guard: Annotated[
        bool, typer.Option("--guard/--no-guard", help="See first that every row's switches change something.")
    ] = True,
) -> None:
    """Carry out a study: every distinct stage once, in parallel, whatever fails stops nothing else.

    Typing the same command again runs only what is missing.  What diverged would diverge again: `diga retry`.
    """
    from diga.launch.cluster import given
    from diga.launch.failures import LASTING, MANNERS

    wanted = study_of(study, changes or [], seeds)
    crew = crew_of(inline, address, at_once, cpus, gpus, workers, give or [], wanted)
    launch(wanted, tracking, crew, order, MANNERS.keys() - LASTING, guard, None if inline else given(address))


def retry(
    study: Annotated[str, typer.Argument(help="Name of a study that was launched, such as table3.")],
    kind: Annotated[
        str | None, typer.Option("--class", help="Only what failed so: memory, death, divergence, data, storage, …")
    ] = None,
    order: Order = "rows",
    inline: Inline = False,
    cpus: Cpus = 1,
    gpus: Gpus = 0,
    workers: Workers = 0,
    give: Give = None,
    at_once: AtOnce = 0,
    address: Address = None,
    tracking: Tracking = None,
) -> None:
    """Try again what failed of a study, as it was launched: nothing a result depends on is changed."""
    from diga.launch.cluster import given
    from diga.launch.failures import MANNERS, kind_of, noted
    from diga.launch.recorded import study_of as recorded
    from diga.pipeline import Place
    from diga.plan import distinct
    from diga.report.records import client

    if kind is not None and kind not in MANNERS:
        raise ConfigError("--class", f"found {kind!r}", expected_one_of(kind, MANNERS))
    wanted, place = recorded(client(tracking_uri(tracking)), study.rpartition(":")[2]), Place.here()
    stages = distinct(run for cell in wanted.cells() for run in place.stage_runs(cell.recipe))
    kinds = Counter(kind_of(failure) for f in stages if (failure := noted(place.store, f)))
    if not (kinds[kind] if kind else kinds.total()):
        others = ", ".join(f"{number} of class {name}" for name, number in kinds.items())
        out.print(f"{wanted.name}: nothing failed{f' of class {kind}; {others}' if others else ''}", markup=False)
        return
    crew = crew_of(inline, address, at_once, cpus, gpus, workers, give or [], wanted)
    launch(wanted, tracking, crew, order, {kind} if kind else set(MANNERS), False, None if inline else given(address))


Crews = Callable[[Any, dict[str, str]], AbstractContextManager[Any]]


def crew_of(
    inline: bool,
    address: str | None,
    at_once: int,
    cpus: float,
    gpus: float,
    workers: int,
    give: list[str],
    study: Study,
) -> Crews:
    """Who carries a study out, as the command line says.  Raises ConfigError for resources that cannot be."""
    from diga.launch.resources import allotment, made

    if inline:
        return alone
    given = allotment(made(cpus, gpus, workers), give)
    given.suits(study)
    from diga.launch.crew import ray_crew

    return lambda place, origin: ray_crew(place, address, given, origin, at_once)


def alone(place: Any, origin: dict[str, str]) -> Any:
    """A crew of this process."""
    from diga.launch.crew import Alone

    return nullcontext(Alone(place, origin=origin))


def launch(
    study: Study,
    tracking: str | None,
    crew: Crews,
    order: Literal["rows", "seeds"] = "rows",
    kinds: Collection[str] | None = None,
    guard: bool = False,
    address: str | None = None,
) -> None:
    """Carry a study out with a crew, show its progress, say what came of it.

    kinds: classes of failure of an earlier launch that are tried again; all of them, if None.
    """
    states, errors = carried_out(study, tracking, crew, order, kinds, guard, address)
    conclude(study, states, errors, tracking_uri(tracking))


def carried_out(
    study: Study,
    tracking: str | None,
    crew: Crews,
    order: Literal["rows", "seeds"] = "rows",
    kinds: Collection[str] | None = None,
    guard: bool = False,
    address: str | None = None,
) -> tuple[Counter[str], list[tuple[Any, DigaError]]]:
    """`launch` up to its last word: how many cells are done and failed, and the stages that failed, each with why."""
    from diga.launch import failures, provenance
    from diga.launch.cluster import knock
    from diga.launch.studies import Launch
    from diga.launch.tracking import Tracker
    from diga.pipeline import Place

    place = Place.here()
    for row in study.rows:
        need_streets(row.recipe, place.data)
    plan = Launch(study, place, order)
    if address and not all(place.store.has(fingerprint) for fingerprint in plan.stages):
        knock(address)  # before anything is recorded
    if guard:
        from diga.launch.guard import check

        check(study, place)
    tracker = Tracker(tracking_uri(tracking), place.home / "mlflow-artifacts")
    again = failures.MANNERS if kinds is None else kinds
    with Bars(plan.stages) as bars:
        hands = lambda: crew(place, provenance.origin())  # noqa: E731
        states = plan(tracker, hands, bars, provenance.tags(), provenance.artifacts(), frozenset(again))
    if warning := plan.warning():
        print(f"warning: {warning}", file=sys.stderr)
    return states, plan.errors()


def conclude(study: Study, states: Counter[str], errors: list[tuple[Any, DigaError]], uri: str) -> None:
    """The closing lines.  Raises the failure a lone cell had, or, its report written, SomeCellsFailed."""
    out.print(f"{study.name}: {states['done']} of {states.total()} cells done", markup=False)
    name = shlex.quote(study.name)
    if not states["failed"]:
        out.print(f"  next: diga report {name}", markup=False)
        return
    if states.total() == 1:
        raise errors[0][1]
    from diga.cli.report import report_on
    from diga.launch.failures import kind_of

    kinds = ", ".join(sorted({kind_of(error) for _, error in errors}))
    written = f"the report is in {report_on(study.name, uri)}"
    raise SomeCellsFailed(study.name, f"{states['failed']} cells failed: {kinds}", f"{written}; diga retry {name}")


def headline(row: Row) -> str:
    """The metric a lone recipe is judged by: plain mIoU, last weights, of the first domain it scores."""
    stage = row.recipe.stages[row.recipe.needed()[-1]]
    domains = stage.scores() or row.recipe.targets or ("",)
    return f"{domains[0]}/plain/last/miou"
