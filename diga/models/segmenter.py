"""What the networks of the papers have in common: a door, a backbone that a file of weights can fill, and a head."""

from __future__ import annotations

from torch import Tensor, nn

from diga.types import Prediction


class Segmenter(nn.Module):
    """head(backbone(door(image))); `door` brings images to what the backbone's weights were made for."""

    def __init__(self, door: nn.Module, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.door, self.backbone, self.head = door, backbone, head

    def forward(self, image: Tensor) -> Prediction:
        """(B, 3, H, W) in [0, 1] -> what the head says of the backbone's features."""
        prediction: Prediction = self.head(self.backbone(self.door(image)))
        return prediction

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What the plan's `backbone` and `head` factors apply to, frozen ones included: each parameter once."""
        return {"backbone": list(self.backbone.parameters()), "head": list(self.head.parameters())}

    def backbone_state(self) -> dict[str, Tensor]:
        """The backbone's tensors by their names in a file of weights; they share the network's memory."""
        state: dict[str, Tensor] = self.backbone.state_dict()
        return state
