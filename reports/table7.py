"""Semi-supervised: a method a row, a labelled part of the images a column, and the steps below (DiGA, Table 7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from diga.errors import ConfigError
from diga.report import ablation, beside, cells, sentences
from diga.report.cells import Metric
from diga.report.records import Records
from diga.report.table import Cell, Column, Row, Table

PAPER = Path(__file__).parent / "paper"
SOURCE = (
    "DiGA (CVPR 2023), Table 7, one run each, with parts of the 2975 training images of Cityscapes labelled, "
    "their number in parentheses"
)
PART = "Labelled part, last, mIoU (%)"
BEST = f"{ablation.ORACLE}, best"


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
    best = [_column(part, BEST) for part in parts if _has_best(records, metric)]
    columns = [Column(key="row", header="Method"), *map(_column, parts), *best]
    scores, steps = _scores(records, metric, columns, places), list(_steps(records, metric, columns, places))
    gaps = list(_gaps(records, columns, scores))
    says = [ablation.ROWS_OF_STEPS] * bool(steps) + [beside.ROWS_OF_GAPS] * bool(gaps)
    return Table(
        title="Few labels",
        caption=" ".join([ablation.caption(records, metric.where, columns, **_says(best)), *says]),
        label=f"semi-supervised-{records.name}",
        columns=tuple(columns),
        rows=(*scores, *steps, *gaps),
        notes=(
            *ablation.stars_note(records),
            *ablation.source_note(records, SOURCE, ablation.APART),
            *ablation.updates_note(records, {label: place.method for label, place in places.items()}),
            *ablation.lacking_note(records),
        ),
        n=len(records.seeds),
        below=beside.matrix(records, PAPER),
    )


def _column(part: str, group: str = PART) -> Column:
    last = group == PART
    key = _key(part, group)
    return Column(key=key, header=part, group=group, kind="score", better="max", count=last, spread=last)


def _key(part: str, group: str = PART) -> str:
    return f"{'miou' if group == PART else 'best'}_{part}"


def _has_best(records: Records, metric: Metric) -> bool:
    return bool(records.values(str(metric._replace(select="best"))))


def _says(best: Sequence[Column]) -> dict[str, str]:
    return {column.key: ablation.SAYS["best"] for column in best[:1]}


def _places(records: Records) -> dict[str, Place]:
    found = {}
    for row in records.rows:
        method, _, part = row.label.rpartition(", ")
        if not (method.strip() and part.strip()):
            raise ConfigError(f"row {row.label!r}", "is in no column", "<method>, <part>, such as 'DiGA, 1/16'")
        found[row.label] = Place(method, part)
    return found


# --- blocks of rows ----------------------------------------------------------------------


def _scores(records: Records, metric: Metric, columns: Sequence[Column], places: dict[str, Place]) -> list[Row]:
    last, best = _by_part(records, metric, places), _by_part(records, metric._replace(select="best"), places)
    lines: dict[str, dict[str, Cell]] = {}
    for label, (method, part) in places.items():
        found = lines.setdefault(method, {"row": Cell(text=method)})
        found |= {_key(part): last[label], _key(part, BEST): best[label]}
    return [ablation.line(columns, method, found) for method, found in lines.items()]


def _by_part(records: Records, metric: Metric, places: dict[str, Place]) -> dict[str, Cell]:
    """Scores by label; ties are those of methods with the same labelled part."""
    known = cells.scores(records, metric)
    for part in {place.part for place in places.values()}:
        here = {label: known[label] for label, place in places.items() if place.part == part}
        known |= cells.with_ties(records, metric, here)
    return known


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


def _gaps(records: Records, columns: Sequence[Column], scores: Sequence[Row]) -> Iterator[Row]:
    """Methods less the published ones that are called the same, by part: a heading is `<part> (<images>)`."""
    known = cells.published_matrix(records, PAPER)
    for row in scores:
        paper = {_key(name.partition(" (")[0]): value for name, value in known.get(row.key, {}).items()}
        ours = dict(zip((c.key for c in columns), row.cells, strict=True))
        yield from beside.row(columns, row.key, ours, paper)


def verdicts(records: Records) -> list[str]:
    """One sentence a step of every part."""
    return sentences.verdicts(records, ablation.plain(cells.metric_of(records)))
