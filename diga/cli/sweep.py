"""`diga sweep`: search a space from a base recipe, repeat the best with other seeds, say which is best and why."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from diga.cli.console import out
from diga.cli.report import report_on
from diga.cli.searching import Base, Confirmed, Declared, Number, Objectives, Prune, Rungs, Typed, declared
from diga.cli.work import Address, Changes, Cpus, Gpus, Inline, Tracking, Workers, carried_out, crew_of
from diga.cli.work import tracking_uri as store_of
from diga.errors import SomeCellsFailed
from diga.sweep import Sampler, Sweep, ranked

if TYPE_CHECKING:
    from diga.launch.course import Course
    from diga.launch.resources import Resources
    from diga.launch.tried import Outcome, Tried
    from diga.pipeline import Place

Hands = Callable[["Place", Mapping[str, str]], AbstractContextManager[Callable[["Course"], None]]]


def sweep(
    space: Annotated[
        str, typer.Argument(metavar="SPACE", help="A function of search_spaces, such as diga.self_training.")
    ],
    base: Base = "diga:streets",
    trials: Number = 24,
    objectives: Objectives = None,
    sampler: Annotated[Sampler, typer.Option(help="How settings are chosen.")] = "tpe",
    prune: Prune = None,
    rungs: Rungs = "2:6",
    confirmed: Confirmed = None,
    name: Annotated[str | None, typer.Option(help="What the sweep is called; else as its space.")] = None,
    changes: Changes = None,
    seed: Annotated[int | None, typer.Option(help="Of the search: its sampler's and its trials'.")] = None,
    budget: Annotated[
        float,
        typer.Option(min=0, help="GPU-hours, or hours of a worker, after which no trial and no confirmation is begun."),
    ] = float("inf"),
    learn: Annotated[
        bool, typer.Option("--learn/--no-learn", help="Start from what other sweeps have measured of the same.")
    ] = True,
    storage: Annotated[
        str | None, typer.Option(help="Database of the trials, such as postgresql://…; else a journal in the run home.")
    ] = None,
    inline: Inline = False,
    cpus: Cpus = 1,
    gpus: Gpus = 0,
    workers: Workers = 0,
    pack: Annotated[
        bool, typer.Option("--pack", help="CPUs and part of a GPU by what such stages used before.")
    ] = False,
    at_once: Annotated[int, typer.Option(min=0, help="Trials at once; 0: as many as fit; 1 repeats itself.")] = 0,
    address: Address = None,
    tracking: Tracking = None,
) -> None:
    """Search a space by Optuna, side by side on Ray; typed again, it goes on to the wished number of trials.

      diga sweep diga.self_training --trials 24 --confirm 3:3
      diga sweep diga.self_training --objective agreement   without a target label
      diga plan diga.self_training --trials 64              what it would take
      diga promote diga.self_training 12 my_best            a recipe of trial 12

    What trials share is computed once. A trial is first carried out with fewer updates of its last training
    stage, its learning rate decayed to their end: with [bold]sha[/bold] the best of each E in turn goes on, with
    [bold]asha[/bold] whoever is among the best so far. The first trial is the base as it is, if that lies in the space.
    What failed is never best.
    """
    wanted = objectives or ["target"]
    found = declared(Typed(space, base, changes or [], seed, name, trials, wanted, sampler, prune, rungs, confirmed))
    from diga.launch.cluster import given

    room = room_of(found.sweep, pack, cpus, gpus, workers)
    crew = crew_of(inline, address, at_once, room.cpus, room.gpus, workers, [], found.sweep.study({}))
    hands = alone if inline else on_ray(address, room, at_once)
    where = None if inline else given(address)
    each = max(1, workers) * (room.gpus or 1.0)
    search(found, storage, store_of(tracking), hands, crew, (budget, each, learn), where)


def room_of(sweep: Sweep, pack: bool, cpus: float, gpus: float, workers: int) -> Resources:
    """What a trial occupies, as typed or as measured."""
    from diga.launch.resources import made

    if not pack:
        return made(cpus, gpus, workers)
    from diga.launch.packing import packed
    from diga.launch.trial import digest_at
    from diga.past import Past
    from diga.pipeline import Place
    from diga.plan import stage_runs

    place = Place.here()
    room = packed(stage_runs(sweep.base, digest_at(place)), Past.read(place.store.root))
    out.print(f"a trial occupies {room.cpus:g} CPUs and {room.gpus:g} GPUs, as measured", markup=False)
    return room.model_copy(update={"workers": workers})


@contextmanager
def alone(place: Place, origin: Mapping[str, str]) -> Iterator[Callable[[Course], None]]:
    """This process carries trials out."""
    from diga.launch.course import alone
    from diga.pipeline import inline

    yield lambda course: alone(course, place, inline, origin)


def on_ray(address: str | None, room: Resources, at_once: int) -> Hands:
    """Ray Tune carries trials out."""

    @contextmanager
    def hands(place: Place, origin: Mapping[str, str]) -> Iterator[Callable[[Course], None]]:
        from diga.launch.cluster import given, stay_here

        stay_here(given(address))  # before Ray is imported: it reads its environment then
        from diga.launch.search import tuned

        with tuned(place, address, room, at_once, origin) as carry:
            yield carry

    return hands


def search(
    found: Declared,
    storage: str | None,
    uri: str,
    hands: Hands,
    crew: Any,
    terms: tuple[float, float, bool],
    address: str | None = None,
) -> None:
    """Search, confirm, report.  Raises SomeCellsFailed, the report written, where trials or cells have failed."""
    from diga.launch import provenance
    from diga.launch.cluster import knock
    from diga.launch.sweeps import Search, Terms
    from diga.launch.tracking import Tracker
    from diga.launch.trial_mirror import unclaimed
    from diga.pipeline import Place

    place, sweep = Place.here(), found.sweep
    tracker = Tracker(uri, place.home / "mlflow-artifacts")
    unclaimed(tracker, sweep.name)
    searching = Search(sweep, found.space, found.explored, place, storage)
    if address and searching.ledger.open():
        knock(address)  # before anything is recorded

    def carry(course: Course) -> None:
        with hands(place, provenance.origin()) as carried:
            carried(course)

    with Trials(sweep, searching.ledger.tried()) as watch:
        tried = searching(tracker, carry, watch, Terms(*terms), provenance.tags(), provenance.artifacts())
    if searching.trouble:
        print(f"warning: MLflow lacks trials: {searching.trouble}; type the same command again", file=sys.stderr)
    best = searching.best(tried) if searching.hours(terms[1]) < terms[0] else {}
    if sweep.confirm and not best and any(one.done for one in tried):
        out.print("not confirmed: the budget is spent, or no setting but the default's was carried out whole")
    states = carried_out(sweep.study(best), uri, crew, order="seeds")[0] if best else {}
    conclude(sweep, tried, states.get("failed", 0), uri)


def conclude(sweep: Sweep, tried: list[Tried], failed_cells: int, uri: str) -> None:
    """The report, and the closing lines."""
    done = {one.number: dict(one.outcome.values) for one in tried if one.done}
    failed = [one for one in tried if one.outcome.status == "failed"]
    pruned = sum(one.outcome.status == "pruned" for one in tried)
    told = f"{len(done)} carried out whole, {pruned} ended at a rung, {len(failed)} failed"
    if waiting := sum(one.outcome.status == "waiting" for one in tried):
        told += f", {waiting} waiting at a rung"
    out.print(f"{sweep.name}: {len(tried)} of {sweep.trials} trials: {told}", markup=False)
    folder, name = report_on(sweep.name, uri), shlex.quote(sweep.name)
    if done:
        best = ranked(done, sweep.objectives)[0]
        worth = ", ".join(f"{objective} {value:.4g}" for objective, value in done[best].items())
        out.print(f"  best of the search: #{best}, {worth}\n  next: diga promote {name} {best} NAME", markup=False)
    out.print(f"  report: {folder / 'index.html'}", markup=False)
    if failed or failed_cells:
        kinds = ", ".join(sorted({one.outcome.failure for one in failed})) or "see diga status"
        what = f"{len(failed)} trials and {failed_cells} confirmed cells failed: {kinds}"
        raise SomeCellsFailed(sweep.name, what, f"the report is in {folder}")


class Trials:
    """Live progress: a bar of all trials with the best so far, and a line a trial that is over."""

    def __init__(self, sweep: Sweep, before: list[Tried]) -> None:
        self.sweep = sweep
        self.done = {one.number: dict(one.outcome.values) for one in before if one.done}
        self.over = {one.number for one in before if one.outcome.status in ("done", "pruned", "failed")}
        self.changes: dict[int, Mapping[str, Any]] = {}  # of trials under way
        self.waiting: dict[int, Mapping[str, Any]] = {one.number: one.suggested for one in before}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.progress = Progress(*columns, console=out, transient=True)
        self.task = self.progress.add_task("trials", total=sweep.trials, completed=len(self.over))

    def __enter__(self) -> Trials:
        if self.over:
            out.print(f"{len(self.over)} of {self.sweep.trials} trials were there", markup=False)
        if out.is_terminal:
            self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if out.is_terminal:
            self.progress.stop()

    def began(self, number: int, changes: Mapping[str, Any]) -> None:
        """A trial was taken."""
        self.changes[number] = changes
        self._show()

    def ended(self, number: int, outcome: Outcome) -> None:
        """[12/24] #11 kind=cut distil=0.31  target 0.4213, the best so far  31 s"""
        from diga.launch.trial_mirror import short

        changes = self.changes.pop(number, None) or self.waiting.get(number, {})
        if outcome.status == "waiting":
            self.waiting[number] = changes
        else:
            self.over.add(number)
        if outcome.status == "done":
            self.done[number] = dict(outcome.values)
        setting = " ".join(f"{path.split('.')[-1]}={short(v)}" for path, v in changes.items())
        place = f"[{len(self.over):{len(str(self.sweep.trials))}}/{self.sweep.trials}]"
        out.print(f"{place} #{number} {setting}  {self._came_to(number, outcome)}", markup=False)
        self._show()

    def _came_to(self, number: int, outcome: Outcome) -> str:
        if outcome.status == "failed":
            return f"failed: {outcome.error}"
        if outcome.status in ("pruned", "waiting"):
            steps, value = list(outcome.rungs.items())[-1]
            what = (
                "ended there" if outcome.status == "pruned" else "the best of its rung so far: it waits for the others"
            )
            return f"{self.sweep.objectives[0].name} {value:.4g} after {steps} updates, {what}"
        worth = ", ".join(f"{name} {value:.4g}" for name, value in outcome.values.items())
        first = ranked(self.done, self.sweep.objectives)[0] == number
        return f"{worth}{', the best so far' if first else ''}  {outcome.seconds:.1f} s"

    def _show(self) -> None:
        under_way = ", ".join(f"#{number}" for number in self.changes)
        told = f"trials; under way: {under_way}" if under_way else "trials"
        self.progress.update(self.task, completed=len(self.over), description=told)
