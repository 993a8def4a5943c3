"""How images come in: RGB in [0, 1] outside, what a file of weights was trained on inside."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Colour = tuple[float, float, float]  # red, green, blue
CAFFE: Colour = (122.679, 116.669, 104.007)  # mean of ImageNet's 8-bit values
LEGACY_SCALE = 128.0  # DiGA's own: values of 8 bits come to about -0.96 … 1.18


class Door(nn.Module):
    """(x - mean) / deviation, channel by channel.

    `mean`, `deviation`: of red, green and blue in [0, 1].  `bgr`: whether blue comes first inside.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Colour, deviation: Colour, bgr: bool = False) -> None:
        super().__init__()
        self.bgr = bgr
        for name, colour in (("mean", mean), ("deviation", deviation)):  # no weights: no file holds them
            self.register_buffer(name, torch.tensor(colour).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, H, W)."""
        x = (image - self.mean) / self.deviation
        return x.flip(1) if self.bgr else x


def legacy(bgr: bool) -> Door:
    """Of 8-bit values, ImageNet's mean taken off, divided by 128: what all networks of DiGA's authors read."""
    scale = LEGACY_SCALE / 255
    return Door(tuple(m / 255 for m in CAFFE), (scale, scale, scale), bgr)  # type: ignore[arg-type]


def imagenet() -> Door:
    """Mean and deviation of ImageNet: what torchvision's weights were trained on."""
    return Door((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
