"""A study at a glance: the score of every row, and every step between rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diga.report import ablation, cells
from diga.report.cells import PERCENT
from diga.report.evidence import Evidence
from diga.report.figures.canvas import (
    BLUE,
    FAINT,
    HALO,
    INK,
    SOFT,
    VERDICTS,
    WIDER,
    bare,
    broken,
    canvas,
    differences,
    frame,
    seeds_of,
    short,
    wrapped,
)
from diga.report.records import Records
from diga.report.statistics import Difference, half_width
from diga.report.table import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 40  # rows of a figure
BESIDE = 8  # rows that have room side by side


def ladder(known: Records, _: Evidence, path: Path) -> str:
    """Mean of every row, its 95 % interval and its seeds as dots; many rows stand below each other."""
    metric = ablation.plain(cells.metric_of(known))
    rows = known.rows[:MOST]
    values = [PERCENT * np.array(list(seeds_of(known, row.label, str(metric)).values()), float) for row in rows]
    if not any(len(v) for v in values):
        return ""
    means = [float(v.mean()) if len(v) else math.nan for v in values]
    flat = len(rows) > BESIDE
    with _page(path, [row.label for row in rows], flat) as axes:
        has_dots = _links(axes, known, means, flat)
        halves = [half_width(float(v.std(ddof=1)), len(v)) if len(v) > 1 else 0.0 for v in values]
        _rungs(axes, values, means, halves, flat)
        for at, mean in enumerate(means):
            _number(axes, at, mean, flat)
        spans = [(m - h, m + h, len(v)) for m, h, v in zip(means, halves, values, strict=True)]
        (axes.set_xlim if flat else axes.set_ylim)(*frame((x for v in values for x in v), spans))
        (axes.set_xlabel if flat else axes.set_ylabel)("mIoU (%)")
        bare(axes, "x" if flat else "y")
    dotted = " Dotted: the height of the row that each is compared with." if has_dots else ""
    more = f" The first {MOST} of {len(known.rows)} rows." if len(known.rows) > MOST else ""
    wider = WIDER if any(len(v) == 2 for v in values) else ""
    return (
        f"mIoU on {metric.where}, last checkpoint: mean, Student's 95 % interval over seeds, and every seed as a dot."
        f"{dotted}{wider}{more}"
    )


@contextmanager
def _page(path: Path, rows: Sequence[str], flat: bool) -> Iterator[Axes]:
    """Axes with a row at every tick: side by side, or below each other where they are many."""
    if flat:
        width, height = 7.2, 0.8 + 0.34 * len(rows)
        place = (0.30, 0.5 / height, 0.675, 1 - 0.6 / height)
    else:
        below = 0.25 + 0.15 * max(2, *(wrapped(row, 13).count("\n") + 1 for row in rows), 2)  # inches, for the labels
        width, height = 1.1 + 1.05 * max(len(rows), 5), 2.9 + below
        place = (0.6 / width, below / height, 1 - 0.7 / width, 1 - (below + 0.15) / height)
    with canvas(width, height, path) as figure:
        axes = figure.add_axes(place)
        if flat:
            axes.set_yticks(range(len(rows)), [short(row) for row in rows], fontsize=8)
            axes.set_ylim(len(rows) - 0.5, -0.5)
        else:
            axes.set_xticks(range(len(rows)), [wrapped(row, 13) for row in rows])
            axes.set_xlim(-0.5, len(rows) - 0.5)
        yield axes


def _turned(x: Any, y: Any, flat: bool) -> tuple[Any, Any]:
    return (y, x) if flat else (x, y)


def _links(axes: Axes, known: Records, means: Sequence[float], flat: bool) -> bool:
    """A line up a ladder; elsewhere the height of the row that each is compared with, dotted: whether there are any."""
    place = {row.label: i for i, row in enumerate(known.rows[: len(means)])}
    pairs = [(x, place[row.parent]) for x, row in enumerate(known.rows[: len(means)]) if row.parent in place]
    is_ladder = all(below == x - 1 for x, below in pairs)
    for x, below in pairs:
        if is_ladder:
            axes.plot(*_turned([below, x], [means[below], means[x]], flat), color=FAINT, linewidth=2, zorder=1)
        else:
            ends = _turned([x - 0.35, x + 0.35], [means[below]] * 2, flat)
            axes.plot(*ends, color=SOFT, linewidth=1.2, linestyle=":", zorder=1)
    return not is_ladder


def _rungs(
    axes: Axes, values: Sequence[NDArray[Any]], means: Sequence[float], halves: Sequence[float], flat: bool
) -> None:
    """Intervals, means and seeds of all rows, each at once: a row's own would take several times as long."""
    rows = range(len(values))
    wide = [at for at in rows if halves[at]]
    ends = broken([(at, at) for at in wide]), broken([(means[at] - halves[at], means[at] + halves[at]) for at in wide])
    size, mark = (9, "|") if flat else (15, "_")
    axes.plot(*_turned(*ends, flat), color=INK, linewidth=1.2, marker=mark, markersize=5, zorder=2)
    look: dict[str, Any] = {"linestyle": "", "color": INK, "markeredgewidth": 2.4, "zorder": 3}
    axes.plot(*_turned(rows, means, flat), marker=mark, markersize=size, **look)
    spread = [at + (np.linspace(-0.09, 0.09, n) if (n := len(v)) > 1 else np.zeros(n)) for at, v in enumerate(values)]
    seeds = _turned(np.concatenate(spread), np.concatenate(values), flat)
    axes.plot(*seeds, "o", markersize=4.5, color=BLUE, alpha=0.75, markeredgewidth=0, zorder=4)


def _number(axes: Axes, at: int, mean: float, flat: bool) -> None:
    """A row's mean in figures, or that there is none."""
    if math.isnan(mean):
        where = ("axes fraction", "data") if flat else ("data", "axes fraction")
        axes.annotate("--", _turned(at, 0.03, flat), xycoords=where, ha="center", va="center", color=SOFT)
        return
    shift, side = ((0, 7), "center") if flat else ((11, -3), "left")
    look: dict[str, Any] = {"fontsize": 7.5 if flat else 8.5, "weight": "bold", "bbox": HALO, "ha": side, "zorder": 5}
    axes.annotate(f"{mean:.1f}", _turned(at, mean, flat), xytext=shift, textcoords="offset points", **look)


# --- steps -------------------------------------------------------------------------------


def deltas(known: Records, _: Evidence, path: Path) -> str:
    """Every row less the row it is compared with: mean, interval, seeds; colour and form say what it supports."""
    metric = ablation.plain(cells.metric_of(known))
    steps = {label: step for label, step in cells.steps(known, metric).items() if step.n}
    if not steps:
        return ""
    parents = {row.label: row.parent for row in known.rows}
    shown = list(steps)[:MOST]
    height = 0.75 + 0.42 * len(shown)
    with canvas(7.2, height, path) as figure:
        axes = figure.add_axes((0.30, 0.5 / height, 0.675, 1 - 0.6 / height))
        axes.axvline(0, color=SOFT, linewidth=0.9, zorder=1)
        seeds = [differences(known, label, parents[label], str(metric)) for label in shown]
        _steps(axes, [steps[label] for label in shown], seeds)
        points = [v for own in seeds for v in own]
        spans = [(PERCENT * s.low, PERCENT * s.high, s.n) for s in map(steps.__getitem__, shown)]
        axes.set_xlim(*frame((0.0, *points), spans))
        names = [f"{wrapped(label, 34)}\nover {short(parents[label], 30)}" for label in shown]
        axes.set_yticks(range(len(shown)), names, fontsize=7.5, linespacing=1.05)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlabel("difference in mIoU, points, paired by seed")
        bare(axes, "x")
        axes.spines["left"].set_visible(False)
    return (
        f"Every row less the row it is compared with, on {metric.where}: mean, Student's 95 % interval, and every pair "
        "of seeds. Filled blue: the interval is above zero; filled orange: below; hollow grey: zero is in it, or there "
        "is one pair. Intervals are one by one, not corrected for how many there are."
        f"{WIDER if any(step.n == 2 for step in steps.values()) else ''}"
    )


def _steps(axes: Axes, steps: Sequence[Difference], seeds: Sequence[Sequence[float]]) -> None:
    """Intervals, seeds and means of all steps with a verdict at once, then every mean in figures."""
    for verdict in dict.fromkeys(step.verdict for step in steps):
        own = [(y, step) for y, step in enumerate(steps) if step.verdict == verdict]
        colour = VERDICTS[verdict]
        ends = [(y, PERCENT * step.low, PERCENT * step.high) for y, step in own if step.n >= 2]
        axes.plot(
            broken([e[1:] for e in ends]), broken([(y, y) for y, *_ in ends]), color=colour, linewidth=2, zorder=2
        )
        marks = [(v, y + 0.23) for y, _ in own for v in seeds[y]]
        axes.plot(*zip(*marks, strict=True), "|", color=colour, markersize=5, alpha=0.8, zorder=2)
        face = colour if verdict in ("holds", "reversed") else "white"
        look: dict[str, Any] = {"markersize": 7, "color": colour, "markerfacecolor": face, "markeredgewidth": 1.5}
        axes.plot([PERCENT * step.mean for _, step in own], [y for y, _ in own], "o", **look, zorder=3)
    for y, step in enumerate(steps):
        mean = PERCENT * step.mean
        said = number(mean, signed=True).replace("-", "−")
        axes.annotate(said, (mean, y), xytext=(0, 7), textcoords="offset points", fontsize=7.5, ha="center", bbox=HALO)
