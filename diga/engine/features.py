"""Features of a few cells of every class and domain: how far apart a network holds them (DiGA, Fig. 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from diga.data import streams
from diga.data.domain import Domain
from diga.engine.label_free import forward, spread
from diga.ops.prototypes import at_cells
from diga.types import IGNORE, Batch

if TYPE_CHECKING:
    from diga.engine.run import Run

FILE = "features.parquet"
IMAGES = 32  # of a domain that are looked through
COMPONENTS = 50  # of a feature that are kept: what t-SNE is commonly given


def sampled(run: Run, of: str, domains: Sequence[str], wanted: int) -> pa.Table | None:
    """Up to `wanted` cells of each class from source training images and from validation images of `domains`.

    Columns domain, class (compact id) and vector: the cell's feature under the student of stage `of`, in the first
    principal components of all cells that are kept.  Which cells are kept depends on images and labels alone, so that
    rows show the same.  None where no cell has a label.
    """
    asked = [(name, "train") for name in run.recipe.sources]
    asked += [(name, "val") for name in domains if name not in run.recipe.sources]
    found = [(name, *of_domain(run, of, run.domain(name), split, wanted)) for name, split in asked]
    vectors = np.concatenate([vector for _, _, vector in found if len(vector)] or [np.zeros((0, 1), np.float32)])
    if not len(vectors):
        return None
    columns = {
        "domain": [name for name, classes, _ in found for _ in classes],
        "class": pa.array(np.concatenate([classes for _, classes, _ in found]), pa.int16()),
        "vector": pa.array(list(components(vectors)), pa.list_(pa.float32())),
    }
    return pa.table(columns)


def of_domain(
    run: Run, of: str, domain: Domain, split: str, wanted: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Classes (n,) and features (n, D) of the cells that are kept of a domain, class by class."""
    net, chance = run.segmenter(of), np.random.default_rng(0)
    classes, keys = np.zeros(0, np.int64), np.zeros(0)
    vectors: NDArray[np.float32] | None = None
    for batch in _looked_through(run, domain, split):
        seen = forward(net, batch.image.to(run.device)).features
        here = at_cells(batch.label, seen, run.recipe.align_corners).flatten().numpy()
        drawn = chance.random(here.shape)
        some = np.flatnonzero(here != IGNORE)
        some = some[lowest(here[some], drawn[some], wanted)]
        cells = seen.movedim(1, 3).flatten(0, 2)[torch.from_numpy(some).to(seen.device)].float().cpu().numpy()
        classes, keys = np.concatenate([classes, here[some]]), np.concatenate([keys, drawn[some]])
        vectors = cells if vectors is None else np.concatenate([vectors, cells])
        kept = lowest(classes, keys, wanted)
        classes, keys, vectors = classes[kept], keys[kept], vectors[kept]
    assert vectors is not None  # an empty domain is refused
    return classes, vectors


def _looked_through(run: Run, domain: Domain, split: str) -> Iterator[Batch]:
    samples = domain.samples(split, labelled=True)
    kept = {samples[place].stem for place in spread(len(samples), IMAGES)}
    few = domain.without(sample.stem for sample in samples if sample.stem not in kept)
    for _, batch in streams.labelled(few, split, run.classes, run.at_once):
        yield batch


def lowest(classes: NDArray[np.int64], keys: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """Places of the `most` lowest keys of each class, in the order of classes and keys.

    Of random keys that is a draw without replacement, whatever the batches they come in.
    """
    order = np.lexsort((keys, classes))
    ordered = classes[order]
    return order[np.arange(len(order)) - np.searchsorted(ordered, ordered) < most]


def components(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (n, D) in their first principal components (n, C), the largest weight of each positive."""
    centred = vectors.astype(np.float64) - vectors.mean(0, np.float64)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:COMPONENTS]
    sign = np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1))
    return np.asarray(centred @ (axes * np.where(sign == 0, 1, sign)).T, np.float32)
