"""Settings of a sweep against what came of them: one parameter at a time, choices as strips, all of them at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diga.report import search
from diga.report.evidence import Evidence
from diga.report.figures.canvas import BLUE, FAINT, INK, SOFT, bare, canvas, short
from diga.report.records import Records
from diga.report.search import Search
from diga.report.statistics import half_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from diga.space import Dimension

PANELS = 9
AXES = 9  # of parallel coordinates, the objective's among them
BINS = 5  # of a response
LEAST = 3  # trials of a mean that has an interval
NOT_ASKED = -0.12  # where a parallel axis shows that a parameter was not asked for
LONGEST = 14  # letters of a choice
STRIP, ROOM = 0.26, 0.56  # inches of a choice, and around those of a parameter


def responses(known: Records, _: Evidence, path: Path) -> str:
    """The main objective against every number of the space, with means of equally many trials."""
    found = search.of(known)
    values = found.compared.values
    shown = [d for d in found.dimensions if d.kind != "categorical" and len(_points(found, d.path)) >= LEAST][:PANELS]
    if not shown:
        return ""
    across, down = min(3, len(shown)), -(-len(shown) // 3)
    width, height = 7.2, 1.95 * down + 0.15
    wide = (width - 0.3) / across
    with canvas(width, height, path) as figure:
        for i, dimension in enumerate(shown):
            x, y = i % across, i // across
            at = (
                (0.52 + wide * x) / width,
                (0.42 + 1.95 * (down - 1 - y)) / height,
                (wide - 0.5) / width,
                1.25 / height,
            )
            axes = figure.add_axes(at)
            _response(axes, found, dimension)
            if x == 0:
                axes.set_ylabel(search.heading(found.main), fontsize=7.5)
    several = any(len(_points(found, d.path)) < len(values) for d in shown)
    some = " A panel has the trials that were asked for its parameter." if several else ""
    return (
        f"{found.main.name} against one parameter at a time, whatever the others were: a dot a trial, of those "
        f"{found.compared.which}; black: means of equally many trials with Student's 95 % interval.{some} "
        "Where a sampler hoped for more there are more dots, so a mean is not that of the space."
    )


def _points(found: Search, path: str) -> list[tuple[Any, float]]:
    """Value and objective of every trial to be compared that was asked, in the order of the values."""
    scale = search.scale(found.main.metric)
    pairs = [(found.params[n][path], scale * v) for n, v in found.compared.values.items() if path in found.params[n]]
    return sorted(pairs, key=lambda pair: (str(type(pair[0])), pair[0] if isinstance(pair[0], int | float) else 0))


def _response(axes: Axes, found: Search, dimension: Dimension) -> None:
    x, y = (np.array(of, float) for of in zip(*_points(found, dimension.path), strict=True))
    axes.plot(x, y, "o", color=BLUE, markersize=3.5, alpha=0.55, markeredgewidth=0)
    low, high = float(dimension.low or 0), float(dimension.high or 0)
    if dimension.log:
        axes.set_xscale("log")
        ticks = [low, float(np.sqrt(low * high)), high]
        axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
        axes.set_xlim(low / (high / low) ** 0.06, high * (high / low) ** 0.06)
    else:
        axes.set_xlim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    for centre, part in _bins(np.log(x) if dimension.log else x, y):
        at = float(np.exp(centre) if dimension.log else centre)
        mean, half = float(part.mean()), half_width(float(part.std(ddof=1)), len(part))
        axes.plot([at, at], [mean - half, mean + half], color=INK, linewidth=1.1)
        axes.plot(at, mean, "_", color=INK, markersize=8, markeredgewidth=1.8)
    air = 0.12 * float(y.max() - y.min()) or 1.0
    axes.set_ylim(y.min() - air, y.max() + air)  # an interval of three may be wider than all there is
    axes.set_title(short(found.names[dimension.path], 26), fontsize=8.5, loc="left")
    axes.tick_params(labelsize=6.5)
    axes.minorticks_off()
    bare(axes)


def _bins(x: NDArray[np.float64], y: NDArray[np.float64]) -> Iterator[tuple[float, NDArray[np.float64]]]:
    """Middle and values of equally many points each, of sorted x."""
    count = min(BINS, len(x) // LEAST)
    for part in np.array_split(np.arange(len(x)), count) if count else ():
        yield float(x[part].mean()), y[part]


# --- choices -----------------------------------------------------------------------------


def choices(known: Records, _: Evidence, path: Path) -> str:
    """A strip of trials for every choice, mask strategies among them, with mean and interval."""
    found = search.of(known)
    shown = [d for d in found.dimensions if d.kind == "categorical" and _points(found, d.path)][:PANELS]
    if not shown:
        return ""
    lines = [len(d.choices) for d in shown]
    height = 0.25 + sum(ROOM + STRIP * n for n in lines)
    bottom = height
    with canvas(7.2, height, path) as figure:
        for dimension, n in zip(shown, lines, strict=True):
            bottom -= ROOM + STRIP * n
            axes = figure.add_axes((0.2, (bottom + 0.24) / height, 0.72, STRIP * n / height))
            _strips(axes, found, dimension, last=dimension is shown[-1])
    return (
        f"{found.main.name} by choice, whatever the other parameters were: a dot a trial, of those "
        f"{found.compared.which}; black: mean with Student's 95 % interval, of {LEAST} trials or "
        "more. On the right how many there are."
    )


def _strips(axes: Axes, found: Search, dimension: Dimension, last: bool) -> None:
    points = _points(found, dimension.path)
    everything = [v for _, v in points]
    rng = np.random.default_rng(0)
    for y, choice in enumerate(dimension.choices):
        here = np.array([v for value, v in points if _same(value, choice)])
        shifts = y + rng.uniform(-0.2, 0.2, len(here))
        axes.plot(here, shifts, "o", color=BLUE, markersize=3.5, alpha=0.5, markeredgewidth=0)
        if len(here) >= LEAST:
            mean, half = float(here.mean()), half_width(float(here.std(ddof=1)), len(here))
            axes.plot([mean - half, mean + half], [y, y], color=INK, linewidth=1.3)
            axes.plot(mean, y, "|", color=INK, markersize=9, markeredgewidth=2)
        axes.annotate(
            f"n = {len(here)}", (1.01, y), xycoords=("axes fraction", "data"), fontsize=7, va="center", color=SOFT
        )
    air = 0.08 * (max(everything) - min(everything)) or 1.0
    axes.set_xlim(min(everything) - air, max(everything) + air)
    axes.set_yticks(
        range(len(dimension.choices)), [short(str(c), LONGEST + 8) for c in dimension.choices], fontsize=7.5
    )
    axes.set_ylim(len(dimension.choices) - 0.5, -0.5)
    axes.set_title(short(found.names[dimension.path], 40), fontsize=8.5, loc="left")
    axes.tick_params(axis="x", labelsize=7)
    if last:
        axes.set_xlabel(search.heading(found.main), fontsize=8)
    bare(axes, "x")


def _same(value: Any, choice: Any) -> bool:
    """Whether a value is that choice: true is not 1."""
    own = search.tupled(value)
    return own == choice and isinstance(own, bool) == isinstance(choice, bool)


# --- all at once -------------------------------------------------------------------------


def parallel(known: Records, _: Evidence, path: Path) -> str:
    """A line a trial through all parameters to the objective, whose colour it has."""
    found = search.of(known)
    values = found.compared.values
    shown = found.dimensions[: AXES - 1]
    if len(values) < LEAST:
        return ""
    import matplotlib as mpl

    with canvas(7.2, 3.6, path) as figure:
        axes = figure.add_axes((0.045, 0.17, 0.9, 0.76))
        sign = 1 if found.main.direction == "max" else -1
        order = sorted(values, key=lambda n: sign * values[n])  # the best on top
        low, high = min(values.values()), max(values.values())
        tones = mpl.colormaps["cividis"]
        for place, n in enumerate(order):
            ends = [_height(d, found.params[n].get(d.path)) for d in shown]
            last = (values[n] - low) / ((high - low) or 1.0)
            tone = tones(place / max(1, len(order) - 1))
            axes.plot(range(len(shown) + 1), [*ends, last], color=tone, linewidth=1.1, alpha=0.85)
        for x, dimension in enumerate(shown):
            _axis(axes, x, _ticks(dimension), short(found.names[dimension.path], 15))
        scale = search.scale(found.main.metric)
        bounds = [(0.0, f"{scale * low:.1f}"), (1.0, f"{scale * high:.1f}")]
        _axis(axes, len(shown), bounds, search.heading(found.main))
        axes.set_xlim(-0.2, len(shown) + 0.35)
        axes.set_ylim(NOT_ASKED - 0.06, 1.06)
        axes.set_axis_off()
    more = f" The first {AXES - 1} of {len(found.dimensions)} parameters." if len(found.dimensions) >= AXES else ""
    return (
        f"A line a trial, of those {found.compared.which}, from dark (worst) to bright (best) by {found.main.name}; "
        f"at the foot: the parameter was not asked for.{more}"
    )


def _height(dimension: Dimension, value: Any) -> float:
    """Where a value stands on its axis, from 0 to 1."""
    if value is None:
        return NOT_ASKED
    if dimension.kind == "categorical":
        places = [i for i, choice in enumerate(dimension.choices) if _same(value, choice)]
        return places[0] / max(1, len(dimension.choices) - 1) if places else NOT_ASKED
    low, high = float(dimension.low or 0), float(dimension.high or 0)
    if dimension.log:
        low, high, value = np.log(low), np.log(high), np.log(value)
    return float((value - low) / ((high - low) or 1.0))


def _ticks(dimension: Dimension) -> Sequence[tuple[float, str]]:
    if dimension.kind == "categorical":
        return [(_height(dimension, choice), short(str(choice), LONGEST)) for choice in dimension.choices]
    return [(0.0, f"{dimension.low:g}"), (1.0, f"{dimension.high:g}")]


def _axis(axes: Axes, x: int, ticks: Sequence[tuple[float, str]], title: str) -> None:
    axes.plot([x, x], [0, 1], color=SOFT, linewidth=0.8, zorder=0)
    axes.plot(x, NOT_ASKED, "_", color=FAINT, markersize=6, zorder=0)
    halo = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
    for y, text in ticks:
        axes.annotate(text, (x, y), xytext=(3, 0), textcoords="offset points", fontsize=6.5, va="center", bbox=halo)
    axes.annotate(title, (x, 0), xytext=(0, -34), textcoords="offset points", fontsize=7.5, ha="center", va="top")
