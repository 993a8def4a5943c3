"""Component ablation: what each rung of the ladder adds (DiGA, Table 3), ours beside the published."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from diga.report import cells
from diga.report.cells import PERCENT, Metric
from diga.report.records import Records, StudyRow
from diga.report.statistics import Difference
from diga.report.table import Cell, Column, Row, Table, number

ABLATED = "MST"  # the component that is itself an evaluation protocol
PAPER = Path(__file__).parent / "paper"
OURS, ORACLE, PUBLISHED = "Ours, mIoU (%)", "Reads target labels", "Published"


def table(records: Records) -> Table:
    """Components, our scores with their step to the row below them on the ladder, and the published ones.

    Raises ConfigError when rows were evaluated by protocols that no component explains.
    """
    metric = cells.metric_of(records)
    components = [str(c) for c in records.study["components"]]
    values = _values(records, metric)
    rows = [
        Row(key=r.label, cells=(Cell(text=r.label), *_checks(r, components), *(v[r.label] for v in values)))
        for r in records.rows
    ]
    return Table(
        title="Component ablation",
        caption=_caption(records, metric),
        label=f"components-{records.name}",
        columns=_columns(components),
        rows=tuple(rows),
        notes=tuple(_notes(records)),
        n=len(records.seeds),
    )


def _columns(components: list[str]) -> tuple[Column, ...]:
    return (
        Column(key="row", header="Row"),
        *(Column(key=c, header=c, group="Components", kind="check") for c in components),
        _ours("last", "last", OURS, count=True),
        Column(key="step", header="Δ [95 %]", group=OURS, kind="delta"),
        _ours("teacher", "teacher", OURS),
        _ours("adabn", "re-estimated BN", OURS),
        _ours("best", "best", ORACLE),
        Column(key="paper", header="mIoU", group=PUBLISHED, kind="paper"),
        Column(key="paper_step", header="Δ", group=PUBLISHED, kind="paper", signed=True),
    )


def _ours(key: str, header: str, group: str, count: bool = False) -> Column:
    return Column(key=key, header=header, group=group, kind="score", better="max", count=count)


def _checks(row: StudyRow, components: list[str]) -> list[Cell]:
    return [Cell(text="✓" if c in row.components else "") for c in components]


def _values(records: Records, metric: Metric) -> list[dict[str, Cell]]:
    """Everything after the check marks, column by column, in the order of `_columns`."""
    plain = metric._replace(statistic="plain", select="last")
    paper = cells.published(records, PAPER)
    return [
        cells.scores(records, plain),
        cells.step_cells(records, plain),
        cells.scores(records, plain._replace(statistic="teacher")),
        cells.scores(records, plain._replace(statistic="adabn")),
        cells.scores(records, plain._replace(select="best")),
        cells.paper_cells(paper, records),
        cells.paper_cells(cells.paper_steps(paper, records), records),
    ]


def _caption(records: Records, metric: Metric) -> str:
    seeds = ", ".join(map(str, records.seeds))
    return (
        f"Study {records.name}, evaluated on {metric.domain}: mean ± sample standard deviation over seeds "
        f"{seeds} (number of seeds) of the last checkpoint. Δ is the difference with the row each row builds "
        "on, paired by seed, with Student's 95 % interval. Teacher: the averaged network. Re-estimated BN: "
        "batch statistics measured anew on target images. Best: the checkpoint that scored highest on "
        "labelled target images, which cannot be had without target labels. "
        f"{cells.protocol_sentence(records, ABLATED)}"
    )


def _notes(records: Records) -> Iterator[str]:
    if records.study.get("reference"):
        yield (
            "Published numbers: DiGA (CVPR 2023), Table 3, GTA5 to Cityscapes, ResNet-101, selected on "
            "target labels; one run each, Δ between their rows. They stand beside ours and are not ranked "
            "with them."
        )
    if updates := _updates(records):
        yield f"Updates a cell's stages took in all: {updates}; a row is not matched with its parent for compute."
    lacking = [f"{r.label} ({_states(records, r)})" for r in records.rows if _states(records, r)]
    if lacking:
        yield f"Not complete: {'; '.join(lacking)}. Rows speak of the seeds that are done."


def _updates(records: Records) -> str:
    """Rows by their number of updates; empty if all have as many, or nothing is known."""
    rows: dict[int, list[str]] = {}
    if "cost/steps" in records.done:
        for row in records.rows:
            steps = records.done.loc[records.done["row"] == row.label, "cost/steps"].dropna()
            if len(steps):
                rows.setdefault(int(steps.iloc[0]), []).append(row.label)
    return "; ".join(f"{steps:,} in {', '.join(names)}" for steps, names in rows.items()) if len(rows) > 1 else ""


def _states(records: Records, row: StudyRow) -> str:
    """Seeds of a row that are not done, and why: empty for a complete row."""
    states = [(seed, records.status(row.label, seed)) for seed in records.seeds]
    return ", ".join(f"seed {seed} {state}" for seed, state in states if state != "done")


def verdicts(records: Records) -> list[str]:
    """One sentence a rung: does it hold, is it a tie, is it reversed, or is it open."""
    metric = cells.metric_of(records)._replace(statistic="plain", select="last")
    paper = cells.paper_steps(cells.published(records, PAPER), records)
    parents = {r.label: r.parent for r in records.rows}
    return [
        f"{label} over {parents[label]}: {_sentence(step)}{_beside(paper.get(label))}"
        for label, step in cells.steps(records, metric).items()
    ]


def _sentence(step: Difference) -> str:
    if step.n == 0:
        return "open: no seed is done in both rows."
    mean, low, high = (number(PERCENT * v, 2, signed=True) for v in (step.mean, step.low, step.high))
    if step.verdict == "open":
        return f"open: {mean} points for one seed; an interval needs at least one seed more."
    measured = f"{mean} points, 95 % interval [{low}, {high}], n = {step.n}"
    if step.verdict != "tie":
        return f"{step.verdict}: {measured}."
    needed = step.seeds_needed
    more = (
        f"about {needed} more would leave it out if mean and spread stayed" if needed else "no number of seeds in sight"
    )
    return f"tie: {measured}; zero is inside, {more}."


def _beside(published: float | None) -> str:
    return "" if published is None else f" Published: {number(published, 1, signed=True)}."
