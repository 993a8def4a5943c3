"""Selection without labels: what unlabelled images say of every row, and whether one could choose by it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from diga.report import ablation, cells
from diga.report.ablation import Shown
from diga.report.cells import PERCENT
from diga.report.correlation import Rank, rank
from diga.report.records import Records
from diga.report.table import Cell, Column, Row, Table, number

PREFIX = "label_free/"
LOWER = ("entropy", "vanished")  # the lower, the better they promise
COUNTS = ("vanished",)  # no shares
NAMES = ("entropy", "confidence", "agreement", "stability", "consensus", "vanished")  # as they are shown; others follow
RHO = Column(key="rho", header="ρ", kind="delta", decimals=2)
CHANCE = Column(key="p", header="p", kind="score", spread=False, decimals=3)
LOST = Column(key="lost", header="points", kind="score", spread=False)
READING = (
    "ρ: Spearman's rank correlation of the rows' means with their mIoU; p: how often a random order of the rows has "
    "one as far from zero. Lost: the mIoU of the best row less that of the row with the least entropy or fewest "
    "vanished classes, or with the most of another measure; of equals, the worst. A network that has collapsed is "
    "sure of itself and agrees with itself."
)
MEANINGS = {
    "entropy": "of the prediction, of its largest",
    "confidence": "probability of the winning class",
    "agreement": "with the nearest of the network's own class centroids",
    "stability": "agreement with the averaged network",
    "consensus": "cells where stored and nearest-centroid label are one",
    "vanished": "number of classes that it predicted before and no longer does",
}


class Choice(NamedTuple):
    """What one gets who takes the row that a measure puts first: its label, and the points it lacks of the best."""

    row: str
    best: str
    lost: float


def table(records: Records) -> Table:
    """Rows and measures; below them how each measure orders the rows, and what choosing by it would cost.

    Raises ConfigError when rows were evaluated by different protocols.
    """
    metric = ablation.plain(cells.metric_of(records))
    measures = _measures(records)
    miou = Column(key="miou", header="mIoU (%)", group="Reads target labels", kind="score", better="max")
    shown = [ablation.labels(records), *measures, Shown(miou, cells.scores(records, metric))]
    below = _below(measures, shown[-1], [s.column for s in shown])
    return Table(
        title="What could be chosen without labels",
        caption=_caption(records),
        label=f"label-free-{records.name}",
        columns=tuple(s.column for s in shown),
        rows=(*ablation.rows(records, shown), *below),
        notes=(*_notes(measures, bool(below)), *ablation.lacking_note(records)),
        n=len(records.seeds),
    )


def _measures(records: Records) -> list[Shown]:
    """A column a measure that is recorded: in percent, or a count."""
    found = {c.removeprefix(PREFIX) for c in records.done.columns if c.startswith(PREFIX)}
    names = [n for n in NAMES if n in found] + sorted(found - set(NAMES))
    shown = [Shown(_column(n), cells.scores(records, PREFIX + n, 1 if n in COUNTS else PERCENT)) for n in names]
    return [s for s in shown if s.has_numbers]


def _column(name: str) -> Column:
    header = name if name in COUNTS else f"{name} (%)"
    return Column(key=name, header=header, group="Unlabelled target images", kind="score", spread=False)


# --- could one choose? -------------------------------------------------------------------


def _below(measures: Sequence[Shown], miou: Shown, columns: Sequence[Column]) -> list[Row]:
    """Rank correlation, its p and the points lost, for every measure of three rows or more."""
    ranks = {s.column.key: found for s in measures if (found := _ranked(s, miou))}
    choices = {s.column.key: _choice(s, miou) for s in measures if s.column.key in ranks}
    blocks = {
        ("ρ with mIoU", RHO): {k: Cell(mean=r.rho) for k, r in ranks.items()},
        ("p", CHANCE): {k: Cell(mean=r.p) for k, r in ranks.items()},
        ("lost by choosing so (points)", LOST): {k: Cell(mean=c.lost) for k, c in choices.items()},
    }
    return [
        ablation.line(columns, text, {"row": Cell(text=text)} | found, "ranks", about)
        for (text, about), found in blocks.items()
        if found
    ]


def _pairs(measure: Shown, miou: Shown) -> dict[str, tuple[float, float]]:
    """Means of both, by row, where both are known."""
    return {
        row: (cell.mean, miou.cells[row].mean)
        for row, cell in measure.cells.items()
        if cell.is_number and miou.cells[row].is_number
    }


def _ranked(measure: Shown, miou: Shown) -> Rank | None:
    """How a measure orders the rows; None for fewer than three, or where either is the same in all."""
    pairs = _pairs(measure, miou).values()
    found = rank([x for x, _ in pairs], [y for _, y in pairs])
    return None if math.isnan(found.rho) else found


def _choice(measure: Shown, miou: Shown) -> Choice:
    pairs = _pairs(measure, miou)
    sign = -1 if measure.column.key in LOWER else 1
    chosen = max(pairs, key=lambda row: (sign * pairs[row][0], -pairs[row][1]))
    best = max(pairs, key=lambda row: pairs[row][1])
    return Choice(chosen, best, pairs[best][1] - pairs[chosen][1])


# --- words -------------------------------------------------------------------------------


def _caption(records: Records) -> str:
    return (
        f"Study {records.name}, {ablation.over_seeds(records)}. Measures are of training images of the target, without "
        f"their labels. {cells.protocol_sentence(records)}"
    )


def _notes(measures: Sequence[Shown], ranked: bool) -> Iterator[str]:
    if not measures:
        yield "No measure without labels is recorded."
    said = [f"{s.column.key}: {MEANINGS[s.column.key]}" for s in measures if s.column.key in MEANINGS]
    if said:
        yield f"Measures: {'; '.join(said)}."
    if ranked:
        yield READING


def verdicts(records: Records) -> list[str]:
    """One sentence a measure: how it orders the rows, and what one gets who chooses by it."""
    metric = ablation.plain(cells.metric_of(records))
    miou = Shown(Column(key="miou", header="mIoU"), cells.scores(records, metric))
    return [_sentence(s, found, _choice(s, miou), miou) for s in _measures(records) if (found := _ranked(s, miou))]


def _sentence(measure: Shown, found: Rank, choice: Choice, miou: Shown) -> str:
    name, rho = measure.column.key, number(found.rho, 2, signed=True)
    p = number(found.p, 3) if found.p >= 0.001 else "below 0.001"
    first = f"Choosing by {name}: rank correlation with mIoU {rho} over {found.n} rows (p {p})"
    if choice.row == choice.best:
        return f"{first}; it takes the best row, {choice.best}."
    return f"{first}; it takes {choice.row}, {number(choice.lost, 2)} points below the best row, {choice.best}."
