"""The nineteen Cityscapes classes: names, colours, raw ids, and the tables that lead from one to another.

A *raw id* is what a label file stores, a *train id* is 0..18 or IGNORE, and a *compact id* is a train id
after the classes that a smaller task leaves out have been closed up (16 classes, for SYNTHIA).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diga.errors import ConfigError

Bytes = NDArray[np.uint8]

IGNORE = 255  # train id of a pixel that no loss and no score may count (the same as diga.types.IGNORE)
UNKNOWN = 254  # what a table answers to a raw id that its layout does not have: an error, never a label

CLASSES: tuple[str, ...] = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "light", "sign", "vegetation", "terrain"),
    *("sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
COLOURS: tuple[tuple[int, int, int], ...] = (
    *((128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153)),
    *((250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60)),
    *((255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32)),
)
RAW_IDS: tuple[int, ...] = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
VOID_IDS: tuple[int, ...] = (*(i for i in range(34) if i not in RAW_IDS), IGNORE)

SIXTEEN: tuple[int, ...] = tuple(k for k in range(19) if k not in (9, 14, 16))  # without terrain, truck, train
THIRTEEN: tuple[int, ...] = tuple(k for k in SIXTEEN if k not in (3, 4, 5))  # and without wall, fence, pole
SUBSETS: Mapping[int, tuple[int, ...]] = {19: tuple(range(19)), 16: SIXTEEN, 13: THIRTEEN}


def raw_table(void: Iterable[int] = VOID_IDS) -> Bytes:
    """(256,) train id of every raw id; IGNORE for `void`, UNKNOWN for what the layout does not have."""
    table = np.full(256, UNKNOWN, np.uint8)
    table[list(void)] = IGNORE
    table[list(RAW_IDS)] = np.arange(19, dtype=np.uint8)
    return table


def to_train_ids(raw: Bytes, table: Bytes) -> Bytes:
    """Raw label map (H, W) to train ids by one look-up; unknown ids come back as UNKNOWN."""
    return np.take(table, raw)


def lookup(classes: int) -> Bytes:
    """(256,) compact id of every train id when `classes` of the nineteen are kept: 19, or SYNTHIA's 16.

    Raises ConfigError for any other number.
    """
    if classes not in (19, 16):
        raise ConfigError("classes", f"{classes} classes", "19 or 16")
    table = np.full(256, IGNORE, np.uint8)
    table[list(SUBSETS[classes])] = np.arange(classes, dtype=np.uint8)
    return table


def names(classes: int) -> tuple[str, ...]:
    """Names of the compact ids 0..classes-1."""
    return tuple(CLASSES[k] for k in SUBSETS[classes])


def _colours(classes: int = 19) -> Bytes:
    table = np.zeros((256, 3), np.uint8)
    table[:classes] = [COLOURS[k] for k in SUBSETS[classes]]
    return table


def palette(classes: int = 19) -> bytes:
    """768 bytes for PIL's `putpalette`: class colours first, everything else black."""
    return _colours(classes).tobytes()


def colourise(label: NDArray[Any], classes: int = 19) -> Bytes:
    """Label map (H, W) of train (or compact) ids to RGB (H, W, 3); IGNORE is black."""
    return np.take(_colours(classes), label, axis=0)
