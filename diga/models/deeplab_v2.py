"""DeepLab-v2 on ResNet-101 with a feature layer before its classifier, 47.8 million weights: the network of DDB.

The backbone is the one of OpenMMLab's weights `resnet101_v1c`: three 3 x 3 convolutions for a stem,
strides on the 3 x 3 convolutions, output stride 8.  The head takes two of DeepLab-v2's dilations and an
adapter to D = 256 features, so that prototypes have a space (Chen et al., DDB, NeurIPS 2022).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diga.models.door import imagenet
from diga.models.norm import BatchNorm2d
from diga.models.resnet import BLOCKS, Bottleneck, unit
from diga.models.segmenter import Segmenter
from diga.types import Prediction

DILATIONS = (6, 12)  # of the head; DeepLab-v2 has 18 and 24 as well
WIDTH, FEATURES = 128, 256


class Block(Bottleneck):
    """A bottleneck that strides on its 3 x 3 convolution, as torchvision's and OpenMMLab's weights want it."""

    def __init__(self, c_in: int, width: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(c_in, width, stride, dilation)
        self.conv1.stride, self.conv2.stride = self.conv2.stride, self.conv1.stride


def stage(c_in: int, width: int, blocks: int, stride: int = 1, first: int = 1, dilation: int = 1) -> nn.Sequential:
    """A row of bottlenecks: the first strides and is dilated by `first`, the others by `dilation`."""
    rest = (Block(4 * width, width, 1, dilation) for _ in range(blocks - 1))
    return nn.Sequential(Block(c_in, width, stride, first), *rest)


class ResNetV1c(nn.Module):
    """(B, 3, H, W) -> (B, 2048, H/8, W/8), sides rounded up; modules have the names of OpenMMLab's files."""

    def __init__(self, blocks: tuple[int, int, int, int] = BLOCKS) -> None:
        super().__init__()
        self.stem = nn.Sequential(*unit(3, 32, stride=2), *unit(32, 32), *unit(32, 64))
        self.layer1 = stage(64, 64, blocks[0])
        self.layer2 = stage(256, 128, blocks[1], stride=2)
        self.layer3 = stage(512, 256, blocks[2], first=1, dilation=2)
        self.layer4 = stage(1024, 512, blocks[3], first=2, dilation=4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        y: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return y


def dilated(c_in: int, c_out: int, dilation: int) -> nn.Sequential:
    """3 x 3 convolution at this dilation, batch normalisation, ReLU; weights start as N(0, 0.01)."""
    layer = nn.Conv2d(c_in, c_out, 3, 1, dilation, dilation, bias=False)
    nn.init.normal_(layer.weight, 0.0, 0.01)
    return nn.Sequential(layer, BatchNorm2d(c_out), nn.ReLU(inplace=True))


class Head(nn.Module):
    """(B, 2048, h, w) -> logits (B, K, h, w) and features (B, 256, h, w), after the dropout."""

    def __init__(self, classes: int, c_in: int = 2048) -> None:
        super().__init__()
        self.branches = nn.ModuleList([dilated(c_in, WIDTH, d) for d in DILATIONS])
        self.adapter = unit(WIDTH * len(DILATIONS), FEATURES)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(FEATURES, classes, 1)

    def forward(self, x: Tensor) -> Prediction:
        features = self.dropout(self.adapter(torch.cat([view(x) for view in self.branches], 1)))
        return Prediction(self.classifier(features), features)


class DeepLabV2(Segmenter):
    """Logits (B, K, h, w), features (B, 256, h, w), h = H/8 rounded up; weights by OpenMMLab's names.

    Every batch normalisation trains.
    """

    def __init__(self, classes: int) -> None:
        super().__init__(imagenet(), ResNetV1c(), Head(classes))


def deeplab_v2_adapter(classes: int) -> nn.Module:
    """DDB's network: features (B, 256, h, w) of stride 8."""
    return DeepLabV2(classes)
