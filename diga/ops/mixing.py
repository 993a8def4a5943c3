"""Mixing two batches under one mask."""

from __future__ import annotations

import torch
from torch import Tensor


def blend(mask: Tensor, front: Tensor, back: Tensor) -> Tensor:
    """Eq. 6: M front + (1 - M) back, images (B, C, H, W) or labels (B, H, W) under mask (B, 1, H, W) bool."""
    return torch.where(mask if front.ndim == 4 else mask[:, 0], front, back)
