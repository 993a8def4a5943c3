"""Scores over several domains, of sixteen classes, of stored labels, and that no stage can read them."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from diga.data.labels import CLASSES, SIXTEEN, THIRTEEN
from diga.engine import quality
from diga.engine.evaluate import confusions, reestimated
from diga.engine.run import ARTIFACT, Run
from diga.engine.scoring import labelled, named_protocol, over_domains
from diga.errors import ConfigError, DataError
from diga.identity import data_read
from diga.methods.source_only import SourceOnly
from diga.ops.losses import upsample
from diga.ops.scores import iou, mean_iou
from diga.pipeline import Place, execute
from diga.recipe import Stage, loads, override, plain, ref_fields
from diga.settings import Plan
from diga.types import IGNORE
from experiments.diga import TARGET
from tests.conftest import COUNTS, Chain, png, small, told_by, with_stage

SOURCE = "streets/gta5"
TIES = 2e-3  # what labels may differ by where two classes are as near as rounding errors


def scored(
    chain: Chain, folder: Path, data: Path | None = None, inputs: Any = None, **changes: Any
) -> dict[str, float]:
    """What a score with other fields, on other data, of other stages, leaves."""
    recipe = override(chain.recipe, {path.replace("__", "."): value for path, value in changes.items()})
    run = Run(recipe, "score", folder, chain.folders | (inputs or {}), data or chain.place.data)
    recipe.stages["score"](run)
    found: dict[str, float] = json.loads((folder / "scores.json").read_text())
    assert all(math.isfinite(value) for value in found.values())
    return found


# --- several domains ---------------------------------------------------------------------


def test_the_mean_is_over_domains_that_all_have_the_column(chain: Chain, tmp_path: Path) -> None:
    found = scored(chain, tmp_path, score__domains=[TARGET, SOURCE])
    means = {name: value for name, value in found.items() if name.startswith("mean/")}
    assert set(means) == {f"mean/{column}/miou" for column in ("plain/last", "plain/best", "teacher/last")}
    for name, value in means.items():
        column = name.removeprefix("mean/")
        assert value == pytest.approx((found[f"{TARGET}/{column}"] + found[f"{SOURCE}/{column}"]) / 2)
    assert f"{TARGET}/adabn/last/miou" in found
    assert f"{SOURCE}/adabn/last/miou" not in found
    rows = pq.read_table(tmp_path / "confusion.parquet").to_pylist()
    columns = {(domain, statistic) for domain in (TARGET, SOURCE) for statistic in ("plain", "teacher", "adabn")}
    assert {(row["domain"], row["statistic"]) for row in rows} == columns - {(SOURCE, "adabn")}


def test_what_one_of_three_domains_lacks_has_no_mean() -> None:
    values = {
        "a/plain/last/miou": 0.25,
        "b/plain/last/miou": 0.5,
        "c/plain/last/miou": 0.75,
        "a/plain/last/miou16": 1.0,
    }
    values |= {"a/adabn/last/miou": 0.5, "b/adabn/last/miou": 0.5}
    assert over_domains(values, ["a", "b", "c"]) == {"mean/plain/last/miou": 0.5}
    assert over_domains(values, ["a"]) == {}


def test_one_domain_has_no_mean_and_the_others_columns_stay(chain: Chain, tmp_path: Path) -> None:
    alone = json.loads((chain.folders["score"] / "scores.json").read_text())
    both = scored(chain, tmp_path, score__domains=[TARGET, SOURCE])
    assert not any(name.startswith("mean/") for name in alone)
    assert {name: both[name] for name in alone} == alone


def test_a_part_of_the_target_is_enough_for_its_statistics(chain: Chain, tmp_path: Path) -> None:
    found = scored(chain, tmp_path / "score", targets=[f"{TARGET}@not-1/2"])
    run = Run(chain.recipe, "score", tmp_path / "look", chain.folders, chain.place.data)
    images = [image for _, image in run.images(f"{TARGET}@not-1/2", "train")]
    assert 0 < sum(map(len, images)) < COUNTS["target_train"]
    net = reestimated(run.segmenter("self_training"), images)
    counts = confusions(net, labelled(run, TARGET), named_protocol(run, "two_scale_max"), 19).sum(0)
    assert found[f"{TARGET}/adabn/last/miou"] == mean_iou(iou(counts))
    assert found[f"drift/{TARGET}"] > 0


def test_the_same_score_again_is_the_same_to_the_bit(chain: Chain, tmp_path: Path) -> None:
    scored(chain, tmp_path)
    for name in ("scores.json", "diagnostics.json", "pictures/curves.png"):
        assert (tmp_path / name).read_bytes() == (chain.folders["score"] / name).read_bytes(), name


def test_sixteen_classes_have_their_own_means(data: Path, tmp_path: Path) -> None:
    few = with_stage(small(classes=16, score__of="warm_up"), "warm_up", SourceOnly(plan=Plan(steps=8, snapshots=2)))
    folder = execute(few, Place(tmp_path, data))["score"]
    found = json.loads((folder / "scores.json").read_text())
    prefix = f"{TARGET}/plain/last"
    per_class = {name.rsplit("/", 1)[1]: v for name, v in found.items() if name.startswith(f"{prefix}/iou/")}
    assert set(per_class) <= {CLASSES[k] for k in SIXTEEN}
    for title, subset in (("miou", SIXTEEN), ("miou16", SIXTEEN), ("miou13", THIRTEEN)):
        mean = np.mean([per_class[CLASSES[k]] for k in subset if CLASSES[k] in per_class])
        assert found[f"{prefix}/{title}"] == pytest.approx(mean, rel=1e-12)
    assert {len(row["counts"]) for row in pq.read_table(folder / "confusion.parquet").to_pylist()} == {16 * 16}
    assert {"label_free/entropy", "label_free/vanished", f"drift/{TARGET}", "alarm/vanished"} <= set(found)


# --- where there is little to score ------------------------------------------------------


def test_a_network_of_one_class_is_scored(chain: Chain, tmp_path: Path) -> None:
    """Everywhere road, student and teacher alike."""
    copy = tmp_path / "stage"
    shutil.copytree(chain.folders["self_training"], copy)
    parts = torch.load(copy / ARTIFACT, weights_only=True)
    for part in ("student", "teacher"):
        parts[part]["classifier.bias"] += 1e4 * F.one_hot(torch.tensor(0), 19)
    torch.save(parts, copy / ARTIFACT)
    for file in (copy / "snapshots").glob("*.pt"):
        torch.save(parts["student"], file)
    inputs = {"self_training": copy}
    found = scored(chain, tmp_path / "score", inputs=inputs, score__labels="labels", score__quality=True)
    assert found["label_free/entropy"] == pytest.approx(0, abs=1e-9)
    assert found["label_free/agreement"] == found["label_free/stability"] == 1
    assert found["label_free/vanished"] > 10
    assert found["alarm/vanished"] == 0
    assert {k.rsplit("/", 1)[1] for k in found if k.startswith("labels/teacher/accuracy/")} == {"road"}


def test_validation_images_without_a_labelled_pixel(chain: Chain, own_data: Path, tmp_path: Path) -> None:
    for path in (own_data / "streets/cityscapes/gtFine/val").rglob("*_labelIds.png"):
        Image.fromarray(np.zeros_like(png(path))).save(path)
    found = scored(chain, tmp_path / "score", own_data)
    assert not any(name.startswith(f"{TARGET}/") for name in found)
    assert {"label_free/entropy", "alarm/vanished"} <= set(found)
    assert all("alarm/vanished" in values for _, values in told_by(tmp_path / "score"))


# --- stored labels against the truth -----------------------------------------------------


@pytest.fixture(scope="module")
def judged(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, float], Path]:
    folder = tmp_path_factory.mktemp("judged")
    return scored(chain, folder, score__labels="labels", score__quality=True), folder


def slow_labels(run: Run) -> dict[str, list[np.ndarray]]:
    """Labels of every target training image in order, kind by kind."""
    rho, teacher = run.read("self_training")["prototypes"], run.segmenter("self_training", "teacher").eval()
    found: dict[str, list[np.ndarray]] = {"warm": [], "feature": [], "consensus": [], "teacher": []}
    for stems, image in run.images(TARGET, "train"):
        for stem, x in zip(stems, image, strict=True):
            with torch.no_grad():
                seen = teacher(x[None])
            distance = (seen.features - rho["vectors"][:, :, None, None]).square().sum(1).sqrt()
            distance[rho["seen"] == 0] = torch.inf
            found["warm"].append(png(run.inputs["labels"] / "labels" / f"{stem}.png"))
            found["feature"].append(upsample((-distance).softmax(0)[None], x)[0].argmax(0).numpy())
            found["teacher"].append(upsample(seen.logits, x)[0].argmax(0).numpy())
            found["consensus"].append(np.where(found["warm"][-1] == found["feature"][-1], found["warm"][-1], IGNORE))
    return found


def test_labels_are_judged_pixel_by_pixel(chain: Chain, judged: tuple[dict[str, float], Path], tmp_path: Path) -> None:
    values, _ = judged
    run = Run(chain.recipe, "score", tmp_path, chain.folders, chain.place.data)
    domain = run.domain(TARGET)
    truth = [domain.label(sample, 19) for sample in domain.samples("train", labelled=True)]
    for kind, labels in slow_labels(run).items():
        counts, pixels = np.zeros((19, 19)), 0
        for y, p in zip(np.stack(truth).flat, np.stack(labels).flat, strict=True):
            pixels += y != IGNORE
            if y != IGNORE and p != IGNORE:
                counts[y, p] += 1
        union = counts.sum(0) + counts.sum(1) - counts.diagonal()
        assert values[f"labels/{kind}/kept"] == pytest.approx(counts.sum() / pixels, abs=TIES)
        assert values[f"labels/{kind}/accuracy"] == pytest.approx(np.trace(counts) / counts.sum(), abs=TIES)
        mean = np.mean([counts[k, k] / union[k] for k in range(19) if union[k]])
        assert values[f"labels/{kind}/miou"] == pytest.approx(mean, abs=TIES)
        if kind == "warm":  # stored, hence without any tie
            precise = {CLASSES[k]: counts[k, k] / counts[:, k].sum() for k in range(19) if counts[:, k].any()}
            found = {k.rsplit("/", 1)[1]: v for k, v in values.items() if k.startswith("labels/warm/accuracy/")}
            assert found == pytest.approx(precise)
    assert values["labels/warm/kept"] == 1 > values["labels/consensus/kept"] > 0


def test_each_image_has_its_row(judged: tuple[dict[str, float], Path]) -> None:
    values, folder = judged
    rows = pq.read_table(folder / "labels.parquet").to_pylist()
    for kind in ("warm", "feature", "consensus", "teacher"):
        mine = [row for row in rows if row["kind"] == kind]
        assert len({row["stem"] for row in mine}) == len(mine) == COUNTS["target_train"]
        counts = np.sum([row["counts"] for row in mine], 0).reshape(19, 19)
        assert values[f"labels/{kind}/accuracy"] == np.trace(counts) / counts.sum()
        assert values[f"labels/{kind}/kept"] == counts.sum() / sum(row["pixels"] for row in mine)


def test_some_of_the_judged_labels_are_kept_as_pictures(
    chain: Chain, judged: tuple[dict[str, float], Path], tmp_path: Path
) -> None:
    run = Run(chain.recipe, "score", tmp_path, chain.folders, chain.place.data)
    samples = run.domain(TARGET).samples("train", labelled=True)
    kept, slow = judged[1] / "samples/labels", slow_labels(run)
    shown = [i for i, sample in enumerate(samples) if (kept / f"{sample.stem}.input.png").exists()]
    assert shown == [0, 2], "two of five, evenly spread"
    kinds = {"input", "truth", "warm", "feature", "consensus", "teacher"}
    assert len(list(kept.iterdir())) == len(shown) * len(kinds)
    for i in shown:
        stem = samples[i].stem
        assert np.array_equal(png(kept / f"{stem}.input.png"), run.domain(TARGET).image(samples[i]))
        assert np.array_equal(png(kept / f"{stem}.truth.png"), run.domain(TARGET).label(samples[i], 19))
        for kind, labels in slow.items():
            assert np.mean(png(kept / f"{stem}.{kind}.png") != labels[i]) <= TIES


def test_of_a_stage_that_learnt_from_none_the_stored_ones_are_judged(chain: Chain, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"score__of": "warm_up", "score__labels": "labels", "score__judged": 2}
    found = scored(chain, tmp_path, **changes, score__quality=True)
    assert {name.split("/")[1] for name in found if name.startswith("labels/")} == {"warm", "teacher"}
    rows = pq.read_table(tmp_path / "labels.parquet").to_pylist()
    assert len({row["stem"] for row in rows}) == 2
    assert "label_free/consensus" not in found


def test_numbers_of_handmade_counts() -> None:
    counts = torch.zeros(19, 19, dtype=torch.int64)
    counts[0, 0], counts[0, 1], counts[2, 1], counts[1, 1] = 6, 2, 1, 3
    assert quality.numbers("warm", counts, 16, 19) == {
        "labels/warm/kept": 12 / 16,
        "labels/warm/accuracy": 9 / 12,
        "labels/warm/miou": pytest.approx((6 / 8 + 3 / 6 + 0) / 3),
        "labels/warm/accuracy/road": 1.0,
        "labels/warm/accuracy/sidewalk": 3 / 6,
    }
    assert quality.numbers("warm", 0 * counts, 16, 19) == {"labels/warm/kept": 0.0}
    assert quality.numbers("warm", 0 * counts, 0, 19) == {}


def test_without_labels_to_judge_their_truth_stays_closed(chain: Chain, own_data: Path, tmp_path: Path) -> None:
    shutil.rmtree(own_data / "streets/cityscapes/gtFine/train")
    found = scored(chain, tmp_path / "free", own_data, score__labels="labels")
    assert "label_free/consensus" in found
    assert not any(name.startswith("labels/") for name in found)
    with pytest.raises(DataError):
        scored(chain, tmp_path / "judged", own_data, score__labels="labels", score__quality=True)


def test_a_stored_label_of_another_size_is_refused(chain: Chain, tmp_path: Path) -> None:
    shutil.copytree(chain.folders["labels"], tmp_path / "labels")
    path = min((tmp_path / "labels/labels").glob("*.png"))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    with pytest.raises(DataError, match=r"8 x 8 pixels .*64 x 32"):
        scored(chain, tmp_path / "score", inputs={"labels": tmp_path / "labels"}, score__labels="labels")


# --- what a recipe may ask ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score.quality": True, "score.labels": None}, r"score\.quality: .*score\.labels.*'labels'"),
        ({"score.labels": "centroids"}, r"score\.labels: found 'centroids'.*'labels'"),
        ({"score.looked_at": 0}, r"score\.looked_at"),
    ],
)
def test_a_score_that_cannot_be_meant(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(small(), changes)


def test_what_a_score_reads_is_among_its_facts() -> None:
    def uses(**changes: Any) -> set[tuple[str, str]]:
        recipe = small(**changes)
        return {(use, name) for use, name, _ in data_read(recipe, recipe.stages["score"], lambda name, use: "0")}

    images, truth = ("unlabelled", TARGET), ("train", TARGET)
    closed = {"score__label_free": False, "score__statistics": ["plain"], "score__features": 0}
    assert uses(**closed) == {("val", TARGET)}
    assert uses(score__features=0) == uses(score__features=0, score__labels="labels") == {("val", TARGET), images}
    assert uses() == {("val", TARGET), images, ("train", SOURCE)}
    assert truth in uses(score__labels="labels", score__quality=True), "a label that changes is another score"


def reading(stage: Stage, ref: str) -> list[Stage]:
    """The stage with each of its references in turn pointing elsewhere."""
    return [stage.model_copy(update={field: ref}) for field in ref_fields(type(stage))]


@pytest.mark.parametrize("quality", [False, True])
@pytest.mark.parametrize("name", ["warm_up", "labels", "centroids", "self_training", "score"])
def test_no_stage_can_read_a_score(name: str, quality: bool) -> None:
    recipe = small(score__labels="labels", score__quality=quality)
    for stage in (found := reading(recipe.stages[name], "score")):
        document = plain(recipe)
        document["stages"]["again"] = plain(stage)
        with pytest.raises(ConfigError, match=r"'score'"):
            loads(json.dumps(document))
    assert found


def test_a_score_leaves_nothing_that_a_stage_reads(judged: tuple[dict[str, float], Path], chain: Chain) -> None:
    left = {path.name for path in judged[1].iterdir()}
    read = {path.name for name, folder in chain.folders.items() if name != "score" for path in folder.iterdir()}
    shown = {"pictures", "metrics.jsonl", "manifest.json"}  # which people and reports read
    assert left & read <= shown
    assert not left & {ARTIFACT, "labels", "confidence", "probabilities", "paintings", "snapshots"}
