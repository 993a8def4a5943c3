"""Per-class IoU of every row: where a mean comes from."""

from __future__ import annotations

from collections.abc import Sequence

from diga.data.labels import CLASSES
from diga.report import by_class, cells
from diga.report.by_class import SHORT
from diga.report.cells import Metric
from diga.report.records import Records
from diga.report.table import Cell, Column, Row, Table


def table(records: Records) -> Table:
    """IoU of each of the nineteen classes and their mean, over seeds, of the last checkpoint."""
    metric = cells.by_class(records)[0]._replace(name="miou")
    here, names = set(cells.classes_in(records, metric)), by_class.has_classes(records, metric, CLASSES)
    means = cells.with_ties(records, metric, cells.scores(records, metric))
    columns = [*(_class_cells(records, metric, name, means) for name in names), means]
    return Table(
        title="Per-class IoU (%)",
        caption=_caption(records),
        label=f"classes-{records.name}",
        columns=_columns(names),
        rows=tuple(Row(key=r.label, cells=(Cell(text=r.label), *(c[r.label] for c in columns))) for r in records.rows),
        notes=(*by_class.lacking_classes(records, names), *_notes([n for n in CLASSES if n not in here], bool(here))),
        n=len(records.seeds),
    )


def _columns(names: Sequence[str]) -> tuple[Column, ...]:
    of_classes = [
        Column(key=name, header=SHORT.get(name, name), kind="score", better="max", spread=False) for name in names
    ]
    return (
        Column(key="row", header="Row"),
        *of_classes,
        Column(key="miou", header="mIoU", kind="score", better="max"),
    )


def _class_cells(records: Records, metric: Metric, name: str, means: dict[str, Cell]) -> dict[str, Cell]:
    """A class without a number in a row that was evaluated is neither present nor predicted there."""
    found = cells.scores(records, metric._replace(name=f"iou/{name}"))
    absent = {row for row, cell in found.items() if means[row].is_number and not cell.is_number}
    return {row: Cell(status="n/a") if row in absent else cell for row, cell in found.items()}


def _caption(records: Records) -> str:
    seeds = ", ".join(map(str, records.seeds))
    return (
        f"Study {records.name}, evaluated on {cells.by_class(records)[1]}: mean over seeds {seeds} of the last "
        "checkpoint; in parentheses how many of them a cell speaks of, where not all. "
        f"{cells.protocol_sentence(records, 'MST')}"
    )


def _notes(absent: list[str], known: bool) -> list[str]:
    if not absent or not known:
        return []
    return [f"n/a: neither present nor predicted, and not part of the mean: {', '.join(absent)}."]
