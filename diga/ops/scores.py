"""Confusion counts and the scores read from them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diga.errors import DataError
from diga.types import IGNORE


def confusion(prediction: Tensor, label: Tensor, classes: int) -> Tensor:
    """Pixels of every image by true class (row) and predicted class (column): (B, K, K) int64.

    prediction, label (B, H, W) of any integer type; pixels labelled IGNORE are left out.  Raises
    DataError if a prediction, or a label that is not IGNORE, is outside 0 ... K - 1.
    """
    B, rows = len(label), IGNORE + 1  # a row for every label there can be, cut to size once they are counted
    truth, guess = label.flatten(1).int(), prediction.flatten(1).int()
    expected = f"expected 0 ... {classes - 1}, or {IGNORE} in a label for void"
    _within("confusion.label", truth, rows, expected)
    _within("confusion.prediction", guess, classes, expected)
    image = torch.arange(B, dtype=torch.int32, device=label.device)[:, None]
    cell = torch.add(guess, truth, alpha=classes).add_(image * (rows * classes))
    counts = torch.bincount(cell.flatten(), minlength=B * rows * classes).view(B, rows, classes)
    if unknown := counts[:, classes:IGNORE].sum((0, 2)).nonzero().flatten().tolist():
        raise DataError("confusion.label", f"found class {classes + unknown[0]}", expected)
    return counts[:, :classes]


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
    low, high = torch.stack(values.aminmax()).tolist()
    if low < 0 or high >= end:
        raise DataError(what, f"found class {low if low < 0 else high}", expected)
