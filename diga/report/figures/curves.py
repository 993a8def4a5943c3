"""Trainings over time: losses of every stage, and what its snapshots scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diga.data.labels import CLASSES, COLOURS
from diga.report import cells
from diga.report.cells import PERCENT
from diga.report.evidence import Evidence
from diga.report.figures.canvas import DASHES, INK, ROWS, SOFT, bare, canvas, left_out, short
from diga.report.records import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMOOTH = 9  # points of a loss that are averaged
PANELS = 9
ACROSS = 3
NARROW = 10  # points of IoU


ALL, WITH_IT = "all rows", "all rows with it"


class Band(NamedTuple):
    """A curve over n seeds: steps (T,), mean and sample standard deviation (T,)."""

    steps: NDArray[Any]
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    n: int


class Line(NamedTuple):
    """What a curve is called, the stage runs of its seeds, the first row with them, and whether no row has others."""

    label: str
    fingerprints: tuple[str, ...]
    row: str
    is_common: bool


def lines(found: Evidence, stage: str) -> list[Line]:
    """A line for all rows that share the very stage runs of a stage, called by the first of them."""
    shared: dict[tuple[str, ...], list[str]] = {}
    rows = found.made_of.get(stage, {})
    for row in rows_of(found):
        if row in rows:
            shared.setdefault(rows[row], []).append(row)
    total, is_common = len(rows_of(found)), len(shared) == 1 < len(rows)
    return [Line(_called(same, len(rows), total), runs, same[0], is_common) for runs, same in shared.items()]


def rows_of(found: Evidence) -> list[str]:
    """Rows in the order that they were gathered in."""
    return list(dict.fromkeys(found.stages["row"].tolist()))


def _called(rows: Sequence[str], having: int, total: int) -> str:
    """What a line of `rows` is called, of the `having` rows that have its stage, of `total` rows."""
    if len(rows) == having > 1:
        return ALL if having == total else WITH_IT
    return short(rows[0], 26) if len(rows) == 1 else f"{short(rows[0], 20)} and {len(rows) - 1} more"


def band(found: Evidence, line: Line, name: str, smooth: int = 1) -> Band | None:
    """Mean and spread over seeds of a value at the steps that all of them have; None where there are none."""
    curves = [found.told[run, name] for run in dict.fromkeys(line.fingerprints) if (run, name) in found.told]
    steps = sorted(set.intersection(*map(set, curves))) if curves else []
    if not steps:
        return None
    values = np.array([[curve[step] for step in steps] for curve in curves])
    if smooth > 1 and len(steps) > smooth:
        ones = np.ones(smooth)
        weight = np.convolve(np.ones(len(steps)), ones, "same")
        values = np.stack([np.convolve(v, ones, "same") / weight for v in values])
    sd = values.std(0, ddof=1) if len(values) > 1 else np.zeros(len(steps))
    return Band(np.array(steps), values.mean(0), sd, len(values))


# --- figures -----------------------------------------------------------------------------


def losses(known: Records, found: Evidence, path: Path) -> str:
    """Every loss of every trained stage: mean over seeds, smoothed, with a band of one standard deviation."""
    panels = [(stage, name) for stage in _trained(found) for name in _names(found, stage)]
    if not panels:
        return ""
    panels, without = panels[:PANELS], _cut(panels, "losses")
    with _sheet(len(panels), path) as (figure, places):
        legend: dict[str, Any] = {}
        for (stage, name), at in zip(panels, places, strict=True):
            axes = figure.add_axes(at)
            _draw(axes, found, stage, name, legend, SMOOTH)
            axes.set_title(f"{short(stage, 18)}: {short(name.removeprefix('loss/'), 16)}", fontsize=8.5, loc="left")
        _legend(figure, legend)
    return (
        f"Losses by update: mean over seeds, a running mean of {SMOOTH} points, with a band of one standard deviation "
        f"of the seeds. Rows that share a stage run share its line.{without}{left_out(known, rows_of(found))}"
    )


def snapshots(known: Records, found: Evidence, path: Path) -> str:
    """mIoU of every snapshot, and the measures without labels beside it."""
    domain = cells.shown_domain(known)
    names = [f"{domain}/plain/miou", *sorted({n for n in found.curves["name"] if n.startswith("label_free/")})]
    panels = [(stage, name) for stage in _scores(found, domain) for name in names]
    panels = [(s, n) for s, n in panels if any(_has(found, line, n) for line in lines(found, s))]
    if not panels:
        return ""
    panels, without = panels[:PANELS], _cut(panels, "values")
    with _sheet(len(panels), path) as (figure, places):
        legend: dict[str, Any] = {}
        for (stage, name), at in zip(panels, places, strict=True):
            axes = figure.add_axes(at)
            is_score = name.endswith("/miou")
            _draw(axes, found, stage, name, legend, scale=PERCENT if is_score else 1.0)
            title = "mIoU (%)" if is_score else short(name.removeprefix("label_free/"), 22)
            axes.set_title(title, fontsize=8.5, loc="left")
        _legend(figure, legend)
    return (
        f"Snapshots of the scored stage on {domain}, student as it is: mIoU, which reads target labels, and measures "
        "of unlabelled target images. Mean over seeds with a band of one standard deviation."
        f"{without}{left_out(known, rows_of(found))}"
    )


def by_class(known: Records, found: Evidence, path: Path) -> str:
    """IoU of every class at every snapshot, a panel a class."""
    domain = cells.shown_domain(known)
    stages = _scores(found, domain)
    prefix = f"{domain}/plain/iou/"
    told = {n.removeprefix(prefix) for n in found.curves["name"] if n.startswith(prefix)}
    here = [name for name in CLASSES if name in told]
    if not stages or not here:
        return ""
    across, down = 5, -(-len(here) // 5)
    width, height = 7.2, 1.18 * down + 0.75
    with canvas(width, height, path) as figure:
        legend: dict[str, Any] = {}
        for i, name in enumerate(here):
            x, y = i % across, i // across
            at = ((0.32 + 1.38 * x) / width, (0.72 + 1.18 * (down - 1 - y)) / height, 1.16 / width, 0.84 / height)
            axes = figure.add_axes(at)
            _draw(axes, found, stages[0], prefix + name, legend, scale=PERCENT)
            _span(axes)
            axes.tick_params(labelsize=6, labelbottom=i + across >= len(here))
            axes.set_title(name, fontsize=7.5, loc="left", pad=2, x=0.09)
            colour = tuple(v / 255 for v in COLOURS[CLASSES.index(name)])
            axes.plot([0.0], [1.09], "s", transform=axes.transAxes, color=colour, markersize=5, clip_on=False)
        _legend(figure, legend)
    return (
        f"IoU (%) of every class at every snapshot on {domain}, student as it is: mean over seeds with a band of one "
        f"standard deviation.{left_out(known, rows_of(found))}"
    )


def _cut(panels: Sequence[tuple[str, str]], what: str) -> str:
    """A sentence, to follow another, on the panels that there is no room for."""
    absent = ", ".join(f"{short(stage, 40)} {short(name.partition('/')[2], 40)}" for stage, name in panels[PANELS:])
    return f" The first {PANELS} of {len(panels)} {what}: without {absent}." if absent else ""


def _span(axes: Axes) -> None:
    """At least ten points from bottom to top, so that a wobble does not look like a leap."""
    low, high = axes.get_ylim()
    middle, half = (low + high) / 2, max(high - low, NARROW) / 2
    axes.set_ylim(max(0, middle - half), max(NARROW, middle + half))
    axes.locator_params(axis="y", nbins=3)


def _trained(found: Evidence) -> list[str]:
    """Stages that told losses: what more rows share comes first."""
    with_loss = {run for run, name in found.told if name.startswith("loss/")}
    distinct = {stage: {run for runs in rows.values() for run in runs} for stage, rows in found.made_of.items()}
    here = [stage for stage, runs in distinct.items() if runs & with_loss]
    return sorted(here, key=lambda stage: (len(distinct[stage]), stage))


def _names(found: Evidence, stage: str) -> list[str]:
    runs = {run for runs in found.made_of[stage].values() for run in runs}
    return sorted({name for run, name in found.told if run in runs and name.startswith("loss/")})


def _scores(found: Evidence, domain: str) -> list[str]:
    """Stages with at least two snapshots scored."""
    name = f"{domain}/plain/miou"
    many = {run for (run, told), curve in found.told.items() if told == name and len(curve) >= 2}
    return [stage for stage, rows in found.made_of.items() if any(many & set(runs) for runs in rows.values())]


def _has(found: Evidence, line: Line, name: str) -> bool:
    return band(found, line, name) is not None


# --- panels ------------------------------------------------------------------------------


class _sheet:
    """A page of panels, and where each stands."""

    def __init__(self, count: int, path: Path) -> None:
        across, down = min(ACROSS, count), -(-count // ACROSS)
        width, height = 7.2, 1.85 * down + 0.55
        wide = (width - 0.15) / across
        self.places = [
            (
                (0.42 + wide * (i % across)) / width,
                (0.78 + 1.85 * (down - 1 - i // across)) / height,
                (wide - 0.52) / width,
                1.3 / height,
            )
            for i in range(count)
        ]
        self.page = canvas(width, height, path)

    def __enter__(self) -> tuple[Figure, list[tuple[float, float, float, float]]]:
        return self.page.__enter__(), self.places

    def __exit__(self, *failure: Any) -> None:
        self.page.__exit__(*failure)


def _draw(
    axes: Axes, found: Evidence, stage: str, name: str, legend: dict[str, Any], smooth: int = 1, scale: float = 1.0
) -> None:
    for line, at in _bands(found, stage, name, smooth):
        colour, dash = legend.setdefault(line.label, _look(found, line))
        marker = "o" if len(at.steps) <= 12 else ""
        axes.plot(at.steps, scale * at.mean, color=colour, linestyle=dash, linewidth=1.3, marker=marker, markersize=3)
        low, high = scale * (at.mean - at.sd), scale * (at.mean + at.sd)
        axes.fill_between(at.steps, low, high, color=colour, alpha=0.16, linewidth=0)
    axes.tick_params(labelsize=7)
    bare(axes)


def _bands(found: Evidence, stage: str, name: str, smooth: int) -> Iterator[tuple[Line, Band]]:
    for line in lines(found, stage):
        if at := band(found, line, name, smooth):
            yield line, at


def _look(found: Evidence, line: Line) -> tuple[str, Any]:
    """Colour and dash of the first row of a line, the same in every figure; what no row has another of is ink."""
    if line.is_common:
        return INK, "-" if line.label == ALL else "--"
    at = rows_of(found).index(line.row)
    return ROWS[at % len(ROWS)], DASHES[at % len(DASHES)]


def _legend(figure: Figure, looks: dict[str, tuple[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=c, linestyle=d, linewidth=1.6, label=label) for label, (c, d) in looks.items()]
    columns = min(3, max(1, len(handles)))
    figure.legend(handles=handles, loc="lower center", ncols=columns, frameon=False, fontsize=7.5, handlelength=2.6)
    figure.text(0.995, 0.01, "updates →", ha="right", va="bottom", fontsize=7.5, color=SOFT)
