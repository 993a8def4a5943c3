"""How a network is tested, by name; a new protocol is a new function here.

Each takes a network in evaluation mode and images (B, 3, H, W) and gives logits (B, K, H, W).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diga.ops.losses import upsample


def single_scale(net: nn.Module, image: Tensor, align_corners: bool = False) -> Tensor:
    """The image as it is."""
    return upsample(net(image).logits, image, align_corners)


def two_scale_max(net: nn.Module, image: Tensor, align_corners: bool = False) -> Tensor:
    """The larger logit of the native and the half-size image: "MST" in DiGA's tables (spec 5)."""
    height, width = image.shape[-2:]
    half = F.interpolate(image, (height // 2, width // 2), mode="bilinear", align_corners=align_corners)
    native = single_scale(net, image, align_corners)
    return torch.maximum(native, upsample(net(half).logits, image, align_corners))
