"""Synscapes (Wrenninge and Unger, 2018): `img/rgb/N.png` with Cityscapes' raw ids in `img/class/N.png`.

The set comes without a split: every image is training data.
"""

from __future__ import annotations

from pathlib import Path

from diga.data.domain import Layout, images_in
from diga.errors import ConfigError


def _folder(root: Path, split: str, kind: str) -> Path:
    if split != "train":
        raise ConfigError(split, "no split of Synscapes", "train: the set is a source, and has no other")
    return root / "img" / kind


def _images(root: Path, split: str) -> list[Path]:
    return images_in(_folder(root, split, "rgb"), ".png")


def _labels(root: Path, split: str) -> list[Path]:
    """Label maps, without what else may lie beside them under other names (`N_gt_labelTrainIds.png`)."""
    return [path for path in images_in(_folder(root, split, "class"), ".png") if path.stem.isdigit()]


def _stem(image: Path) -> str:
    return image.stem


def _label_of(root: Path, image: Path) -> Path:
    return root / "img" / "class" / image.name


LAYOUT = Layout(name="synscapes", images=_images, labels=_labels, stem=_stem, label_of=_label_of)
