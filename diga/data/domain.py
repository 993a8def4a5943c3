"""A domain is a tree of images in a known layout; everything read from it is whole or refused by name."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from diga.data.labels import IGNORE, UNKNOWN, VOID_IDS, Bytes, lookup, raw_table, to_train_ids
from diga.data.parts import Part, parted
from diga.errors import ConfigError, DataError, expected_one_of
from diga.home import data_root

MAX_PIXELS = 80_000_000  # below Pillow's own alarm; the largest driving sets have about 25 million
MAX_BYTES = 1 << 29
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
Raw = NDArray[np.uint8] | NDArray[np.uint16]  # ids as a label file stores them


# --- bytes and pixels --------------------------------------------------------------------


def read_bytes(path: Path) -> bytes:
    """A whole file.  Raises DataError unless it is a regular file of sane size: a pipe would hang."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            what = f"{status.st_size} bytes" if stat.S_ISREG(status.st_mode) else "not a regular file"
            raise DataError(path, what, f"an image file of at most {MAX_BYTES} bytes")
        return path.read_bytes()
    except OSError as failure:
        raise DataError(path, failure.strerror or str(failure), "a readable image file") from None


def check_png(path: Path, data: bytes) -> None:
    """Every chunk present, in full and with its checksum, to the end mark.

    Pillow stops reading once it has its pixels and does not compare the checksums of pixel data, so that
    a flipped bit in a label map goes unseen about every third time.  Raises DataError.
    """
    at, size = len(PNG_SIGNATURE), len(data)
    while at + 12 <= size:
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + length
        if end + 4 > size:
            break
        if zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise DataError(path, f"damaged: wrong checksum of chunk {kind!r} at byte {at}", "a whole PNG")
        if kind == b"IEND":
            return
        at = end + 4
    raise DataError(path, f"cut short: {size} bytes end inside the chunk at byte {at}", "a whole PNG")


def decoded(path: Path, data: bytes, formats: tuple[str, ...]) -> Image.Image:
    """Pillow's image, fully decoded, header judged first.  EXIF orientation is not applied.  Raises DataError."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ConfigError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", "switched on", "off: it fills damage with grey")
    if data.startswith(PNG_SIGNATURE):
        check_png(path, data)
    try:
        image = Image.open(BytesIO(data), formats=formats)
        if image.width * image.height > MAX_PIXELS:
            raise DataError(path, f"{image.width} x {image.height} pixels", f"at most {MAX_PIXELS} pixels")
        image.load()
        return image
    except DataError:
        raise
    except Exception as failure:  # Pillow answers damage with a dozen types, struct.error and SyntaxError among them
        unknown = isinstance(failure, UnidentifiedImageError)
        what = "no image data" if unknown else f"cannot be decoded: {failure}"
        raise DataError(path, what if data else "empty file", f"a whole {' or '.join(formats)}") from None


def decode_image(path: Path, data: bytes) -> Bytes:
    """(H, W, 3) uint8 RGB.  Grey and palette images are converted; an alpha channel must be opaque.

    16-bit RGB keeps its high bytes, as Pillow reads it.  Any other mode is a DataError that names it.
    """
    image = decoded(path, data, ("PNG", "JPEG"))
    if image.mode == "RGBA" and image.getchannel("A").tobytes().strip(b"\xff"):
        raise DataError(path, "RGBA image with transparent pixels", "an opaque RGB image")
    if image.mode not in ("RGB", "RGBA", "L", "P", "1"):
        raise DataError(path, f"image of mode {image.mode}", "8-bit RGB; grey and palette are converted")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def decode_ids(path: Path, data: bytes) -> Bytes:
    """(H, W) uint8 as stored: the indices of a palette PNG, the values of an 8-bit grey one.

    Anything else is a DataError: colours are not ids, JPEG is lossy, Pillow would rescale 2- and 4-bit grey.
    """
    image = decoded(path, data, ("PNG",))
    if image.mode not in ("P", "L") or (image.mode == "L" and data[24] != 8):
        found = f"{data[24]}-bit " * (image.mode in ("L", "1"))
        raise DataError(path, f"label map of mode {found}{image.mode}", "ids in a palette or 8-bit grey PNG")
    return np.array(image)


# --- listings ----------------------------------------------------------------------------


def names_in(folder: Path) -> list[str]:
    """Sorted names in a folder, hidden ones left out.  Raises DataError when there is no such folder."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as failure:
        raise DataError(folder, failure.strerror or str(failure), "a readable folder") from None


def images_in(folder: Path, suffix: str, empty: bool = False) -> list[Path]:
    """Files of `folder` that end in `suffix`, sorted.  Raises DataError on none unless `empty`."""
    names = names_in(folder)
    found = [name for name in names if name.endswith(suffix)]
    for name in names:
        if not name.endswith(suffix) and name.lower().endswith(suffix.lower()):
            raise DataError(folder / name, "differs from the layout in upper and lower case", f"*{suffix}")
    if not found and not empty:
        raise DataError(folder, f"0 files match *{suffix}", "one file an image")
    return [folder / name for name in found]


class Sample(NamedTuple):
    """One image of a domain; `label` is None where labels may not be read."""

    stem: str
    image: Path
    label: Path | None


@dataclass(frozen=True)
class Layout:
    """How a dataset lies on disk and what its raw label ids mean."""

    name: str
    images: Callable[[Path, str], list[Path]]  # root, split -> image files
    labels: Callable[[Path, str], list[Path]]  # root, split -> label files that are there
    stem: Callable[[Path], str]  # image file -> name unique in the domain
    label_of: Callable[[Path, Path], Path]  # root, image file -> where its label must be
    void: tuple[int, ...] = VOID_IDS  # raw ids that are known and count nowhere
    raw: tuple[tuple[int, ...], ...] | None = None  # raw ids of each of the nineteen classes; None: Cityscapes'
    decode: Callable[[Path, bytes], Raw] = decode_ids  # label file, its bytes -> (H, W) raw ids

    @property
    def known(self) -> str:
        """The raw ids of the map, in words."""
        runs = np.split(ids := np.flatnonzero(self.table != UNKNOWN), np.flatnonzero(np.diff(ids) > 1) + 1)
        return ", ".join(f"{run[0]}" + f" to {run[-1]}" * (len(run) > 1) for run in runs)

    @cached_property
    def table(self) -> Bytes:
        """(256,) train id of each raw id, IGNORE, or UNKNOWN."""
        if self.raw is None:
            return raw_table(self.void)
        table = np.full(256, UNKNOWN, np.uint8)
        table[list(self.void)] = IGNORE
        for k, ids in enumerate(self.raw):
            table[list(ids)] = k
        return table


# --- domains -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Domain:
    """A named tree on disk, `streets/gta5` for example, the layout it is in, and which part of it is trained on."""

    name: str  # with its part
    root: Path
    layout: Layout = field(repr=False)
    part: Part | None = None
    left_out: frozenset[str] = frozenset()  # stems of damaged samples that the user decided to do without

    def without(self, stems: Iterable[str]) -> Domain:
        """This domain with some samples left out."""
        return replace(self, left_out=self.left_out | frozenset(stems))

    @property
    def tree(self) -> str:
        """The name without the part."""
        return self.name.removesuffix(f"@{self.part}")

    def part_of(self, split: str) -> Part | None:
        """The part of a split that this domain is: only training images come in parts."""
        return self.part if split == "train" else None

    def samples(self, split: str, labelled: bool) -> tuple[Sample, ...]:
        """The samples of a split, sorted by stem; without `labelled`, label folders are not even listed.

        Raises DataError on an empty split, a stem that occurs twice, an image or label without its partner,
        more parts than images.
        """
        images = {image: self.layout.stem(image) for image in self.layout.images(self.root, split)}
        self._unique(images)
        part = self.part_of(split)
        chosen = part.of(images.values(), f"{self.name}/{split}") if part else frozenset(images.values())
        labels = self._labels(split, images, chosen) if labelled else {}
        mine = sorted(Sample(stem, image, labels.get(image)) for image, stem in images.items() if stem in chosen)
        found = tuple(sample for sample in mine if sample.stem not in self.left_out)
        if not found:
            raise DataError(f"{self.name}/{split}", "0 images are left", "at least one that is not left out")
        return found

    def _labels(self, split: str, images: dict[Path, str], chosen: frozenset[str]) -> dict[Path, Path]:
        """Where each label lies; one must for each image that is `chosen`, and for none that is not there."""
        wanted = {image: self.layout.label_of(self.root, image) for image in images}
        here = set(self.layout.labels(self.root, split))
        missing = sorted(label for image, label in wanted.items() if images[image] in chosen and label not in here)
        stray = sorted(here - set(wanted.values()))
        if missing:
            listed = ", ".join(str(p.relative_to(self.root)) for p in missing[:10])
            expected = f"{missing[0].name} beside {len(images)} images"
            if near := [p.name for p in stray if p.name.lower() == missing[0].name.lower()]:
                expected += f"; {near[0]} differs in case"
            raise DataError(missing[0], f"{len(missing)} labels are missing: {listed}", expected)
        if stray:
            listed = ", ".join(str(p.relative_to(self.root)) for p in stray[:10])
            raise DataError(stray[0], f"{len(stray)} labels have no image: {listed}", "one image a label")
        return wanted

    def _unique(self, images: dict[Path, str]) -> None:
        seen: dict[str, Path] = {}
        for image, stem in sorted(images.items()):
            if (other := seen.setdefault(stem.lower(), image)) != image:
                raise DataError(image, f"has the stem of {other}", "stems that differ in more than case")

    def image(self, sample: Sample) -> Bytes:
        """(H, W, 3) uint8 RGB, strictly decoded.  Raises DataError."""
        return decode_image(sample.image, read_bytes(sample.image))

    def label(self, sample: Sample, classes: int = 19) -> Bytes:
        """(H, W) uint8 train ids (compact ids for 16 classes) or IGNORE.  Raises DataError."""
        if sample.label is None:
            raise DataError(sample.image, "this sample was listed without labels", "samples(split, labelled=True)")
        ids = self.ids(sample.label, read_bytes(sample.label))
        return ids if classes == 19 else to_train_ids(ids, lookup(classes))

    def ids(self, path: Path, data: bytes) -> Bytes:
        """Label file to (H, W) uint8 train ids or IGNORE.  Raises DataError on ids outside the layout."""
        raw = self.layout.decode(path, data)
        ids = to_train_ids(raw.astype(np.uint8, copy=False), self.layout.table)
        if raw.dtype != np.uint8:
            ids[raw > 255] = UNKNOWN
        if (wrong := ids == UNKNOWN).any():
            found = zip(*np.unique(raw[wrong], return_counts=True), strict=True)
            what = ", ".join(f"{i} ({n} pixels)" for i, n in found)
            known = f"an id of the {self.layout.name} map: {self.layout.known}"
            raise DataError(path, f"unknown label ids {what}", known)
        return ids


def same_size(label_file: object, label: Bytes, image_file: object, image: Bytes) -> None:
    """Raises DataError naming both files and sizes when a label is not as large as its image."""
    if image.shape[:2] != label.shape:
        (h, w), (height, width) = label.shape, image.shape[:2]
        raise DataError(label_file, f"{w} x {h} pixels", f"{width} x {height} as {image_file}")


def domain(name: str, root: Path | None = None) -> Domain:
    """The domain `name`, a path under the data root (default `data_root()`) whose last part is a layout.

    Raises ConfigError on a name that is no such path, DataError when the tree is not there.
    """
    from diga.data import LAYOUTS  # the registry imports the layouts, which import this module

    root = data_root() if root is None else root
    path, part = (name, None) if name.split("/")[-1] in LAYOUTS else parted(name)
    folders = path.split("/")
    if any(folder in ("", ".", "..") or "\0" in folder for folder in folders):
        raise ConfigError(name, "no domain", "a relative path such as 'streets/gta5'")
    if folders[-1] not in LAYOUTS:
        raise ConfigError(name, f"{folders[-1]!r} is no layout", expected_one_of(folders[-1], LAYOUTS))
    if not root.joinpath(*folders).is_dir():
        raise DataError(root / path, "no such folder", expected_one_of(path, existing(root)))
    return Domain(name, root.joinpath(*folders), LAYOUTS[folders[-1]], part)


def existing(root: Path, depth: int = 3) -> list[str]:
    """Names of the domains under a data root, at most `depth` folders down."""
    from diga.data import LAYOUTS

    found = []
    for level in range(depth):
        for layout in LAYOUTS:
            found += [str(p.relative_to(root)) for p in root.glob("*/" * level + layout) if p.is_dir()]
    return sorted(found)
