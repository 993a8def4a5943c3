"""Test images drawn again: against a slow version, its coverage by simulation, and the table that it fills."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from diga.report import bootstrap, markdown
from diga.report.build import write
from diga.report.records import Records, client, records
from diga.report.snapshot import read_back
from reports import test_set
from tests import make_records as make

test_set.__test__ = False  # type: ignore[attr-defined]  # a table's module, whose name is no test's
K, SIZE = 19, 400


def matrices(images: int, skill: float, seed: int, spread: float = 0.15) -> NDArray[np.int64]:
    """(images, K, K): what a network that is right about `skill`, more or less by image, makes of SIZE pixels."""
    rng, easy = np.random.default_rng(seed), np.random.default_rng(7)
    found = np.zeros((images, K, K), np.int64)
    for i in range(images):
        share = np.clip(skill + easy.normal(0, spread), 0.05, 0.98)
        truth = rng.choice(K, SIZE, p=easy.dirichlet(np.ones(K)))
        guess = np.where(rng.random(SIZE) < share, truth, rng.integers(0, K, SIZE))
        np.add.at(found[i], (truth, guess), 1)
    return found


def slow_mean_iou(counts: NDArray[np.int64]) -> float:
    shares = []
    for k in range(len(counts)):
        union = counts[k].sum() + counts[:, k].sum() - counts[k, k]
        if union:
            shares.append(counts[k, k] / union)
    return float(np.mean(shares))


def test_an_interval_is_the_slow_one() -> None:
    nets = [matrices(12, 0.6, 1), matrices(12, 0.62, 2)]
    found = bootstrap.interval(np.mean(bootstrap.drawn(nets, 200), axis=0), 12)
    taken = bootstrap.weights(12, 200).astype(int)
    values = [
        np.mean([slow_mean_iou(sum(w * c for w, c in zip(draw, net, strict=True))) for net in nets]) for draw in taken
    ]
    assert found.estimate == pytest.approx(np.mean([slow_mean_iou(net.sum(0)) for net in nets]))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))


def test_the_mean_is_of_summed_counts() -> None:
    """A class that one image alone shows weighs as much as all others."""
    counts = np.zeros((2, 2, 2), np.int64)
    counts[0] = [[90, 10], [0, 0]]
    counts[1] = [[0, 0], [5, 5]]
    assert bootstrap.mean_iou(counts.sum(0)[None].astype(float))[0] == pytest.approx((90 / 105 + 5 / 20) / 2)


def test_a_class_that_is_not_there_is_no_class() -> None:
    counts = np.diag([5.0, 3.0, 0.0, 0.0])
    assert bootstrap.mean_iou(counts[None])[0] == 1.0
    assert bootstrap.mean_iou(np.zeros((1, 3, 3)))[0] == 0.0


def test_an_image_is_drawn_for_all_rows_at_once() -> None:
    """What is hard for both rows widens each interval, and not that of their difference."""
    rows = {
        ("a", 0): (tuple("abcdefghijkl"), matrices(12, 0.5, 1)),
        ("b", 0): (tuple("abcdefghijkl"), matrices(12, 0.6, 2)),
    }
    draws = bootstrap.resampled(rows)
    alone = bootstrap.scores(draws)
    step = bootstrap.steps(draws, {"b": "a", "c": "a"})
    assert set(step) == {"b"}
    assert step["b"].high - step["b"].low < 0.7 * (alone["a"].high - alone["a"].low + alone["b"].high - alone["b"].low)
    assert step["b"].estimate == pytest.approx(alone["b"].estimate - alone["a"].estimate)


def test_of_few_images_or_none_nothing_is_drawn() -> None:
    few = {("a", 0): (tuple("abcdefg"), matrices(7, 0.5, 1))}
    assert bootstrap.resampled(few) == (7, {})
    assert bootstrap.resampled({}) == (0, {})


def test_the_interval_covers_the_truth_about_19_times_of_20() -> None:
    """Against all images there are; percentiles of few images cover a little less, which is what is checked."""
    everything = matrices(4000, 0.55, 3)
    truth = float(bootstrap.mean_iou(everything.sum(0)[None].astype(float))[0])
    rng, hits = np.random.default_rng(5), []
    for _ in range(250):
        some = everything[rng.choice(len(everything), 100, replace=False)]
        found = bootstrap.interval(bootstrap.drawn([some], 400)[0], 100)
        hits.append(found.low <= truth <= found.high)
    assert np.mean(hits) == pytest.approx(0.94, abs=0.05)


# --- of a study --------------------------------------------------------------------------


def confusion(path: Path, index: int, seed: int, images: int) -> Path:
    counts = matrices(images, 0.4 + 0.06 * index, seed)
    flat = [c.ravel().tolist() for c in counts]
    stems = [f"city_{i}" for i in range(images)]
    columns = {"domain": [make.DOMAIN] * images, "statistic": ["plain"] * images, "stem": stems}
    pq.write_table(pa.table(columns | {"counts": pa.array(flat, pa.list_(pa.int64()))}), path)
    return path


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """A study whose cells left matrices, but for the last row's, which are of other images."""
    folder = tmp_path_factory.mktemp("images")
    spec = make.ladder(seeds=[0, 1]).declared(tables=["test_set"])
    uri = make.recorded(spec, folder)
    found = records(uri, "demo")
    asked = client(uri)
    for row, seed, run in zip(found.cells["row_index"], found.cells["seed"], found.cells["run_id"], strict=True):
        asked.log_artifact(run, str(confusion(folder / "confusion.parquet", row, seed, 10 if row < 5 else 9)))
    return records(uri, "demo")


def test_a_table_has_both_doubts(known: Records) -> None:
    table = test_set.table(known)
    columns = [c.key for c in table.columns]
    rows = {row.key: dict(zip(columns, row.cells, strict=True)) for row in table.rows}
    step = rows["(i)"]["images_step"]
    assert step.low < step.mean < step.high
    assert rows["(i)"]["images"].mean - rows["+ MST"]["images"].mean == pytest.approx(step.mean)
    assert not rows["(iv)"]["images"].is_number
    assert "2 finished cells are not in it" in " ".join(table.notes)
    text = markdown.table(table)
    assert f"{rows['(i)']['images'].mean:.1f} [" in text
    assert f"+{step.mean:.1f} [" in text
    assert any(line.startswith("(i) over + MST, on other images: ") for line in test_set.verdicts(known))


@pytest.mark.slow
def test_images_come_back_with_a_report(known: Records, tmp_path: Path) -> None:
    folder = write(known, tmp_path)
    again = read_back(folder)
    found, expected = again.images(make.DOMAIN), known.images(make.DOMAIN)
    assert list(found) == list(expected)
    for key, (stems, counts) in expected.items():
        assert found[key][0] == stems
        np.testing.assert_array_equal(found[key][1], counts)
    second = write(again, tmp_path / "again")
    assert (second / "tables/test_set.json").read_bytes() == (folder / "tables/test_set.json").read_bytes()


def test_without_matrices_the_table_says_so() -> None:
    bare = make.in_memory(make.ladder())
    table = test_set.table(bare)
    assert "No cell left per-image confusion matrices" in table.notes[0]
    assert test_set.verdicts(bare) == []
    assert not any(math.isfinite(row.cells[-1].mean) for row in table.rows)
