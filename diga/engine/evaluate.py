"""Score a network on labelled images it has never trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from diga.models.norm import norms
from diga.ops.scores import confusion
from diga.types import Batch

Protocol = Callable[[nn.Module, Tensor], Tensor]  # network and images (B, 3, H, W) -> classes (B, H, W)


@torch.no_grad()
def predict(net: nn.Module, image: Tensor, protocol: Protocol) -> Tensor:
    """(B, H, W) winning classes of images (B, 3, H, W)."""
    net.eval()
    return protocol(net, image.contiguous(memory_format=torch.channels_last))


@torch.no_grad()
def confusions(net: nn.Module, batches: Iterable[Batch], protocol: Protocol, classes: int) -> Tensor:
    """(N, K, K) pixel counts of N images one by one, row = truth, column = prediction."""
    counts = [confusion(predict(net, batch.image, protocol), batch.label, classes) for batch in batches]
    return torch.cat(counts).cpu()


@torch.no_grad()
def reestimated(net: nn.Module, images: Iterable[Tensor]) -> nn.Module:
    """A copy whose batch-norm statistics are the mean over batches of `images` (b, 3, H, W) alone: "AdaBN".

    It reads unlabelled images only.  What this column gains over the plain one is gained without
    any adaptation method (Li et al., Revisiting Batch Normalization, 2016).
    """
    copy = deepcopy(net).train()
    for i, batch in enumerate(images):
        for norm in norms(copy):
            norm.momentum = 1 / (i + 1)
        copy(batch)
    return copy.eval()


def present(values: Mapping[str, float]) -> dict[str, float]:
    """The values there are: what has none, a class that is nowhere for one, is left out."""
    return {name: value for name, value in values.items() if math.isfinite(value)}
