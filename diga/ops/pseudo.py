"""From opinions to labels worth training on: (B, K, H, W) scores or (B, H, W) labels -> (B, H, W) int64."""

from __future__ import annotations

from torch import Tensor

from diga.ops.losses import upsample
from diga.types import IGNORE


def argmax(scores: Tensor) -> Tensor:
    """The class with the highest score at every pixel; the lowest of equals."""
    return scores.max(1).indices  # on a CPU several times as fast as `argmax`


def nearest(weights: Tensor, like: Tensor, align_corners: bool = False) -> Tensor:
    """Eq. 8: the class with the nearest prototype, of weights (B, K, h, w) resized to `like` (..., H, W)."""
    return argmax(upsample(weights, like, align_corners))


def consensus(a: Tensor, b: Tensor) -> Tensor:
    """The label both opinions share, IGNORE where they differ: DiGA's selection without a threshold."""
    return a.masked_fill(a != b, IGNORE)
