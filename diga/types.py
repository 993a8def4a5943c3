"""The tensors that travel between floors.

Shape letters, used everywhere: B images, K classes, D channels, H W pixels, h w cells
(a cell is one position of a network's output grid).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

IGNORE = 255  # label of a pixel that no loss and no score may count


class Batch(NamedTuple):
    """Labelled images of a source domain."""

    image: Tensor  # (B, 3, H, W) float, RGB in [0, 1]; a network normalises at its own door
    label: Tensor  # (B, H, W), train ids or IGNORE; int64, or bytes where they are counted alone
    painted: Tensor | None = None  # (B, 3, H, W), the images as an earlier stage painted and stored them


class Guess(NamedTuple):
    """What an earlier stage stored of target images, cropped with them."""

    label: Tensor  # (B, H, W) int64, train ids or IGNORE
    confidence: Tensor | None = None  # (B, H, W) float, the winner's probability
    probabilities: Tensor | None = None  # (B, K, h, w) float, of every class, at cells of the crop


class Pair(NamedTuple):
    """What a training step sees: the target is images alone, so no target label can reach a method."""

    source: Batch
    target: Tensor  # (B, 3, H, W) float, RGB in [0, 1]
    guess: Guess | None = None


class Prediction(NamedTuple):
    """What every segmentation network returns."""

    logits: Tensor  # (B, K, h, w)
    features: Tensor  # (B, D, h, w), what the classifier reads: the phi of the papers
    aux: Tensor | None = None  # (B, K, h, w), logits of an auxiliary head that trains and never tests


Losses = dict[str, Tensor]  # scalars, already weighted: the total is their sum
Updates = Iterator[tuple[str, Losses]]  # which network descends which losses, once per update
