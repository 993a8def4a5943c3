"""Warm-up strategies: an adversary or distillation, each with and without CrDoMix (DiGA, Table 4)."""

from __future__ import annotations

from pathlib import Path

from diga.report import ablation, beside, cells, sentences
from diga.report.records import Records
from diga.report.table import Table

PAPER = Path(__file__).parent / "paper"
SOURCE = (
    "DiGA (CVPR 2023), Table 4, GTA5 to Cityscapes, ResNet-101, selected on target labels; one run each, "
    "Δ between their rows"
)


def table(records: Records) -> Table:
    """Strategies with the step to the row each is compared with, ours beside the published.

    Raises ConfigError when rows were evaluated by different protocols.
    """
    metric = cells.metric_of(records)
    shown = [
        *ablation.marked(records, "Warm-up"),
        *ablation.checks(records),
        *ablation.ours(records, metric, "last", "step", "over", "teacher", "adabn", "best"),
        *beside.columns(records, cells.published(records, PAPER)),
    ]
    return ablation.table(
        records,
        shown,
        title="Warm-up strategies",
        kind="warm-up",
        notes=[
            *ablation.source_note(records, SOURCE),
            *ablation.updates_note(records),
            *ablation.lacking_note(records),
        ],
    )


def verdicts(records: Records) -> list[str]:
    """One sentence a strategy and the row it is compared with."""
    metric = ablation.plain(cells.metric_of(records))
    return sentences.verdicts(records, metric, cells.published(records, PAPER))
