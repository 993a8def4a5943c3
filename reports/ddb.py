"""Two paths and their student: the ladder and its controls, ours beside what is on record (DDB, NeurIPS 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from diga.report import ablation, beside, cells, sentences
from diga.report.records import Records
from diga.report.table import Table

PAPER = Path(__file__).parent / "paper"
SETTING, TARGET = "single-source", "Cityscapes"
SOURCE = (
    "DDB (NeurIPS 2022), GTA5 to Cityscapes, ResNet-101; the last from the authors' page, the others as its authors "
    "and users quote them; one run each, Δ between their rows"
)


def table(records: Records) -> Table:
    """Rows with the step to the row each is compared with, beside what is on record, where a study names it.

    Raises ConfigError when rows were evaluated by different protocols.
    """
    metric = cells.metric_of(records)
    shown = [
        *ablation.marked(records),
        *ablation.ours(records, metric, "last", "step", "over", "teacher", "adabn", "best"),
        *(beside.columns(records, known) if (known := recorded(records)) else []),
    ]
    return ablation.table(
        records,
        shown,
        title=str(records.study["title"]),
        kind="ddb",
        notes=[
            *ablation.source_note(records, SOURCE),
            *ablation.updates_note(records),
            *ablation.lacking_note(records),
        ],
    )


def recorded(records: Records) -> Mapping[str, float]:
    """mIoU on record by row, in percent: a line of the study's reference is a row's whose label is its stage."""
    known = cells.reference(records, PAPER)
    lines = [line for line in known if (line["setting"], line["target"]) == (SETTING, TARGET)]
    by_stage = {line["stage"]: float(line["mIoU"]) for line in lines}
    return {row.label: by_stage[row.label] for row in records.rows if row.label in by_stage}


def verdicts(records: Records) -> list[str]:
    """One sentence a row and the row it is compared with."""
    return sentences.verdicts(records, ablation.plain(cells.metric_of(records)), recorded(records))
