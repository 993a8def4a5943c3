"""What tables of studies share: columns with what stands in them, captions, notes, and rows of steps.

A table chooses among these; none of them knows which table it is in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from string import ascii_lowercase
from typing import NamedTuple

from diga.report import cells
from diga.report.cells import Metric
from diga.report.records import Records, StudyRow
from diga.report.statistics import ALPHA, pairs_for
from diga.report.table import Cell, Column, Row, Table, number

OURS, ORACLE, PUBLISHED = "Ours, mIoU (%)", "Reads target labels", "Published"
LAST = "Ours, last, mIoU (%)"  # where headings name something else
COLUMNS = {  # of a study's own metric: heading, group, and what is other than in `last`
    "last": ("last", OURS, {}),
    "teacher": ("teacher", OURS, {"statistic": "teacher"}),
    "adabn": ("re-estimated BN", OURS, {"statistic": "adabn"}),
    "best": ("best", ORACLE, {"select": "best"}),
}
ALWAYS = ("last", "step", "over")  # what a study is about; other columns are there when something is in them
SAYS = {
    "step": "Δ is the difference with the row each row builds on, paired by seed, with Student's 95 % interval.",
    "over": "Over: which row that is.",
    "teacher": "Teacher: the averaged network.",
    "adabn": "Re-estimated BN: batch statistics measured anew on target images.",
    "best": (
        "Best: the checkpoint that scored highest on labelled target images, which cannot be had without target labels."
    ),
    "gap": "Ours − paper: our mean of the last checkpoint less the published number.",
}
PROTOCOL = "MST"  # the component that is itself an evaluation protocol
STEP = Column(key="step", header="Δ [95 %]", group=OURS, kind="delta")
ASIDE = "They stand beside ours and are not ranked with them."
APART = "They have columns of their own, and nothing is ranked across."
DRAWN = "Ours are of streets, which is drawn: what is between them and the published is no reproduction's."
ROWS_OF_STEPS = "Rows with Δ are differences of two rows above, paired by seed, with Student's 95 % interval."


class Shown(NamedTuple):
    """A column and what stands in it, by the label of the row."""

    column: Column
    cells: Mapping[str, Cell]

    @property
    def has_numbers(self) -> bool:
        return any(cell.is_number for cell in self.cells.values())


def rows(records: Records, shown: Sequence[Shown], groups: Mapping[str, str] | None = None) -> tuple[Row, ...]:
    """The study's rows, in their order; `groups` parts them by label."""
    parts = groups or {}
    return tuple(
        Row(key=r.label, group=parts.get(r.label, ""), cells=tuple(s.cells[r.label] for s in shown))
        for r in records.rows
    )


def line(
    columns: Sequence[Column], key: str, found: Mapping[str, Cell], group: str = "", about: Column | None = None
) -> Row:
    """A row of what is found by the columns' keys; its other cells are blank."""
    return Row(key=key, group=group, about=about, cells=tuple(found.get(c.key, Cell()) for c in columns))


# --- columns -----------------------------------------------------------------------------


def labels(records: Records, header: str = "Row") -> Shown:
    """What the study calls its rows."""
    return Shown(Column(key="row", header=header), {r.label: Cell(text=r.label) for r in records.rows})


def checks(records: Records) -> list[Shown]:
    """A column a component: which rows have it."""
    return [
        Shown(
            Column(key=c, header=c, group="Components", kind="check"),
            {r.label: Cell(text="✓" if c in r.components else "") for r in records.rows},
        )
        for c in map(str, records.study["components"])
    ]


def ours(records: Records, metric: Metric, *keys: str) -> list[Shown]:
    """Columns of COLUMNS, "step" and "over" that row; without a number only those of ALWAYS stay."""
    found = [_ours(records, plain(metric), key) for key in keys]
    return [shown for key, shown in zip(keys, found, strict=True) if key in ALWAYS or shown.has_numbers]


def plain(metric: Metric) -> Metric:
    """The metric of the student as it is at the end of training: what rows are compared by."""
    return metric._replace(statistic="plain", select="last")


def _ours(records: Records, metric: Metric, key: str) -> Shown:
    if key == "step":
        return Shown(STEP, cells.step_cells(records, metric))
    if key == "over":
        return over(records)
    header, group, changes = COLUMNS[key]
    about = Column(key=key, header=header, group=group, kind="score", better="max", count=key == "last")
    where = metric._replace(**changes)
    return Shown(about, cells.with_ties(records, where, cells.scores(records, where)))


# --- which row is compared with which ----------------------------------------------------


def marks(records: Records) -> dict[str, str]:
    """A short name of every row: what its label starts with in parentheses, or else a letter."""
    own = [m[0] if (m := re.match(r"\([^()]{1,5}\)(?= )", row.label)) else "" for row in records.rows]
    if not all(own) or len(set(own)) < len(own):
        own = [_letter(i) for i in range(len(own))]
    return dict(zip((r.label for r in records.rows), own, strict=True))


def _letter(i: int) -> str:
    """a, b, ... z, aa, ab, ..."""
    before, last = divmod(i, 26)
    return (_letter(before - 1) if before else "") + ascii_lowercase[last]


def marked(records: Records, header: str = "Row") -> list[Shown]:
    """The rows' labels, behind their letters where they bring no short name of their own."""
    known = marks(records)
    text = labels(records, header)
    if all(label.startswith(mark) and mark.startswith("(") for label, mark in known.items()):
        return [text]
    return [Shown(Column(key="mark", header=""), {label: Cell(text=m) for label, m in known.items()}), text]


def over(records: Records) -> Shown:
    """The short name of the row that each row is compared with."""
    known = marks(records)
    column = Column(key="over", header="over", group=OURS)
    return Shown(column, {r.label: Cell(text=known.get(r.parent, "")) for r in records.rows})


# --- captions and notes ------------------------------------------------------------------


def caption(records: Records, where: str, columns: Sequence[Column], ablated: str = "", **says: str) -> str:
    """What the numbers are, what the columns that are there mean (`says` beside SAYS), and the protocol.

    Raises ConfigError when rows were evaluated in ways that no column may mix.
    """
    known = SAYS | says
    about = [known[column.key] for column in columns if column.key in known]
    counted = any(column.count for column in columns)
    start = f"Study {records.name}, evaluated on {where}: {over_seeds(records, counted)}."
    return " ".join([start, *about, cells.protocol_sentence(records, ablated)])


def over_seeds(records: Records, counted: bool = False) -> str:
    """How the seeds of a cell become a number, and whether their number is always beside it (`counted`)."""
    if len(records.seeds) == 1:
        return f"seed {records.seeds[0]} alone, hence without spread or interval, last checkpoint"
    seeds = ", ".join(map(str, records.seeds))
    spread = f"mean ± sample standard deviation over seeds {seeds}"
    if counted:
        return f"{spread} (number of seeds) of the last checkpoint"
    return f"{spread} of the last checkpoint; in parentheses how many of them a number speaks of, where not all"


def source_note(records: Records, source: str, aside: str = ASIDE) -> Iterator[str]:
    """Where published numbers come from, if the study names some."""
    if records.study.get("reference"):
        known = cells.domains(records, plain(cells.metric_of(records)))
        drawn = f" {DRAWN}" if any(name.startswith("streets/") for name in known) else ""
        yield f"Published numbers: {source}. {aside}{drawn}"


def stars_note(records: Records) -> Iterator[str]:
    """Why no difference has a star, where none can have one."""
    known = [step for step in cells.steps(records, plain(cells.metric_of(records))).values() if step.rows]
    if known and min(least := [step.least for step in known if math.isfinite(step.least)]) >= ALPHA:
        yield (
            f"No difference can have a star: with so few pairs no p, Holm over {known[0].rows} rows, is below "
            f"{number(min(least), 3)}; it takes {pairs_for(known[0].rows)} pairs a row."
        )


def absent_note(shown: Iterable[Shown]) -> Iterator[str]:
    """What a cell says that lacks nothing."""
    if any(cell.status == "n/a" for one in shown for cell in one.cells.values()):
        yield "n/a: all cells of the row are done, and have no such number."


def updates_note(records: Records, names: Mapping[str, str] | None = None) -> Iterator[str]:
    """Rows by their number of updates, where they differ; `names` calls some by what they share."""
    found: dict[int, dict[str, None]] = {}
    for label, steps in updates(records).items():
        found.setdefault(steps, {})[(names or {}).get(label, label)] = None
    if len(found) > 1:
        said = "; ".join(f"{steps:,} in {', '.join(names)}" for steps, names in found.items())
        yield f"Updates a cell's stages took in all: {said}; a row is not matched with its parent for compute."


def updates(records: Records) -> dict[str, int]:
    """Updates that the stages of a cell took in all, by row."""
    known = cells.scores(records, "cost/steps", scale=1)
    return {label: round(cell.mean) for label, cell in known.items() if cell.is_number}


def lacking_note(records: Records) -> Iterator[str]:
    """Cells that are not done, and why; then what else makes the numbers less than they seem."""
    lacking = [f"{r.label} ({_states(records, r)})" for r in records.rows if _states(records, r)]
    if lacking:
        yield f"Not complete: {'; '.join(lacking)}. Rows speak of the seeds that are done."
    if not records.done.empty:
        yield from records.warnings


def _states(records: Records, row: StudyRow) -> str:
    """Seeds of a row that are not done, and why: empty for a complete row."""
    states = [(seed, records.status(row.label, seed)) for seed in records.seeds]
    return ", ".join(f"seed {seed} {state}" for seed, state in states if state != "done")


def table(
    records: Records,
    shown: Sequence[Shown],
    *,
    title: str,
    kind: str,
    notes: Iterable[str],
    ablated: str = "",
    says: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
) -> Table:
    """The study's rows under some columns; `kind` and the study's name label it, `caption` takes `ablated` and `says`.

    Raises ConfigError when rows were evaluated in ways that no column may mix.
    """
    columns = tuple(s.column for s in shown)
    about = [*(stars_note(records) if STEP in columns else ()), *absent_note(shown)]
    return Table(
        title=title,
        caption=caption(records, cells.metric_of(records).where, columns, ablated, **(says or {})),
        label=f"{kind}-{records.name}",
        columns=columns,
        rows=rows(records, shown, groups),
        notes=(*about, *notes),
        n=len(records.seeds),
    )
