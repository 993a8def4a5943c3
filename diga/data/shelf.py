"""Pictures kept decoded while there is room, and what earlier stages stored of them, read strictly.

A stage leaves, by the stem of the image: `labels/<stem>.png`, 8-bit ids; `confidence/<stem>.png`, 255 times the
winner's probability; `probabilities/<stem>.npy`, float16 (K, h, w); `paintings/<stem>.png`, RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diga.data.domain import Domain, Sample, decode_ids, decode_image, decoded, names_in, read_bytes, same_size
from diga.data.labels import IGNORE, Bytes
from diga.errors import ConfigError, DataError

Role = Literal["source", "target"]


class Shelf:
    """Decoded arrays, kept until a budget of bytes is spent.

    Nothing is ever put out: an epoch visits every picture once, the order in which "least recently used"
    would throw each one out just before its next use.
    """

    def __init__(self, budget: int) -> None:
        self.budget, self.used = budget, 0
        self.kept: dict[Path, NDArray[Any]] = {}

    def get(self, key: Path, read: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array of `key`, read if it is not here."""
        if (found := self.kept.get(key)) is not None:
            return found
        found = read()
        if self.used + found.nbytes <= self.budget:
            self.kept[key] = found
            self.used += found.nbytes
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {"budget": self.budget, "used": 0, "kept": {}}  # a copy in another process starts empty


# --- samples of several domains ----------------------------------------------------------


class Entry(NamedTuple):
    """A sample and the domain that reads it."""

    domain: Domain
    sample: Sample


def entries(domains: Iterable[Domain], labelled: bool) -> list[Entry]:
    """The training samples of several domains, one after the other."""
    return [Entry(domain, sample) for domain in domains for sample in domain.samples("train", labelled)]


def check_stems(domains: Iterable[Domain], role: Role = "target") -> None:
    """Raises ConfigError where training images of two domains have one stem, whatever its case.

    What is stored of an image is named by its stem: a stage that stores asks this first.
    """
    _one_stem_each(entries(domains, labelled=False), role)


def _one_stem_each(found: Iterable[Entry], role: Role) -> None:
    owners: dict[str, str] = {}
    for domain, sample in found:
        if (stem := sample.stem.lower()) in owners:
            what = f"{owners[stem]} and {domain.name} share file stems, such as {sample.stem}"
            raise ConfigError(f"{role}s", what, "one name for each image that something is stored of")
        owners[stem] = domain.name


# --- what earlier stages stored ----------------------------------------------------------


class Stored(NamedTuple):
    """What is stored of one target image, whole or cropped."""

    label: Bytes  # (H, W)
    confidence: Bytes | None  # (H, W), 255 for certain
    probabilities: NDArray[np.float16] | None  # (K, h, w)


def check_stored(folders: Iterable[Path], found: Sequence[Entry], role: Role) -> None:
    """Raises DataError, naming the first file, where a folder lacks one of an image; ConfigError as `check_stems`."""
    _one_stem_each(found, role)
    for folder in folders:
        here = set(names_in(folder)) if folder.is_dir() else set()
        paths = [file_of(folder, entry) for entry in found]
        missing = [path for path in paths if path.name not in here]
        if missing:
            listed = ", ".join(path.stem for path in missing[:10])
            what = f"{len(missing)} of {len(found)} stored {folder.name} are missing: {listed}"
            raise DataError(missing[0], what, f"<stem>{missing[0].suffix} of every training image")


def file_of(folder: Path, entry: Entry) -> Path:
    """Where a folder has what is stored of an image."""
    return folder / (entry.sample.stem + (".npy" if folder.name == "probabilities" else ".png"))


def stored_guess(shelf: Shelf, folder: Path, entry: Entry, image: Bytes, classes: int, asks: Collection[str]) -> Stored:
    """What the stage of `folder` stored of a whole target image (H, W, 3), read once.  Raises DataError."""
    path, sure, soft = (file_of(folder / kind, entry) for kind in ("labels", "confidence", "probabilities"))
    label = shelf.get(path, lambda: read_guess(path, classes))
    same_size(path, label, entry.sample.image, image)
    confidence = shelf.get(sure, lambda: read_confidence(sure)) if "confidence" in asks else None
    if confidence is not None:
        same_size(sure, confidence, entry.sample.image, image)
    cells = shelf.get(soft, lambda: read_probabilities(soft, classes)) if "probabilities" in asks else None
    return Stored(label, confidence, cells)


def stored_painting(shelf: Shelf, folder: Path, entry: Entry, image: Bytes) -> Bytes:
    """The painted version (H, W, 3) of a whole source image, read once.  Raises DataError."""
    path = file_of(folder, entry)
    painting = shelf.get(path, lambda: decode_image(path, read_bytes(path)))
    same_size(path, painting[..., 0], entry.sample.image, image)
    return painting


def read_guess(path: Path, classes: int) -> Bytes:
    """(H, W) uint8 ids below `classes` or IGNORE, as an earlier stage stored them.  Raises DataError."""
    ids = decode_ids(path, read_bytes(path))
    wrong = (ids >= classes) & (ids != IGNORE)
    if wrong.any():
        raise DataError(path, f"ids {np.unique(ids[wrong]).tolist()}", f"0 to {classes - 1}, or {IGNORE}")
    return ids


def read_confidence(path: Path) -> Bytes:
    """(H, W) uint8, 255 where the winning class is certain.  Raises DataError."""
    data = read_bytes(path)
    image = decoded(path, data, ("PNG",))
    if image.mode != "L" or data[24] != 8:
        raise DataError(path, f"confidence of mode {image.mode}", "an 8-bit grey PNG")
    return np.array(image)


def read_probabilities(path: Path, classes: int) -> NDArray[np.float16]:
    """(K, h, w) float16 in [0, 1], of `classes` at the cells of a network.  Raises DataError; nothing is unpickled."""
    file = BytesIO(read_bytes(path))
    try:
        found = np.load(file, allow_pickle=False)
    except Exception as failure:  # numpy answers damage with ValueError, EOFError, SyntaxError and MemoryError
        raise DataError(path, f"cannot be read: {failure}", "a whole .npy file") from None
    if not isinstance(found, np.ndarray) or file.read(1):
        raise DataError(path, "holds more than one array", "a whole .npy file")
    if found.dtype != np.float16 or found.ndim != 3 or len(found) != classes or not found.size:
        raise DataError(path, f"{found.dtype} of shape {found.shape}", f"float16 of shape ({classes}, h, w)")
    if not ((found >= 0) & (found <= 1)).all():
        raise DataError(path, "holds values outside 0 to 1", "probabilities")
    return found
