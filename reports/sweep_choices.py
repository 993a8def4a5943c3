"""Which trial each criterion would have chosen, and the points that are lost who cannot look at target labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from diga.report import correlation, search
from diga.report.cells import MEAN, PERCENT
from diga.report.records import Records
from diga.report.search import Search
from diga.report.table import Cell, Column, Row, Table, number
from diga.sweep import LABEL_FREE, LOWER

END, FREE = "/plain/last/miou", "label_free/"
TARGET = "On the target"
READING = (
    "Of trials that are done and have the criterion; of equals the first. Lost: the target mIoU of the best of them "
    "less that of the one that was chosen. τ: Kendall's rank correlation of the criterion with target mIoU, turned so "
    "that more is better. A network that has collapsed is sure of itself and agrees with itself."
)


class Criterion(NamedTuple):
    """Something to choose a trial by: what it is called, its metric, its sign, and whose labels it reads."""

    name: str
    metric: str
    sign: int
    reads: str


class Choice(NamedTuple):
    """What one gets who chooses so: the trial, its target mIoU, the fraction it lacks, rank correlation over n."""

    trial: int
    miou: float
    lost: float
    tau: float
    n: int


def table(records: Records) -> Table:
    """A row a criterion.  Raises ConfigError for a study that is no sweep."""
    found = search.of(records)
    choices = _choices(found)
    columns = (
        Column(key="criterion", header="Chosen by"),
        Column(key="reads", header="reads labels of"),
        Column(key="trial", header="trial"),
        Column(key="miou", header="mIoU (%)", group=TARGET, kind="score", spread=False, decimals=2),
        Column(key="lost", header="lost (points)", group=TARGET, kind="score", spread=False, decimals=2),
        Column(key="tau", header="τ", group="Ranks", kind="delta", decimals=2),
        Column(key="n", header="trials", group="Ranks", kind="score", spread=False, decimals=0),
    )
    return Table(
        title="What could be chosen without target labels",
        caption=search.caption(found),
        label=f"choices-{records.name}",
        columns=columns,
        rows=tuple(_row(criterion, choice) for criterion, choice in choices.items()),
        notes=(READING,) if choices else ("No trial is done that has target mIoU.",),
    )


def _row(criterion: Criterion, choice: Choice) -> Row:
    texts = (criterion.name, criterion.reads or "nothing", f"#{choice.trial}")
    tau = Cell(mean=choice.tau) if choice.tau == choice.tau else Cell(status="missing")
    numbers = (Cell(mean=PERCENT * choice.miou), Cell(mean=PERCENT * choice.lost), tau, Cell(mean=choice.n))
    return Row(key=criterion.name, cells=(*(Cell(text=text) for text in texts), *numbers))


def _criteria(found: Search) -> Iterator[Criterion]:
    """The target's labels, those of other domains that were scored, and every measure that needs none."""
    target = search.target(found.known)
    domain = target.removesuffix(END)
    yield Criterion("target mIoU", target, 1, f"{domain}, the target")
    columns = [str(c) for c in found.known.trials.columns]
    for metric in columns:
        where = metric.removesuffix(END)
        if metric.endswith(END) and where not in (domain, MEAN):
            yield Criterion(f"mIoU on {where}", metric, 1, where)
    measures = {m.removeprefix(FREE) for m in columns if m.startswith(FREE)}
    for name in (*(m for m in LABEL_FREE if m in measures), *sorted(measures - set(LABEL_FREE))):
        yield Criterion(name, FREE + name, -1 if name in LOWER else 1, "")


def _choices(found: Search) -> dict[Criterion, Choice]:
    miou = found.values(search.target(found.known))
    known = {c: {n: v for n, v in found.values(c.metric).items() if n in miou} for c in _criteria(found)}
    return {criterion: _choice(criterion, values, miou) for criterion, values in known.items() if values}


def _choice(criterion: Criterion, values: dict[int, float], miou: dict[int, float]) -> Choice:
    chosen = max(values, key=lambda n: (criterion.sign * values[n], -n))
    tau = correlation.kendall([criterion.sign * v for v in values.values()], [miou[n] for n in values])
    return Choice(chosen, miou[chosen], max(miou[n] for n in values) - miou[chosen], tau, len(values))


def verdicts(records: Records) -> list[str]:
    """One sentence a criterion that reads no label of the target."""
    choices = _choices(search.of(records))
    return [
        f"Choosing by {criterion.name}: trial #{choice.trial}, {number(PERCENT * choice.miou, 2)} on the target, "
        f"{number(PERCENT * choice.lost, 2)} points below the best of {choice.n} trials."
        for criterion, choice in list(choices.items())[1:]
    ]
