"""What the choice of test images does to a score: images drawn again, the same for every row and seed.

A seed's interval says how another training would do on these images; this one, how these networks would do on other
images of the kind.  Neither holds the other.  mIoU comes from summed counts: the mean of images' own is another number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diga.files import slug
from diga.report.snapshot import EVIDENCE
from diga.report.statistics import LEVEL

if TYPE_CHECKING:
    from diga.report.records import Records

DRAWS = 2000
FEWEST = 8  # images below which nothing is drawn
MOST = 300  # cells whose matrices are read
KEPT = "images-"  # what files of a report that keep them begin with
COLUMNS = ("domain", "row", "seed", "stem", "counts")
Counts = NDArray[np.int64]  # (N, K, K): a matrix an image, row = truth
Images = Mapping[tuple[str, int], tuple[tuple[str, ...], Counts]]  # by row and seed: stems and counts


class Draws(NamedTuple):
    """mIoU of every network, by row and seed, (1 + draws,): on all images first, then on each draw of them."""

    images: int
    values: Mapping[tuple[str, int], NDArray[np.float64]]


class Interval(NamedTuple):
    """An estimate and the bounds that LEVEL of the draws lie between; NaN where nothing was drawn."""

    estimate: float
    low: float
    high: float
    images: int


# --- drawing -----------------------------------------------------------------------------


def weights(images: int, draws: int = DRAWS) -> NDArray[np.float64]:
    """(draws, images): how often each image is drawn, with replacement, the same in every report."""
    rng = np.random.default_rng([images, draws])
    return rng.multinomial(images, np.full(images, 1 / images), draws).astype(np.float64)


def mean_iou(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., K, K) -> (...): the mean over classes that are there or predicted."""
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    union = counts.sum(-1) + counts.sum(-2) - right
    there = union > 0
    shares = np.divide(right, union, out=np.zeros_like(right), where=there)
    return np.asarray(shares.sum(-1) / np.maximum(there.sum(-1), 1), np.float64)


def drawn(networks: Sequence[Counts], draws: int = DRAWS) -> list[NDArray[np.float64]]:
    """(1 + draws,) of each network: its mIoU first on all images, then on each draw of them."""
    images, classes = networks[0].shape[:2]
    taken = np.vstack([np.ones(images), weights(images, draws)])
    sums = ((taken @ c.reshape(images, -1).astype(np.float64)).reshape(-1, classes, classes) for c in networks)
    return [mean_iou(each) for each in sums]


def interval(values: NDArray[np.float64], images: int) -> Interval:
    """Percentiles of draws around the estimate, which comes first."""
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(values[1:], [tail, 100 - tail])
    return Interval(float(values[0]), float(low), float(high), images)


# --- of a study --------------------------------------------------------------------------


def resampled(found: Images) -> Draws:
    """Every network on the same draws of images, alike for all; of fewer than FEWEST nothing is drawn."""
    count = len(next(iter(found.values()))[0]) if found else 0
    if count < FEWEST:
        return Draws(count, {})
    return Draws(count, dict(zip(found, drawn([counts for _, counts in found.values()]), strict=True)))


def scores(known: Draws) -> dict[str, Interval]:
    """The test-set interval of every row's mean over its seeds."""
    rows = dict.fromkeys(row for row, _ in known.values)
    return {row: interval(_mean(known, row, _seeds(known, row)), known.images) for row in rows}


def steps(known: Draws, parents: Mapping[str, str]) -> dict[str, Interval]:
    """The same of differences: both rows on the same draws, over the seeds that both have."""
    differences = {}
    for row, parent in parents.items():
        if seeds := [s for s in _seeds(known, row) if (parent, s) in known.values]:
            step = _mean(known, row, seeds) - _mean(known, parent, seeds)
            differences[row] = interval(step, known.images)
    return differences


def _seeds(known: Draws, row: str) -> list[int]:
    return [seed for label, seed in known.values if label == row]


def _mean(known: Draws, row: str, seeds: Sequence[int]) -> NDArray[np.float64]:
    return np.asarray(np.mean([known.values[row, seed] for seed in seeds], axis=0), np.float64)


def images(known: Records, domain: str) -> Images:
    """Matrices of the plain student on each image of a domain, of cells whose images are the same.

    Cells beyond MOST are not read.  A report that was read back has what it kept.
    """
    import pyarrow.parquet as pq

    wanted = list(zip(known.done["row"], known.done["seed"], known.done["run_id"], strict=True))[:MOST]
    found: dict[tuple[str, int], tuple[tuple[str, ...], Counts]] = {}
    if known.folder:
        return _kept(_file(known.folder, domain), domain)
    with TemporaryDirectory() as copies:
        for row, seed, run in wanted:
            path = known.artifact(run, "confusion.parquet", Path(copies) / run)
            if path is not None:
                only = [("domain", "==", domain), ("statistic", "==", "plain")]
                read = pq.read_table(path, columns=["stem", "counts"], filters=only)
                if read.num_rows:
                    found[row, int(seed)] = tuple(read["stem"].to_pylist()), _square(read["counts"].to_pylist())
    return _alike(found)


def _square(lines: Sequence[Sequence[int]]) -> Counts:
    flat = np.asarray(lines, np.int64)
    side = round(flat.shape[1] ** 0.5)
    return flat.reshape(-1, side, side)


def _alike(found: Images) -> Images:
    """Cells with the images, in the order, of the first: no draw means anything across others."""
    first = next(iter(found.values()), None)
    return {k: v for k, v in found.items() if first and v[0] == first[0] and v[1].shape == first[1].shape}


# --- kept by a report --------------------------------------------------------------------


def keep(found: Images, domain: str, folder: Path) -> None:
    """Leave matrices for `images` of a report that is read back."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not found:
        return
    lines = [
        (domain, row, seed, stem, counts.ravel())
        for (row, seed), (stems, matrices) in found.items()
        for stem, counts in zip(stems, matrices, strict=True)
    ]
    kinds = (pa.string(), pa.string(), pa.int64(), pa.string(), pa.list_(pa.int64()))
    columns = [pa.array(list(values), kind) for values, kind in zip(zip(*lines, strict=True), kinds, strict=True)]
    path = _file(folder, domain)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, names=list(COLUMNS)), path, compression="zstd")


def _file(folder: Path, domain: str) -> Path:
    return folder / EVIDENCE / f"{KEPT}{slug(domain)}.parquet"


def _kept(path: Path, domain: str) -> Images:
    import pyarrow.parquet as pq

    if not path.is_file():
        return {}
    found: dict[tuple[str, int], tuple[list[str], list[list[int]]]] = {}
    for line in pq.read_table(path, filters=[("domain", "==", domain)]).to_pylist():
        stems, counts = found.setdefault((line["row"], line["seed"]), ([], []))
        stems.append(line["stem"])
        counts.append(line["counts"])
    return {key: (tuple(stems), _square(counts)) for key, (stems, counts) in found.items()}
