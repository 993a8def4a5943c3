"""Strong photometric views of a batch, every image by its own draws; geometry belongs to the data floor.

Departures from the authors' code of DiGA: that shifts brightness instead of scaling it, works on
normalised BGR where most of the range is clipped, and its sharpening smooths; `ranges="legacy"` is
that (see `diga.ops.legacy`).  Here images are RGB in [0, 1], hue turns in HSV, and sharpening sharpens.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from diga.ops import legacy
from diga.ops.chance import Chance
from diga.ops.photometry import Draws, blended, blur, drawn, luma, smooth, strips, turn
from diga.settings import Strong

SHARPEST = 0.5  # the most that sharpening adds of what smoothing takes away


def strong(image: Tensor, how: Strong, chance: Chance) -> Tensor:
    """x' = beta A(x) + (1 - beta) x with A = jitter, grey, blur, sharpen; image (B, 3, H, W) in [0, 1].

    Each image passes each gate with the probability `how` gives.  Nine draws an image, whatever happens.
    With legacy ranges what comes back may leave [0, 1] on either side, as the authors' does.
    """
    out = torch.empty_like(image)
    for x, x_out, draws in zip(image, out, drawn(how, chance), strict=True):
        if how.ranges == "legacy":
            view = partial(legacy.view, draws=draws)
        else:
            view = partial(_view, draws=draws, mean=mean_luma(x, draws))
        blended(x, view, how.blend, x_out)
    return out


def mean_luma(image: Tensor, draws: Draws) -> Tensor:
    """Mean grey of the brightened image, about which its contrast is changed: (1, 1, 1)."""
    if not draws.jitter:
        return image.new_zeros(1, 1, 1)
    parts = [brighten(image[:, top:end], 1 + draws.brightness).sum((1, 2)) for top, end in strips(image)]
    return luma(torch.stack(parts).sum(0).view(3, 1, 1) / image[0].numel())


def _view(x: Tensor, draws: Draws, mean: Tensor) -> Tensor:
    if draws.jitter:
        x = contrast(brighten(x, 1 + draws.brightness), 1 + draws.contrast, mean)
        x = turn(saturate(x, 1 + draws.saturation), draws.hue)
    if draws.grey:
        x = luma(x)  # one channel from here on
    if draws.blur:
        x = blur(x)
    if draws.sharpen:
        x = sharpen(x, SHARPEST * draws.sharpness)
    return x


def brighten(image: Tensor, factor: float) -> Tensor:
    """factor * x, kept in [0, 1]; 1 changes nothing."""
    return (image * factor).clamp_(0, 1)


def contrast(image: Tensor, factor: float, mean: Tensor) -> Tensor:
    """m + factor (x - m) about the mean grey m of the whole image, kept in [0, 1]."""
    return (image * factor).add_(mean * (1 - factor)).clamp_(0, 1)


def saturate(image: Tensor, factor: float) -> Tensor:
    """g + factor (x - g) about each pixel's grey g, kept in [0, 1]; 0 leaves grey."""
    return luma(image).lerp(image, factor).clamp_(0, 1)


def sharpen(image: Tensor, amount: float) -> Tensor:
    """x + amount (x - s(x)), s(x) = (3 x 3 sum + 4 x) / 13, kept in [0, 1]."""
    return image.lerp(smooth(image), -amount).clamp_(0, 1)
