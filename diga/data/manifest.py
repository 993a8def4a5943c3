"""What a domain's files hold: one strict reading of all of them, remembered as a table with digests.

Strict decoding finds a damaged PNG; only a digest taken earlier finds a damaged JPEG, or a file that was
swapped for another whole one, so `verify` compares.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from diga.data.domain import Domain, Sample, decode_image, read_bytes, same_size
from diga.data.labels import CLASSES, IGNORE, SUBSETS
from diga.errors import ConfigError, DataError, StorageError

VERSION = 1  # raise it when a row means something else: older caches are then read anew
Progress = Callable[[int, int], None]  # samples done, samples in all
Row = dict[str, Any]

SCHEMA = pa.schema(
    [
        ("stem", pa.string()),
        ("image", pa.string()),  # relative to the domain's root
        ("label", pa.string()),  # null where labels may not be read, as are all label columns
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("image_bytes", pa.int64()),
        ("label_bytes", pa.int64()),
        ("image_mtime_ns", pa.int64()),
        ("label_mtime_ns", pa.int64()),
        ("image_sha256", pa.string()),
        ("label_sha256", pa.string()),
        ("pixels", pa.list_(pa.int64())),  # of each of the nineteen classes, then of IGNORE
    ]
)


@dataclass(frozen=True)
class Manifest:
    """One row a sample, sorted by stem; `skipped` are stems and errors of damaged samples left out."""

    table: pa.Table
    skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def digest(self) -> str:
        """64 hex digits over stems and file digests: the same wherever and whenever the files lie."""
        names = ("stem", "image_sha256", "label_sha256")
        rows = zip(*(self.table[name].to_pylist() for name in names), strict=True)
        text = "".join(f"{stem}\0{image}\0{label or ''}\n" for stem, image, label in rows)
        return hashlib.sha256(text.encode("utf8", "surrogateescape")).hexdigest()

    @cached_property
    def pixels(self) -> NDArray[np.int64]:
        """(20,) pixels of each class and of IGNORE; zeros without labels."""
        rows = [row for row in self.table["pixels"].to_pylist() if row is not None]
        return np.sum(rows, axis=0, dtype=np.int64) if rows else np.zeros(len(CLASSES) + 1, np.int64)

    @property
    def class_pixels(self) -> NDArray[np.int64]:
        """(19,) pixels of each class."""
        return self.pixels[: len(CLASSES)]


# --- reading -----------------------------------------------------------------------------


def manifest(
    domain: Domain,
    split: str,
    labelled: bool,
    cache: Path | None = None,
    progress: Progress | None = None,
    skip: int = 0,
    workers: int = 1,
) -> Manifest:
    """Read each file of a split once, strictly, or believe `cache` where a file's size and time are the same.

    `cache` is a folder; `labelled=False` never opens a label file.  Up to `skip` damaged samples are left out
    and listed (`domain.without(stem for stem, _ in manifest.skipped)` leaves them out of training, too); one
    more is a DataError that names the first.  `workers` are threads: Pillow and hashing free the interpreter.
    A part has a manifest and a digest of its own, and shares the cache with the whole and its other parts.
    """
    samples = domain.samples(split, labelled)
    file = cache / _cache_name(domain, split, labelled) if cache else None
    known = _cached(file, domain) if file else {}
    read = partial(_row_or_error, domain, known)
    rows: list[Row] = []
    bad: list[tuple[str, str]] = []
    with closing(_in_threads(read, samples, workers)) as results:
        for done, row in enumerate(results, 1):
            if isinstance(row, DataError):
                bad.append((samples[done - 1].stem, str(row)))
                _at_most(skip, bad, row)
            else:
                rows.append(row)
            if progress:
                progress(done, len(samples))
    found = Manifest(pa.Table.from_pylist(rows, SCHEMA), tuple(bad))
    if not rows:
        raise DataError(f"{domain.name}/{split}", "0 whole images", bad[0][1])
    if file:
        _remember(file, domain, known if domain.part_of(split) else {}, known, rows)
    return found


def _remember(file: Path, domain: Domain, others: dict[str, Row], known: dict[str, Row], rows: list[Row]) -> None:
    """Store the rows, and beside a part's those of other parts, unless all of it is in the cache."""
    table = others | {row["image"]: row for row in rows}
    if len(table) != len(known) or any(row is not known.get(image) for image, row in table.items()):
        _store(file, domain, pa.Table.from_pylist(list(table.values()), SCHEMA))


def _at_most(skip: int, bad: list[tuple[str, str]], latest: DataError) -> None:
    if len(bad) > max(skip, 0):
        raise DataError(bad[0][1], f"{len(bad)} damaged samples", f"at most {skip}") if skip else latest


def _in_threads(
    read: Callable[[Sample], Row | DataError], samples: Iterable[Sample], workers: int
) -> Generator[Row | DataError]:
    if workers == 1:
        yield from map(read, samples)
        return
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from pool.map(read, samples)
        finally:
            pool.shutdown(cancel_futures=True)


def _row_or_error(domain: Domain, known: dict[str, Row], sample: Sample) -> Row | DataError:
    try:
        stamps = _stamps(domain, sample)
        row = known.get(stamps["image"])
        if row is not None and all(row[name] == value for name, value in stamps.items()):
            return row
        return stamps | _contents(domain, sample)
    except DataError as failure:
        return failure


def _stamps(domain: Domain, sample: Sample) -> Row:
    """What tells, without opening a file, that it is the one read before."""
    row: Row = {"stem": sample.stem}
    for kind, path in (("image", sample.image), ("label", sample.label)):
        try:
            status = path.stat() if path else None
        except OSError as failure:
            raise DataError(path, failure.strerror or str(failure), "a readable file") from None
        row[kind] = str(path.relative_to(domain.root)) if path else None
        row[f"{kind}_bytes"] = status.st_size if status else None
        row[f"{kind}_mtime_ns"] = status.st_mtime_ns if status else None
    return row


def _contents(domain: Domain, sample: Sample) -> Row:
    data = read_bytes(sample.image)
    image = decode_image(sample.image, data)
    row: Row = {"height": image.shape[0], "width": image.shape[1], "image_sha256": _sha256(data)}
    if sample.label is None:
        return row
    data = read_bytes(sample.label)
    label = domain.ids(sample.label, data)
    same_size(sample.label, label, sample.image, image)
    counts = np.bincount(label.ravel(), minlength=256)
    pixels = [*counts[: len(CLASSES)].tolist(), int(counts[IGNORE])]
    return row | {"label_sha256": _sha256(data), "pixels": pixels}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def verify(domain: Domain, split: str, labelled: bool, manifest: Manifest, progress: Progress | None = None) -> None:
    """Compare every file with its digest, decoding nothing.

    Raises DataError naming the first file that differs, with both digests, or a sample that came or went.
    """
    samples = domain.without(stem for stem, _ in manifest.skipped).samples(split, labelled)
    rows = {row["stem"]: row for row in manifest.table.to_pylist()}
    if changed := sorted({sample.stem for sample in samples} ^ set(rows)):
        what = f"{len(changed)} samples came or went: {', '.join(changed[:10])}"
        raise DataError(f"{domain.name}/{split}", what, f"the {len(rows)} of the manifest")
    for done, sample in enumerate(samples, 1):
        for kind, path in (("image", sample.image), ("label", sample.label)):
            expected = rows[sample.stem][f"{kind}_sha256"]
            if path and (digest := _sha256(read_bytes(path))) != expected:
                raise DataError(path, f"sha256 {digest}", f"sha256 {expected}, taken when it was first read")
        if progress:
            progress(done, len(samples))


# --- the cache ---------------------------------------------------------------------------


def _cache_name(domain: Domain, split: str, labelled: bool) -> str:
    kind = "labelled" if labelled else "images"
    return f"{domain.tree.replace('/', '__')}.{split}.{kind}.parquet"


def _facts(domain: Domain) -> bytes:
    """What a cached row depends on besides its files: where they lay and what their ids meant."""
    facts = {"version": VERSION, "root": str(domain.root.resolve()), "table": domain.layout.table.tolist()}
    return json.dumps(facts).encode()


def _cached(file: Path, domain: Domain) -> dict[str, Row]:
    """Rows of an earlier reading by image path; none when there is no cache or it cannot be believed."""
    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException):
        return {}
    if (table.schema.metadata or {}).get(b"diga") != _facts(domain) or not table.schema.equals(SCHEMA):
        return {}
    return {row["image"]: row for row in table.to_pylist()}


def _store(file: Path, domain: Domain, table: pa.Table) -> None:
    """Write the cache under a name of this thread's own, then rename: readers see all of it or none."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.replace_schema_metadata({b"diga": _facts(domain)}), temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, file)
    except OSError as failure:
        temporary.unlink(missing_ok=True)
        raise StorageError(file, failure.strerror or str(failure), "room for the manifest's cache") from None


# --- class frequencies -------------------------------------------------------------------


def class_pixels(manifests: Iterable[Manifest], classes: int = 19) -> NDArray[np.int64]:
    """(classes,) pixels of each class over several labelled manifests; 16 classes are the compact ids."""
    total = np.sum([m.class_pixels for m in manifests], axis=0, dtype=np.int64)
    return np.asarray(total)[list(SUBSETS[classes])]


def class_weights(
    manifests: Iterable[Manifest],
    classes: int = 19,
    balance: Literal["none", "sqrt_inverse"] = "sqrt_inverse",
) -> NDArray[np.float32]:
    """(classes,) weights of a cross-entropy: 1 / sqrt(share of pixels), with mean 1 over the classes present.

    A class without a pixel gets 1: no pixel ever asks for it, and the loss stays finite should one.
    Raises ConfigError on an unknown `balance`, DataError when no pixel has a class.
    """
    if balance == "none":
        return np.ones(classes, np.float32)
    if balance != "sqrt_inverse":
        raise ConfigError("balance", f"found {balance!r}", "none or sqrt_inverse")
    pixels = class_pixels(manifests, classes)
    present = pixels > 0
    if not present.any():
        raise DataError("balance", "0 labelled pixels", "labelled manifests with at least one class")
    weights = np.ones(classes)
    weights[present] = 1 / np.sqrt(pixels[present] / pixels.sum())
    weights[present] /= weights[present].mean()
    return weights.astype(np.float32)
