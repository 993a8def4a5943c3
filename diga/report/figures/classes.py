"""Where a mean comes from: IoU of every class, and which class is taken for which."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diga.data.labels import CLASSES, COLOURS, names
from diga.report import ablation, cells
from diga.report.cells import PERCENT, Metric
from diga.report.evidence import Evidence
from diga.report.figures.canvas import (
    INK,
    SOFT,
    VERDICTS,
    bare,
    best_and_first,
    canvas,
    differences,
    mean_of,
    scored,
    short,
    subject,
)
from diga.report.records import Records
from diga.report.statistics import Difference, difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

READABLE = 45  # per cent of a row of the matrix from which a number is written on dark
OUTLINE = "#ffffff"


def bars(known: Records, found: Evidence, path: Path) -> str:
    """IoU of every class in the best row, in its Cityscapes colour, beside its difference with the first row."""
    pair, metric = subject(known), _where(known, found)
    here = [name for name in CLASSES if name in set(cells.classes_in(known, metric))]
    if pair is None or not here:
        return ""
    best, first = pair
    height = 0.95 + 0.235 * len(here)
    with canvas(7.2, height, path) as figure:
        left = figure.add_axes((0.125, 0.45 / height, 0.42, 1 - 0.85 / height))
        right = figure.add_axes((0.60, 0.45 / height, 0.385, 1 - 0.85 / height), sharey=left)
        means = [_means(known, row, metric, here) for row in pair]
        _bars(left, here, *means)
        for y, name in enumerate(here):
            values = differences(known, best, first, str(metric._replace(name=f"iou/{name}")))
            _gain(right, y, difference(values))
        bare(right, "x")
        right.spines["left"].set_visible(False)
        right.axvline(0, color=SOFT, linewidth=0.9, zorder=1)
        right.tick_params(labelleft=False)
        right.set_xlabel("difference, points, paired by seed")
        left.set_title(short(best, 40), fontsize=9, loc="left")
        right.set_title(f"less {short(first, 36)}", fontsize=9, loc="left")
    where = metric.where
    return (
        f"IoU by class on {where}, last checkpoint. Left: {short(best, 80)}, mean over seeds in the class's colour; "
        f"the black line is {short(first, 80)}. Right: the difference with Student's 95 % interval; blue above zero, "
        "orange below, grey where zero is in it."
    )


def _where(known: Records, found: Evidence) -> Metric:
    """The domain that pictures and classes are of."""
    return ablation.plain(cells.metric_of(known))._replace(domain=cells.shown_domain(known))


def _means(known: Records, row: str, metric: Metric, here: list[str]) -> list[float]:
    """Percent, NaN for a class without a number."""
    found = [mean_of(known, row, str(metric._replace(name=f"iou/{name}"))) for name in here]
    return [float("nan") if mean is None else PERCENT * mean for mean in found]


def _bars(axes: Axes, here: list[str], best: list[float], first: list[float]) -> None:
    colours = [tuple(v / 255 for v in COLOURS[CLASSES.index(name)]) for name in here]
    at = range(len(here))
    axes.barh(at, best, height=0.72, color=colours, edgecolor="#9aa2ab", linewidth=0.4, zorder=2)
    for y, (value, before) in enumerate(zip(best, first, strict=True)):
        axes.plot([before, before], [y - 0.42, y + 0.42], color="white", linewidth=3.2, zorder=3)
        axes.plot([before, before], [y - 0.42, y + 0.42], color="black", linewidth=1.4, zorder=4)
        if np.isfinite(value):
            at_end = max(value, before if np.isfinite(before) else value)
            _beside(axes, f"{value:.0f}", (at_end, y))
    axes.set_yticks(at, here)
    axes.set_ylim(len(here) - 0.4, -0.6)
    axes.set_xlim(0, 106)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("IoU (%)")
    bare(axes, "x")


def _beside(axes: Axes, text: str, at: tuple[float, float]) -> None:
    axes.annotate(text, at, xytext=(5, 0), textcoords="offset points", fontsize=7, va="center")


def _gain(axes: Axes, y: int, step: Difference) -> None:
    if step.n == 0:
        return
    colour, is_settled = VERDICTS[step.verdict], step.verdict in ("holds", "reversed")
    if step.n >= 2:
        axes.plot([step.low, step.high], [y, y], color=colour, linewidth=1.8, zorder=2)
    face = colour if is_settled else "white"
    axes.plot(step.mean, y, "o", markersize=5.5, color=colour, markerfacecolor=face, markeredgewidth=1.3, zorder=3)


# --- which class is taken for which ------------------------------------------------------


def confusion(known: Records, found: Evidence, path: Path) -> str:
    """Shares of every true class by what it was taken for, in the best row, and what is other in the first.

    Of rows that left their counts, that is: which others are better is said.
    """
    means = {row: mean for row, mean in scored(known).items() if row in found.confusions}
    if not means:
        return ""
    best, first = best_and_first(means)
    shares = _shares(found.confusions[best])
    both = best != first
    width, height = (9.6, 4.7) if both else (5.4, 4.7)
    with canvas(width, height, path) as figure:
        title = short(best, 40)
        _matrix(figure, (0.85 / width, 0.16, 3.55 / width, 3.55 / height), shares, found.classes, title)
        if both:
            change = shares - _shares(found.confusions[first])
            title = f"less {short(first, 36)}"
            _matrix(figure, (5.35 / width, 0.16, 3.55 / width, 3.55 / height), change, found.classes, title, True)
    better = [short(row, 80) for row, mean in scored(known).items() if mean > means[best] and row not in means]
    lacking = f" Better, without confusion.parquet: {'; '.join(better)}." if better else ""
    second = f" Right: that less {short(first, 80)}, in points." if both else ""
    return (
        f"Of every true class (a line, 100 %) what its pixels were taken for, over all images and seeds, student as it "
        f"is, last checkpoint; grey: a class that no image has: {short(best, 80)}.{second}{lacking}"
    )


def _shares(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Percent of each true class (a line); NaN for a class that is not there."""
    total = counts.sum(1, keepdims=True)
    whole = np.full(counts.shape, np.nan)
    np.divide(PERCENT * counts, total, out=whole, where=total > 0)
    return whole


def _matrix(
    figure: Figure,
    at: tuple[float, float, float, float],
    values: NDArray[np.float64],
    classes: int,
    title: str,
    signed: bool = False,
) -> None:
    axes = figure.add_axes(at, facecolor="#eceef1")
    largest = float(np.nanmax(np.abs(values), initial=1.0)) if signed else PERCENT
    low, colours = (-largest, "PuOr") if signed else (0.0, "cividis")
    image = axes.imshow(values, aspect="equal", cmap=colours, vmin=low, vmax=largest)
    labels = names(classes)
    axes.set_xticks(range(classes), labels, rotation=90, fontsize=6.5)
    axes.set_yticks(range(classes), labels, fontsize=6.5)
    axes.tick_params(length=0)
    axes.set_xlabel("taken for")
    if not signed:
        axes.set_ylabel("true class")
    axes.set_title(title, fontsize=9, loc="left")
    _numbers(axes, values, largest, signed)
    beside = figure.add_axes((at[0] + at[2] + 0.01, at[1], 0.012, at[3]))
    bar = figure.colorbar(image, cax=beside)
    bar.outline.set_visible(False)
    beside.tick_params(labelsize=6.5, length=0)


def _numbers(axes: Axes, values: NDArray[np.float64], largest: float, signed: bool) -> None:
    """Write what rounds to ten per cent and more into its field."""
    for (y, x), value in np.ndenumerate(values):
        if np.isfinite(value) and abs(value) >= 9.5:
            is_dark = abs(value) > 0.6 * largest if signed else value < READABLE
            text = f"{value:+.0f}".replace("-", "−") if signed else f"{value:.0f}"
            axes.text(x, y, text, ha="center", va="center", fontsize=4.8, color=OUTLINE if is_dark else INK)
