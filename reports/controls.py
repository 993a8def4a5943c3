"""Controls: what a gain is owed to, augmentation, distillation, translation, self-training, or more updates."""

from __future__ import annotations

from collections.abc import Iterator

from diga.report import ablation, cells, sentences
from diga.report.ablation import Shown
from diga.report.records import Records
from diga.report.statistics import Difference, paired
from diga.report.table import Cell, Column, Table

ISOLATES = {  # by row and the row it is compared with: a word for the table, and what alone is other
    ("source-only, matched compute", "source-only"): ("updates", "more updates of the same"),
    ("strong views, hard labels", "source-only"): ("augmentation", "the source's strong view, with its own labels"),
    ("strong views, distillation", "strong views, hard labels"): (
        "distillation",
        "a teacher's soft answers, between views",
    ),
    ("CrDoMix, hard labels", "strong views, hard labels"): (
        "translation",
        "translated images, mixed by class into the strong view",
    ),
    ("CrDoMix, distillation", "CrDoMix, hard labels"): (
        "distillation",
        "a teacher's soft answers, where views are mixed across domains",
    ),
    ("CrDoMix, distillation", "strong views, distillation"): (
        "translation",
        "translated images, where a teacher answers",
    ),
    ("self-training, hard labels", "CrDoMix, distillation"): (
        "target labels",
        "labels of the target, and the updates it takes to learn from them",
    ),
    ("self-training", "self-training, hard labels"): ("distillation", "a teacher's soft answers, in self-training"),
}


MATCHED = "source-only, matched compute"
RIVALS = ("strong views, distillation", "CrDoMix, distillation")  # what it has as much computing as


def table(records: Records) -> Table:
    """Rows with the step to the row each is compared with, what that step isolates, and the updates taken.

    Raises ConfigError when rows were evaluated by different protocols.
    """
    metric = cells.metric_of(records)
    ours = ablation.ours(records, metric, "last", "step", "over", "teacher", "adabn", "best")
    shown = [*ablation.marked(records), *ours[:3], _isolated(records), *ours[3:], *_updates(records)]
    return ablation.table(
        records,
        shown,
        title="What a gain is owed to",
        kind="controls",
        says={"updates": "Updates: those of all stages of a cell."},
        notes=[
            *_meanings(records),
            *_unmatched(records),
            *(
                f"With as much computing, {name}: {sentences.sentence(d)}"
                for name, d in _as_much(records).items()
                if d.n
            ),
            *ablation.lacking_note(records),
        ],
    )


def _isolated(records: Records) -> Shown:
    words = {r.label: Cell(text=ISOLATES.get((r.label, r.parent), ("", ""))[0]) for r in records.rows}
    return Shown(Column(key="isolates", header="isolates", group=ablation.OURS), words)


def _updates(records: Records) -> list[Shown]:
    """How long a cell's stages trained in all, where it is recorded."""
    known = cells.scores(records, "cost/steps", scale=1)
    column = Column(key="updates", header="updates", group="Cost", kind="score", spread=False, decimals=0)
    found = Shown(column, {label: Cell(mean=c.mean, status=c.status, runs=c.runs) for label, c in known.items()})
    return [found] if found.has_numbers else []


def _meanings(records: Records) -> Iterator[str]:
    """What each declared step isolates."""
    marks = ablation.marks(records)
    known = [(r, ISOLATES[r.label, r.parent]) for r in records.rows if (r.label, r.parent) in ISOLATES]
    said = [f"{marks[r.label]} over {marks[r.parent]}, {word}: {meaning}" for r, (word, meaning) in known]
    if said:
        yield f"What alone is other between two rows: {'; '.join(said)}."


def _unmatched(records: Records) -> Iterator[str]:
    """Steps that are owed to more updates, too."""
    taken, marks = ablation.updates(records), ablation.marks(records)
    said = [
        f"{marks[r.label]} over {marks[r.parent]} ({taken[r.label]:,} and {taken[r.parent]:,})"
        for r in records.rows
        if r.label in taken and r.parent in taken and taken[r.label] != taken[r.parent]
    ]
    if said:
        yield f"Not matched for updates: {'; '.join(said)}."


def _as_much(records: Records) -> dict[str, Difference]:
    """Steps over the row that took as much computing, which is the parent of none, by what they say they are."""
    metric, labels = str(ablation.plain(cells.metric_of(records))), {row.label for row in records.rows}
    return {
        f"{label} over {MATCHED}": paired(records.done, label, MATCHED, metric)
        for label in RIVALS
        if {label, MATCHED} <= labels
    }


def verdicts(records: Records) -> list[str]:
    """One sentence a step, and what it isolates; then those over source-only with as much computing."""
    metric = ablation.plain(cells.metric_of(records))
    said = sentences.verdicts(records, metric)
    parts = [ISOLATES.get((r.label, r.parent), ("", ""))[1] for r in records.rows if r.parent]
    stepwise = [f"{line} It isolates: {part}." if part else line for line, part in zip(said, parts, strict=True)]
    return stepwise + [f"{name}: {sentences.sentence(step)}" for name, step in _as_much(records).items()]
