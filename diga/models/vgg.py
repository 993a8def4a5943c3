"""VGG-19 up to relu5_1, frozen: the eye of a perceptual loss (Johnson et al., 2016)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from diga.models.door import imagenet, legacy

WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512)  # 0: halve the size
SHOWN = (1, 6, 11, 20, 29)  # relu1_1, relu2_1, relu3_1, relu4_1, relu5_1 among the layers


def layers() -> nn.Sequential:
    """Convolutions, each with its ReLU, and poolings, numbered as torchvision numbers them."""
    made: list[nn.Module] = []
    c_in = 3
    for c_out in WIDTHS:
        if c_out:
            made += [nn.Conv2d(c_in, c_out, 3, 1, 1), nn.ReLU()]
            c_in = c_out
        else:
            made.append(nn.MaxPool2d(2))
    return nn.Sequential(*made)


class VGG19(nn.Module):
    """Untrained until a file of torchvision's weights is loaded; keys `features.N.weight` and `.bias`.

    `inputs`: "imagenet" gives it what those weights were trained on, "legacy" the BGR values that
    DiGA's authors gave it.
    """

    def __init__(self, inputs: Literal["imagenet", "legacy"] = "imagenet") -> None:
        super().__init__()
        self.door = imagenet() if inputs == "imagenet" else legacy(bgr=True)
        self.features = layers()
        for module in self.features:
            if isinstance(module, nn.Conv2d):  # keeps the maps' size from layer to layer
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [0, 1] -> relu1_1 … relu5_1: (B, C, H/s, W/s), rounded down.

        C = 64, 128, 256, 512, 512 and s = 1, 2, 4, 8, 16.  Gradients reach the image.
        """
        x, maps = self.door(image), []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in SHOWN:
                maps.append(x)
        return maps

    def backbone_state(self) -> dict[str, Tensor]:
        """All of it."""
        return self.state_dict()
