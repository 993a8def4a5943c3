"""Several sources or targets: every target by itself and on average, and the step to the row each is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from diga.errors import ConfigError
from diga.report import ablation, beside, cells, sentences
from diga.report.ablation import Shown
from diga.report.cells import MEAN, Metric
from diga.report.records import Records
from diga.report.table import Column, Table

STEP = "Δ is the difference of the mean with the row each row builds on, paired by seed, with Student's 95 % interval."

PAPER = Path(__file__).parent / "paper"
SETTINGS = {  # rows, as the paper has them
    "one source, one target": "single-source",
    "two sources": "multi-source",
    "two targets": "multi-target",
}
STAGE = "CKD round 2 (final)"
SOURCE = (
    "DDB (NeurIPS 2022), from the authors' page, ResNet-101, the student of the second round; the source is GTA5, a "
    "second Synscapes, a second target Mapillary; one run each"
)


def table(records: Records) -> Table:
    """A column a domain, one of their mean, and its steps; beside them what is published, where a study names it.

    Raises ConfigError when rows were evaluated by different protocols or on different domains.
    """
    metric = ablation.plain(cells.metric_of(records))._replace(domain=MEAN)
    each = [_column(records, metric._replace(domain=domain)) for domain in _domains(records, metric)]
    mean, published = _column(records, metric), _published(records, [s.column for s in each])
    first = next((s.column.key for s in published if s.column.key.startswith("gap")), "gap")
    return ablation.table(
        records,
        [*ablation.marked(records), *each, mean, *ablation.ours(records, metric, "step", "over", "best"), *published],
        title=str(records.study["title"]),
        kind="ddb-domains",
        says={"step": STEP, first: ablation.SAYS["gap"]},
        notes=[
            *ablation.source_note(records, SOURCE),
            *ablation.updates_note(records),
            *ablation.lacking_note(records),
        ],
    )


def _domains(records: Records, metric: Metric) -> list[str]:
    """Domains that all finished cells were scored on.  Raises ConfigError for a row that lacks one."""
    found = cells.domains(records, metric)
    for row in records.rows:
        here = records.done[records.done["row"] == row.label]
        if lacking := [d for d in found if bool(here[str(metric._replace(domain=d))].isna().any())]:
            raise ConfigError(f"row {row.label!r}", f"not scored on {', '.join(lacking)}", f"all of {', '.join(found)}")
    return found


def _column(records: Records, metric: Metric) -> Shown:
    header = "mean" if metric.domain == MEAN else metric.domain
    column = Column(key=metric.domain, header=header, group=ablation.LAST, kind="score", better="max", count=False)
    return Shown(column, cells.with_ties(records, metric, cells.scores(records, metric)))


def _published(records: Records, ours: Sequence[Column]) -> list[Shown]:
    """A column a target that the paper has, and our last less it where we have that target, too."""
    known = recorded(records)
    targets = dict.fromkeys(name for of in known.values() for name in of)
    paper = {name: {row: of[name] for row, of in known.items() if name in of} for name in targets}
    about = {name: Column(key=f"paper_{name}", header=name, group=ablation.PUBLISHED, kind="paper") for name in targets}
    shown = [Shown(about[name], cells.paper_cells(paper[name], records)) for name in targets]
    for column in ours:
        if (name := beside.domain(column.key)) in paper:
            scores = cells.scores(records, ablation.plain(cells.metric_of(records))._replace(domain=column.key))
            gap = replace(beside.GAP, key=f"gap_{name}", header=name, group=beside.HEADER.capitalize())
            shown.append(Shown(gap, beside.gaps(scores, paper[name])))
    return shown


def recorded(records: Records) -> Mapping[str, Mapping[str, float]]:
    """Published mIoU by row and target, in percent."""
    found: dict[str, dict[str, float]] = {}
    lines = [line for line in cells.reference(records, PAPER) if line["stage"] == STAGE]
    for row, setting in SETTINGS.items():
        found[row] = {line["target"]: float(line["mIoU"]) for line in lines if line["setting"] == setting}
    return found if lines else {}


def verdicts(records: Records) -> list[str]:
    """One sentence a step of the mean."""
    return sentences.verdicts(records, ablation.plain(cells.metric_of(records))._replace(domain=MEAN))
