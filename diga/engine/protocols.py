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
    """The half-size image alone: 1024 x 512 of Cityscapes' images, as DDB is tested."""
    return [net(_halved(image, align_corners)).logits]


def two_scale_max(net: nn.Module, image: Tensor, align_corners: bool = False) -> list[Tensor]:
    """The native and the half-size image: "MST" in DiGA's tables (the authors' evaluation)."""
    return [net(image).logits, net(_halved(image, align_corners)).logits]


def _halved(image: Tensor, align_corners: bool) -> Tensor:
    height, width = image.shape[-2:]
    return F.interpolate(image, (height // 2, width // 2), mode="bilinear", align_corners=align_corners)
