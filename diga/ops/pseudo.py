"""From opinions to labels worth training on: scores (B, K, H, W) or labels (B, H, W) -> (B, H, W), int64 or bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce

import torch
from torch import Tensor

from diga.ops.losses import rows_of, taps
from diga.ops.precision import full, no_autocast
from diga.settings import Trust
from diga.types import IGNORE

STRIP = 64  # rows resized at a time: small enough to stay in a core's cache
LEVELS = 256  # of a confidence stored in 8 bits


def argmax(scores: Tensor) -> Tensor:
    """The class with the highest score at every pixel; the lowest of equals."""
    return scores.max(1).indices  # on a CPU several times as fast as `argmax`


def nearest(weights: Tensor, like: Tensor, align_corners: bool = False) -> Tensor:
    """Eq. 8: the class with the nearest prototype, of weights (B, K, h, w) resized to `like` (..., H, W)."""
    return winners([weights], like, align_corners).long()


def winners(maps: Sequence[Tensor], like: Tensor, align_corners: bool = False) -> Tensor:
    """The class with the highest score in any of the maps (B, K, h, w), each resized to `like`: (B, H, W) uint8.

    Bytes, as labels are stored: of a 2-megapixel image 64-bit classes take longer to write than to find.
    """
    return torch.cat([_first_highest(scores) for scores in _strips(maps, like, align_corners)], 1)


def confident(maps: Sequence[Tensor], like: Tensor, align_corners: bool = False) -> tuple[Tensor, Tensor]:
    """The winners of several maps of logits, and what probability the softmax of the highest logits gives them.

    Both (B, H, W).
    """
    tops = [(scores.max(1), scores.logsumexp(1)) for scores in _strips(maps, like, align_corners)]
    label = torch.cat([top.indices for top, _ in tops], 1)
    return label, torch.cat([(top.values - total).exp() for top, total in tops], 1)


def _strips(maps: Sequence[Tensor], like: Tensor, align_corners: bool) -> Iterator[Tensor]:
    """The highest of the resized maps, strip by strip of rows: (B, K, rows, W).

    K full-size planes a map are the dearest part of testing a network, and never needed.
    """
    H, W = like.shape[-2:]
    with no_autocast(maps[0]):
        wide = [_across(full(x), W, align_corners) for x in maps]
        for top in range(0, H, STRIP):
            yield reduce(torch.maximum, (rows_of(x, H, top, top + STRIP, align_corners) for x in wide))


def _across(x: Tensor, W: int, align_corners: bool) -> Tensor:
    """(B, K, h, w) -> (B, K, h, W)."""
    return x @ taps(x.shape[3], W, align_corners, x.dtype, x.device).mT


def _first_highest(scores: Tensor) -> Tensor:
    """`argmax` of planes (B, K, h, W), each contiguous: how many come before the first that holds the maximum.

    On a CPU in a third of the time: whole planes are compared, and compilers make vectors of that.
    """
    if scores.device.type != "cpu":
        return argmax(scores).byte()
    top = scores.amax(1)
    before = torch.ones(top.shape, dtype=torch.bool)
    label = torch.zeros(top.shape, dtype=torch.uint8)
    for plane in scores.unbind(1)[:-1]:
        before &= plane < top
        label += before.view(torch.uint8)
    return label


def consensus(a: Tensor, b: Tensor) -> Tensor:
    """The label both opinions share, IGNORE where they differ: DiGA's selection without a threshold."""
    return a.masked_fill(a != b, IGNORE)


def confidence_histogram(label: Tensor, confidence: Tensor, classes: int) -> Tensor:
    """How many pixels of each label have each 8-bit confidence: (K, 256) int64.

    label (...), confidence (...) in [0, 1], or in 8 bits as stored: round(255 p).  IGNORE is left out.
    """
    levels = confidence if confidence.dtype == torch.uint8 else (full(confidence) * (LEVELS - 1)).round()
    cell = label.long() * LEVELS + levels.long()
    counts = torch.bincount(cell.flatten(), minlength=(IGNORE + 1) * LEVELS)
    return counts.view(-1, LEVELS)[:classes]


def class_thresholds(histogram: Tensor, trust: Trust) -> Tensor:
    """t_k = min(quantile of class k's confidences, cap): (K, 256) counts -> (K,) float32.

    The quantile is the lowest level that `trust.quantile` of the pixels do not exceed.  A class without
    a pixel has the cap.
    """
    below = histogram.cumsum(1)
    wanted = trust.quantile * (1 - 1e-12) * below[:, -1:].double()  # no rounding asks for one pixel more
    level = (below < wanted).sum(1).float()
    threshold = (level / (LEVELS - 1)).clamp(max=trust.cap)
    return threshold.masked_fill(below[:, -1] == 0, trust.cap)
