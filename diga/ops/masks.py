"""Which pixels come from the front image: (B, 1, H, W) booleans.  A new mask is a new function here.

Every mask takes the front image's label (B, H, W) and this step's chance, then its own options.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diga.ops.chance import Chance
from diga.types import IGNORE


def classes(label: Tensor, chance: Chance, fraction: float = 0.5, count_void: bool = False) -> Tensor:
    """The M of eq. 6: floor(fraction * |U|) of the classes U present in each image, and its IGNORE pixels.

    Drawn evenly without replacement.  With `count_void` IGNORE, where present, is one of U and may
    take a place in the draw, as the authors' code has it.  One class alone gives none of it.
    """
    B, H, W = label.shape
    values = label.flatten(1)
    present = torch.zeros(B, IGNORE + 1, dtype=torch.bool, device=label.device).scatter_(1, values, True)
    present[:, IGNORE] &= count_void
    order = chance.uniform(IGNORE + 1).masked_fill(~present, 1).argsort(1)  # those present first, shuffled
    places = (fraction * present.sum(1, dtype=torch.float64)).floor()
    first = torch.arange(IGNORE + 1, device=label.device) < places[:, None]
    chosen = torch.zeros_like(present).scatter_(1, order, first)
    chosen[:, IGNORE] = True
    return chosen.gather(1, values).view(B, 1, H, W)


def cut(label: Tensor, chance: Chance, area: float = 0.4) -> Tensor:
    """A rectangle anywhere in each image, area^a of its height by area^(1 - a) of its width, a ~ U(0, 1).

    The cut mix of DDB (Chen et al., NeurIPS 2022); sides are rounded to whole pixels.
    """
    H, W = label.shape[-2:]
    a, top, left = chance.uniform(3)[..., None].unbind(1)
    return _span(H, area**a, top)[:, None, :, None] & _span(W, area ** (1 - a), left)[:, None, None, :]


def none(label: Tensor, chance: Chance) -> Tensor:
    """Nothing from the front: the back image alone."""
    return torch.zeros_like(label, dtype=torch.bool)[:, None]


def everything(label: Tensor, chance: Chance) -> Tensor:
    """The front image alone."""
    return torch.ones_like(label, dtype=torch.bool)[:, None]


def _span(size: int, fraction: Tensor, place: Tensor) -> Tensor:
    """(B, size) bool: a run of round(size * fraction) pixels, anywhere it fits; fraction, place (B, 1)."""
    length = (size * fraction).round()
    start = (place * (size - length + 1)).floor()
    pixel = torch.arange(size, device=fraction.device)
    return (pixel >= start) & (pixel < start + length)
