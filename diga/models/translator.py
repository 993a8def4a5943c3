"""Image translation: an encoder per domain, a decoder per style, a multi-scale judge per style, as DiGA has it."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from diga.models.judge import enough


def block(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Reflection padding, convolution, instance normalisation without weights, ReLU."""
    pad = (kernel - 1) // 2
    layer = nn.Conv2d(c_in, c_out, kernel, stride, pad, padding_mode="reflect")
    return nn.Sequential(layer, nn.InstanceNorm2d(c_out), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """x + f(x) at constant width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.Conv2d(width, width, 3, 1, 1, padding_mode="reflect")
        self.body = nn.Sequential(block(width, width, 3), last, nn.InstanceNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def encoder(width: int, blocks: int) -> nn.Sequential:
    """(B, 3, H, W) in [0, 1] -> (B, 4 * width, H/4, W/4)."""
    down = [block(3, width, 7), block(width, 2 * width, 4, 2), block(2 * width, 4 * width, 4, 2)]
    return nn.Sequential(*down, *(Residual(4 * width) for _ in range(blocks)))


def decoder(width: int, blocks: int) -> nn.Sequential:
    """(B, 4 * width, H/4, W/4) -> (B, 3, H, W) in [0, 1]."""
    layers: list[nn.Module] = [Residual(4 * width) for _ in range(blocks)]
    for c in (4, 2):
        layers += [nn.Upsample(scale_factor=2), block(c * width, c // 2 * width, 5)]
    last = nn.Conv2d(width, 3, 7, 1, 3, padding_mode="reflect")
    return nn.Sequential(*layers, last, nn.Sigmoid())


def least_side(scales: int) -> int:
    """Pixels a side of the smallest images that a judge of so many scales can read.

    The coarsest image, halved `scales` - 1 times and rounded up, must survive four halvings that round down.
    """
    return (15 << (scales - 1)) + 1


class Judge(nn.Module):
    """Patch scores of an image at several scales: real ones near 1, translated ones near 0."""

    def __init__(self, width: int, scales: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(self._head(width) for _ in range(scales))

    @staticmethod
    def _head(width: int) -> nn.Sequential:
        channels = [3, *(width * 2**i for i in range(4))]
        layers: list[nn.Module] = []
        for c_in, c_out in pairwise(channels):
            layers += [nn.Conv2d(c_in, c_out, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
        return nn.Sequential(*layers, nn.Conv2d(channels[-1], 1, 1))

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> one (B, 1, h, w) map of scores a scale.  Raises ConfigError below `least_side`."""
        enough(image, least_side(len(self.heads)))
        scores = []
        for head in self.heads:
            scores.append(head(image))
            image = F.avg_pool2d(image, 3, 2, 1, count_include_pad=False)
        return scores


class Generator(nn.Module):
    """G: `from_s`, `from_t` read a domain; `to_s`, `to_t` paint its style."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.from_s, self.from_t = encoder(width, blocks), encoder(width, blocks)
        self.to_s, self.to_t = decoder(width, blocks), decoder(width, blocks)

    def forward(self, x_s: Tensor) -> Tensor:
        """Source images (B, 3, H, W) in the target's style."""
        painted: Tensor = self.to_t(self.from_s(x_s))
        return painted
