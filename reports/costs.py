"""Compute and cost: what a row's cells took, what of it other rows took with them, and what a point was bought for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from diga.report import ablation, cells
from diga.report.ablation import Shown
from diga.report.records import Records
from diga.report.table import Cell, Column, Table, number

HOUR = 3600.0
UNITS = {"EFLOP": 1.0, "PFLOP": 1e3, "TFLOP": 1e6, "GFLOP": 1e9}  # of 1e18 operations
OPERATIONS = (
    "FLOP: floating-point operations of networks and painters, forwards and backwards, as the stages' settings have "
    "them; n/a where a stage or a network has no count."
)
READING = (
    "Updates and time are of all stages that a cell is made of, wherever and whenever they were computed. Shared: the "
    "part of a row's updates in stages that other rows are made of, too, and that were computed once."
)


class Work(NamedTuple):
    """A stage run of a cell: whose it is, and its updates (0 where that was not recorded)."""

    row: str
    seed: int
    fingerprint: str
    updates: int


def table(records: Records) -> Table:
    """A row's updates and time, the part that is shared, and its score with the step that they bought.

    Raises ConfigError when rows were evaluated by different protocols.
    """
    metric = cells.metric_of(records)
    work = list(_work(records))
    shown = [
        *ablation.marked(records),
        *ablation.checks(records),
        *_costs(records),
        _shared(records, work),
        *ablation.ours(records, metric, "last", "step", "over"),
    ]
    return ablation.table(
        records,
        [s for s in shown if s.column.key != "shared" or s.has_numbers],
        title="What it cost",
        kind="costs",
        ablated=ablation.PROTOCOL,
        notes=[
            READING,
            *_counted(shown),
            *_totals(records, work),
            *_machines(records),
            *ablation.lacking_note(records),
        ],
    )


def _costs(records: Records) -> Iterator[Shown]:
    """Updates, and minutes or hours, of a cell."""
    kinds = {"updates": ("cost/steps", "updates", 1.0, 0), "hours": ("cost/seconds", "hours", 1 / HOUR, 2)}
    seconds = [c.mean for c in cells.scores(records, "cost/seconds", 1.0).values() if c.is_number]
    if seconds and max(seconds) < HOUR:
        kinds["hours"] = ("cost/seconds", "minutes", 1 / 60, 1)
    kinds |= _devices(records) | _operations(records)
    for key, (metric, header, scale, decimals) in kinds.items():
        column = Column(
            key=key,
            header=header,
            group="A cell",
            kind="score",
            decimals=decimals,
            spread=key in ("hours", "gpu_hours"),
        )
        yield Shown(column, cells.scores(records, metric, scale))


def _devices(records: Records) -> dict[str, tuple[str, str, float, int]]:
    """Hours of GPUs, where a cell has used one."""
    most = _largest(records, "cost/gpu_seconds")
    unit = ("GPU-hours", 1 / HOUR, 2) if most >= HOUR else ("GPU-minutes", 1 / 60, 1)
    return {"gpu_hours": ("cost/gpu_seconds", *unit)} if most else {}


def _operations(records: Records) -> dict[str, tuple[str, str, float, int]]:
    """Operations in a unit that has digits before the point, where they are recorded."""
    most = _largest(records, "cost/exaflop")
    unit = next((name for name, scale in UNITS.items() if most * scale >= 1), "GFLOP")
    return {"flop": ("cost/exaflop", unit, UNITS[unit], 1)} if most else {}


def _largest(records: Records, metric: str) -> float:
    return max((cell.mean for cell in cells.scores(records, metric, 1.0).values() if cell.is_number), default=0.0)


def _counted(shown: Iterable[Shown]) -> Iterator[str]:
    if any(one.column.key == "flop" for one in shown):
        yield OPERATIONS


def _work(records: Records) -> Iterator[Work]:
    lines = records.done[["row", "seed", "stages"]].itertuples(index=False)
    for row, seed, stages in lines:
        for fingerprint, updates in json.loads(stages or "{}").values():
            yield Work(str(row), int(seed), str(fingerprint), int(updates or 0))


def _shared(records: Records, work: list[Work]) -> Shown:
    rows: dict[str, set[str]] = {}
    for one in work:
        rows.setdefault(one.fingerprint, set()).add(one.row)
    total, shared = Counter[str](), Counter[str]()
    for one in work:
        total[one.row] += one.updates
        shared[one.row] += one.updates * (len(rows[one.fingerprint]) > 1)
    parts = {row: Cell(mean=100 * shared[row] / total[row]) for row in total if total[row]}
    column = Column(key="shared", header="shared (%)", group="A cell", kind="score", spread=False, decimals=0)
    return Shown(column, {r.label: parts.get(r.label, Cell()) for r in records.rows})


def _totals(records: Records, work: list[Work]) -> Iterator[str]:
    """What all finished cells took, each stage once, against each cell by itself."""
    seconds = sum(sum(of.values()) for of in records.values("cost/seconds").values())
    once = sum({one.fingerprint: one.updates for one in work}.values())
    alone = sum(one.updates for one in work)
    if seconds:
        more = [f"{number(seconds / HOUR, 1)} hours"]
        if gpus := sum(sum(of.values()) for of in records.values("cost/gpu_seconds").values()):
            more.append(f"{number(gpus / HOUR, 1)} GPU-hours")
        yield f"{len(records.done)} finished cells, each by itself: {', '.join(more)}."
    if alone:
        saved = number(100 * (1 - once / alone), 0)
        yield f"Updates of all cells, each by itself: {alone:,}; each stage once: {once:,}, {saved} % less."


def _machines(records: Records) -> Iterator[str]:
    """Times of several kinds of machine are not one another's."""
    found: Mapping[str, int] = Counter(str(m) for m in records.done["machine"] if m)
    if len(found) > 1:
        said = "; ".join(f"{name} ({n} cells)" for name, n in found.items())
        yield f"Computed on several kinds of machine, whose hours are not alike: {said}."
