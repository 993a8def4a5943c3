"""`diga run` and `diga ablate`: carry out one recipe, or a study of many."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from diga.cli.console import Bars, need_streets, out, recipe_of, study_of
from diga.errors import ConfigError, DigaError, SomeCellsFailed
from diga.home import home
from diga.study import Row, Study

Changes = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="PATH=VALUE", help="Change a value of the recipe, e.g. warm_up.alpha=0.3."),
]
Address = Annotated[str | None, typer.Option(help="Of a Ray cluster; its own is started without one.")]
Tracking = Annotated[
    str | None,
    typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow store; SQLite under the run home by default."),
]


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
        from diga.launch.crew import train_crew

        launch(study, tracking, lambda place: train_crew(place, address, workers, gpus))
    else:
        launch(study, tracking, alone)


def ablate(
    study: Annotated[str, typer.Argument(help="Name of a study, such as diga:table3.")],
    seeds: Annotated[str | None, typer.Option(help="How many, or which: 5, or 0,1,7.")] = None,
    changes: Changes = None,
    inline: Annotated[
        bool, typer.Option("--inline", help="In this process, one stage after the other, no Ray.")
    ] = False,
    cpus: Annotated[float, typer.Option(min=0, help="CPUs a stage occupies.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs, or part of one, a stage occupies.")] = 0,
    address: Address = None,
    tracking: Tracking = None,
) -> None:
    """Carry out a study: every distinct stage once, in parallel, whatever fails stops nothing else.

    Typing the same command again runs only what is missing.
    """
    wanted = study_of(study, changes or [], seeds)
    if inline:
        launch(wanted, tracking, alone)
        return
    from diga.launch.crew import ray_crew

    launch(wanted, tracking, lambda place: ray_crew(place, address, cpus, gpus))


def alone(place: Any) -> Any:
    """A crew of this process."""
    from diga.launch.crew import Alone

    return nullcontext(Alone(place))


def launch(study: Study, tracking: str | None, crew: Callable[[Any], AbstractContextManager[Any]]) -> None:
    """Carry a study out with a crew, show its progress, say what came of it."""
    from diga.launch.provenance import tags
    from diga.launch.studies import Launch
    from diga.launch.tracking import Tracker
    from diga.pipeline import Place

    place = Place.here()
    for row in study.rows:
        need_streets(row.recipe, place.data)
    plan = Launch(study, place)
    uri = tracking_uri(tracking)
    tracker = Tracker(uri, place.home / "mlflow-artifacts")
    with Bars(plan.stages) as bars:
        states = plan(tracker, lambda: crew(place), bars, tags())
    if warning := plan.warning():
        print(f"warning: {warning}", file=sys.stderr)
    conclude(study, states, plan.errors())


def conclude(study: Study, states: Counter[str], errors: list[tuple[Any, DigaError]]) -> None:
    """The closing lines.  Raises the failure a lone cell had, or SomeCellsFailed."""
    out.print(f"{study.name}: {states['done']} of {states.total()} cells done", markup=False)
    if not states["failed"]:
        out.print(f"  next: diga report {shlex.quote(study.name)}", markup=False)
        return
    if states.total() == 1:
        raise errors[0][1]
    raise SomeCellsFailed(study.name, f"{states['failed']} cells failed", "the others are done; type it again")


def headline(row: Row) -> str:
    """The metric a lone recipe is judged by: plain mIoU, last weights, of the first domain it scores."""
    stage = row.recipe.stages[row.recipe.needed()[-1]]
    domains = stage.scores() or row.recipe.targets or ("",)
    return f"{domains[0]}/plain/last/miou"
