"""`diga status`: a line a row of a study, once or as its seeds arrive."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table

from diga.cli.console import out
from diga.cli.work import Tracking, tracking_uri
from diga.files import SPOOL

OPEN = {"running", "missing"}  # states of a cell for which a watcher waits


def status(
    study: Annotated[str, typer.Argument(help="Name of a study that was launched, such as table3.")],
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until no cell is open.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks of --watch.")] = 2.0,
    tracking: Tracking = None,
) -> None:
    """A line a row: each seed's score or how far it is, mean ± sample standard deviation so far, and states.

    Scores are percentages of the study's metric. Of a sweep, also how many of its trials are done,
    pruned, failed and under way.
    """
    name, uri = study.rpartition(":")[2], tracking_uri(tracking)
    shown, still = look(name, uri)
    if not watch:
        out.print(shown)
    elif out.is_terminal:
        with Live(shown, console=out, auto_refresh=False) as live:
            while still:
                time.sleep(every)
                shown, still = look(name, uri)
                live.update(shown, refresh=True)
    else:
        print_changes(name, uri, every)


def print_changes(name: str, uri: str, every: float) -> None:
    """For a file: the table, and again whenever a cell has got to another state."""
    told = ""
    while True:
        shown, still = look(name, uri)
        with out.capture() as capture:
            out.print(shown)
        if (text := capture.get()) != told:
            sys.stdout.write(text)
            sys.stdout.flush()
        told = text
        if not still:
            return
        time.sleep(every)


def look(name: str, uri: str) -> tuple[Any, bool]:
    """The table as it is now, and whether a cell is open."""
    from diga.report.cells import metric_of
    from diga.report.records import client, records
    from diga.report.statistics import over_seeds

    known, asked = records(uri, name), client(uri)
    metric = str(metric_of(known))
    spreads = over_seeds(known.done, metric)
    done = known.done[["row", "seed", metric]].itertuples(index=False) if metric in known.done else ()
    scores = {(row, int(seed)): value for row, seed, value in done}
    ids = {(r, int(s)): i for r, s, i in known.cells[["row", "seed", "run_id"]].itertuples(index=False)}
    table = Table("row", *(f"seed {s}" for s in known.seeds), "mean ± sd", "n", "state", title=known.name)
    states: Counter[str] = Counter()
    for row in known.rows:
        here = {seed: known.status(row.label, seed) for seed in known.seeds}
        states.update(here.values())
        cells = []
        for seed, state in here.items():
            place = row.label, seed
            tags = asked.get_run(ids[place]).data.tags if state in ("running", "failed") else {}
            cells.append(f"{100 * scores[place]:.1f}" if place in scores else text_of(state, tags))
        spread = spreads.get(row.label)
        both = f"{100 * spread.mean:.1f}" if spread else ""
        both += f" ± {100 * spread.sd:.1f}" if spread and spread.n > 1 else ""
        table.add_row(row.label, *cells, both, str(spread.n if spread else 0), state_of(here.values()))
    told, still = [f"{counted(states)} of {states.total()} cells"], bool(OPEN & states.keys())
    if sweep := known.study.get("sweep"):
        tried = trials_of(asked, name)
        told = [f"{counted(tried)} of {sweep['trials']} trials", *(told if sweep["confirm"] else [])]
        still = bool(tried["running"]) or tried.total() < sweep["trials"] or bool(still and sweep["confirm"])
    return Group(table, *told), still


def trials_of(asked: Any, name: str) -> Counter[str]:
    """How many trials of a sweep are done, pruned, failed, under way."""
    found = asked.get_experiment_by_name(f"diga/{name}")
    runs = asked.search_runs([found.experiment_id], "tags.kind = 'trial'", max_results=10_000)
    return Counter(run.data.tags.get("status", "running") for run in runs)


def state_of(states: Iterable[str]) -> str:
    """Of a row: done, if all its cells are."""
    counts = Counter(states)
    return next(iter(counts)) if len(counts) == 1 else counted(counts)


def counted(states: Counter[str]) -> str:
    """2 done, 1 running."""
    return ", ".join(f"{n} {state}" for state, n in sorted(states.items()))


def text_of(state: str, tags: Mapping[str, str]) -> str:
    """What there is to say of a cell without a score."""
    if state == "running":
        return progress(tags)
    return f"failed: {tags['failure']}" if tags.get("failure") else state


def progress(tags: Mapping[str, str]) -> str:
    """3/5 self_training 71 %: stages that are there, and how far the one under way is."""
    from diga.launch.studies import last_step
    from diga.pipeline import Place
    from diga.report.runs import updates

    store = Place.here().store
    stages = {key.removeprefix("stage."): value for key, value in tags.items() if key.startswith("stage.")}
    left = {name: f for name, f in stages.items() if not store.has(f)}
    text = f"{len(stages) - len(left)}/{len(stages)}"
    for name, fingerprint in left.items():
        if (work := store.work(fingerprint)).exists():
            steps, done = updates(tags).get(name), last_step(work / SPOOL) + 1
            return f"{text} {name}" + (f" {100 * done // steps} %" if steps else "")
    return f"{text} waiting"
