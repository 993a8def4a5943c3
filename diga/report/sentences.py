"""What the steps of a study support, in sentences that copy their numbers and add none."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from diga.report import cells
from diga.report.cells import PERCENT, Metric
from diga.report.records import Records
from diga.report.statistics import ALPHA, Difference, Verdict, pairs_for
from diga.report.table import number

WORDS: dict[Verdict, str] = {"holds": "holds", "reversed": "reversed", "tie": "tie", "open": "open"}
CHANGES: dict[Verdict, str] = WORDS | {"holds": "raises", "reversed": "lowers"}  # of a row that no one says is better

CORRECTED = re.compile(r", p (?:= |below )(\d\.\d+) \(sign flips, Holm over the rows\)")


def verdicts(
    records: Records,
    metric: Metric,
    published: Mapping[str, float] | None = None,
    words: Mapping[Verdict, str] = WORDS,
) -> list[str]:
    """One sentence a row with a parent: does the step hold, is it a tie, is it reversed, or is it open.

    `published` are published scores by row, in percent; what they say of a step follows it.
    """
    steps = cells.paper_steps(published or {}, records)
    parents = {r.label: r.parent for r in records.rows}
    return [
        f"{label} over {parents[label]}: {sentence(step, words)}{_beside(steps.get(label))}"
        for label, step in cells.steps(records, metric).items()
    ]


def sentence(step: Difference, words: Mapping[Verdict, str] = WORDS) -> str:
    """A paired difference, a fraction, in percent points: its verdict, interval, and what it would take."""
    if step.n == 0:
        return f"{words['open']}: no seed is done in both rows."
    mean, low, high = (number(PERCENT * v, 2, signed=True) for v in (step.mean, step.low, step.high))
    verdict = words[step.verdict]
    if step.verdict == "open":
        return f"{verdict}: {mean} points for one seed; an interval needs at least one seed more."
    measured = f"{mean} points, 95 % interval [{low}, {high}], n = {step.n}{_chance(step)}"
    if step.verdict != "tie":
        return f"{verdict}: {measured}."
    needed = step.seeds_needed
    more = (
        f"about {needed} more would leave it out if mean and spread stayed" if needed else "no number of seeds in sight"
    )
    return f"{verdict}: {measured}; zero is inside, {more}."


def _chance(step: Difference) -> str:
    """The p of six pairs or more; where none of so many rows could be below 0.05, what it would take."""
    if math.isnan(step.adjusted):
        return ""
    if step.least >= ALPHA:
        why = f"sign flips, {step.n} pairs, Holm over {step.rows} rows; it takes {pairs_for(step.rows)} pairs a row"
        return f", p cannot be below {number(step.least, 3)} ({why})"
    p = f"= {number(step.adjusted, 3)}" if step.adjusted >= 0.001 else "below 0.001"
    return f", p {p} (sign flips, Holm over the rows)"


def is_corrected(measured: str) -> bool:
    """Whether a sentence's p is below 0.05, Holm over the rows."""
    said = CORRECTED.search(measured)
    return said is not None and float(said[1]) < ALPHA


def _beside(published: float | None) -> str:
    return "" if published is None else f" Published: {number(published, 1, signed=True)}."
