"""Features of cells in two dimensions, by class and domain (DiGA, Fig. 6)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diga.data.labels import names
from diga.report.evidence import Evidence
from diga.report.figures.canvas import bare, canvas, class_colours, short
from diga.report.records import Records

MOST = 2000  # cells that are placed
PERPLEXITY = 30.0
SHAPES = "o^sDvP"


def features(known: Records, found: Evidence, path: Path) -> str:
    """t-SNE of `features.parquet` (domain, class: compact id, vector): colour the class, shape the domain."""
    table = found.features
    if table is None or len(table) < 10:
        return ""
    from sklearn.manifold import TSNE  # type: ignore[import-untyped]  # seconds that a study without features must not pay

    some = table.iloc[np.linspace(0, len(table) - 1, min(MOST, len(table))).astype(int)]
    vectors = np.stack([np.asarray(v, np.float32) for v in some["vector"]])
    perplexity = min(PERPLEXITY, (len(some) - 1) / 3)
    placed = TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(vectors)
    colours, labels, domains = class_colours(found.classes), names(found.classes), sorted(set(some["domain"]))
    with canvas(7.2, 4.6, path) as figure:
        axes = figure.add_axes((0.02, 0.03, 0.74, 0.94))
        for shape, domain in zip(SHAPES, domains, strict=False):
            here = (some["domain"] == domain).to_numpy()
            dots = [colours[int(k)] for k in some["class"][here]]
            filled = dots if shape == SHAPES[0] else "none"
            axes.scatter(
                placed[here, 0], placed[here, 1], s=14, c=filled, edgecolors=dots, marker=shape, linewidths=0.7
            )
            axes.scatter([], [], s=16, c="#555", marker=shape, label=short(domain))
        for k in sorted(set(map(int, some["class"]))):
            axes.scatter([], [], s=20, color=colours[k], marker="s", label=labels[k])
        axes.set_xticks([])
        axes.set_yticks([])
        bare(axes)
        axes.spines[["left", "bottom"]].set_visible(False)
        figure.legend(loc="center right", frameon=False, fontsize=7.5)
    return (
        f"Features of {len(some)} cells of the network placed by t-SNE (perplexity {perplexity:.0f}): colour is the "
        "class, shape the domain; distances between far groups mean nothing."
    )
