"""Colour and sharpness of an image (C, h, W) by plain numbers, on strips of it that stay in a core's cache.

Nothing here waits for a device: what is done to an image is decided where its draws are made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from diga.ops.chance import Chance
from diga.settings import Strong

SIGMA = 2.0  # pixels, of the Gaussian blur
SIDE = 1 / (2 + math.exp(1 / (2 * SIGMA**2)))  # weight of either neighbour in its 3 taps
STRIP = 64  # rows worked on at a time on a CPU
LUMA = (0.299, 0.587, 0.114)  # of R, G, B in a grey
REACH = 2  # rows that a blur and a sharpening after it see beyond a pixel's own

Border = Literal["repeat", "mirror"]  # the row before the first: the first, or the second


class Draws(NamedTuple):
    """What befalls one image: which gates are open, and strengths on either side of nought."""

    jitter: bool
    grey: bool
    blur: bool
    sharpen: bool
    brightness: float
    contrast: float
    saturation: float
    hue: float  # turns of the colour wheel
    sharpness: float  # in [0, 1)


def drawn(how: Strong, chance: Chance) -> list[Draws]:
    """Nine draws an image, whatever `how` says: a change of it moves no other draw."""
    odds = (how.jitter, how.grey, how.blur, how.sharpen)
    reach = (how.brightness, how.contrast, how.saturation, how.hue)
    found = []
    for u in chance.host(9).tolist():
        jitter, grey, blur, sharpen = (draw < p for draw, p in zip(u[:4], odds, strict=True))
        b, c, s, h = ((2 * draw - 1) * most for draw, most in zip(u[4:8], reach, strict=True))
        found.append(Draws(jitter, grey, blur, sharpen, b, c, s, h, u[8]))
    return found


def blended(image: Tensor, view: Callable[[Tensor], Tensor], beta: float, out: Tensor) -> None:
    """`out` <- beta view(x) + (1 - beta) x for x (3, H, W), strip by strip.

    `view` keeps the size, may leave one channel, and sees REACH rows around those it is asked for.
    """
    for top, end in strips(image):
        low = max(0, top - REACH)
        seen = view(image[:, low : end + REACH])
        torch.lerp(image[:, top:end], seen[:, top - low : end - low], beta, out=out[:, top:end])


def strips(image: Tensor) -> Iterator[tuple[int, int]]:
    """First row and end of each strip of an image (..., H, W): one strip, where there is no cache to stay in."""
    H = image.shape[-2]
    step = STRIP if image.device.type == "cpu" else H
    return ((top, min(H, top + step)) for top in range(0, H, step))


@lru_cache(maxsize=16)
def channels(values: tuple[float, float, float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A number a channel, (3, 1, 1); made once, for the host waits for the device whenever it sends it numbers."""
    return torch.tensor(values, dtype=dtype, device=device).view(3, 1, 1)


def luma(image: Tensor, weights: tuple[float, float, float] = LUMA) -> Tensor:
    """.299 R + .587 G + .114 B: (3, h, W) -> (1, h, W)."""
    r, g, b = image.chunk(3)
    return (weights[0] * r).add_(g, alpha=weights[1]).add_(b, alpha=weights[2])


def turn(image: Tensor, turns: float, saturation: float = 1) -> Tensor:
    """Hue moved by `turns` of the colour wheel, in [-1/2, 1/2]; HSV's value V stays, its saturation is scaled.

    image (3, h, W) in [0, 1].  A channel is V - C clip(6 a - 1, 0, 1), where C is the chroma and `a` the
    distance, in turns, of the hue from the channel's own; the hue itself is `_hue`.
    """
    r, g, b = image.chunk(3)
    value, chroma, hue = _hue(r, g, b)
    if saturation != 1:
        chroma = torch.minimum(chroma.mul_(saturation), value)
    own = channels((0, 1 / 3, -1 / 3), image.dtype, image.device)
    # One and a half turns more: what is positive `frac` wraps in a third of the time of `remainder`.
    a = (hue.add_(turns + 1.5) - own).frac_().sub_(0.5).abs_().clamp_(1 / 6, 1 / 3)
    return torch.addcmul(value + chroma, chroma, a, value=-6)


def _hue(r: Tensor, g: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """HSV's value V, chroma C = V - min, and hue in [-1/2, 1/2] turns from red, 0 for a grey.

    With M, m the larger and the smaller of g and b, the hue is 2 C - (r - m) - max(r - M, 0) sixths of a
    turn over C, on the side of the larger: the three cases of the books in one, without a branch.
    """
    M, m = torch.maximum(g, b), torch.minimum(g, b)
    value = torch.maximum(r, M)
    chroma = value - torch.minimum(r, m)
    sixths = M.add_(m).sub_(r).sub_(value).add_(chroma, alpha=2).div_(chroma.clamp(min=torch.finfo(r.dtype).tiny))
    return value, chroma, sixths.div_(6).copysign_(g - b)


def blur(image: Tensor, side: float = SIDE, border: Border = "repeat") -> Tensor:
    """3 x 3 separable smoothing with taps (side, 1 - 2 side, side)."""
    middle = 1 - 2 * side
    return _taps(_taps(image, side / middle, 1, border), side / middle, 2, border).mul_(middle**2)


def smooth(image: Tensor) -> Tensor:
    """(3 x 3 sum + 4 x) / 13, edges repeated: what sharpening takes as blurred."""
    box = _taps(_taps(image, 1, 1, "repeat"), 1, 2, "repeat")
    return box.add_(image, alpha=4).mul_(1 / 13)


def _taps(image: Tensor, ratio: float, dim: int, border: Border) -> Tensor:
    """x + ratio (the one before x + the one after it)."""
    last = image.shape[dim] - 1
    beyond = min(int(border == "mirror"), last)  # how far from an edge lies what stands beyond it
    out = torch.empty_like(image)
    for to, before, after, length in (
        (1, 0, 2, last - 1),
        (0, beyond, min(1, last), 1),
        (last, max(0, last - 1), last - beyond, 1),
    ):
        if length > 0:
            parts = image.narrow(dim, before, length), image.narrow(dim, after, length)
            torch.add(*parts, out=out.narrow(dim, to, length))
    return torch.add(image, out, alpha=ratio, out=out)
