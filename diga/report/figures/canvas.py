"""What all figures share: a page to draw on, colours that can be told apart, labels that fit."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diga.data.labels import colourise
from diga.report import ablation, cells
from diga.report.markdown import visible
from diga.report.records import Records
from diga.report.statistics import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, FAINT = "#1b2733", "#69727d", "#e4e7eb"
BLUE, ORANGE = "#0072b2", "#d55e00"  # the two ends of every comparison
ROWS = (BLUE, ORANGE, "#009e73", "#cc79a7", "#b8860b", "#56b4e9")  # after Okabe and Ito, for all kinds of sight
MARKERS, DASHES = "osD^vP", ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))  # and without any colour
VERDICTS: dict[Verdict, str] = {"holds": BLUE, "reversed": ORANGE, "tie": SOFT, "open": SOFT}
DPI = 150
WIDER = " An interval of two seeds may be wider than the frame."
LONGEST = 34  # characters of a label in a figure: tables hold the whole
STYLE: dict[Any, Any] = {
    "text.parse_math": False,
    "font.size": 9,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.titley": 1.0,  # where nothing is above the axes: to look for it costs a seventh of all
    "pdf.fonttype": 42,  # letters that an editor can change
    "svg.hashsalt": "diga",
}


@contextmanager
def canvas(width: float, height: float, path: Path) -> Iterator[Figure]:
    """A figure, in inches, that is saved as PNG and PDF when the block ends: no window, no state shared."""
    import matplotlib as mpl  # half a second that a report of tables alone must not pay
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a label in an unknown script
        figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        yield figure
        figure.savefig(path.with_name(f"{path.name}.png"), metadata={"Software": None})
        figure.savefig(path.with_name(f"{path.name}.pdf"), metadata={"CreationDate": None, "Producer": None})


def short(text: str, longest: int = LONGEST) -> str:
    """A label that fits a figure."""
    text = visible(text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def wrapped(text: str, width: int, longest: int = LONGEST) -> str:
    """The same in lines of `width` letters."""
    return textwrap.fill(short(text, longest), width)


def bare(axes: Axes, grid: str = "y") -> None:
    """No frame but where values are read, faint lines along `grid`, behind everything."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=FAINT, linewidth=0.7)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(length=0)


def broken(parts: Iterable[Sequence[float]]) -> list[float]:
    """Numbers of several lines as one that is broken between them."""
    return [v for part in parts for v in (*part, math.nan)]


HALO = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}  # behind a number


def frame(values: Iterable[float], intervals: Iterable[tuple[float, float, int]]) -> tuple[float, float]:
    """Bounds that hold all values, and all intervals of three or more: those of two are often many times as wide."""
    ends = [end for low, high, n in intervals if n >= 3 for end in (low, high)]
    known = [v for v in (*values, *ends) if math.isfinite(v)]
    low, high = min(known), max(known)
    air = 0.08 * (high - low) or 1.0
    return low - air, high + air


def class_colours(classes: int) -> list[tuple[float, float, float]]:
    """Cityscapes' colours of compact ids, in [0, 1]."""
    whole = colourise(np.arange(classes, dtype=np.uint8)[None], classes)[0] / 255
    return [(float(r), float(g), float(b)) for r, g, b in whole]


def colours_of(labels: list[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of every label; a seventh has the colour of the first and another marker."""
    n, m = len(ROWS), len(MARKERS)
    return {label: (ROWS[i % n], MARKERS[(i + i // n) % m]) for i, label in enumerate(labels)}


# --- which rows --------------------------------------------------------------------------


def done_rows(known: Records) -> list[str]:
    """Labels of rows with a finished cell, in the study's order."""
    done = set(known.done["row"])
    return [row.label for row in known.rows if row.label in done]


def left_out(known: Records, shown: Iterable[str]) -> str:
    """A sentence, to follow another, on the rows with a finished cell that a figure does not show."""
    here = set(shown)
    absent = [short(row, 80) for row in done_rows(known) if row not in here]
    return f" Not shown: {'; '.join(absent)}." if absent else ""


def scored(known: Records) -> dict[str, float]:
    """Mean of the study's metric, plain and last, in percent, by row that has one."""
    metric = str(ablation.plain(cells.metric_of(known)))
    return {row: cells.PERCENT * mean for row in done_rows(known) if (mean := mean_of(known, row, metric)) is not None}


def seeds_of(known: Records, row: str, metric: str) -> dict[int, float]:
    """Values of a metric in one row by seed."""
    return dict(known.values(metric).get(row, {}))


def mean_of(known: Records, row: str, metric: str) -> float | None:
    """Mean over seeds; None where there are none."""
    values = seeds_of(known, row, metric)
    return math.fsum(values.values()) / len(values) if values else None


def subject(known: Records) -> tuple[str, str] | None:
    """The row with the highest mean and the first row of the study; None unless there are two such."""
    means = {row: mean for row, mean in scored(known).items() if math.isfinite(mean)}
    return best_and_first(means) if len(means) >= 2 else None


def best_and_first(means: Mapping[str, float]) -> tuple[str, str]:
    """The row with the highest mean but the first one, and the first; of one row alone that, twice."""
    first, *rest = means
    return max(rest or [first], key=means.__getitem__), first


def differences(known: Records, row: str, parent: str, metric: str) -> list[float]:
    """`row` less `parent`, in points, for every seed that both have."""
    ours, theirs = seeds_of(known, row, metric), seeds_of(known, parent, metric)
    return [cells.PERCENT * (value - theirs[seed]) for seed, value in ours.items() if seed in theirs]
