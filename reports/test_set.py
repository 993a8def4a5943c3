"""Two doubts about every score: another training (seeds), and other images of the same kind (the test set)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from diga.report import ablation, bootstrap, cells
from diga.report.ablation import Shown
from diga.report.bootstrap import Interval
from diga.report.cells import PERCENT, Metric
from diga.report.records import Records
from diga.report.table import Cell, Column, Kind, Table, number

SEEDS, IMAGES = "Over seeds", "Over images"
READING = (
    f"Over images: {bootstrap.DRAWS:,} times the test images were drawn with replacement, the same for every row and "
    "seed; the middle 95 % of the mean mIoU of a row's networks. It speaks of these networks on other images, and says "
    "nothing of another training; the interval over seeds says nothing of other images."
)


def table(records: Records) -> Table:
    """Score and step of every row, each with its interval over seeds and its interval over images.

    Raises ConfigError when rows were evaluated by different protocols.
    """
    metric = ablation.plain(cells.metric_of(records))
    domain, judged = cells.shown_domain(records), metric.name == "miou"
    found = records.images(domain) if judged else {}
    draws = records.draws(domain) if judged else bootstrap.Draws(0, {})
    parents = {row.label: row.parent for row in records.rows if row.parent}
    shown = [
        *ablation.marked(records),
        *ablation.ours(records, metric, "last", "step", "over"),
        _shown(records, "images", "mIoU", "score", bootstrap.scores(draws)),
        _shown(records, "images_step", "Δ", "delta", bootstrap.steps(draws, parents)),
    ]
    notes = [*_notes(records, metric, found), *ablation.lacking_note(records)]
    return ablation.table(
        records, shown, title="Seeds and test images", kind="test-set", notes=notes, ablated=ablation.PROTOCOL
    )


def _shown(records: Records, key: str, header: str, kind: Kind, known: Mapping[str, Interval]) -> Shown:
    """Estimates with their test-set intervals, which have no seeds of their own."""
    values = {
        row.label: Cell(mean=i.estimate * PERCENT, low=i.low * PERCENT, high=i.high * PERCENT)
        if (i := known.get(row.label))
        else Cell()
        for row in records.rows
    }
    about = Column(key=key, header=f"{header} [95 %]", group=IMAGES, kind=kind, spread=kind == "delta", interval=True)
    return Shown(about, values)


def _notes(records: Records, metric: Metric, found: bootstrap.Images) -> Iterator[str]:
    if not found:
        yield f"No cell left per-image confusion matrices of {metric.where}: nothing can be said of other images."
        return
    count = len(next(iter(found.values()))[0])
    if count < bootstrap.FEWEST:
        yield f"{count} test images are too few to be drawn from: {bootstrap.FEWEST} at least."
        return
    yield f"{READING} {count} images of {cells.shown_domain(records)}, {len(found)} networks."
    if lacking := len(records.done) - len(found):
        yield f"{lacking} finished cells are not in it: they left no matrices of these images, or there were too many."


def verdicts(records: Records) -> list[str]:
    """One sentence a step whose test-set interval holds zero: other images might not show it."""
    if ablation.plain(cells.metric_of(records)).name != "miou":
        return []
    parents = {row.label: row.parent for row in records.rows if row.parent}
    steps = bootstrap.steps(records.draws(cells.shown_domain(records)), parents)
    return [f"{row} over {parents[row]}, on other images: {_sentence(step)}" for row, step in steps.items()]


def _sentence(step: Interval) -> str:
    low, high = (number(PERCENT * v, 2, signed=True) for v in (step.low, step.high))
    word = "would hold" if step.low > 0 else "would be reversed" if step.high < 0 else "might be gone"
    return f"{word}: test-set 95 % interval [{low}, {high}] points over {step.images} images, for these networks."
