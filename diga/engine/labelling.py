"""Labels of target images by a trained network, stored for the stages that learn from them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from diga.data import streams
from diga.engine import checkpoint, pictures, protocols
from diga.ops.losses import upsample
from diga.ops.pseudo import confidence_histogram, confident, winners
from diga.stage import Kept

if TYPE_CHECKING:
    from diga.engine.run import Run

HISTOGRAM = "confidences.pt"


@torch.no_grad()
def store(run: Run, net: nn.Module, protocol: str, keep: Collection[Kept]) -> None:
    """Leave `labels/<stem>.png`, the winning class of every pixel of every target training image.

    With "confidence" also `confidence/<stem>.png`, the winner's probability in 255 steps, and a histogram
    of it by class; with "probabilities" `probabilities/<stem>.npy`, float16 (K, h, w) at the network's
    cells.  Raises ConfigError where two domains share stems.
    """
    domains = [run.domain(name) for name in run.recipe.targets]
    streams.check_stems(domains)
    for folder in ("labels", *keep):
        (run.folder / folder).mkdir(exist_ok=True)
    net.eval()
    progress = run.track(sum(len(domain.samples("train", labelled=False)) for domain in domains))
    histogram = torch.zeros(run.classes, 256, dtype=torch.int64)
    for name in run.recipe.targets:
        for stems, image in run.images(name, "train"):
            histogram += look(run, net, stems, image, protocol, keep).cpu()
            for _ in stems:
                next(progress)
    next(progress, None)
    if "confidence" in keep:
        checkpoint.write_weights(run.folder / HISTOGRAM, {"histogram": histogram})


def look(
    run: Run, net: nn.Module, stems: Sequence[str], image: Tensor, protocol: str, keep: Collection[Kept]
) -> Tensor:
    """Store what the network says of some images (b, 3, H, W); the histogram (K, 256) of their confidences, if kept."""
    corners = run.recipe.align_corners
    maps = getattr(protocols, protocol)(net, image.contiguous(memory_format=torch.channels_last), corners)
    labels, confidence = winners(maps, image, corners), None
    if "confidence" in keep:
        labels, confidence = confident(maps, image, corners)
    for stem, label in zip(stems, labels, strict=True):
        pictures.label(run.folder / "labels" / f"{stem}.png", label, run.classes)
    if "probabilities" in keep:
        for stem, p in zip(stems, highest(maps, maps[0], corners).softmax(1), strict=True):
            np.save(run.folder / "probabilities" / f"{stem}.npy", p.half().cpu().numpy())
    if confidence is None:
        return torch.zeros(run.classes, 256, dtype=torch.int64)
    for stem, p in zip(stems, confidence, strict=True):
        Image.fromarray((255 * p).round().byte().cpu().numpy()).save(run.folder / "confidence" / f"{stem}.png")
    return confidence_histogram(labels, confidence, run.classes)


def highest(maps: Sequence[Tensor], like: Tensor, align_corners: bool) -> Tensor:
    """(B, K, H, W): the highest logit of each class in any of the maps, resized to `like` (..., H, W)."""
    return reduce(torch.maximum, (upsample(x, like, align_corners) for x in maps))
