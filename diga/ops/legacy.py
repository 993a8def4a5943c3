"""Strong views as the authors of DiGA make them: in their space, by the operations of their library (kornia 0.5.8).

Their images are BGR, less the mean, over 128: about [-1, 1.2].  Their library takes them for RGB in
[0, 1], so that brightness, which it adds, and contrast, which scales about black, clip all that is
darker than the mean; hue and saturation turn a wheel on which red and blue have changed places; grey
weighs them so; and a sharpness below one smooths.

Departures: the four parts of the jitter come in one order, brightness, contrast, saturation, hue,
where theirs is drawn anew each time; and saturation divides by V, where theirs divides by V + 10^-6.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diga.ops.photometry import LUMA, Draws, blur, channels, luma, smooth, turn

MEAN = (122.679, 116.669, 104.007)  # of R, G, B in bytes
SCALE = 128  # bytes
SHARPEST = 0.5  # the highest sharpness: 0 is the smoothed image, 1 the image itself


def view(image: Tensor, draws: Draws) -> Tensor:
    """2 A(z) - 1 brought back to RGB, z = (255 x - mean) / 128: (3, h, W) in and out.

    Channels stay where they are: on a wheel with red and blue exchanged a turn goes the other way.  The
    blend that follows, of their space there, is of ours here: the way back is linear.  With no gate open
    its result is not x but a stretch of its contrast.
    """
    mean = channels(MEAN, image.dtype, image.device)
    z = torch.add(-mean / SCALE, image, alpha=255 / SCALE)
    if draws.jitter:
        z.add_(draws.brightness).clamp_(0, 1).mul_(1 + draws.contrast).clamp_(0, 1)
        z = turn(z, -draws.hue, 1 + draws.saturation)
    if draws.grey:
        z = luma(z, LUMA[::-1])
    if draws.blur:
        z = blur(z, border="mirror")
    if draws.sharpen:
        z = sharpness(z, SHARPEST * draws.sharpness)
    return torch.add((mean - SCALE) / 255, z, alpha=2 * SCALE / 255)


def sharpness(image: Tensor, factor: float) -> Tensor:
    """s + factor (x - s), s = (3 x 3 sum + 4 x) / 13 kept in [0, 1]; pixels on the image's edge stay."""
    out = image.clone()
    inside = (slice(None), slice(1, -1), slice(1, -1))
    out[inside].lerp_(smooth(image)[inside].clamp_(0, 1), 1 - factor)
    return out
