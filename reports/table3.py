"""Component ablation: what each rung of the ladder adds (DiGA, Table 3), ours beside the published."""

from __future__ import annotations

from pathlib import Path

from diga.report import ablation, beside, cells, sentences
from diga.report.records import Records
from diga.report.table import Table

PAPER = Path(__file__).parent / "paper"
SOURCE = (
    "DiGA (CVPR 2023), Table 3, GTA5 to Cityscapes, ResNet-101, selected on target labels; one run each, "
    "Δ between their rows"
)


def table(records: Records) -> Table:
    """Components, our scores with their step to the row below them on the ladder, and the published ones.

    Raises ConfigError when rows were evaluated by protocols that no component explains.
    """
    metric = cells.metric_of(records)
    shown = [
        ablation.labels(records),
        *ablation.checks(records),
        *ablation.ours(records, metric, "last", "step", "teacher", "adabn", "best"),
        *beside.columns(records, cells.published(records, PAPER)),
    ]
    return ablation.table(
        records,
        shown,
        title="Component ablation",
        kind="components",
        ablated=ablation.PROTOCOL,
        notes=[
            *ablation.source_note(records, SOURCE),
            *ablation.updates_note(records),
            *ablation.lacking_note(records),
        ],
    )


def verdicts(records: Records) -> list[str]:
    """One sentence a rung: does it hold, is it a tie, is it reversed, or is it open."""
    metric = ablation.plain(cells.metric_of(records))
    return sentences.verdicts(records, metric, cells.published(records, PAPER))
