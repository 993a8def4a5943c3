"""Which pixels come from the front image: (B, 1, H, W) booleans.  A new mask is a new function here.

Every mask takes the front image's label (B, H, W), this step's chance and how it is wanted: what of
`how` it reads, its docstring tells.  A share of a count is exact: 0.7 of ten is seven, rounded up or down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from diga.ops.chance import Chance
from diga.ops.distortion import gaussian
from diga.ops.losses import upsample
from diga.settings import Mask
from diga.types import IGNORE

SLACK = 1e-9  # a product of floats that misses a whole number by less was meant to be it


def classes(label: Tensor, chance: Chance, how: Mask) -> Tensor:
    """The M of eq. 6: `fraction` of the classes U present in each image, rounded as `rounding` says.

    Drawn evenly without replacement.  `void` says what IGNORE is: "front": not in U, always in front;
    "counted": in U where present, may take a place in the draw, and always in front, as DiGA's authors
    have it; "drawn": a class like any other, as DDB's have it.
    """
    B, H, W = label.shape
    values = label.flatten(1)
    present = torch.zeros(B, IGNORE + 1, dtype=torch.bool, device=label.device).scatter_(1, values, True)
    present[:, IGNORE] &= how.void != "front"
    order = chance.uniform(IGNORE + 1).masked_fill(~present, 1).argsort(1)  # those present first, shuffled
    places = _whole(how.fraction * present.sum(1, dtype=torch.float64), how.rounding)
    first = torch.arange(IGNORE + 1, device=label.device) < places[:, None]
    chosen = torch.zeros_like(present).scatter_(1, order, first)
    chosen[:, IGNORE] |= how.void != "drawn"
    return chosen.gather(1, values).view(B, 1, H, W)


def cut(label: Tensor, chance: Chance, how: Mask) -> Tensor:
    """A rectangle anywhere in each image, A^a of its height by A^(1 - a) of its width, a ~ U(0, 1), A = `fraction`.

    The cut mix of DDB (Chen et al., NeurIPS 2022), whose A is 0.4; sides are rounded to whole pixels.
    """
    H, W = label.shape[-2:]
    a, top, left = chance.uniform(3)[..., None].unbind(1)
    rows, columns = _span(H, how.fraction**a, top), _span(W, how.fraction ** (1 - a), left)
    return rows[:, None, :, None] & columns[:, None, None, :]


def grid(label: Tensor, chance: Chance, how: Mask) -> Tensor:
    """`fraction` of the patches of `side` x `side` pixels, to the nearest whole patch, half a patch to one.

    Drawn evenly without replacement in each image.  Patches at the far edges are smaller.
    """
    B, H, W = label.shape
    rows, columns = (math.ceil(n / how.side) for n in (H, W))
    # Stable: thousands of draws of 24 bits hold equal ones, which every device must put in one order.
    order = chance.uniform(rows * columns).argsort(dim=1, stable=True)
    chosen = torch.zeros_like(order, dtype=torch.bool).scatter_(
        1, order[:, : _nearest(how.fraction, order.shape[1])], True
    )
    i, j = (torch.arange(n, device=label.device) // how.side for n in (H, W))
    return chosen.view(B, 1, rows, columns)[:, :, i[:, None], j]


def noise(label: Tensor, chance: Chance, how: Mask) -> Tensor:
    """Blobs of about `side` pixels that cover `fraction` of each image's pixels, to the nearest whole pixel.

    Uniform noise on a lattice of meshes of up to `side` x `side` pixels, in between bilinear; in front
    is what lies above its own quantile.
    """
    B, H, W = label.shape
    count = _nearest(how.fraction, H * W)
    lattice = chance.uniform(*(math.ceil(n / how.side) + 1 for n in (H, W)))
    field = upsample(lattice[:, None].double(), label, align_corners=True)  # doubles: no two pixels alike
    return _highest(field, [count] * B)


def cow(label: Tensor, chance: Chance, how: Mask) -> Tensor:
    """Blobs of normal noise under a Gaussian whose sigma is drawn, evenly in its log, from `side` to twice that.

    In front is the share of pixels of highest values, drawn evenly from within a tenth of `fraction`: with 0.5
    and a side of ten the cow masks (French et al., 2020) of the authors of DDB.
    """
    H, W = label.shape[-2:]
    field = _normal(chance, H, W)[0][:, None]
    shares, sizes = chance.host(2).double().T.tolist()
    blurred = torch.stack([gaussian(x, how.side * 2**size) for x, size in zip(field, sizes, strict=True)])
    return _highest(blurred, [_nearest(how.fraction + 0.2 * share - 0.1, H * W) for share in shares])


def fourier(label: Tensor, chance: Chance, how: Mask) -> Tensor:
    """Noise of which a frequency f, in turns a pixel, has the amplitude f^-3; in front is a share lambda of it.

    lambda ~ Beta(k, 20 - k), k = 20 `fraction`: with 0.5 Beta(10, 10), the Fourier masks (FMix, Harris et al.,
    2020) of the authors of DDB.  The frequency of no turn counts as one turn of the longer side.
    """
    H, W = label.shape[-2:]
    k = min(max(_nearest(how.fraction, 20), 1), 19)
    shares = (
        chance.host(19).double().sort(1).values[:, k - 1].tolist()
    )  # of n even draws the k-th is Beta(k, n + 1 - k)
    y, x = torch.fft.fftfreq(H, device=label.device), torch.fft.rfftfreq(W, device=label.device)
    frequency = torch.hypot(y[:, None], x[None]).clamp(min=1 / max(H, W))
    spectrum = torch.complex(*_normal(chance, H, len(x))) / frequency**3
    field = torch.fft.irfft2(spectrum, s=(H, W))[:, None]
    return _highest(field, [_nearest(share, H * W) for share in shares])


def none(label: Tensor, chance: Chance, how: Mask) -> Tensor:
    """Nothing from the front: the back image alone."""
    return torch.zeros_like(label, dtype=torch.bool)[:, None]


def everything(label: Tensor, chance: Chance, how: Mask) -> Tensor:
    """The front image alone."""
    return torch.ones_like(label, dtype=torch.bool)[:, None]


def _whole(share: Tensor, rounding: str) -> Tensor:
    if rounding == "ceil":
        return (share - SLACK).ceil()
    return (share + (0.5 if rounding == "nearest" else 0) + SLACK).floor()


def _nearest(fraction: float, count: int) -> int:
    return math.floor(fraction * count + 0.5 + SLACK)


def _normal(chance: Chance, *shape: int) -> tuple[Tensor, Tensor]:
    """Two independent standard normal draws (B, *shape), by Box and Muller, in float64."""
    u, v = chance.uniform(2, *shape).double().unbind(1)
    radius, angle = (-2 * (1 - u).log()).sqrt(), 2 * math.pi * v
    return radius * angle.cos(), radius * angle.sin()


def _highest(field: Tensor, counts: Sequence[int]) -> Tensor:
    """(B, 1, H, W) bool: of each image of a field of that shape as many pixels as it counts, those of highest value."""
    number = field[0].numel()
    found = [
        x >= x.flatten().kthvalue(number - min(count, number) + 1).values if count > 0 else torch.zeros_like(x).bool()
        for x, count in zip(field, counts, strict=True)
    ]
    return torch.stack(found)


def _span(size: int, fraction: Tensor, place: Tensor) -> Tensor:
    """(B, size) bool: a run of round(size * fraction) pixels, anywhere it fits; fraction, place (B, 1)."""
    length = (size * fraction).round()
    start = (place * (size - length + 1)).floor()
    pixel = torch.arange(size, device=fraction.device)
    return (pixel >= start) & (pixel < start + length)
