"""A contact sheet of streets: every image above its colourised labels, four to a row, a block a domain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from diga.data.canvas import Array
from diga.data.labels import COLOURS, RAW_IDS

COLUMNS, ROWS, GAP = 4, 2, 4  # pictures a row, rows a domain, pixels between domains
TREES = ("gta5/images", "cityscapes/leftImg8bit/train", "dusk/gta5/images")  # one a domain, in their order


def sheet(root: Path, path: Path, zoom: int = 2) -> Path:
    """Write the first eight training images of each domain under `root` to the PNG `path`.

    Colours are reduced to 256, so that a page can carry it.
    """
    blocks = [_block(sorted((root / tree).rglob("*.png"))[: COLUMNS * ROWS]) for tree in TREES]
    blocks = [block for block in blocks if block.size]
    rule = np.full((GAP, max(block.shape[1] for block in blocks), 3), 255, np.uint8)
    page = np.concatenate([part for block in blocks for part in (block, rule)][:-1])
    image = Image.fromarray(page).quantize(256, dither=Image.Dither.NONE)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST).save(path, optimize=True)
    return path


def _block(images: list[Path]) -> Array:
    """(rows, columns, 3): pictures with their labels below, in a grid; a last, short row is left out."""
    cells = [np.concatenate([_image(image), _label(image)]) for image in images]
    full = len(cells) // COLUMNS * COLUMNS
    rows = [np.concatenate(cells[n : n + COLUMNS], 1) for n in range(0, full, COLUMNS)]
    return np.concatenate(rows) if rows else np.zeros((0, 0, 3), np.uint8)


def _image(path: Path) -> Array:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _label(path: Path) -> Array:
    """The raw label map that belongs to an image, in the colours of Cityscapes; void is black."""
    name = str(path).replace("/images/", "/labels/").replace("/leftImg8bit/", "/gtFine/")
    with Image.open(name.replace("_leftImg8bit.png", "_gtFine_labelIds.png")) as image:
        raw = np.asarray(image)
    table = np.zeros((256, 3), np.uint8)
    table[list(RAW_IDS)] = COLOURS
    return np.asarray(table[raw])
