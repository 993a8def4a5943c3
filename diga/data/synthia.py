"""SYNTHIA-RAND-CITYSCAPES (Ros et al., CVPR 2016): `RAND_CITYSCAPES/RGB/` and `RAND_CITYSCAPES/GT/LABELS/`.

A label is a PNG of three channels of 16 bits: the class, the instance, nothing.  All images are training data.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from diga.data.domain import Layout, decoded, images_in
from diga.errors import ConfigError, DataError, expected_one_of

LOW_BYTES = "RGB;16L"  # Pillow's name for colour of which the second byte of each two is kept
IMAGES, LABELS = Path("RAND_CITYSCAPES/RGB"), Path("RAND_CITYSCAPES/GT/LABELS")
RAW = (
    *((3,), (4,), (2,), (21,), (5,), (7,), (15,), (9,), (6,), (16,)),  # road to terrain
    *((1,), (10,), (17,), (8,), (18,), (19,), (20,), (12,), (11,)),  # sky to bicycle
)
VOID = (0, 13, 14, 22)  # void, parking, road-work, lane marking


def _all_train(root: Path, split: str) -> None:
    if split == "val":
        raise DataError(root, "SYNTHIA has no val split", "all of its images are train")
    if split != "train":
        raise ConfigError(split, "no split of SYNTHIA", expected_one_of(split, ("train",)))


def _images(root: Path, split: str) -> list[Path]:
    _all_train(root, split)
    return images_in(root / IMAGES, ".png")


def _labels(root: Path, split: str) -> list[Path]:
    _all_train(root, split)
    return images_in(root / LABELS, ".png")


def _stem(image: Path) -> str:
    return image.stem


def _label_of(root: Path, image: Path) -> Path:
    return root / LABELS / image.name


def decode_first_channel(path: Path, data: bytes) -> NDArray[np.uint16]:
    """(H, W) 16-bit values of the first channel of a PNG.  Raises DataError for any other kind of file.

    Of 16-bit colour Pillow keeps the high bytes, zero for every class, and says nothing.  So the file is decoded
    once more as if the low bytes were the high ones.
    """
    high = decoded(path, data, ("PNG",))
    if high.mode != "RGB" or data[24] != 16:
        raise DataError(path, f"label map of mode {data[24]}-bit {high.mode}", "16-bit RGB, of which red is the class")
    low = PngImageFile(BytesIO(data))
    low.tile = [tile._replace(args=LOW_BYTES) for tile in low.tile or ()]
    first, second = (np.array(image.getchannel(0)).astype(np.uint16) for image in (high, low))
    return np.uint16(256) * first + second


LAYOUT = Layout(
    name="synthia",
    images=_images,
    labels=_labels,
    stem=_stem,
    label_of=_label_of,
    void=VOID,
    raw=RAW,
    decode=decode_first_channel,
)
