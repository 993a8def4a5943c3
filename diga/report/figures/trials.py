"""Trials of a sweep: in their order, from rung to end, on the front of two objectives, and what mattered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diga.report import correlation, importance, search
from diga.report.evidence import Evidence
from diga.report.figures.canvas import BLUE, HALO, INK, ORANGE, ROWS, SOFT, bare, canvas, short
from diga.report.records import Records
from diga.report.search import Search

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOST = {"pruned": ("v", SOFT), "failed": ("X", ORANGE), "stopped": ("|", SOFT)}
MOST = 14  # parameters of a figure


def history(known: Records, _: Evidence, path: Path) -> str:
    """The main objective trial by trial, and the best so far; those that were ended or failed stand at the foot."""
    found = search.of(known)
    values, scale = found.scores(found.main), search.scale(found.main.metric)
    if not values:
        return ""
    from matplotlib.ticker import MaxNLocator

    with canvas(7.2, 3.2, path) as figure:
        axes = figure.add_axes((0.085, 0.15, 0.895, 0.72))
        order = sorted(values)
        points = [scale * values[n] for n in order]
        axes.plot(order, points, "o", color=BLUE, markersize=4.5, alpha=0.75, markeredgewidth=0, label="done")
        best = (np.maximum if found.main.direction == "max" else np.minimum).accumulate(points)
        axes.step([*order, max(found.status)], [*best, best[-1]], where="post", color=INK, linewidth=1.4, label="best")
        low, high = min(points), max(points)
        air = (high - low) or 1.0
        axes.set_ylim(low - 0.16 * air, high + 0.06 * air)
        _foot(axes, found)
        axes.set_xlabel("trial")
        axes.set_ylabel(search.heading(found.main))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        bare(axes)
        figure.legend(loc="upper right", ncols=5, frameon=False, fontsize=7.5)
    return (
        f"Trials in the order in which they were asked for, and the best so far, by {found.main.name}. {_lost(found)}"
    )


def _foot(axes: Axes, found: Search) -> None:
    """Trials without an end."""
    foot = axes.get_xaxis_transform()
    for state, (marker, colour) in LOST.items():
        here = [n for n, s in found.status.items() if s == state]
        if here:
            axes.plot(here, [0.04] * len(here), marker, color=colour, markersize=5, transform=foot, label=state)


def _lost(found: Search) -> str:
    here = [state for state in LOST if state in found.status.values()]
    return f"At the foot: trials that were {' or '.join(here)}, which have no number to be ranked by." if here else ""


# --- from rung to end --------------------------------------------------------------------


def rungs(known: Records, _: Evidence, path: Path) -> str:
    """Every rung against the end, a panel a rung."""
    found = search.of(known)
    final, scale = found.scores(found.main), search.scale(found.main.metric)
    both = {steps: [n for n in final if steps in found.rungs[n]] for steps in found.early}
    both = {steps: trials for steps, trials in both.items() if len(trials) >= 2}
    if not both:
        return ""
    width, wide = 1.0 + 2.7 * len(both), 2.1
    with canvas(width, 2.9, path) as figure:
        for i, (steps, trials) in enumerate(both.items()):
            axes = figure.add_axes(((0.62 + 2.7 * i) / width, 0.16, wide / width, wide / 2.9))
            x, y = (
                [scale * v for v in of] for of in ([found.rungs[n][steps] for n in trials], [final[n] for n in trials])
            )
            axes.plot(x, y, "o", color=BLUE, markersize=4.5, alpha=0.75, markeredgewidth=0)
            tau = correlation.kendall(x, y)
            told = f"   τ = {tau:+.2f}".replace("-", "−") if np.isfinite(tau) else ""
            axes.set_title(f"{steps} updates, n = {len(trials)}{told}", fontsize=8.5, loc="left")
            axes.set_xlabel("at the rung", fontsize=8)
            if i == 0:
                axes.set_ylabel(f"in the end: {search.heading(found.main)}", fontsize=8)
            axes.tick_params(labelsize=7)
            bare(axes, "both")
    return (
        f"{found.main.name} after a rung's updates against the end, of trials that have both: only those that went on. "
        "τ: Kendall's rank correlation. Each rung is a training whose learning rate has decayed to its end."
    )


# --- two objectives ----------------------------------------------------------------------


def front(known: Records, _: Evidence, path: Path) -> str:
    """Two objectives against each other, and the trials that no other is better than in both."""
    found = search.of(known)
    if len(found.objectives) != 2 or len(found.ranked) < 2:
        return ""
    one, other = found.objectives
    x, y = ({n: search.scale(o.metric) * v for n, v in found.scores(o).items()} for o in (one, other))
    points = {n: (x[n], y[n]) for n in found.ranked}
    best = _front(found, points)
    with canvas(6.0, 3.8, path) as figure:
        axes = figure.add_axes((0.11, 0.13, 0.86, 0.83))
        rest = [points[n] for n in points if n not in best]
        if rest:
            axes.plot(*zip(*rest, strict=True), "o", color=SOFT, markersize=4, alpha=0.6, markeredgewidth=0)
        line = sorted(points[n] for n in best)
        axes.plot(*zip(*line, strict=True), "-o", color=BLUE, markersize=6, linewidth=1.2)
        for n in best:
            axes.annotate(f"#{n}", points[n], xytext=(5, 5), textcoords="offset points", fontsize=7.5, bbox=HALO)
        axes.set_xlabel(search.heading(one))
        axes.set_ylabel(search.heading(other))
        bare(axes, "both")
    better = ", ".join(f"{'more' if o.direction == 'max' else 'less'} {o.name}" for o in (one, other))
    return f"Trials by both objectives ({better} is better); blue: those that no other is better than in both."


def _front(found: Search, points: Mapping[int, tuple[float, float]]) -> list[int]:
    """Trials that are not dominated."""
    signs = [1 if o.direction == "max" else -1 for o in found.objectives]
    worth = {n: tuple(s * v for s, v in zip(signs, p, strict=True)) for n, p in points.items()}
    return [
        n
        for n, own in worth.items()
        if not any(w != own and all(a >= b for a, b in zip(w, own, strict=True)) for w in worth.values())
    ]


# --- what mattered -----------------------------------------------------------------------


def mattered(known: Records, evidence: Evidence, path: Path) -> str:
    """The share of every parameter by both methods, as bars."""
    found = search.of(known)
    shares = {method: importance.importances(found, method) for method in importance.METHODS}
    paths = sorted(
        {path for of in shares.values() for path in of}, key=lambda p: -max(of.get(p, 0) for of in shares.values())
    )[:MOST]
    if not paths:
        return ""
    height = 0.8 + 0.36 * len(paths)
    with canvas(7.2, height, path) as figure:
        axes = figure.add_axes((0.26, 0.45 / height, 0.7, 1 - 0.8 / height))
        for k, (method, of) in enumerate(shares.items()):
            here = [(y, of[p]) for y, p in enumerate(paths) if p in of]
            at = [y + 0.37 * (k - 0.5) for y, _ in here]
            axes.barh(at, [100 * share for _, share in here], height=0.33, color=(BLUE, ROWS[4])[k], label=method)
            for y, (_, share) in zip(at, here, strict=True):
                axes.annotate(
                    f"{100 * share:.0f}",
                    (100 * share, y),
                    xytext=(3, 0),
                    textcoords="offset points",
                    fontsize=7,
                    va="center",
                )
        axes.set_yticks(range(len(paths)), [short(found.names[p]) for p in paths], fontsize=8)
        axes.set_ylim(len(paths) - 0.5, -0.5)
        axes.set_xlabel("share (%)")
        bare(axes, "x")
        figure.legend(loc="upper right", ncols=2, frameon=False, fontsize=8)
    values, which = found.compared
    return (
        f"Which parameters mattered for {found.main.name}, of {len(values)} trials {which}: shares of variance over "
        "the space (fANOVA, which leaves out conditional parameters), and of what tells the best tenth from the rest "
        "(PED-ANOVA)."
    )
