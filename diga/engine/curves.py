"""How a stage came to be what it is: every kept snapshot on one domain, by class, and on unlabelled target images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diga.data.labels import names
from diga.engine import label_free
from diga.engine.checkpoint import read_weights
from diga.engine.diagnostics import unlearnt
from diga.engine.evaluate import present
from diga.ops.scores import iou, mean_iou

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from diga.engine.run import Run

LEGIBLE = 14  # snapshots up to which a picture has room for numbers


class Point(NamedTuple):
    """A snapshot: its step and file, its counts (K, K) on the first domain, and what target images say of it."""

    step: int
    file: Path
    counts: Tensor
    looked: label_free.Look | None = None

    @property
    def miou(self) -> float:
        """Plain mIoU; below all others where no pixel has a class."""
        found = mean_iou(iou(self.counts))
        return found if math.isfinite(found) else -1.0


def follow(run: Run, of: str, domain: str, count: Callable[[nn.Module], Tensor], looked_at: int) -> list[Point]:
    """Every snapshot of a stage in order, told by step as it is found.

    `count` gives the (K, K) counts of a network on the labelled `domain`: of what is made of them only
    the column named `best` goes into a table.  Beside them, `looked_at` unlabelled target images are seen.
    """
    files = sorted((run.inputs[of] / "snapshots").glob("*.pt"))
    seen = label_free.some(run, looked_at) if looked_at and files else []
    points: list[Point] = []
    for i in run.track(len(files)):
        net = weighted(run, of, files[i])
        looked = label_free.look(run, net, seen) if seen else None
        points.append(Point(int(files[i].stem), files[i], count(net), looked))
        run.report({points[-1].step: row(domain, points, run.classes)})
    return points


def weighted(run: Run, of: str, snapshot: Path) -> nn.Module:
    """The student with the weights of a snapshot."""
    net = run.segmenter(of)
    net.load_state_dict(read_weights(snapshot, run.device))
    return net


def row(domain: str, points: Sequence[Point], classes: int) -> dict[str, float]:
    """What is told of the last of these snapshots; a class neither present nor predicted has no IoU."""
    last, per_class = points[-1], iou(points[-1].counts)
    values = {"alarm/vanished": float(unlearnt(points)[-1].sum()), f"{domain}/plain/miou": mean_iou(per_class)}
    values |= {f"{domain}/plain/iou/{n}": v for n, v in zip(names(classes), per_class.tolist(), strict=True)}
    if last.looked:
        values |= {f"label_free/{name}": value for name, value in last.looked.shares.items()}
    return present(values)


def known(points: Sequence[Point], classes: int) -> Tensor:
    """(K,) bool: the classes that won a target cell at any snapshot."""
    found = torch.zeros(classes, dtype=torch.bool)
    for point in points:
        if point.looked:
            found |= point.looked.won
    return found


# --- to be looked at ---------------------------------------------------------------------


def draw(path: Path, title: str, points: Sequence[Point], classes: int) -> None:
    """A heat map: IoU of each class (a row) at each snapshot (a column), in per cent; grey where a class has none."""
    import matplotlib as mpl  # half a second that a training must not pay
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = 100 * np.stack([iou(point.counts).numpy() for point in points], 1)
    K, N = table.shape
    with mpl.rc_context({"font.size": 8, "text.parse_math": False}):
        size = (2.2 + 0.45 * min(max(N, 6), LEGIBLE), 1.1 + 0.24 * K)
        figure = Figure(figsize=size, dpi=120, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(facecolor="#d9d9d9")
        shown = axes.imshow(table, cmap="viridis", vmin=0, vmax=100, aspect="auto")
        axes.set_yticks(range(K), names(classes))
        few = range(0, N, -(-N // LEGIBLE))
        axes.set_xticks(few, [str(points[i].step) for i in few], rotation=45 if N > 6 else 0)
        axes.set(xlabel="updates", title=title)
        if N <= LEGIBLE:
            number(axes, table)
        figure.colorbar(shown, ax=axes, pad=0.02)
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, metadata={"Software": None})


def number(axes: Axes, table: NDArray[np.float64]) -> None:
    """Write every value into its field."""
    for (i, j), value in np.ndenumerate(table):
        if math.isfinite(value):
            axes.text(j, i, f"{value:.0f}", ha="center", va="center", color="black" if value > 60 else "white")
