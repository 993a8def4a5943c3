"""Measures beside the score: how good target labels were, and what unlabelled images say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diga.report import ablation, cells
from diga.report.cells import PERCENT, Metric
from diga.report.correlation import rank
from diga.report.evidence import Evidence
from diga.report.figures.canvas import (
    BLUE,
    INK,
    ORANGE,
    bare,
    canvas,
    colours_of,
    done_rows,
    mean_of,
    scored,
    seeds_of,
    short,
    wrapped,
)
from diga.report.records import Records
from diga.report.statistics import Spread, half_width, over_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS, LABEL_FREE = "labels/", "label_free/"
KINDS = ("warm", "feature", "consensus", "teacher")  # in this order; others follow
SHARES = {"accuracy": "right, of those labelled (%)", "kept": "labelled (%)", "miou": "mIoU of those labelled (%)"}
TONES = ("#c5d3e0", "#7fa6c9", BLUE, ORANGE, "#009e73", "#cc79a7")
MOST = 12  # rows of a figure
LISTED = 18  # rows of a legend
PANELS = 6  # measures of a figure
TALL = 2.0  # inches of a panel with what is around it


def quality(known: Records, _: Evidence, path: Path) -> str:
    """How much of the target each kind of label speaks of, and how much of that is right, row by row."""
    kinds = _kinds(known)
    tables = {kind: {m: over_seeds(known.done, f"{LABELS}{kind}/{m}") for m in SHARES} for kind in kinds}
    rows = [row for row in done_rows(known) if any(row in tables[kind]["accuracy"] for kind in kinds)][:MOST]
    if not rows:
        return ""
    height = 0.95 + (0.16 + 0.13 * len(kinds)) * len(rows)
    with canvas(7.2, height, path) as figure:
        axes: Axes | None = None
        for i, (measure, title) in enumerate(SHARES.items()):
            at = (0.20 + 0.272 * i, 0.5 / height, 0.235, 1 - 0.85 / height)
            axes = figure.add_axes(at, sharey=axes)
            _grouped(axes, rows, {kind: tables[kind][measure] for kind in kinds}, last=i > 0)
            axes.set_title(title, fontsize=8, loc="left")
        _kind_legend(figure, kinds, height)
    return (
        "Labels of target training images that self-training could learn from, judged at the end of a row's training "
        "with labels that only scoring opens: mean over seeds, with Student's 95 % interval. Left: share that is "
        "right; middle: share of pixels that gets a label; right: mIoU of what is labelled."
    )


def _kinds(known: Records) -> list[str]:
    found = {c.split("/")[1] for c in known.done.columns if c.startswith(LABELS) and c.endswith("/accuracy")}
    return [k for k in KINDS if k in found] + sorted(found - set(KINDS))


def _grouped(axes: Axes, rows: list[str], kinds: dict[str, dict[str, Spread]], last: bool) -> None:
    thick = 0.82 / len(kinds)
    for k, (kind, values) in enumerate(kinds.items()):
        here = [(y, values[row]) for y, row in enumerate(rows) if row in values]
        at = [y - 0.41 + thick * (k + 0.5) for y, _ in here]
        means = [PERCENT * v.mean for _, v in here]
        halves = [PERCENT * half_width(v.sd, v.n) if v.n >= 2 else 0.0 for _, v in here]
        axes.barh(at, means, height=thick * 0.92, color=TONES[k % len(TONES)], label=kind, zorder=2)
        axes.errorbar(means, at, xerr=halves, fmt="none", color=INK, linewidth=0.8, capsize=0, zorder=3)
    axes.set_yticks(range(len(rows)), [wrapped(row, 20) for row in rows], fontsize=7.5)
    axes.tick_params(labelleft=not last)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xticks((0, 25, 50, 75))
    bare(axes, "x")


def _kind_legend(figure: Figure, kinds: list[str], height: float) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(color=TONES[k % len(TONES)], label=kind) for k, kind in enumerate(kinds)]
    at = (0.55, -0.04 / height)
    figure.legend(handles=patches, loc="lower center", ncols=len(kinds), frameon=False, fontsize=8, bbox_to_anchor=at)


# --- without labels ----------------------------------------------------------------------


def label_free(known: Records, _: Evidence, path: Path) -> str:
    """Each measure that needs no label against mIoU: a row a large dot, its seeds small ones."""
    metric, means = ablation.plain(cells.metric_of(known)), scored(known)
    known_measures = sorted(c for c in known.done.columns if c.startswith(LABEL_FREE))
    usable = [m for m in known_measures if len({x for x, _ in _points(known, m, means).values()}) >= 3][:PANELS]
    rows = list(means)
    if not usable:
        return ""
    across = min(3, len(usable))
    down = -(-len(usable) // across)
    lines = -(-len(rows) // 3)
    below = 0.22 + 0.17 * lines
    width, height = 7.2, TALL * down + below
    with canvas(width, height, path) as figure:
        for i, measure in enumerate(usable):
            x, y = i % across, i // across
            left, bottom = (0.55 + x * 2.28) / width, (below + (down - 1 - y) * TALL + 0.32) / height
            axes = figure.add_axes((left, bottom, 1.72 / width, 1.4 / height))
            _scatter(axes, known, measure, metric, rows)
            if x == 0:
                axes.set_ylabel("mIoU (%)")
        _row_legend(figure, rows, columns=3)
    return (
        "What unlabelled target images say, against mIoU, last checkpoint: a large mark is a row's mean, small ones "
        "are its seeds. ρ is Spearman's rank correlation of the rows' means."
    )


def _points(known: Records, measure: str, means: dict[str, float]) -> dict[str, tuple[float, float]]:
    found = {row: mean_of(known, row, measure) for row in means}
    return {row: (mean, means[row]) for row, mean in found.items() if mean is not None}


def _scatter(axes: Axes, known: Records, measure: str, metric: Metric, rows: list[str]) -> None:
    looks = colours_of(rows)
    for row in rows:
        colour, marker = looks[row]
        x, y = seeds_of(known, row, measure), seeds_of(known, row, str(metric))
        both = [(x[s], PERCENT * y[s]) for s in x if s in y]
        if both:
            axes.plot(*zip(*both, strict=True), marker, markersize=2.6, color=colour, alpha=0.5, linewidth=0)
            centre = np.mean(both, axis=0)
            axes.plot(*centre, marker, markersize=6.5, color=colour, markeredgecolor="white", markeredgewidth=0.7)
    points = list(_points(known, measure, scored(known)).values())
    rho = rank([a for a, _ in points], [b for _, b in points]).rho
    told = f"   ρ = {rho:+.2f}" if np.isfinite(rho) else ""
    axes.set_title(f"{short(measure.removeprefix(LABEL_FREE), 18)}{told}", fontsize=8.5, loc="left")
    axes.tick_params(labelsize=7)
    bare(axes, "both")


def _row_legend(figure: Figure, rows: list[str], columns: int) -> None:
    from matplotlib.lines import Line2D

    looks = colours_of(rows)
    handles = [
        Line2D([], [], color=looks[row][0], marker=looks[row][1], markersize=5, linewidth=0, label=short(row))
        for row in rows[:LISTED]
    ]
    figure.legend(handles=handles, loc="lower center", ncols=columns, frameon=False, fontsize=7.5, handletextpad=0.3)
