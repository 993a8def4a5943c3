"""Cityscapes (Cordts et al., CVPR 2016): `{leftImg8bit,gtFine}/<split>/<city>/` and raw label ids."""

from __future__ import annotations

from pathlib import Path

from diga.data.domain import Layout, images_in, names_in
from diga.errors import ConfigError, DataError, expected_one_of

IMAGE, LABEL = "_leftImg8bit.png", "_gtFine_labelIds.png"
SPLITS = ("train", "val", "test")


def _files(root: Path, kind: str, split: str, suffix: str) -> list[Path]:
    if split not in SPLITS:
        raise ConfigError(split, "no split of Cityscapes", expected_one_of(split, SPLITS))
    folder = root / kind / split
    cities = [folder / name for name in names_in(folder) if (folder / name).is_dir()]
    found = [path for city in cities for path in images_in(city, suffix, empty=True)]
    if not found:
        raise DataError(folder, f"0 files match */*{suffix}", "one folder a city")
    return found


def _images(root: Path, split: str) -> list[Path]:
    return _files(root, "leftImg8bit", split, IMAGE)


def _labels(root: Path, split: str) -> list[Path]:
    return _files(root, "gtFine", split, LABEL)


def _stem(image: Path) -> str:
    return image.name.removesuffix(IMAGE)


def _label_of(root: Path, image: Path) -> Path:
    below = image.relative_to(root / "leftImg8bit").parent
    return root / "gtFine" / below / (image.name.removesuffix(IMAGE) + LABEL)


LAYOUT = Layout(
    name="cityscapes",
    images=_images,
    labels=_labels,
    stem=_stem,
    label_of=_label_of,
)
