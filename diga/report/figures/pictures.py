"""Label maps side by side: what rows make of images, what changed between two, where kinds of label disagree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diga.data.labels import IGNORE, colourise, names
from diga.report.evidence import Evidence
from diga.report.figures.canvas import DPI, canvas, left_out, short, subject
from diga.report.records import Records

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Picture = NDArray[np.uint8]
STEM, LETTER = 18, 9  # letters of a picture's name at most, and pixels of one
PANEL, GAP, LEFT, TOP, BOTTOM = 280, 10, 30, 34, 84  # pixels of a grid of pictures
HEADING = 30  # letters over a panel
MOST = 4  # images of a figure
GAINED, LOST, WRONG, RIGHT = (0, 114, 178), (213, 94, 0), (190, 196, 203), (244, 246, 248)
KINDS = ("warm", "feature", "consensus", "teacher")


def samples(known: Records, found: Evidence, path: Path) -> str:
    """Image, truth and the predictions of rows, with the legend of the classes in them."""
    if not found.samples:
        return ""
    shown = found.samples[:MOST]
    headings = ["image", "truth", *shown[0].maps]
    labels = [[label_of(s.truth), *map(label_of, s.maps.values())] for s in shown]
    coloured = [[colourise(x, found.classes) for x in line] for line in labels]
    rows = [[photo(s.image), *line] for s, line in zip(shown, coloured, strict=True)]
    seen = {int(v) for line in labels for x in line for v in np.unique(x)}
    sheet(path, headings, [s.stem for s in shown], rows, _class_legend(seen, found.classes))
    return (
        f"Validation images, their truth, and the student's prediction by row, last checkpoint, seed {found.seed}."
        f"{left_out(known, shown[0].maps)}"
    )


def changes(known: Records, found: Evidence, path: Path) -> str:
    """First and best row on the same images, and where one is right and the other wrong."""
    pair = subject(known)
    if pair is None or not found.samples or not set(pair) <= set(found.samples[0].maps):
        return ""
    best, first = pair
    rows, seen = [], set()
    for sample in found.samples[:MOST]:
        truth, before, after = label_of(sample.truth), label_of(sample.maps[first]), label_of(sample.maps[best])
        seen |= {int(v) for x in (truth, before, after) for v in np.unique(x)}
        maps = [colourise(x, found.classes) for x in (truth, before, after)]
        rows.append([photo(sample.image), *maps, verdict(truth, before, after)])
    words: Legend = {"won": GAINED, "lost": LOST, "wrong in both": WRONG}
    stems = [s.stem for s in found.samples[:MOST]]
    legend = _class_legend(seen, found.classes) | words
    sheet(path, ["image", "truth", first, best, "what changed"], stems, rows, legend)
    return (
        f"What {short(best, 80)} wins (blue) and loses (orange) of {short(first, 80)}, pixel by pixel; grey is wrong "
        f"in both, white right in both or not counted. Last checkpoint, seed {found.seed}."
    )


def labels(known: Records, found: Evidence, path: Path) -> str:
    """Kinds of label of target training images, and where they disagree (DiGA, Fig. 7)."""
    if not found.labels:
        return ""
    shown = found.labels[:MOST]
    kinds = [k for k in KINDS if k in shown[0].maps] + [k for k in shown[0].maps if k not in KINDS]
    has_truth = all(s.truth for s in shown)
    rows, seen = [], set()
    for sample in shown:
        maps = [label_of(sample.maps[k]) for k in kinds if k in sample.maps]
        own = [label_of(sample.truth), *maps] if has_truth else maps
        seen |= {int(v) for x in own for v in np.unique(x)}
        rows.append([photo(sample.image), *(colourise(x, found.classes) for x in own), apart(maps[0], maps[1])])
    headings = ["image", *(["truth"] if has_truth else []), *kinds, f"{kinds[0]} and {kinds[1]} disagree"]
    legend = _class_legend(seen, found.classes) | {"disagree": LOST, "one has no label": WRONG}
    sheet(path, headings, [s.stem for s in shown], rows, legend)
    return (
        f"Labels of target training images by kind, of {short(found.labels_of, 80)}, seed {found.seed}; orange: "
        f"{kinds[0]} and {kinds[1]} name different classes."
    )


# --- what is in a panel ------------------------------------------------------------------


def photo(path: Path) -> Picture:
    """A photograph (H, W, 3)."""
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


def label_of(path: Path | None) -> Picture:
    """A label map (H, W) of compact ids."""
    assert path is not None
    with Image.open(path) as opened:
        return np.asarray(opened)


def verdict(truth: Picture, before: Picture, after: Picture) -> Picture:
    """(H, W, 3): where only `after` is right, only `before`, neither; white where both, or nothing is counted."""
    counted, was, now = truth != IGNORE, before == truth, after == truth
    picture = np.empty((*truth.shape, 3), np.uint8)
    picture[:] = RIGHT
    for colour, where in ((GAINED, now & ~was), (LOST, was & ~now), (WRONG, ~was & ~now)):
        picture[where & counted] = colour
    return picture


def apart(one: Picture, other: Picture) -> Picture:
    """(H, W, 3): where two label maps name different classes, and where one of them alone has a label."""
    picture = np.empty((*one.shape, 3), np.uint8)
    picture[:] = RIGHT
    both = (one != IGNORE) & (other != IGNORE)
    picture[both & (one != other)] = LOST
    picture[(one == IGNORE) != (other == IGNORE)] = WRONG
    return picture


# --- the sheet ---------------------------------------------------------------------------

Legend = dict[str, tuple[int, int, int]]


def sheet(path: Path, headings: Sequence[str], stems: Sequence[str], rows: list[list[Picture]], legend: Legend) -> None:
    """Panels in a grid, pixel for pixel: headings above, names of images beside, a legend below."""
    down = max(1, round(PANEL * rows[0][0].shape[0] / rows[0][0].shape[1]))
    wide, high = LEFT + len(headings) * (PANEL + GAP), TOP + len(rows) * (down + GAP) + BOTTOM
    with canvas(wide / DPI, high / DPI, path) as figure:
        figure.figimage(_mosaic(rows, down), xo=LEFT, yo=BOTTOM)
        for x, heading in enumerate(headings):
            at = (LEFT + x * (PANEL + GAP) + PANEL / 2) / wide
            figure.text(at, 1 - 0.75 * TOP / high, short(heading, HEADING), ha="center", fontsize=8.5)
        for y, stem in enumerate(_told_apart(stems)):
            at = 1 - (TOP + y * (down + GAP) + down / 2) / high
            most = min(STEM, down // LETTER)
            name = stem if len(stem) <= most else f"…{stem[1 - most :]}"  # its end tells them apart
            figure.text(0.5 * LEFT / wide, at, name, rotation=90, ha="center", va="center", fontsize=6)
        _legend(figure, legend, columns=min(11, 2 * len(headings)))


def _told_apart(stems: Sequence[str]) -> list[str]:
    """Names of images without the end that all of them have, part by part: frame numbers are often the same."""
    parts = [stem.split("_") for stem in stems]
    while len(parts) > 1 and all(len(p) > 1 for p in parts) and len({p[-1] for p in parts}) == 1:
        parts = [p[:-1] for p in parts]
    return ["_".join(p) for p in parts]


def _mosaic(rows: list[list[Picture]], down: int) -> NDArray[Any]:
    """Every panel at its place on white, pixel for pixel as it will be printed."""
    whole = Image.new("RGB", (len(rows[0]) * (PANEL + GAP), len(rows) * (down + GAP)), "white")
    for y, row in enumerate(rows):
        for x, panel in enumerate(row):
            how = Image.Resampling.LANCZOS if x == 0 else Image.Resampling.NEAREST
            whole.paste(Image.fromarray(panel).resize((PANEL, down), how), (x * (PANEL + GAP), y * (down + GAP)))
    return np.asarray(whole)


def _class_legend(seen: set[int], classes: int) -> Legend:
    colours = colourise(np.arange(classes, dtype=np.uint8)[None], classes)[0]
    known = {name: tuple(map(int, colours[k])) for k, name in enumerate(names(classes)) if k in seen}
    return known | ({"not counted": (0, 0, 0)} if IGNORE in seen else {})  # type: ignore[return-value]


def _legend(figure: Figure, legend: Legend, columns: int) -> None:
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor=(r / 255, g / 255, b / 255), edgecolor="#9aa2ab", linewidth=0.4, label=name)
        for name, (r, g, b) in legend.items()
    ]
    figure.legend(handles=patches, loc="lower center", ncols=columns, frameon=False, fontsize=7, handlelength=1.2)
