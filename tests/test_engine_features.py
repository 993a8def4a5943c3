"""Features that a score keeps: of the cells and images they are said to be of, the same for every row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diga.engine import features
from diga.engine.run import Run
from diga.ops.prototypes import at_cells
from diga.recipe import override
from diga.types import IGNORE
from experiments.diga import TARGET
from tests.conftest import Chain

SOURCE = "streets/gta5"


def run_of(chain: Chain, folder: Path, of: str = "self_training", classes: int = 19) -> Run:
    recipe = override(chain.recipe, {"score.of": of, "classes": classes})
    return Run(recipe, "score", folder, chain.folders, chain.place.data)


def every_cell(run: Run, domain: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Classes (n,) and features (n, D) of all labelled cells, image by image."""
    net = run.segmenter("self_training").eval()
    classes, vectors = [], []
    known = run.domain(domain)
    for sample in known.samples(split, labelled=True):
        image = torch.from_numpy(known.image(sample)).permute(2, 0, 1)[None] / 255
        label = torch.from_numpy(known.label(sample, run.classes)).long()
        with torch.no_grad():
            seen = net(image).features[0]
        h, w = seen.shape[1:]
        for y in range(h):
            for x in range(w):
                k = int(label[int((y + 0.5) * label.shape[0] / h), int((x + 0.5) * label.shape[1] / w)])
                if k != IGNORE:
                    classes.append(k)
                    vectors.append(seen[:, y, x].numpy())
    return np.array(classes), np.array(vectors)


def test_a_score_leaves_cells_of_every_class_and_domain(chain: Chain, tmp_path: Path) -> None:
    table = pq.read_table(chain.folders["score"] / features.FILE).to_pandas()
    assert list(table.columns) == ["domain", "class", "vector"]
    assert list(dict.fromkeys(table["domain"])) == [SOURCE, TARGET]
    for domain, split in ((SOURCE, "train"), (TARGET, "val")):
        classes, _ = every_cell(run_of(chain, tmp_path), domain, split)
        expected = {int(k): min(20, n) for k, n in zip(*np.unique(classes, return_counts=True), strict=True)}
        assert table[table["domain"] == domain]["class"].value_counts().to_dict() == expected
    assert {len(vector) for vector in table["vector"]} == {48}, "the channels of this small network"


def test_the_distances_are_those_of_features(chain: Chain, tmp_path: Path) -> None:
    """Of all cells, in as many components as features have channels, nothing is lost."""
    run = run_of(chain, tmp_path)
    table = features.sampled(run, "self_training", [TARGET], 10_000)
    assert table is not None
    found = np.stack(table.to_pandas()["vector"])
    slow, of = [], []
    for domain, split in ((SOURCE, "train"), (TARGET, "val")):
        classes, vectors = every_cell(run, domain, split)
        slow += [vectors[classes == k] for k in np.unique(classes)]
        of += [int(k) for k in np.unique(classes) for _ in range((classes == k).sum())]
    assert table["class"].to_pylist() == of
    centre = np.concatenate(slow).mean(0)
    assert np.sort(np.linalg.norm(found, axis=1)) == pytest.approx(
        np.sort(np.linalg.norm(np.concatenate(slow) - centre, axis=1)), rel=1e-3, abs=1e-4
    )
    sizes = [len(x) for x in slow]
    means = [part.mean(0) for part in np.split(found, np.cumsum(sizes)[:-1])]
    for mean, vectors in zip(means, slow, strict=True):
        assert np.linalg.norm(mean) == pytest.approx(np.linalg.norm(vectors.mean(0) - centre), rel=1e-3, abs=1e-4)


def test_rows_show_the_same_cells(chain: Chain, tmp_path: Path) -> None:
    one, other = (
        features.sampled(run_of(chain, tmp_path / of, of), of, [TARGET], 3) for of in ("warm_up", "self_training")
    )
    assert one is not None
    assert other is not None
    assert one.select(["domain", "class"]) == other.select(["domain", "class"])
    assert one["vector"] != other["vector"]


def test_the_same_cells_come_in_batches_of_any_size(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(chain, tmp_path)
    whole = features.of_domain(run, "self_training", run.domain(SOURCE), "train", 4)
    monkeypatch.setattr(Run, "at_once", 1)
    single = features.of_domain(run, "self_training", run.domain(SOURCE), "train", 4)
    assert np.array_equal(whole[0], single[0])
    assert np.allclose(whole[1], single[1], atol=1e-4)


def test_few_images_of_many_are_looked_through(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(chain, tmp_path)
    monkeypatch.setattr(features, "IMAGES", 2)
    found = sum(len(batch.image) for batch in features._looked_through(run, run.domain(SOURCE), "train"))
    assert found == 2


def test_a_domain_that_is_source_and_scored_is_shown_once(chain: Chain, tmp_path: Path) -> None:
    table = features.sampled(run_of(chain, tmp_path), "self_training", [TARGET, SOURCE], 2)
    assert table is not None
    assert list(dict.fromkeys(table["domain"].to_pylist())) == [SOURCE, TARGET]
    assert max(table.to_pandas().value_counts(["domain", "class"])) == 2


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 1)), max_size=40), st.integers(1, 6))
def test_the_lowest_of_each_class(cells: list[tuple[int, float]], most: int) -> None:
    classes, keys = np.array([k for k, _ in cells], np.int64), np.array([key for _, key in cells])
    slow = [
        place
        for k in sorted(set(classes.tolist()))
        for place in sorted((i for i in range(len(cells)) if classes[i] == k), key=lambda i: (keys[i], i))[:most]
    ]
    assert features.lowest(classes, keys, most).tolist() == slow


def test_components_are_those_of_the_covariance() -> None:
    rng = np.random.default_rng(3)
    vectors = (rng.standard_normal((200, 60)) * np.linspace(5, 0.1, 60)).astype(np.float32)
    found = features.components(vectors)
    assert found.shape == (200, 50)
    variances = np.sort(np.linalg.eigvalsh(np.cov(vectors.T)))[::-1][:50]
    assert found.var(0, ddof=1) == pytest.approx(variances, rel=1e-3)
    assert np.array_equal(features.components(vectors[:3]).round(4), features.components(vectors[:3]).round(4))
    assert features.components(vectors[:1]).tolist() == [[0.0]]
    assert np.allclose(features.components(-vectors), -found, atol=1e-3), "a direction has one sign"


@pytest.mark.parametrize("corners", [False, True])
def test_a_cell_has_the_label_of_one_pixel(corners: bool) -> None:
    label = torch.arange(8 * 16).view(1, 8, 16) % 19
    found = at_cells(label, torch.zeros(1, 3, 2, 4), corners)
    assert found.tolist() == label[:, (0 if corners else 2) :: 4, (0 if corners else 2) :: 4].tolist()
