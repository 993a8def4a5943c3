"""A segmentation network of 0.3 million weights, for the embedded benchmark: stride 4, sees 1/8."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diga.models.norm import BatchNorm2d
from diga.types import Prediction

BACKBONE = ("fine", "coarse")


def conv(c_in: int, c_out: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """3x3 convolution, batch normalisation, ReLU."""
    layer = nn.Conv2d(c_in, c_out, 3, stride, dilation, dilation, bias=False)
    return nn.Sequential(layer, BatchNorm2d(c_out), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """x + f(x), f two 3x3 convolutions."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        last = nn.Conv2d(channels, channels, 3, 1, dilation, dilation, bias=False)
        self.body = nn.Sequential(conv(channels, channels, 1, dilation), last, BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


class StreetNet(nn.Module):
    """Two scales, the coarse one dilated, fused at stride 4; features are D = 48 channels."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(conv(3, 16, 2), conv(16, 32, 2), Residual(32))
        self.coarse = nn.Sequential(conv(32, 64, 2), Residual(64), Residual(64, 2), Residual(64, 4))
        self.fuse = conv(32 + 64, 48)
        self.classifier = nn.Conv2d(48, classes, 1)

    def forward(self, image: Tensor) -> Prediction:
        """(B, 3, H, W) in [0, 1] -> logits (B, K, H/4, W/4), features (B, 48, H/4, W/4)."""
        fine = self.fine(4 * image - 2)
        coarse = F.interpolate(self.coarse(fine), fine.shape[-2:], mode="bilinear", align_corners=False)
        features = self.fuse(torch.cat([fine, coarse], 1))
        return Prediction(self.classifier(features), features, self.auxiliary(coarse))

    def auxiliary(self, coarse: Tensor) -> Tensor | None:
        """Logits of the coarse branch at stride 4: there are none."""
        return None

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What the plan's `backbone` and `head` factors apply to."""
        groups: dict[str, list[nn.Parameter]] = {"backbone": [], "head": []}
        for name, part in self.named_children():
            groups["backbone" if name in BACKBONE else "head"] += part.parameters()
        return groups

    def backbone_state(self) -> dict[str, Tensor]:
        """Both scales, as this network names them."""
        return {k: v for k, v in self.state_dict().items() if k.startswith(BACKBONE)}


class StreetNetAux(StreetNet):
    """The same weights for one seed, and a classifier that reads the coarse branch alone."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.aux = nn.Conv2d(64, classes, 1)  # made last: what all share has drawn its weights by now

    def auxiliary(self, coarse: Tensor) -> Tensor:
        """(B, 64, H/4, W/4) -> aux (B, K, H/4, W/4), the grid of the logits."""
        logits: Tensor = self.aux(coarse)
        return logits


def streetnet(classes: int) -> nn.Module:
    """The network of the embedded benchmark."""
    return StreetNet(classes)


def streetnet_aux(classes: int) -> nn.Module:
    """The same with an auxiliary classifier on its coarse branch, 1,235 weights more for 19 classes."""
    return StreetNetAux(classes)
