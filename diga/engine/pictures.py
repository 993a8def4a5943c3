"""Rows of a batch side by side as one PNG: images as they are, labels in Cityscapes' colours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from diga.data.labels import colourise

ROWS = 4  # images of a batch that are shown
TITLE = 14  # pixels


def rgb(x: Tensor) -> NDArray[np.uint8]:
    """(B, 3, H, W) in [0, 1] or labels (B, H, W) -> (B, H, W, 3) bytes."""
    shown = x[:ROWS].detach().float().cpu() if x.ndim == 4 else x[:ROWS].cpu()
    if x.ndim == 4:
        return np.asarray((shown.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy())
    return np.stack([colourise(label.numpy().astype(np.uint8)) for label in shown])


def grid(columns: Mapping[str, Tensor]) -> Image.Image:
    """One column a name, one row an image of the batch."""
    tiles = {name: rgb(x) for name, x in columns.items() if x.numel()}
    count, height, width = (min(t.shape[i] for t in tiles.values()) for i in range(3))
    sheet = Image.new("RGB", (len(tiles) * (width + 2), TITLE + count * (height + 2)), "white")
    draw = ImageDraw.Draw(sheet)
    for c, (name, rows) in enumerate(tiles.items()):
        draw.text((c * (width + 2) + 2, 1), name, fill="black")
        for r in range(count):
            sheet.paste(Image.fromarray(rows[r]), (c * (width + 2), TITLE + r * (height + 2)))
    return sheet


def write(path: Path, columns: Mapping[str, Tensor]) -> None:
    """Save the grid."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grid(columns).save(path)
