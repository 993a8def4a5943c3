"""Confusion counts and the scores read from them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diga.errors import DataError
from diga.types import IGNORE

PART = 1 << 17  # pixels counted at a time on a CPU


def confusion(prediction: Tensor, label: Tensor, classes: int) -> Tensor:
    """Pixels of every image by true class (row) and predicted class (column): (B, K, K) int64.

    prediction, label (B, H, W) of any integer type; pixels labelled IGNORE are left out.  Raises
    DataError if a prediction, or a label that is not IGNORE, is outside 0 ... K - 1.
    """
    expected = f"expected 0 ... {classes - 1}, or {IGNORE} in a label for void"
    together = max(1, PART // max(1, label[:1].numel()))
    groups = (torch.split(x.flatten(1), together) for x in (label, prediction))
    counts = torch.cat([_pairs(truth, guess, classes, expected) for truth, guess in zip(*groups, strict=True)])
    if unknown := counts[:, classes:IGNORE].sum((0, 2)).nonzero().flatten().tolist():
        raise DataError("confusion.label", f"found class {classes + unknown[0]}", expected)
    return counts[:, :classes]


def _pairs(truth: Tensor, guess: Tensor, classes: int, expected: str) -> Tensor:
    """How often each label there can be meets each class, in images (b, pixels): (b, 256, K) int64.

    Part by part on a CPU, so that what is checked, joined and counted stays in a core's cache.
    """
    rows, part = IGNORE + 1, PART if truth.device.type == "cpu" else max(1, truth.shape[1])
    first = torch.arange(len(truth), device=truth.device)[:, None] * (rows * classes)  # cell of each image
    counts = torch.zeros(len(truth) * rows * classes, dtype=torch.long, device=truth.device)
    kind = torch.int16 if len(counts) <= 1 << 15 else torch.long  # a quarter of the memory to go through
    for y, p in zip(torch.split(truth, part, 1), torch.split(guess, part, 1), strict=True):
        _within("confusion.label", y, rows, expected)
        _within("confusion.prediction", p, classes, expected)
        cell = torch.add(p, y.to(kind), alpha=classes) if p.dtype == torch.uint8 else p.to(kind) + classes * y.to(kind)
        if len(truth) > 1:
            cell += first
        counts += torch.bincount(cell.flatten(), minlength=len(counts))
    return counts.view(-1, rows, classes)


def iou(counts: Tensor) -> Tensor:
    """Intersection over union of every class, (..., K, K) counts -> (..., K) float64.

    NaN for a class neither present nor predicted.
    """
    hit = counts.diagonal(dim1=-2, dim2=-1).double()
    return hit / (counts.sum(-1) + counts.sum(-2) - hit)


def mean_iou(iou: Tensor, subset: Sequence[int] | None = None) -> float:
    """Mean of iou (K,), or of the classes of `subset`, over those that are not NaN; NaN if all are."""
    return float((iou if subset is None else iou[list(subset)]).nanmean())


def _within(what: str, values: Tensor, end: int, expected: str) -> None:
    """Raises DataError for a class outside 0 ... end - 1; bytes are looked through for what they can hold alone."""
    if values.dtype == torch.uint8:
        low, high = 0, int(values.max()) if end <= 255 else 255
    else:
        low, high = torch.stack(values.aminmax()).tolist()
    if low < 0 or high >= end:
        raise DataError(what, f"found class {low if low < 0 else high}", expected)
