"""Labels of the target: what self-training gains from each rule, and how good the labels are (DiGA, Table 5)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from diga.report import ablation, beside, cells, sentences
from diga.report.ablation import Shown
from diga.report.records import Records
from diga.report.table import Column, Table, number

PAPER = Path(__file__).parent / "paper"
SOURCE = (
    "DiGA (CVPR 2023), Table 5, GTA5 to Cityscapes, ResNet-101, selected on target labels; one run each, "
    "Δ between their rows"
)
KINDS = {"warm": "Warm-up, %", "feature": "Feature, %", "consensus": "Consensus, %"}
MEASURES = {"kept": "kept", "accuracy": "right"}
QUALITY = (
    "Kept: the share of target pixels with a truth that a kind of label speaks of, all of them where the column "
    "is left out; right: the share of those where it is true. They are measured at the end of a row's training, "
    "with target labels that only scoring opens."
)


def table(records: Records) -> Table:
    """Rules with the step to the row each is compared with, the labels' quality, and the published scores.

    Raises ConfigError when rows were evaluated by different protocols.
    """
    metric, quality = cells.metric_of(records), list(_quality(records))
    shown = [
        *ablation.marked(records, "Target labels"),
        *ablation.ours(records, metric, "last", "step", "over", "teacher", "best"),
        *(s for s in quality if not _keeps_all(s)),
        *beside.columns(records, cells.published(records, PAPER)),
    ]
    return ablation.table(
        records,
        shown,
        title="Labels of the target in self-training",
        kind="labels",
        notes=[
            *([QUALITY] if quality else []),
            *ablation.source_note(records, SOURCE),
            *ablation.updates_note(records),
            *ablation.lacking_note(records),
        ],
    )


def _quality(records: Records) -> Iterator[Shown]:
    """What is recorded of the labels: kept and right, kind by kind."""
    for kind, group in KINDS.items():
        for name, header in MEASURES.items():
            about = Column(key=f"{kind}_{name}", header=header, group=group, kind="score", spread=False)
            shown = Shown(about, cells.scores(records, f"labels/{kind}/{name}"))
            if shown.has_numbers:
                yield shown


def _keeps_all(shown: Shown) -> bool:
    """Whether a column says nothing but that every pixel has a label."""
    whole = number(cells.PERCENT)
    known = {number(cell.mean) for cell in shown.cells.values() if cell.is_number}
    return shown.column.key.endswith("_kept") and known == {whole}


def verdicts(records: Records) -> list[str]:
    """One sentence a rule and the row it is compared with."""
    metric = ablation.plain(cells.metric_of(records))
    return sentences.verdicts(records, metric, cells.published(records, PAPER))
