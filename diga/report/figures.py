"""Figures of a study: the ladder of scores, and label maps side by side."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diga.data.labels import IGNORE, colourise, names
from diga.report.cells import PERCENT, Metric
from diga.report.markdown import visible
from diga.report.records import Records
from diga.report.statistics import by_seed, half_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, DOT, QUIET = "#1f3552", "#c2571a", "#8a8f98"
DPI = 150
STEM = 18  # letters of a picture's name that fit beside it
PANEL, GAP, LEFT, TOP, BOTTOM = 280, 10, 30, 40, 70  # pixels of a grid of pictures
LONGEST = 28  # characters of a label in a figure: tables hold the whole


@dataclass(frozen=True)
class Sample:
    """Files of one validation image: a photograph, its truth, and predictions by row."""

    stem: str
    image: Path
    truth: Path
    predictions: dict[str, Path]

    @property
    def files(self) -> list[Path]:
        return [self.image, self.truth, *self.predictions.values()]


@contextmanager
def _canvas(width: float, height: float, path: Path) -> Iterator[Figure]:
    """A figure, in inches, that is saved when the block ends: no window, no state shared with anybody."""
    import matplotlib as mpl  # half a second that a report of tables alone must not pay
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context({"text.parse_math": False, "font.size": 9}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a label in an unknown script
        figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        yield figure
        figure.savefig(path, metadata={"Software": None})


def short(text: str) -> str:
    """A label that fits a figure."""
    text = visible(text)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def ladder(records: Records, metric: Metric, path: Path) -> bool:
    """Mean of every row, its 95 % interval and its seeds as dots; False if nothing is done."""
    found = [by_seed(records.done, row.label, str(metric)).values() for row in records.rows]
    values = [PERCENT * np.array(list(v), float) for v in found]
    if not any(len(v) for v in values):
        return False
    labels = [textwrap.fill(short(r.label), 12) for r in records.rows]
    below = 0.3 + 0.15 * max(2, *(text.count("\n") + 1 for text in labels))  # inches, for the labels
    width, height = 1.2 + 1.05 * max(len(values), 4), 2.8 + below
    with _canvas(width, height, path) as figure:
        axes = figure.add_axes((0.7 / width, below / height, 1 - 0.85 / width, 1 - (below + 0.3) / height))
        means = [float(v.mean()) if len(v) else math.nan for v in values]
        dotted = "; dotted: the row it is compared with" if _links(axes, records, means) else ""
        for x, (seeds, mean) in enumerate(zip(values, means, strict=True)):
            _rung(axes, x, seeds, mean)
        axes.set_xticks(range(len(values)), labels)
        axes.set_xlim(-0.5, len(values) - 0.5)
        axes.set_ylabel(f"mIoU (%) on {short(metric.where)}")
        axes.grid(axis="y", color="#e6e8eb", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(f"mean, 95 % interval over seeds, and every seed{dotted}", fontsize=9, color=QUIET, loc="left")
    return True


def _links(axes: Axes, records: Records, means: Sequence[float]) -> bool:
    """A line up a ladder; elsewhere the height of the row that each is compared with, dotted: whether there are any."""
    place = {row.label: i for i, row in enumerate(records.rows)}
    pairs = [(x, place[row.parent]) for x, row in enumerate(records.rows) if row.parent in place]
    is_ladder = all(below == x - 1 for x, below in pairs)
    for x, below in pairs:
        if is_ladder:
            axes.plot([below, x], [means[below], means[x]], color=QUIET, linewidth=1, zorder=1)
        else:
            axes.plot([x - 0.35, x + 0.35], [means[below]] * 2, color=QUIET, linewidth=1.2, linestyle=":", zorder=1)
    return not is_ladder


def _rung(axes: Axes, x: int, seeds: NDArray[Any], mean: float) -> None:
    if len(seeds) == 0:
        axes.annotate("--", (x, 0.02), xycoords=("data", "axes fraction"), ha="center", color=QUIET)
        return
    if len(seeds) >= 2:
        half = half_width(float(seeds.std(ddof=1)), len(seeds))
        axes.errorbar(x, mean, yerr=half, color=INK, capsize=4, linewidth=1.4, zorder=2)
    axes.plot(x, mean, marker="_", markersize=16, markeredgewidth=2.2, color=INK, zorder=3)
    spread = np.linspace(-0.1, 0.1, len(seeds)) if len(seeds) > 1 else [0.0]
    axes.plot(x + np.asarray(spread), seeds, "o", markersize=4, color=DOT, alpha=0.85, zorder=4)
    axes.annotate(f"{mean:.1f}", (x, mean), xytext=(10, -10), textcoords="offset points", fontsize=8, color=INK)


# --- pictures ----------------------------------------------------------------------------


def samples(records: Records, domain: str, rows: Sequence[str], to: Path) -> list[Sample]:
    """Samples that every one of `rows` recorded for its lowest common seed, copied under `to`."""
    done = records.done
    seeds = [set(done[done["row"] == row]["seed"]) for row in rows]
    common = sorted(set.intersection(*seeds)) if seeds else []
    if not common:
        return []
    folders: dict[str, Path] = {}
    for i, row in enumerate(rows):
        run = done[(done["row"] == row) & (done["seed"] == common[0])]["run_id"].iloc[0]
        (to / str(i)).mkdir(parents=True, exist_ok=True)
        found = records.artifact(run, f"samples/{domain.replace('/', '__')}", to / str(i))
        if found is not None:
            folders[row] = found
    return _gathered(folders)


def _gathered(folders: dict[str, Path]) -> list[Sample]:
    if not folders:
        return []
    first = next(iter(folders.values()))
    stems = sorted(p.name.removesuffix(".truth.png") for p in first.glob("*.truth.png"))
    found = []
    for stem in stems:
        predictions = {row: folder / f"{stem}.prediction.png" for row, folder in folders.items()}
        if (first / f"{stem}.input.png").is_file() and all(p.is_file() for p in predictions.values()):
            found.append(Sample(stem, first / f"{stem}.input.png", first / f"{stem}.truth.png", predictions))
    return found


def grid(found: Sequence[Sample], path: Path, classes: int = 19) -> bool:
    """Image, truth and predictions of every sample in a row, with the legend of the classes in them."""
    if not found:
        return False
    headings = ["image", "truth", *found[0].predictions]
    shown: set[int] = set()
    rows = [[_panel(f, i > 0, classes, shown) for i, f in enumerate(s.files)] for s in found]
    down = max(1, round(PANEL * rows[0][0].height / rows[0][0].width))
    wide, high = LEFT + len(headings) * (PANEL + GAP), TOP + len(rows) * (down + GAP) + BOTTOM
    with _canvas(wide / DPI, high / DPI, path) as figure:
        figure.figimage(_mosaic(rows, down), xo=LEFT, yo=BOTTOM)
        for x, heading in enumerate(headings):
            at = (LEFT + x * (PANEL + GAP) + PANEL / 2) / wide
            figure.text(at, 1 - 0.8 * TOP / high, short(heading), ha="center", fontsize=9)
        for y, sample in enumerate(found):
            at = 1 - (TOP + y * (down + GAP) + down / 2) / high
            stem = sample.stem if len(sample.stem) <= STEM else f"…{sample.stem[-STEM:]}"  # its end tells them apart
            figure.text(0.5 * LEFT / wide, at, stem, rotation=90, ha="center", va="center", fontsize=6)
        _legend(figure, shown, classes, columns=min(10, 2 * len(headings)))
    return True


def _panel(file: Path, is_label: bool, classes: int, shown: set[int]) -> Image.Image:
    with Image.open(file) as opened:
        if not is_label:
            return opened.convert("RGB")
        label = np.asarray(opened)
    shown |= {int(v) for v in np.unique(label)}
    return Image.fromarray(colourise(label, classes))


def _mosaic(rows: list[list[Image.Image]], down: int) -> NDArray[Any]:
    """Every panel at its place on white, pixel for pixel as it will be printed."""
    whole = Image.new("RGB", (len(rows[0]) * (PANEL + GAP), len(rows) * (down + GAP)), "white")
    for y, row in enumerate(rows):
        for x, panel in enumerate(row):
            how = Image.Resampling.LANCZOS if x == 0 else Image.Resampling.NEAREST
            whole.paste(panel.resize((PANEL, down), how), (x * (PANEL + GAP), y * (down + GAP)))
    return np.asarray(whole)


def _legend(figure: Figure, shown: set[int], classes: int, columns: int) -> None:
    from matplotlib.patches import Patch

    colours = colourise(np.arange(classes, dtype=np.uint8)[None], classes)[0] / 255
    patches = [Patch(color=colours[k], label=name) for k, name in enumerate(names(classes)) if k in shown]
    if IGNORE in shown:
        patches.append(Patch(color="black", label="not counted"))
    figure.legend(
        handles=patches,
        loc="lower center",
        ncols=columns,
        frameon=False,
        fontsize=7,
        handlelength=1.2,
    )
