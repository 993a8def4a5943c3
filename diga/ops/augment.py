"""Strong photometric views of a batch, every image by its own draws; geometry belongs to the data floor.

Departures from the authors' code of DiGA: that shifts brightness instead of scaling it, works on
normalised BGR where most of the range is clipped, and its sharpening smooths.  Here images are RGB
in [0, 1], hue turns in HSV, and sharpening sharpens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diga.ops.chance import Chance
from diga.settings import Strong

SIGMA = 2.0  # pixels, of the Gaussian blur
SIDE = 1 / (2 + torch.tensor(1 / (2 * SIGMA**2)).exp().item())  # weight of either neighbour in its 3 taps
SHARPEST = 0.5  # the most that sharpening adds of what smoothing takes away


def strong(image: Tensor, how: Strong, chance: Chance) -> Tensor:
    """x' = beta A(x) + (1 - beta) x with A = jitter, grey, blur, sharpen; image (B, 3, H, W) in [0, 1].

    Each image passes each gate with the probability `how` gives; a closed gate is an operation of
    strength zero.  Nine draws an image, whatever happens.
    """
    u = chance.uniform(9)[..., None, None, None]  # (B, 9, 1, 1, 1)
    odds = u.new_tensor([how.jitter, how.grey, how.blur, how.sharpen])[:, None, None, None]
    jittered, greyed, blurred, sharpened = (u[:, :4] < odds).to(image.dtype).unbind(1)
    reach = u.new_tensor([how.brightness, how.contrast, how.saturation, how.hue])[:, None, None, None]
    b, c, s, h = ((2 * u[:, 4:8] - 1) * reach * jittered[:, None]).to(image.dtype).unbind(1)
    x = turn(saturate(contrast(brighten(image, 1 + b), 1 + c), 1 + s), h)
    x = sharpen(blur(saturate(x, 1 - greyed), SIDE * blurred), SHARPEST * u[:, 8].to(image.dtype) * sharpened)
    return image.lerp(x, how.blend)


def brighten(image: Tensor, factor: Tensor) -> Tensor:
    """factor * x, kept in [0, 1]; factor (B, 1, 1, 1), 1 changes nothing."""
    return (image * factor).clamp_(0, 1)


def contrast(image: Tensor, factor: Tensor) -> Tensor:
    """m + factor (x - m) about the mean grey m of the image, kept in [0, 1]; factor (B, 1, 1, 1)."""
    mean = grey(image).mean((2, 3), keepdim=True)
    return (image * factor).add_(mean * (1 - factor)).clamp_(0, 1)


def saturate(image: Tensor, factor: Tensor) -> Tensor:
    """g + factor (x - g) about each pixel's grey g, kept in [0, 1]; factor (B, 1, 1, 1), 0 leaves grey."""
    return grey(image).lerp(image, factor).clamp_(0, 1)


def grey(image: Tensor) -> Tensor:
    """.299 R + .587 G + .114 B: (B, 3, H, W) -> (B, 1, H, W)."""
    r, g, b = image.chunk(3, 1)
    return (0.299 * r).add_(g, alpha=0.587).add_(b, alpha=0.114)


def turn(image: Tensor, turns: Tensor) -> Tensor:
    """Hue moved by `turns` (B, 1, 1, 1) of the colour wheel, in [-1/2, 1/2]; HSV's value V and chroma C stay.

    With hue H in sixths of the wheel, R, G, B are V - C clip(2 - |k - 2|, 0, 1) for
    k = (n + H) mod 6 and n = 5, 3, 1.
    """
    r, g, b = image.chunk(3, 1)
    value = torch.maximum(r, g).clamp_(min=b)
    chroma = value - torch.minimum(r, g).clamp_(max=b)
    red, green = (value == r).to(image), (value == g).to(image)  # a `lerp` by 0 or 1 is a fast `where`
    sixths = (r - g).add_(chroma, alpha=4).lerp_((b - r).add_(chroma, alpha=2), green).lerp_(g - b, red)
    sixths /= chroma.clamp(min=torch.finfo(image.dtype).tiny)
    n = torch.arange(5, 0, -2, device=image.device).view(3, 1, 1)
    # In wheels, and one wheel more: what is positive `frac` wraps in a third of the time of `remainder`.
    k = ((n + 7) / 6 + (sixths / 6 + turns)).frac_().mul_(6).sub_(1)
    return value - k.sub_(2).abs_().neg_().add_(2).clamp_(0, 1).mul_(chroma)


def blur(image: Tensor, side: Tensor) -> Tensor:
    """3 x 3 separable smoothing with taps (side, 1 - 2 side, side), edges repeated; side (B, 1, 1, 1)."""
    return _taps(_taps(image, side, 2), side, 3)


def sharpen(image: Tensor, amount: Tensor) -> Tensor:
    """x + amount (x - s(x)), s(x) = (3 x 3 sum + 4 x) / 13, kept in [0, 1]; amount (B, 1, 1, 1)."""
    box = blur(image, torch.full_like(amount, 1 / 3))
    return image.lerp(box, -9 / 13 * amount).clamp_(0, 1)


def _taps(image: Tensor, side: Tensor, dim: int) -> Tensor:
    last = image.shape[dim] - 1
    out = image * (1 - 2 * side)
    for to, start, length in ((1, 0, last), (0, 0, 1), (0, 1, last), (last, last, 1)):
        out.narrow(dim, to, length).addcmul_(image.narrow(dim, start, length), side)
    return out
