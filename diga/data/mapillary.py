"""Mapillary Vistas 1.2 (Neuhold et al., ICCV 2017): `{training,validation}/{images,labels}/`, 66 class indices."""

from __future__ import annotations

from pathlib import Path

from diga.data.domain import Layout, images_in
from diga.errors import ConfigError, expected_one_of

FOLDERS = {"train": "training", "val": "validation"}
RAW = (
    *((13, 24, 41), (15, 2), (17,), (6,), (3,), (45, 47), (48,), (50,), (30,), (29,)),  # road to terrain
    *((27,), (19,), (20, 21, 22), (55,), (61,), (54,), (58,), (57,), (52,)),  # sky to bicycle
)  # a road has its markings and manholes, a sidewalk its curb, a rider any vehicle
VOID = tuple(i for i in range(66) if not any(i in ids for ids in RAW))


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


LAYOUT = Layout(
    name="mapillary",
    images=_images,
    labels=_labels,
    stem=_stem,
    label_of=_label_of,
    void=VOID,
    raw=RAW,
)
