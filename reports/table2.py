"""SYNTHIA to Cityscapes: sixteen classes, and the mean of thirteen, ours above, published below (DiGA, Table 2)."""

from __future__ import annotations

from pathlib import Path

from diga.data.labels import CLASSES, SIXTEEN
from diga.report import ablation, by_class, cells, sentences
from diga.report.records import Records
from diga.report.table import Table

PAPER = Path(__file__).parent / "paper"
SOURCE = "DiGA (CVPR 2023), Table 2, SYNTHIA to Cityscapes, selected on target labels; one run each"
MEANS = {"miou16": "mIoU", "miou13": "mIoU*"}
STAR = "mIoU: of the sixteen classes that SYNTHIA has. mIoU*: of thirteen, without wall, fence and pole."


def table(records: Records) -> Table:
    """A column a class that SYNTHIA has, their mean and that of thirteen; the published methods below, by themselves.

    Raises ConfigError when rows were evaluated by different protocols or tell other numbers of classes apart.
    """
    classes = [CLASSES[k] for k in SIXTEEN]
    notes = (STAR, *ablation.source_note(records, SOURCE, ablation.APART))
    return by_class.table(records, classes, MEANS, title="Sixteen classes", kind="sixteen", folder=PAPER, notes=notes)


def verdicts(records: Records) -> list[str]:
    """One sentence a row and the row it is compared with, by the mean of sixteen classes."""
    return sentences.verdicts(records, ablation.plain(cells.metric_of(records))._replace(name="miou16"))
