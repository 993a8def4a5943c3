"""What goes wrong quietly: classes that a network unlearns, and statistics that are not those of the target."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from diga.data.labels import names
from diga.files import write_whole
from diga.models.norm import norms
from diga.ops.scores import iou

if TYPE_CHECKING:
    from diga.engine.curves import Point
    from diga.engine.run import Run

DIAGNOSTICS = "diagnostics.json"


def drift(net: nn.Module, other: nn.Module) -> float | None:
    """How far the running statistics of two networks of one kind are apart; None without batch normalisation.

    The mean over layers and channels of (KL(p | q) + KL(q | p)) / 2, p and q the Gaussians of a
    channel, their variances as the layer uses them, with its epsilon.
    """
    found = [divergence(moments(a), moments(b)) for a, b in zip(norms(net), norms(other), strict=True)]
    return float(torch.cat(found).mean()) if found else None


def moments(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Running mean and variance (C,) of a layer, in double precision."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean.double(), norm.running_var.double() + norm.eps


def divergence(p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor]) -> Tensor:
    """(KL(p | q) + KL(q | p)) / 2 of Gaussians with means and variances (C,); the logarithms cancel."""
    (m, v), (n, w) = p, q
    return (v / w + w / v - 2 + (m - n).square() * (1 / v + 1 / w)) / 4


# --- classes that are unlearnt -----------------------------------------------------------


def unlearnt(points: Sequence[Point]) -> Tensor:
    """(N, K) bool: the classes that were hit at an earlier of N snapshots and win no pixel at this one."""
    hit = torch.stack([point.counts.diagonal() > 0 for point in points])
    silent = torch.stack([point.counts.sum(0) == 0 for point in points])
    return (hit.cumsum(0) > 0) & silent


def story(points: Sequence[Point], k: int) -> dict[str, float]:
    """When class `k` was best, how good it was, and the first snapshot since its last pixel."""
    scores = [float(iou(point.counts)[k].nan_to_num(0)) for point in points]
    best = max(range(len(points)), key=scores.__getitem__)
    last = max(i for i, point in enumerate(points) if point.counts[:, k].any())
    return {"best_iou": scores[best], "best_step": points[best].step, "gone_step": points[last + 1].step}


def write(run: Run, of: str, domain: str, points: Sequence[Point], silent: Tensor | None) -> dict[str, float]:
    """Leave `diagnostics.json`, warn of what is unlearnt, and give `alarm/vanished`, of a stage with snapshots.

    `silent` (K,) bool are known classes that win nothing of unlabelled target training images, if any were seen.
    """
    title = names(run.classes)
    gone = [] if not points else unlearnt(points)[-1].nonzero().flatten().tolist()
    found: dict[str, Any] = {
        "of": of,
        "domain": domain,
        "steps": [point.step for point in points],
        "vanished": {title[k]: story(points, k) for k in gone},
    }
    if silent is not None:
        found["vanished_from_training_images"] = [title[k] for k in silent.nonzero().flatten().tolist()]
    write_whole(run.folder / DIAGNOSTICS, json.dumps(found, indent=1).encode())
    if gone:
        what = ", ".join(title[k] for k in gone)
        print(f"warning: {of}: found at an earlier snapshot, gone at the last: {what}", file=sys.stderr, flush=True)
    return {"alarm/vanished": float(len(gone))} if points else {}
