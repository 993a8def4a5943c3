"""How a network is tested, by name; a new protocol is a new function here.

Each takes a network in evaluation mode and images (B, 3, H, W), and gives maps of logits (B, K, h, w): a
pixel's class is the one with the highest logit in any of them, all resized to the image.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def single_scale(net: nn.Module, image: Tensor, align_corners: bool = False) -> list[Tensor]:
    """The image as it is."""
    return [net(image).logits]


def half_scale(net: nn.Module, image: Tensor, align_corners: bool = False) -> list[Tensor]:
    """The half-size image alone."""
    return [net(_halved(image, align_corners)).logits]


def single_scale_1024x512(net: nn.Module, image: Tensor, align_corners: bool = False) -> list[Tensor]:
    """The largest image of its shape within 1024 x 512, or 512 x 1024, as DDB is tested: Cityscapes' at half size."""
    height, width = image.shape[-2:]
    scale = min(1024 / max(height, width), 512 / min(height, width))
    return [net(_resized(image, int(height * scale + 0.5), int(width * scale + 0.5), align_corners)).logits]


def two_scale_max(net: nn.Module, image: Tensor, align_corners: bool = False) -> list[Tensor]:
    """The native and the half-size image: "MST" in DiGA's tables (the authors' evaluation)."""
    return [net(image).logits, net(_halved(image, align_corners)).logits]


def _halved(image: Tensor, align_corners: bool) -> Tensor:
    height, width = image.shape[-2:]
    return _resized(image, height // 2, width // 2, align_corners)


def _resized(image: Tensor, height: int, width: int, align_corners: bool) -> Tensor:
    return F.interpolate(image, (height, width), mode="bilinear", align_corners=align_corners)
