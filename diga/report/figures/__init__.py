"""Figures of a study, each a PNG to look at and a PDF to print, or a word on why there is none.

A figure is a function of records and evidence that draws to a path without ending and returns its caption, "" where
there is nothing to draw.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

from diga.processes import cores
from diga.report.evidence import Evidence
from diga.report.figures import classes, curves, embedding, measures, pictures, settings, study, trials
from diga.report.records import Records

Kind = Literal["chart", "coloured", "picture"]  # a coloured chart has the colours of classes: nobody may change them


class Part(NamedTuple):
    """A figure that a report has if it can: `lacking` says what is recorded for it, where nothing is."""

    name: str
    title: str
    drawn: Callable[[Records, Evidence, Path], str]
    lacking: str
    kind: Kind = "chart"


class Figure(NamedTuple):
    """A figure that was drawn: `<name>.png` and `<name>.pdf`, what it is called and what it shows."""

    name: str
    title: str
    caption: str
    kind: Kind


FOLDER = "figures"  # of a report
LONG = (
    "features",
    "mattered",
    "snapshot_classes",
    "confusion",
)  # drawn first: nothing should wait for the longest alone
_held: tuple[Any, ...] = ()  # by a process that draws: records, evidence and folder

PARTS = (
    Part("ladder", "Scores", study.ladder, "no cell has the study's metric yet"),
    Part("deltas", "Steps", study.deltas, "no row and the row it is compared with share a finished seed"),
    Part("classes", "Classes", classes.bars, "no two rows with an IoU by class", "coloured"),
    Part("confusion", "Confusions", classes.confusion, "no cell left confusion.parquet", "picture"),
    Part("labels", "Labels of the target", measures.quality, "no score judged the labels (`score.quality`)"),
    Part("label_free", "Chosen without labels", measures.label_free, "no three rows with measures without labels"),
    Part("losses", "Losses", curves.losses, "no stage left its steps (metrics.jsonl)"),
    Part("snapshots", "Snapshots", curves.snapshots, "no trained stage kept two snapshots (`plan.snapshots`)"),
    Part("snapshot_classes", "Snapshots by class", curves.by_class, "no trained stage kept two snapshots", "coloured"),
    Part("samples", "Images", pictures.samples, "no seed has samples of every row to be shown", "picture"),
    Part(
        "changes",
        "What changed",
        pictures.changes,
        "no seed has samples of every row to be shown, the best and the first among them",
        "picture",
    ),
    Part("pseudo_labels", "Labels, side by side", pictures.labels, "no cell left samples/labels", "picture"),
    Part("features", "Features", embedding.features, "no cell left features.parquet", "coloured"),
)

SWEEP = (
    Part("history", "The search", trials.history, "no trial is done"),
    Part("mattered", "What mattered", trials.mattered, "too few trials are done"),
    Part("responses", "One parameter at a time", settings.responses, "no number of the space has three trials"),
    Part("choices", "Choices", settings.choices, "the space has no choice, or no trial is done"),
    Part("parallel", "All parameters at once", settings.parallel, "fewer than three trials are done"),
    Part("rungs", "From rung to end", trials.rungs, "no two trials have a rung and an end"),
    Part("front", "Two objectives", trials.front, "not two objectives, or no two trials are done"),
)


def parts(known: Records) -> tuple[Part, ...]:
    """The figures that a study may have: a sweep some more, and those first."""
    return (*(SWEEP if known.sweep else ()), *PARTS)


def draw(known: Records, found: Evidence, folder: Path) -> tuple[list[Figure], dict[str, str]]:
    """Draw what can be drawn into `folder`, on all cores; of the others, by title, what is missing."""
    learn()
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("fork")  # what is drawn need not travel: the children have it
    wanted = parts(known)
    order = sorted(range(len(wanted)), key=lambda place: wanted[place].name not in LONG)
    with ProcessPoolExecutor(cores(), context, _hold, (known, found, folder)) as crew:
        captions = dict(zip(order, crew.map(_drawn, order), strict=True))
    drawn = [Figure(p.name, p.title, captions[i], p.kind) for i, p in enumerate(wanted) if captions[i]]
    return drawn, {part.title: part.lacking for i, part in enumerate(wanted) if not captions[i]}


def learn() -> None:
    """Import what draws: before a fork once, and not once a core."""
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_pdf
    import matplotlib.figure  # noqa: F401


def _hold(*what: object) -> None:
    global _held
    _held = what


def _drawn(place: int) -> str:
    known, found, folder = _held
    part = parts(known)[place]
    return part.drawn(known, found, folder / part.name)
