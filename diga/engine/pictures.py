"""Images and labels as PNGs, labels in Cityscapes' colours; and rows of a batch side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from diga.data.labels import colourise, palette

ROWS = 4  # images of a batch that are shown
WIDTH = 224  # pixels of a column, whatever the size of the images
TITLE = 16  # pixels
GAP = 4  # pixels


def rgb(x: Tensor, classes: int) -> NDArray[np.uint8]:
    """(B, 3, H, W) in [0, 1] or labels (B, H, W) -> (b, H, W, 3) bytes, b the rows that are shown."""
    shown = x[:ROWS].detach().cpu()
    if x.ndim == 4:
        return np.asarray((shown.float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy())
    return np.stack([colourise(label.numpy().astype(np.uint8), classes) for label in shown])


def grid(columns: Mapping[str, Tensor], classes: int) -> Image.Image:
    """One column a name, one row an image of the batch; what is smaller than the others is drawn as large."""
    tiles = {name: rgb(x, classes) for name, x in columns.items() if x.numel()}
    largest = max(tiles.values(), key=lambda t: t.shape[2])
    size = (WIDTH, round(WIDTH * largest.shape[1] / largest.shape[2]))
    rows = min(len(t) for t in tiles.values())
    sheet = Image.new("RGB", (len(tiles) * (WIDTH + GAP), TITLE + rows * (size[1] + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for c, (name, images) in enumerate(tiles.items()):
        draw.text((c * (WIDTH + GAP) + 2, 2), name, fill="black")
        for r in range(rows):
            tile = Image.fromarray(images[r]).resize(size, Image.Resampling.NEAREST)
            sheet.paste(tile, (c * (WIDTH + GAP), TITLE + r * (size[1] + GAP)))
    return sheet


def write(path: Path, columns: Mapping[str, Tensor], classes: int) -> None:
    """Save the grid."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grid(columns, classes).save(path)


def photo(path: Path, image: Tensor) -> None:
    """An image (3, H, W) in [0, 1] as an 8-bit RGB PNG."""
    rgb = (image * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    Image.fromarray(rgb).save(path)


def label(path: Path, ids: Tensor, classes: int) -> None:
    """Class ids (H, W) as an 8-bit palette PNG."""
    picture = Image.fromarray(ids.byte().cpu().numpy())
    picture.putpalette(palette(classes))
    picture.save(path)
