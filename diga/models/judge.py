"""The judge of outputs: from which domain do these softmax maps come (Tsai et al., AdaptSegNet, CVPR 2018)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from diga.errors import ConfigError

LEAST_SIDE = 32  # pixels: five halvings, each rounding down


class OutputJudge(nn.Module):
    """Patch scores of softmax maps: five 4x4 convolutions of stride 2, each patch 32 pixels apart."""

    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for c_in, c_out in pairwise([classes, *(width * 2**i for i in range(4))]):
            layers += [nn.Conv2d(c_in, c_out, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 2, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, K, H, W) -> (B, 1, H/32, W/32), rounded down.  Raises ConfigError below 32 pixels a side."""
        enough(maps, LEAST_SIDE)
        scores: Tensor = self.layers(maps)
        return scores


def enough(image: Tensor, least: int) -> None:
    """Raises ConfigError if a side of images (B, C, H, W) is shorter than `least` pixels."""
    height, width = image.shape[-2:]
    if min(height, width) < least:
        raise ConfigError("crop", f"{height} x {width} pixels are too few for the judge", f"{least} a side at least")
