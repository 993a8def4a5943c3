"""Semi-supervised: a method a row, a labelled part of the images a column, and the steps below (DiGA, Table 7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from diga.errors import ConfigError
from diga.report import ablation, cells, sentences
from diga.report.cells import Metric
from diga.report.records import Records
from diga.report.table import Cell, Column, Row, Table

PAPER = Path(__file__).parent / "paper"
SOURCE = (
    "DiGA (CVPR 2023), Table 7, one run each, with parts of the 2975 training images of Cityscapes labelled, "
    "their number in parentheses"
)
PART = "Labelled part, mIoU (%)"


class Place(NamedTuple):
    """Where a row of the study stands: `DiGA, 1/16` is method DiGA, part 1/16."""

    method: str
    part: str


def table(records: Records) -> Table:
    """A matrix of methods and parts, and the step from each method to the next; the published below, by themselves.

    Raises ConfigError for a row that is not called `<method>, <part>`, and when rows were evaluated by
    different protocols.
    """
    metric, places = ablation.plain(cells.metric_of(records)), _places(records)
    parts = dict.fromkeys(place.part for place in places.values())
    columns = [Column(key="row", header="Method"), *map(_column, parts)]
    steps = list(_steps(records, metric, columns, places))
    return Table(
        title="Few labels",
        caption=" ".join(
            [ablation.caption(records, metric.where, columns), *([ablation.ROWS_OF_STEPS] if steps else [])]
        ),
        label=f"semi-supervised-{records.name}",
        columns=tuple(columns),
        rows=(*_scores(records, metric, columns, places), *steps),
        notes=(
            *ablation.stars_note(records),
            *ablation.source_note(records, SOURCE, ablation.APART),
            *ablation.updates_note(records, {label: place.method for label, place in places.items()}),
            *ablation.lacking_note(records),
        ),
        n=len(records.seeds),
        below=ablation.published_matrix(records, PAPER),
    )


def _column(part: str) -> Column:
    return Column(key=_key(part), header=part, group=PART, kind="score", better="max", count=True)


def _key(part: str) -> str:
    return f"miou_{part}"


def _places(records: Records) -> dict[str, Place]:
    found = {}
    for row in records.rows:
        method, _, part = row.label.rpartition(", ")
        if not (method.strip() and part.strip()):
            raise ConfigError(f"row {row.label!r}", "is in no column", "<method>, <part>, such as 'DiGA, 1/16'")
        found[row.label] = Place(method, part)
    return found


# --- blocks of rows ----------------------------------------------------------------------


def _scores(records: Records, metric: Metric, columns: Sequence[Column], places: dict[str, Place]) -> Iterator[Row]:
    known = cells.scores(records, metric)
    for part in {place.part for place in places.values()}:
        here = {label: known[label] for label, place in places.items() if place.part == part}
        known |= cells.with_ties(records, metric, here)
    lines: dict[str, dict[str, Cell]] = {}
    for label, (method, part) in places.items():
        lines.setdefault(method, {"row": Cell(text=method)})[_key(part)] = known[label]
    return (ablation.line(columns, method, found) for method, found in lines.items())


def _steps(records: Records, metric: Metric, columns: Sequence[Column], places: dict[str, Place]) -> Iterator[Row]:
    """A row a pair of methods; a parent with another part is named whole."""
    known = cells.step_cells(records, metric)
    lines: dict[str, dict[str, Cell]] = {}
    for row in records.rows:
        if row.parent:
            method, part = places[row.label]
            below = places.get(row.parent, Place(row.parent, part))
            name = f"{method} over {below.method if below.part == part else row.parent}"
            lines.setdefault(name, {"row": Cell(text=f"Δ {name}")})[_key(part)] = known[row.label]
    return (ablation.line(columns, name, found, "steps", ablation.STEP) for name, found in lines.items())


def verdicts(records: Records) -> list[str]:
    """One sentence a step of every part."""
    return sentences.verdicts(records, ablation.plain(cells.metric_of(records)))
