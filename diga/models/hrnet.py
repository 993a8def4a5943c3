"""HRNet-W48 with object-contextual representations, 70 million weights: the network of DiGA's HRNet rows.

Four resolutions side by side, from a quarter to a thirty-second, that exchange what they see (Wang et
al., PAMI 2020).  Modules have the official names, so that the file `hrnetv2_w48` fits.
"""

from __future__ import annotations

from functools import reduce
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diga.models.door import legacy
from diga.models.norm import BatchNorm2d
from diga.models.ocr import ObjectContext
from diga.models.resnet import stage, unit
from diga.models.segmenter import Segmenter

BLOCKS = 4  # of every branch, and of the first stage
EXCHANGES = (1, 4, 3)  # of the second, third and fourth stage


class Basic(nn.Module):
    """x + f(x), f two 3x3 convolutions at constant width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, 1, 1, bias=False), BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + x, inplace=True)


def bridge(widths: list[int], i: int, j: int) -> nn.Module:
    """From branch j to the width of branch i, and to its size where that is the coarser one."""
    if i <= j:
        return nn.Identity() if i == j else unit(widths[j], widths[i], 1, relu=False)
    downs = [unit(widths[j], widths[j], stride=2) for _ in range(i - j - 1)]
    return nn.Sequential(*downs, unit(widths[j], widths[i], stride=2, relu=False))


class Exchange(nn.Module):
    """Each branch on its own, then every one to every one: y_i = relu(sum_j to_i(f_j(x_j)))."""

    def __init__(self, widths: list[int], blocks: int = BLOCKS) -> None:
        super().__init__()
        n = range(len(widths))
        self.branches = nn.ModuleList(nn.Sequential(*(Basic(c) for _ in range(blocks))) for c in widths)
        self.fuse_layers = nn.ModuleList(nn.ModuleList(bridge(widths, i, j) for j in n) for i in n)

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        """(B, C_i, H_i, W_i), finest first -> the same shapes."""
        own = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        return [self._fused(i, own) for i in range(len(own))]

    def _fused(self, i: int, own: list[Tensor]) -> Tensor:
        bridges = cast(nn.ModuleList, self.fuse_layers[i])
        return F.relu(reduce(torch.add, (resized(to(x), own[i]) for to, x in zip(bridges, own, strict=True))))


def resized(x: Tensor, like: Tensor) -> Tensor:
    """`x` at the size of `like`, as it is if it has it; corners are aligned, as the official weights saw it."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)


def first_transition(c_in: int, widths: list[int]) -> nn.ModuleList:
    """One branch becomes two."""
    return nn.ModuleList([unit(c_in, widths[0]), nn.Sequential(unit(c_in, widths[1], stride=2))])


def transition(widths: list[int]) -> nn.ModuleList:
    """The branches there are stay; the coarsest also begets another of half its size."""
    stay = [nn.Identity() for _ in widths[:-1]]
    return nn.ModuleList([*stay, nn.Sequential(unit(widths[-2], widths[-1], stride=2))])


class HRNet(nn.Module):
    """(B, 3, H, W) -> (B, 15 * width, H/4, W/4): all four resolutions at the finest one's size."""

    def __init__(self, width: int = 48, exchanges: tuple[int, int, int] = EXCHANGES) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(4)]
        self.width = sum(widths)
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False), BatchNorm2d(64)
        self.conv2, self.bn2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False), BatchNorm2d(64)
        self.layer1 = stage(64, 64, BLOCKS)
        self.transition1 = first_transition(256, widths[:2])
        self.stage2 = nn.Sequential(*(Exchange(widths[:2]) for _ in range(exchanges[0])))
        self.transition2 = transition(widths[:3])
        self.stage3 = nn.Sequential(*(Exchange(widths[:3]) for _ in range(exchanges[1])))
        self.transition3 = transition(widths)
        self.stage4 = nn.Sequential(*(Exchange(widths) for _ in range(exchanges[2])))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer1(F.relu(self.bn2(self.conv2(x)), inplace=True))
        xs = self.stage2([begin(x) for begin in self.transition1])
        xs = self.stage3([begin(y) for begin, y in zip(self.transition2, [*xs, xs[-1]], strict=True)])
        xs = self.stage4([begin(y) for begin, y in zip(self.transition3, [*xs, xs[-1]], strict=True)])
        return torch.cat([resized(y, xs[0]) for y in xs], 1)


class HRNetOCR(Segmenter):
    """Logits and aux (B, K, H/4, W/4), features (B, 512, H/4, W/4); weights by the official names.

    Everything trains, at one rate in the authors' plans.  Features are taken after the dropout, as theirs are.
    """

    def __init__(self, classes: int, width: int = 48, exchanges: tuple[int, int, int] = EXCHANGES) -> None:
        backbone = HRNet(width, exchanges)
        super().__init__(legacy(bgr=False), backbone, ObjectContext(backbone.width, classes))


def hrnet_w48_ocr(classes: int) -> nn.Module:
    """HRNet-W48 and OCR: features (B, 512, H/4, W/4); `aux` has the logits of the soft regions."""
    return HRNetOCR(classes)
