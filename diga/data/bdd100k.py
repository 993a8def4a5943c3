"""BDD100K (Yu et al., CVPR 2020): `images/<split>/ID.jpg` with train ids `gtFine/<split>/ID_train_id.png`.

The official folders are read as well: `images/10k/<split>/ID.jpg` with `labels/sem_seg/masks/<split>/ID.png`.
"""

from __future__ import annotations

from pathlib import Path

from diga.data.domain import Layout, images_in
from diga.data.labels import CLASSES, IGNORE
from diga.errors import ConfigError, expected_one_of

SPLITS = ("train", "val")
OFFICIAL = "images/10k"


def _folder(root: Path, split: str) -> Path:
    """Where the images of a split are."""
    if split not in SPLITS:
        raise ConfigError(split, "no split of BDD100K", expected_one_of(split, SPLITS))
    official = root / OFFICIAL / split
    return official if official.is_dir() else root / "images" / split


def _images(root: Path, split: str) -> list[Path]:
    return images_in(_folder(root, split), ".jpg")


def _label_of(root: Path, image: Path) -> Path:
    split = image.parent.name
    if image.is_relative_to(root / OFFICIAL):
        return root / "labels/sem_seg/masks" / split / f"{image.stem}.png"
    return root / "gtFine" / split / f"{image.stem}_train_id.png"


def _labels(root: Path, split: str) -> list[Path]:
    somewhere = _label_of(root, _folder(root, split) / ".jpg")
    return images_in(somewhere.parent, "_train_id.png" if somewhere.name.endswith("_train_id.png") else ".png")


def _stem(image: Path) -> str:
    return image.stem


LAYOUT = Layout(
    name="bdd100k",
    images=_images,
    labels=_labels,
    stem=_stem,
    label_of=_label_of,
    void=(IGNORE,),
    raw=tuple((k,) for k in range(len(CLASSES))),
)
