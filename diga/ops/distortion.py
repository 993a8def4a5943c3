"""Colour and blur as DDB (Chen et al., NeurIPS 2022) has them: of mixed images, and of labelled source images.

Every image by its own draws, which stay on the CPU: no device is waited for.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from diga.ops import augment
from diga.ops.chance import Chance
from diga.ops.photometry import turn
from diga.ops.precision import no_autocast
from diga.settings import Photometric, Strong

REACH = 4  # standard deviations at which a Gaussian is cut off
BRIGHTNESS, CONTRAST, SATURATION, HUE = 32 / 255, 0.5, 0.5, 18 / 180  # of a distortion: shift, factors, turns


def photometric(image: Tensor, how: Photometric, chance: Chance) -> Tensor:
    """Jitter with its probability, then blur with its own: image (B, 3, H, W) in [0, 1], in and out.

    Brightness, contrast and saturation are scaled by 1 - s to 1 + s, hue moves by up to s turns; sigma, in
    pixels, is even between its bounds.  Eleven draws an image, whatever `how` says.
    """
    s = how.strength
    colours = Strong(
        brightness=s, contrast=s, saturation=s, hue=s, jitter=how.jitter, grey=0.0, blur=0.0, sharpen=0.0, blend=1.0
    )
    out = augment.strong(image, colours, chance)
    low, high = how.sigma
    for x, (gate, place) in zip(out, chance.host(2).tolist(), strict=True):
        if gate < how.blur and how.kind != "none":
            x.copy_(gaussian(x, low + place * (high - low), how.kind))
    return out


def gaussian(image: Tensor, sigma: float, kind: Literal["isotropic", "horizontal"] = "isotropic") -> Tensor:
    """A Gaussian blur of (C, H, W), sigma in pixels, edges repeated; "horizontal" along rows alone."""
    reach = math.ceil(REACH * sigma)
    x = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
    kernel = (-0.5 * (x / sigma).square()).softmax(0)
    with no_autocast(image):
        wide = F.pad(image[:, None], (reach, reach, 0, 0), "replicate")
        out = F.conv2d(wide, kernel.view(1, 1, 1, -1))
        if kind == "isotropic":
            out = F.conv2d(F.pad(out, (0, 0, reach, reach), "replicate"), kernel.view(1, 1, -1, 1))
    return out[:, 0]


def distorted(image: Tensor, share: float, chance: Chance) -> Tensor:
    """Brightness, contrast, saturation and hue, each changed with probability `share`: (B, 3, H, W) in [0, 1].

    Brightness shifts by up to 32/255, contrast (about black) and saturation are scaled by 1/2 to 3/2, hue
    moves by up to a tenth of a turn; contrast comes before saturation and hue, or after, as a fair coin
    says.  Nine draws an image.
    """
    out = torch.empty_like(image)
    for x, x_out, u in zip(image, out, chance.host(9).tolist(), strict=True):
        open_ = [gate < share for gate in u[:4]]
        b, c, s, h = ((2 * draw - 1) * on for draw, on in zip(u[4:8], open_, strict=True))
        x_out.copy_(_distorted(x, b * BRIGHTNESS, 1 + c * CONTRAST, 1 + s * SATURATION, h * HUE, u[8] < 0.5))
    return out


def _distorted(x: Tensor, shift: float, contrast: float, saturation: float, hue: float, first: bool) -> Tensor:
    x = (x + shift).clamp_(0, 1)
    if first:
        x = (x * contrast).clamp_(0, 1)
    if saturation != 1 or hue:
        x = turn(x, hue, saturation)
    return x if first else (x * contrast).clamp_(0, 1)
