"""Every stage end to end, a few steps long: what it leaves, and that its numbers are those of slow versions."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from diga.data.labels import CLASSES, SIXTEEN, SUBSETS, THIRTEEN, palette
from diga.engine.checkpoint import read_weights
from diga.engine.evaluate import confusions, predict, reestimated
from diga.engine.protocols import single_scale, two_scale_max
from diga.engine.scoring import labelled, named_protocol
from diga.files import PRIVATE
from diga.methods.source_only import SourceOnly
from diga.methods.translation import Translator
from diga.models.norm import norms
from diga.models.streetnet import streetnet
from diga.ops.losses import upsample
from diga.ops.pseudo import winners
from diga.ops.scores import iou, mean_iou
from diga.pipeline import Place, carry_out, execute
from diga.recipe import override
from diga.settings import Plan
from diga.store import damaged
from diga.types import Prediction
from experiments.diga import TARGET
from tests.conftest import (
    COUNTS,
    Chain,
    carried_out,
    differing,
    left_by,
    png,
    small,
    stage_run,
    told_by,
    until,
    with_stage,
)

# --- what each stage leaves --------------------------------------------------------------


def test_every_stage_is_in_the_store_whole(chain: Chain) -> None:
    assert list(chain.folders) == ["translator", "warm_up", "labels", "centroids", "self_training", "score"]
    for folder in chain.folders.values():
        assert damaged(folder) == ""
        assert not (folder / PRIVATE).exists()
    assert all(carry_out(run, chain.place).how == "found" for run in chain.place.stage_runs(chain.recipe))


def test_the_colours_are_those_of_the_target(chain: Chain) -> None:
    left = left_by(chain.folders["translator"])
    folder = chain.place.data / "streets/cityscapes/leftImg8bit/train"
    pixels = [png(p).reshape(-1, 3) / 255 for p in sorted(folder.rglob("*.png"))]
    found = sorted(m.tolist() for m in left["colours.mean"])
    np.testing.assert_allclose(found, sorted(p.mean(0).tolist() for p in pixels), atol=1e-6)
    traces = sorted(left["colours.covariance"].diagonal(dim1=1, dim2=2).sum(1).tolist())
    np.testing.assert_allclose(traces, sorted(p.var(0).sum() for p in pixels), atol=1e-6)


@pytest.mark.parametrize(("stage", "parts"), [("warm_up", 2), ("self_training", 3)])
def test_a_training_leaves_networks_losses_and_pictures(chain: Chain, stage: str, parts: int) -> None:
    folder, plan = chain.folders[stage], chain.recipe.stages[stage].plan
    left = left_by(folder)
    assert len({name.split(".")[0] for name in left}) == parts
    assert all(x.isfinite().all() for x in left.values())
    rows = told_by(folder)
    assert [step for step, _ in rows] == list(range(plan.steps))
    terms = {"lr", "loss/source", "loss/distil"} | ({"loss/target"} if stage == "self_training" else set())
    assert all(set(values) == terms for _, values in rows)
    assert [values["lr"] for _, values in rows] == [plan.lr_at(t) for t in range(plan.steps)]
    pictures = list((folder / "pictures").glob("*.png"))
    assert [p.stem for p in pictures] == [f"{stage.replace('_', '-')}-00000000"]
    assert png(pictures[0]).std() > 10
    assert len(list((folder / "snapshots").glob("*.pt"))) == plan.snapshots


def test_labels_are_palette_pngs_of_every_target_image(chain: Chain) -> None:
    images = chain.place.data / "streets/cityscapes/leftImg8bit/train"
    stems = sorted(p.name.removesuffix("_leftImg8bit.png") for p in images.rglob("*.png"))
    files = sorted((chain.folders["labels"] / "labels").iterdir())
    assert [f.name.split("_leftImg8bit")[0].removesuffix(".png") for f in files] == stems
    assert len(files) == COUNTS["target_train"]
    run = stage_run(chain, chain.recipe, "labels", chain.place.home / "look")
    net = run.segmenter("warm_up")
    singly = (
        (stem, image[None])
        for stems, images in run.images(TARGET, "train")
        for stem, image in zip(stems, images, strict=True)
    )
    for stem, image in singly:
        label = png(chain.folders["labels"] / "labels" / f"{stem}.png")
        assert Image.open(chain.folders["labels"] / "labels" / f"{stem}.png").getpalette()[:57] == list(
            palette(19)[:57]
        )
        with torch.no_grad():
            native, half = (upsample(x, image) for x in two_scale_max(net.eval(), image))
        np.testing.assert_array_equal(label, torch.maximum(native, half)[0].numpy().argmax(0))


def test_a_source_only_and_an_adversarial_recipe_run_through(data: Path, tmp_path: Path) -> None:
    plan = Plan(steps=2, optimizer="adam", lr=1e-3, snapshots=1)
    first = with_stage(small(), "translator", Translator(width=4, blocks=1, scales=1, plan=plan))
    gan = execute(until(first, "warm_up"), Place(tmp_path, data))
    assert {name.split(".")[0] for name in left_by(gan["translator"])} == {"generator", "judge"}
    assert set(told_by(gan["translator"])[0][1]) == {"lr"} | {
        f"loss/{term}" for term in ("judge_s", "judge_t", "fool", "cycle", "own", "edge")
    }
    only = with_stage(override(small(), {"score.of": "warm_up"}), "warm_up", SourceOnly(plan=plan))
    alone = execute(only, Place(tmp_path, data))
    assert list(alone) == ["warm_up", "score"]
    scores = json.loads((alone["score"] / "scores.json").read_text())
    assert {name.removeprefix(f"{TARGET}/").rsplit("/", 1)[0] for name in scores if name.endswith("/miou")} == {
        "plain/last",
        "plain/best",
        "adabn/last",
    }


# --- scores ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scores(chain: Chain) -> dict[str, float]:
    return json.loads((chain.folders["score"] / "scores.json").read_text())


def slow_iou(counts: np.ndarray) -> dict[int, float]:
    found = {}
    for k in range(len(counts)):
        hit, row, column = counts[k, k], sum(counts[k]), sum(counts[i][k] for i in range(len(counts)))
        if row + column - hit:
            found[k] = hit / (row + column - hit)
    return found


def test_the_columns_are_named_and_complete(scores: dict[str, float]) -> None:
    found = {k.removeprefix(f"{TARGET}/").removesuffix("/miou") for k in scores if k.endswith("/miou")}
    assert found == {"plain/last", "plain/best", "teacher/last", "adabn/last"}
    assert all(0 <= value <= 1 for name, value in scores.items() if name.startswith(f"{TARGET}/"))
    beside = {"drift", "alarm/vanished"} | {
        f"label_free/{name}" for name in ("entropy", "confidence", "agreement", "stability", "vanished")
    }
    assert {name.removesuffix(f"/{TARGET}") for name in scores if not name.startswith(f"{TARGET}/")} == beside


@pytest.mark.parametrize("statistic", ["plain", "teacher", "adabn"])
def test_stored_confusions_give_the_scores_exactly(chain: Chain, scores: dict[str, float], statistic: str) -> None:
    rows = pq.read_table(chain.folders["score"] / "confusion.parquet").to_pylist()
    mine = [row for row in rows if (row["domain"], row["statistic"]) == (TARGET, statistic)]
    assert len({row["stem"] for row in mine}) == len(mine) == COUNTS["target_val"]
    per_class = slow_iou(np.sum([row["counts"] for row in mine], 0).reshape(19, 19))
    prefix = f"{TARGET}/{statistic}/last"
    assert {k.rsplit("/", 1)[1]: v for k, v in scores.items() if k.startswith(f"{prefix}/iou/")} == {
        CLASSES[k]: v for k, v in per_class.items()
    }
    for name, subset in (("miou", range(19)), ("miou16", SIXTEEN), ("miou13", THIRTEEN)):
        mean = np.mean([per_class[SUBSETS[19].index(k)] for k in subset if k in per_class])
        assert scores[f"{prefix}/{name}"] == pytest.approx(mean, rel=1e-14)


def test_the_plain_confusions_are_counted_pixel_by_pixel(chain: Chain) -> None:
    run = stage_run(chain, chain.recipe, "score", chain.place.home / "look")
    net, test = run.segmenter("self_training"), named_protocol(run, "two_scale_max")
    fast = confusions(net, labelled(run, TARGET), test, 19)
    slow = []
    for image, label, _ in labelled(run, TARGET):
        for seen, truth in zip(predict(net, image, test).numpy(), label.numpy(), strict=True):
            counts = np.zeros((19, 19), int)
            for y, p in zip(truth.flat, seen.flat, strict=True):
                if y != 255:
                    counts[y, p] += 1
            slow.append(counts)
    np.testing.assert_array_equal(fast.numpy(), slow)
    rows = pq.read_table(chain.folders["score"] / "confusion.parquet").to_pylist()
    stored = [row["counts"] for row in rows if row["statistic"] == "plain"]
    np.testing.assert_array_equal(np.reshape(stored, fast.shape), slow)


def test_best_is_the_best_of_the_curve_and_last_is_its_end(chain: Chain, scores: dict[str, float]) -> None:
    curve = {step: values[f"{TARGET}/plain/miou"] for step, values in told_by(chain.folders["score"])}
    steps = sorted(int(p.stem) for p in (chain.folders["self_training"] / "snapshots").glob("*.pt"))
    assert sorted(curve) == steps
    assert scores[f"{TARGET}/plain/best/miou"] == max(curve.values())
    assert scores[f"{TARGET}/plain/last/miou"] == curve[steps[-1]]
    assert max(curve.values()) >= curve[steps[-1]]


def test_best_is_picked_where_it_is_not_the_last(chain: Chain, tmp_path: Path) -> None:
    """A snapshot that beats the last is put among those of a copy of the stage."""
    copy = tmp_path / "stage"
    shutil.copytree(chain.folders["self_training"], copy)
    last = max((copy / "snapshots").glob("*.pt"))
    good = read_weights(last)
    bad = good | {"classifier.bias": good["classifier.bias"] + 1e4 * F.one_hot(torch.tensor(16), 19)}
    torch.save(bad, last)  # all pixels are trains, of which there are none
    torch.save(good, copy / "snapshots" / "00000001.pt")
    run = stage_run(chain, chain.recipe, "score", tmp_path / "score", {"self_training": copy})
    chain.recipe.stages["score"](run)
    found = json.loads((tmp_path / "score/scores.json").read_text())
    curve = {step: values[f"{TARGET}/plain/miou"] for step, values in told_by(tmp_path / "score")}
    assert found[f"{TARGET}/plain/best/miou"] == max(curve.values()) > curve[max(curve)] == 0


def test_samples_are_input_truth_and_prediction(chain: Chain) -> None:
    folder = chain.folders["score"] / "samples" / TARGET.replace("/", "__")
    files = sorted(p.name for p in folder.iterdir())
    assert len(files) == 3 * chain.recipe.stages["score"].samples
    for name in files:
        assert png(folder / name).shape[:2] == (32, 64)
        assert png(folder / name).ndim == (3 if name.endswith(".input.png") else 2)


# --- protocols and statistics ------------------------------------------------------------


@pytest.mark.parametrize("align", [False, True])
def test_two_scales_are_the_larger_logit_pixel_by_pixel(align: bool) -> None:
    net, image = streetnet(19).eval(), torch.rand(1, 3, 17, 33)
    with torch.no_grad():
        maps = two_scale_max(net, image, align)
        fast = torch.maximum(*(upsample(x, image, align) for x in maps))
        half = F.interpolate(image, (8, 16), mode="bilinear", align_corners=align)
        large, little = (
            F.interpolate(net(x).logits, (17, 33), mode="bilinear", align_corners=align) for x in (image, half)
        )
        (only,) = single_scale(net, image, align)
    torch.testing.assert_close(upsample(only, image, align), large, rtol=0, atol=1e-5)
    assert torch.equal(winners(maps, image, align).long(), fast.argmax(1))
    for k in range(19):
        for i in range(17):
            for j in range(33):
                assert fast[0, k, i, j] == pytest.approx(
                    max(large[0, k, i, j].item(), little[0, k, i, j].item()), abs=1e-5
                )


def test_reestimated_statistics_are_means_over_the_batches() -> None:
    """Of every layer's input, as the layers before it, on batch statistics, make it."""
    torch.manual_seed(0)
    net = streetnet(19).eval()
    batches = [torch.rand(n, 3, 16, 32) * scale for n, scale in ((3, 1.0), (3, 0.3), (2, 0.7))]
    slow = deepcopy(net).train()
    seen: dict[nn.Module, list[tuple[torch.Tensor, torch.Tensor]]] = {norm: [] for norm in norms(slow)}
    for norm in seen:
        norm.register_forward_pre_hook(
            lambda norm, args: seen[norm].append((args[0].mean((0, 2, 3)), args[0].var((0, 2, 3))))
        )
    with torch.no_grad():
        for batch in batches:
            slow(batch)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    found = reestimated(net, batches)
    assert not found.training
    for norm, wanted in zip(norms(found), seen.values(), strict=True):
        torch.testing.assert_close(norm.running_mean, torch.stack([m for m, _ in wanted]).mean(0))
        torch.testing.assert_close(norm.running_var, torch.stack([v for _, v in wanted]).mean(0))
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert all(torch.equal(p, q) for p, q in zip(found.parameters(), net.parameters(), strict=True))


def test_adabn_is_the_student_with_the_targets_statistics(chain: Chain, scores: dict[str, float]) -> None:
    run = stage_run(chain, chain.recipe, "score", chain.place.home / "look")
    net = reestimated(run.segmenter("self_training"), [image for _, image in run.images(TARGET, "train")])
    counts = confusions(net, labelled(run, TARGET), named_protocol(run, "two_scale_max"), 19).sum(0)
    assert scores[f"{TARGET}/adabn/last/miou"] == mean_iou(iou(counts))


def test_prediction_is_in_evaluation_mode() -> None:
    class Net(nn.Module):
        def forward(self, image: torch.Tensor) -> Prediction:
            assert not self.training
            return Prediction(image, image)

    image = torch.rand(2, 3, 4, 4)
    assert torch.equal(predict(Net(), image, lambda net, x: net(x).logits.argmax(1)), image.argmax(1))


def test_the_same_stage_again_is_the_same_to_the_bit(chain: Chain, tmp_path: Path) -> None:
    again = carried_out(chain, chain.recipe, "self_training", tmp_path)
    assert differing(left_by(chain.folders["self_training"]), again) == []
