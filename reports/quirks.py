"""Quirks of the authors' code: what each changes, alone, in the method as its equations have it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from diga.report import ablation, cells, sentences
from diga.report.ablation import Shown
from diga.report.records import Records
from diga.report.statistics import LEVEL
from diga.report.table import Cell, Column, Table, number

ALL = "official"  # the row with every quirk
STEP = "Δ is the difference with the clean row above it, paired by seed, with Student's 95 % interval."
VERDICT = "Verdict: whether that interval is above zero (raises), below (lowers), or holds it (tie)."


def table(records: Records) -> Table:
    """A row a quirk, in the study's order, with its difference to the clean method and what that supports.

    Raises ConfigError when rows were evaluated by different protocols.
    """
    metric = cells.metric_of(records)
    ours = ablation.ours(records, metric, "last", "step", "teacher", "adabn", "best")
    shown = [ablation.labels(records, "Quirk"), *ours[:2], _verdict(records), *ours[2:]]
    return ablation.table(
        records,
        shown,
        title="Quirks of the authors' code, one at a time",
        kind="quirks",
        says={"step": STEP, "verdict": VERDICT},
        notes=[
            *_chance(records),
            *_together(records),
            *ablation.updates_note(records),
            *ablation.lacking_note(records),
        ],
        groups=_groups(records),
    )


def _whole(records: Records) -> str:
    """The clean row of the whole method: what the row with every quirk is compared with."""
    return next((r.parent for r in records.rows if r.label == ALL), "")


def _groups(records: Records) -> dict[str, str]:
    """The whole method, its quirks, all of them; a part of the method and its quirks stand by themselves."""
    whole = _whole(records)
    known = {ALL: ALL, whole: ""}
    return {r.label: known.get(r.label, "quirk" if r.parent == whole else r.parent or r.label) for r in records.rows}


def _verdict(records: Records) -> Shown:
    steps = cells.steps(records, ablation.plain(cells.metric_of(records)))
    said = {label: Cell(text=sentences.CHANGES[step.verdict]) for label, step in steps.items()}
    column = Column(key="verdict", header="verdict", group=ablation.OURS)
    return Shown(column, {r.label: said.get(r.label, Cell()) for r in records.rows})


def _chance(records: Records) -> Iterator[str]:
    """How many intervals leave zero out where no quirk does anything."""
    steps = cells.steps(records, ablation.plain(cells.metric_of(records))).values()
    found = sum(math.isfinite(step.low) for step in steps)
    if found > 1:
        share = number((1 - LEVEL) * found)
        yield f"Of {found} intervals of 95 %, about {share} would leave zero out if no quirk changed anything."


def _together(records: Records) -> Iterator[str]:
    """The sum of the single differences beside that of all quirks at once."""
    steps = cells.steps(records, ablation.plain(cells.metric_of(records)))
    single = {r.label for r in records.rows if r.parent == _whole(records)} - {ALL}
    alone = [steps[label].mean * cells.PERCENT for label in steps if label in single]
    if ALL in steps and len(alone) > 1 and all(map(math.isfinite, [*alone, steps[ALL].mean])):
        total, whole = number(math.fsum(alone), signed=True), number(steps[ALL].mean * cells.PERCENT, signed=True)
        yield f"The single differences add up to {total} points; the row {ALL} is at {whole}."


def verdicts(records: Records) -> list[str]:
    """One sentence a quirk: does it raise the score, lower it, or can one not tell."""
    metric = ablation.plain(cells.metric_of(records))
    return sentences.verdicts(records, metric, words=sentences.CHANGES)
