"""ResNet-101 as Caffe's weights want it: stages that stride on their first 1x1, output stride 8."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from diga.models.norm import BatchNorm2d

BLOCKS = (3, 4, 23, 3)  # of ResNet-101


def unit(c_in: int, c_out: int, kernel: int = 3, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution that keeps the size, or halves it, batch normalisation and, unless told not to, ReLU."""
    layers = [nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False), BatchNorm2d(c_out)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))


class Bottleneck(nn.Module):
    """x + f(x), f a 1x1, a 3x3 and a 1x1 convolution, 4 * width channels out (He et al., 2016).

    Modules have torchvision's names, so that files of weights fit.  The stride is on the first 1x1,
    where the authors of ResNet and Caffe have it; torchvision moved it to the 3x3.
    """

    def __init__(self, c_in: int, width: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        c_out = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(c_in, width, 1, stride, bias=False), BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False)
        self.bn2 = BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, c_out, 1, bias=False), BatchNorm2d(c_out)
        same = stride == 1 and c_in == c_out
        self.downsample: nn.Module = nn.Identity() if same else unit(c_in, c_out, 1, stride, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x), inplace=True)


def stage(c_in: int, width: int, blocks: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """A row of bottlenecks; the first strides, all are dilated."""
    first = Bottleneck(c_in, width, stride, dilation)
    return nn.Sequential(first, *(Bottleneck(4 * width, width, 1, dilation) for _ in range(blocks - 1)))


class ResNet(nn.Module):
    """(B, 3, H, W) -> (B, 2048, h, w), h = H/8 + 1 where 8 divides H: the pooling rounds up."""

    def __init__(self, blocks: tuple[int, int, int, int] = BLOCKS) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), BatchNorm2d(64)
        self.layer1 = stage(64, 64, blocks[0])
        self.layer2 = stage(256, 128, blocks[1], stride=2)
        self.layer3 = stage(512, 256, blocks[2], dilation=2)
        self.layer4 = stage(1024, 512, blocks[3], dilation=4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        y: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return y
