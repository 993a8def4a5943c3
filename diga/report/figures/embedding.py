"""Features of cells in two dimensions, by class and domain (DiGA, Fig. 6)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diga.data.labels import names
from diga.report.evidence import Evidence
from diga.report.figures.canvas import best_and_first, canvas, class_colours, left_out, scored, short
from diga.report.records import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

MOST = 300  # cells of a row that are placed: as many as can be told apart, and a second's work
LEAST = 10
PERPLEXITY = 30.0
ITERATIONS = 500  # half the usual, in half the time: on streets the divergence that is left is 1 to 4 % higher
SHAPES = "o^sDvP"
WIDE = 3.9  # inches of a panel


def features(known: Records, found: Evidence, path: Path) -> str:
    """t-SNE of the cells of the first and the best row that left features: colour the class, shape the domain."""
    enough = {row: table for row, table in found.features.items() if len(table) >= LEAST}
    if not enough:
        return ""
    means = scored(known)
    best, first = best_and_first({row: means.get(row, -math.inf) for row in enough})
    shown = {row: _some(enough[row]) for row in (first, best)}
    domains = sorted({name for table in shown.values() for name in table["domain"]})
    width = WIDE * len(shown) + 1.6
    with canvas(width, 4.0, path) as figure:
        for i, (row, table) in enumerate(shown.items()):
            axes = figure.add_axes(((0.05 + WIDE * i) / width, 0.02, (WIDE - 0.1) / width, 0.9))
            _scatter(axes, table, domains, found.classes)
            axes.set_title(short(row, 44), fontsize=9, loc="left")
        _legend(figure, {int(k) for table in shown.values() for k in table["class"]}, domains, found.classes)
    counts = " and ".join(str(len(table)) for table in shown.values())
    return (
        f"Features of {counts} cells, each row placed by t-SNE of its own (perplexity "
        f"{_perplexity(next(iter(shown.values()))):.0f}): colour is the class, shape the domain; distances between far "
        f"groups mean nothing, nor do those between panels. Seed {found.seed}.{left_out(known, shown)}"
    )


def _some(table: DataFrame) -> DataFrame:
    return table.iloc[np.linspace(0, len(table) - 1, min(MOST, len(table))).astype(int)]


def _perplexity(table: DataFrame) -> float:
    return min(PERPLEXITY, (len(table) - 1) / 3)


def _placed(table: DataFrame) -> NDArray[Any]:
    from sklearn.manifold import TSNE  # type: ignore[import-untyped]  # seconds that a study without features must not pay
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    vectors = np.stack([np.asarray(v, np.float32) for v in table["vector"]])
    with threadpool_limits(1):  # figures are drawn side by side: threads that wait for each other take their cores
        placing = TSNE(init="pca", perplexity=_perplexity(table), max_iter=ITERATIONS, random_state=0)
        return np.asarray(placing.fit_transform(vectors))


def _scatter(axes: Axes, table: DataFrame, domains: list[str], classes: int) -> None:
    colours, placed = class_colours(classes), _placed(table)
    for shape, domain in zip(SHAPES, domains, strict=False):
        here = (table["domain"] == domain).to_numpy()
        dots = [colours[int(k)] for k in table["class"][here]]
        filled = dots if shape == SHAPES[0] else "none"
        axes.scatter(placed[here, 0], placed[here, 1], s=14, c=filled, edgecolors=dots, marker=shape, linewidths=0.7)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#d5d9de")


def _legend(figure: Figure, classes: set[int], domains: list[str], count: int) -> None:
    """Shapes of the domains, then colours of the classes."""
    from matplotlib.lines import Line2D

    look: dict[str, Any] = {"linewidth": 0, "markersize": 5}
    handles = [
        Line2D([], [], marker=shape, color="#555", markerfacecolor=("none", "#555")[shape == SHAPES[0]], **look)
        for shape, _ in zip(SHAPES, domains, strict=False)
    ]
    handles += [Line2D([], [], marker="s", color=class_colours(count)[k], **look) for k in sorted(classes)]
    labels = [short(d, 22) for d, _ in zip(domains, SHAPES, strict=False)] + [names(count)[k] for k in sorted(classes)]
    figure.legend(handles, labels, loc="center right", frameon=False, fontsize=7.5, handletextpad=0.3)
