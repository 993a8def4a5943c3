"""Networks of the paper's size for the benchmarks, untrained: what they cost is real, what they say is not."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diga.models.norm import BatchNorm2d
from diga.types import Prediction

BLOCKS = (3, 4, 23, 3)  # of ResNet-101
DILATIONS = (1, 1, 2, 4)  # output stride 8


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions beside a shortcut."""

    def __init__(self, c_in: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, (a, b, kernel) in enumerate(((c_in, width, 1), (width, width, 3), (width, 4 * width, 1))):
            pad = dilation if kernel == 3 else 0
            layers += [nn.Conv2d(a, b, kernel, stride if i == 0 else 1, pad, dilation if pad else 1, bias=False)]
            layers += [BatchNorm2d(b), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers[:-1])
        same = stride == 1 and c_in == 4 * width
        self.shortcut = nn.Identity() if same else nn.Conv2d(c_in, 4 * width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class PaperSize(nn.Module):
    """ResNet-101 at output stride 8, four dilated branches of 256 channels fused to D = 256: 65 M weights."""

    def __init__(self, classes: int = 19) -> None:
        super().__init__()
        stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
        widths, body = (64, 64, 128, 256, 512), []
        for i, (before, width) in enumerate(pairwise(widths)):
            for block in range(BLOCKS[i]):
                c_in = 64 if i == 0 and block == 0 else 4 * (width if block else before)
                body.append(Bottleneck(c_in, width, 2 if i == 1 and block == 0 else 1, DILATIONS[i]))
        self.body = nn.Sequential(*stem, *body)
        self.branches = nn.ModuleList(nn.Conv2d(2048, 256, 3, 1, d, d) for d in (6, 12, 18, 24))
        self.fuse = nn.Conv2d(4 * 256, 256, 3, 1, 1)
        self.classifier = nn.Conv2d(256, classes, 1, bias=False)

    def forward(self, image: Tensor) -> Prediction:
        """(B, 3, H, W) in [0, 1] -> logits (B, K, H/8, W/8), features (B, 256, H/8, W/8)."""
        deep = self.body(4 * image - 2)
        features = self.fuse(F.relu(torch.cat([branch(deep) for branch in self.branches], 1)))
        return Prediction(self.classifier(features), features)
