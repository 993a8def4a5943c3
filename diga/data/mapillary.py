"""Mapillary Vistas 1.2 (Neuhold et al., ICCV 2017): `{training,validation}/{images,labels}/`, 66 class indices.

The papers map those to the nineteen classes in two ways, eleven indices apart: scores by one are not to be
compared with scores by the other.  `mapillary` is DiGA's, `mapillary_ddb`, in a folder of that name, DDB's.
"""

from __future__ import annotations

from pathlib import Path

from diga.data.domain import Layout, images_in
from diga.errors import ConfigError, expected_one_of

FOLDERS = {"train": "training", "val": "validation"}
RAW = (
    *((13, 24, 41), (15, 2), (17,), (6,), (3,), (45, 47), (48,), (50,), (30,), (29,)),  # road to terrain
    *((27,), (19,), (20, 21, 22), (55,), (61,), (54,), (58,), (57,), (52,)),  # sky to bicycle
)  # a road has its markings and manholes, a sidewalk its curb, a rider any vehicle
RAW_DDB = tuple(  # by rules on names: more of the ground is road or sidewalk, more of what stands is pole or sign
    {0: (7, 8, 10, 13, 14, 23, 24), 1: (2, 9, 11, 15), 5: (44, 45, 47), 7: (46, 49, 50)}.get(k, ids)
    for k, ids in enumerate(RAW)
)


def _folder(root: Path, split: str, kind: str) -> Path:
    if split not in FOLDERS:
        raise ConfigError(split, "no split of Mapillary", expected_one_of(split, FOLDERS))
    return root / FOLDERS[split] / kind


def _images(root: Path, split: str) -> list[Path]:
    return images_in(_folder(root, split, "images"), ".jpg")


def _labels(root: Path, split: str) -> list[Path]:
    return images_in(_folder(root, split, "labels"), ".png")


def _stem(image: Path) -> str:
    return image.stem


def _label_of(root: Path, image: Path) -> Path:
    return image.parents[1] / "labels" / f"{image.stem}.png"


def _layout(name: str, raw: tuple[tuple[int, ...], ...]) -> Layout:
    void = tuple(i for i in range(66) if not any(i in ids for ids in raw))
    return Layout(name=name, images=_images, labels=_labels, stem=_stem, label_of=_label_of, void=void, raw=raw)


LAYOUT = _layout("mapillary", RAW)
LAYOUT_DDB = _layout("mapillary_ddb", RAW_DDB)
