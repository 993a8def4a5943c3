"""GTA5 (Richter et al., ECCV 2016): `images/NNNNN.png` with palette label maps `labels/NNNNN.png`.

The set comes without a split.  `splits/train.txt` and `splits/val.txt`, one file name a line, make one;
without them every image is training data.  (Label sizes of a few frames differ from their image's, and
the papers' lists leave such frames out.)
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from diga.data.domain import Layout, images_in
from diga.data.labels import VOID_IDS
from diga.errors import ConfigError, DataError, expected_one_of

LICENSE_PLATE = 34  # a raw id that Cityscapes writes as -1 and therefore never stores


def _listed(file: Path) -> list[str] | None:
    """The file names of a list, or None without one."""
    if not file.is_file():
        return None
    names = [line.strip() for line in file.read_text("utf8").splitlines() if line.strip()]
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise DataError(file, f"{twice[0]!r} is listed more than once", "every file name once")
    strange = [name for name in names if "/" in name or "\\" in name or not name.lower().endswith(".png")]
    if strange:
        raise DataError(file, f"found {strange[0]!r}", "file names of the images folder, such as 00001.png")
    return names


def _names(root: Path, split: str) -> list[str] | None:
    """The file names of `split`, or None when every image belongs to it."""
    if split not in ("train", "val"):
        raise ConfigError(split, "no split of GTA5", expected_one_of(split, ("train", "val")))
    names = _listed(root / "splits" / f"{split}.txt")
    if names is None and split == "val":
        raise DataError(root / "splits" / "val.txt", "no such list", "GTA5 has a val split only where a list makes one")
    if names == []:
        raise DataError(root / "splits" / f"{split}.txt", "0 images listed", "one file name a line")
    if names is None and (held_out := _listed(root / "splits" / "val.txt")):
        # A list of val images alone: the rest is train, or training would see what is scored.
        held = set(held_out)
        return [p.name for p in images_in(root / "images", ".png") if p.name not in held]
    return names


def _images(root: Path, split: str) -> list[Path]:
    names = _names(root, split)
    found = images_in(root / "images", ".png")
    if names is None:
        return found
    here = {p.name for p in found}
    gone = [name for name in names if name not in here]
    if gone:
        what = f"{len(gone)} of {len(names)} images of splits/{split}.txt are missing: {', '.join(gone[:10])}"
        raise DataError(root / "images", what, "every listed image")
    return [root / "images" / name for name in sorted(names)]


def _labels(root: Path, split: str) -> list[Path]:
    names = _names(root, split)
    found, wanted = images_in(root / "labels", ".png"), set(names or ())
    return found if names is None else [path for path in found if path.name in wanted]


def _stem(image: Path) -> str:
    return image.stem


def _label_of(root: Path, image: Path) -> Path:
    return root / "labels" / image.name


LAYOUT = Layout(
    name="gta5",
    images=_images,
    labels=_labels,
    stem=_stem,
    label_of=_label_of,
    void=(*VOID_IDS, LICENSE_PLATE),
)
