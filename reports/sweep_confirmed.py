"""The best trials again, with seeds that the search has not seen, beside the default: how much was luck."""

from __future__ import annotations

import re
from collections.abc import Iterator

from diga.report import ablation, cells, search, sentences
from diga.report.ablation import Shown
from diga.report.cells import PERCENT
from diga.report.records import Records
from diga.report.search import READS, Search
from diga.report.statistics import between
from diga.report.table import Cell, Column, Table, number
from diga.sweep import DEFAULT

SAYS = {
    "search": "Search: what the trial scored with the search's own seed, by which it was chosen.",
    "shrunk": "Shrinkage: the confirmed mean less the score in the search: what of that was luck, where below zero.",
}
WORDS = {"holds": "told apart from", "open": "not compared over seeds with"}


def table(records: Records) -> Table:
    """The default and the confirmed trials: search, confirmation, difference with the default.

    Raises ConfigError for a study that is no sweep, or when rows were evaluated by different protocols.
    """
    found, metric = search.of(records), ablation.plain(cells.metric_of(records))
    was, now = _searched(found), cells.scores(records, metric)
    one_seed = Column(key="search", header="one seed", group="Search, mIoU (%)", kind="score", spread=False)
    shrunk = Column(key="shrunk", header="shrinkage", group=ablation.OURS, kind="delta")
    shown = [
        ablation.labels(records, "Trial"),
        Shown(Column(key="setting", header="Setting"), {label: Cell(text=_setting(found, label)) for label in now}),
        Shown(one_seed, {k: Cell(mean=was[k]) if k in was else Cell(status="missing") for k in now}),
        *ablation.ours(records, metric, "last", "step"),
        Shown(shrunk, {k: Cell(mean=c.mean - was[k]) if c.is_number and k in was else Cell() for k, c in now.items()}),
    ]
    notes = _notes(records, found)
    return ablation.table(records, shown, title="Confirmed with other seeds", kind="confirmed", notes=notes, says=SAYS)


def _number(label: str) -> int:
    """Of the trial that a row is."""
    return int(m[1]) if (m := re.fullmatch(r"#(\d+)", label)) else 0


def _setting(found: Search, label: str) -> str:
    return search.setting(found, _number(label)) if _number(label) else "the base as it is"


def _searched(found: Search) -> dict[str, float]:
    """What every row scored in the search, in percent, by the metric of the study."""
    values = found.values(search.target(found.known))
    rows = {row.label: _number(row.label) for row in found.known.rows}
    if found.told.get("default", {}) is None:  # trial 0 is another setting then
        rows.pop(DEFAULT, None)
    return {label: PERCENT * values[n] for label, n in rows.items() if n in values}


def _notes(records: Records, found: Search) -> Iterator[str]:
    confirm = found.told.get("confirm")
    if not confirm:
        yield "No confirmation was asked for: `diga sweep … --confirm K:N` repeats the K best with N seeds."
        return
    seeds = ", ".join(map(str, confirm["seeds"]))
    yield f"The search had seed {found.told['seed']}; the best {confirm['top']} and the default have seeds {seeds}."
    if found.told.get("default", {}) is None:
        yield "The base lies outside the space: the search has no trial of it."
    if len(records.rows) < 2:
        yield "Nothing has been confirmed yet."
    yield from ablation.lacking_note(records)


# --- which to take -----------------------------------------------------------------------


def verdicts(records: Records) -> list[str]:
    """One sentence a confirmed trial against the default, and which has the highest confirmed mean."""
    metric = ablation.plain(cells.metric_of(records))
    return [*sentences.verdicts(records, metric), *_winner(records, str(metric))]


def _winner(records: Records, metric: str) -> Iterator[str]:
    """By confirmed mean, with the interval of its difference with the next."""
    scores = {k: c for k, c in cells.scores(records, metric).items() if c.is_number}
    if len(scores) < 2:
        return
    first, second = sorted(scores, key=lambda label: -scores[label].mean)[:2]
    known, cell = records.values(metric), scores[first]
    step = between(known[first], known[second])
    spread = f" ± {number(cell.sd, 2)}" if cell.has_spread else ""
    low, high = (number(PERCENT * bound, 2, signed=True) for bound in (step.low, step.high))
    interval = f" (95 % interval of their difference [{low}, {high}])" if step.n >= 2 else ""
    yield (
        f"By confirmed mean, which reads {READS} whatever was searched for, the winner is {first}, "
        f"{number(cell.mean, 2)}{spread} (n = {cell.n}), "
        f"{WORDS.get(step.verdict, 'not told apart from')} the next, {second}{interval}."
    )
