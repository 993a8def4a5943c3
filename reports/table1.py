"""GTA5 to Cityscapes: IoU of each of nineteen classes, ours above, published methods below (DiGA, Table 1)."""

from __future__ import annotations

from pathlib import Path

from diga.data.labels import CLASSES
from diga.report import ablation, by_class, cells, sentences
from diga.report.records import Records
from diga.report.table import Table

PAPER = Path(__file__).parent / "paper"
SOURCE = "DiGA (CVPR 2023), Table 1, GTA5 to Cityscapes, selected on target labels; one run each"


def table(records: Records) -> Table:
    """A column a class and one of their mean, our rows; the published methods below, by themselves.

    Raises ConfigError when rows were evaluated by different protocols or tell other numbers of classes apart.
    """
    notes = tuple(ablation.source_note(records, SOURCE, ablation.APART))
    means = {"miou": "mIoU"}
    return by_class.table(records, CLASSES, means, title="Nineteen classes", kind="nineteen", folder=PAPER, notes=notes)


def verdicts(records: Records) -> list[str]:
    """One sentence a row and the row it is compared with."""
    return sentences.verdicts(records, ablation.plain(cells.metric_of(records)))
