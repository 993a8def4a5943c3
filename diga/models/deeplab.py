"""DeepLab on ResNet-101 with the head of ProDA, 65 million weights: the network of DiGA's ResNet rows.

Five views of the deepest features at growing dilation, each channel of their concatenation weighed by
its mean over the image, fused to D = 256 (Chen et al., 2017; Zhang et al., ProDA, CVPR 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diga.models.door import legacy
from diga.models.norm import norms
from diga.models.resnet import ResNet
from diga.models.segmenter import Segmenter
from diga.types import Prediction

DILATIONS = (6, 12, 18, 24)
WIDTH, GROUPS, REDUCTION = 256, 32, 16


class SqueezeExcite(nn.Module):
    """x * sigmoid(W2 relu(W1 mean(x))), the mean over all cells (Hu et al., 2018)."""

    def __init__(self, channels: int, reduction: int = REDUCTION) -> None:
        super().__init__()
        few = channels // reduction
        self.weigh = nn.Sequential(nn.Linear(channels, few), nn.ReLU(), nn.Linear(few, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.weigh(x.mean((2, 3)))[:, :, None, None]
        return y


def branch(c_in: int, dilation: int = 0) -> nn.Sequential:
    """3x3 convolution at this dilation, or a 1x1 one at none, group normalisation, ReLU."""
    layer = nn.Conv2d(c_in, WIDTH, 3 if dilation else 1, 1, dilation, dilation or 1)
    return nn.Sequential(layer, nn.GroupNorm(GROUPS, WIDTH), nn.ReLU(inplace=True))


class Head(nn.Module):
    """(B, 2048, h, w) -> logits (B, K, h, w) and features (B, 256, h, w)."""

    def __init__(self, classes: int, dropped: bool, c_in: int = 2048) -> None:
        super().__init__()
        self.dropped = dropped
        self.branches = nn.ModuleList([branch(c_in), *(branch(c_in, d) for d in DILATIONS)])
        wide = len(self.branches) * WIDTH
        fuse = nn.Conv2d(wide, WIDTH, 3, 1, 1)
        self.fuse = nn.Sequential(SqueezeExcite(wide), fuse, nn.GroupNorm(GROUPS, WIDTH))
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(WIDTH, classes, 1, bias=False)
        nn.init.zeros_(fuse.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Prediction:
        whole = self.fuse(torch.cat([view(x) for view in self.branches], 1))
        dropped = self.dropout(whole)
        return Prediction(self.classifier(dropped), dropped if self.dropped else whole)


class DeepLab(Segmenter):
    """Logits (B, K, h, w), features (B, 256, h, w), h = H/8 + 1 where 8 divides H; weights by torchvision's names.

    `dropped`: whether features are taken after the dropout, as the authors take them, or before it.

    In eval mode both are the same.  Scale and shift of the batch normalisations never train, while
    their statistics are those of the batch: on them rests that weights made for 8-bit values do well
    on values divided by 128.
    """

    def __init__(self, classes: int, dropped: bool = False) -> None:
        super().__init__(legacy(bgr=True), ResNet(), Head(classes, dropped))
        for module in self.modules():  # the authors' last word on every one of them; biases stay
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.01)
        for norm in norms(self):
            norm.requires_grad_(False)


def deeplab_resnet101(classes: int) -> nn.Module:
    """The clean one: features (B, 256, h, w) are taken before the dropout."""
    return DeepLab(classes)


def deeplab_resnet101_official(classes: int) -> nn.Module:
    """The authors': features are taken after the dropout, so in training a tenth of them is zero."""
    return DeepLab(classes, dropped=True)
