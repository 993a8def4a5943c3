"""From opinions to labels worth training on: (B, K, H, W) scores or (B, H, W) labels -> (B, H, W) int64."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from diga.ops.losses import taps
from diga.ops.precision import full, no_autocast
from diga.types import IGNORE

STRIP = 64  # rows resized at a time: small enough to stay in a core's cache


def argmax(scores: Tensor) -> Tensor:
    """The class with the highest score at every pixel; the lowest of equals."""
    return scores.max(1).indices  # on a CPU several times as fast as `argmax`


def nearest(weights: Tensor, like: Tensor, align_corners: bool = False) -> Tensor:
    """Eq. 8: the class with the nearest prototype, of weights (B, K, h, w) resized to `like` (..., H, W)."""
    return winners([weights], like, align_corners)


def winners(maps: Sequence[Tensor], like: Tensor, align_corners: bool = False) -> Tensor:
    """The class with the highest score in any of the maps (B, K, h, w), each resized to `like` (..., H, W).

    Strip by strip: K full-size planes a map are the dearest part of testing a network, and never needed.
    """
    H, W = like.shape[-2:]
    with no_autocast(maps[0]):
        wide = [_across(full(x), W, align_corners) for x in maps]
        rows = [taps(x.shape[2], H, align_corners, x.dtype, x.device) for x in wide]
        strips = (
            argmax(reduce(torch.maximum, (R[top : top + STRIP] @ x for R, x in zip(rows, wide, strict=True))))
            for top in range(0, H, STRIP)
        )
        return torch.cat(list(strips), 1)


def _across(x: Tensor, W: int, align_corners: bool) -> Tensor:
    """(B, K, h, w) -> (B, K, h, W)."""
    return x @ taps(x.shape[3], W, align_corners, x.dtype, x.device).mT


def consensus(a: Tensor, b: Tensor) -> Tensor:
    """The label both opinions share, IGNORE where they differ: DiGA's selection without a threshold."""
    return a.masked_fill(a != b, IGNORE)
