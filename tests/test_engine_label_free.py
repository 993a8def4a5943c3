"""Numbers without labels, against loops over cells; what is seen of them is never a label."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from diga.engine import label_free
from diga.engine.quality import Labels
from diga.engine.run import Run
from diga.errors import DataError
from diga.ops.losses import upsample
from diga.recipe import override
from diga.types import Prediction
from experiments.diga import TARGET
from tests.conftest import COUNTS, Chain, png, stage_run, told_by

NONE = torch.zeros(19, dtype=torch.bool)


@pytest.fixture
def run(chain: Chain, tmp_path: Path) -> Run:
    return stage_run(chain, chain.recipe, "score", tmp_path)


def on(chain: Chain, data: Path, folder: Path, **changes: object) -> Run:
    """The score about to be carried out on other data, and by a changed recipe."""
    recipe = override(chain.recipe, {path.replace("__", "."): value for path, value in changes.items()})
    return Run(recipe, "score", folder, chain.folders, data)


def photographs(data: Path) -> list[Path]:
    return sorted((data / "streets/cityscapes/leftImg8bit/train").rglob("*.png"))


def scores(run: Run) -> dict[str, float]:
    run.recipe.stages["score"](run)
    found: dict[str, float] = json.loads((run.folder / "scores.json").read_text())
    assert all(math.isfinite(value) for value in found.values())
    return found


# --- which images ------------------------------------------------------------------------


@given(st.integers(0, 300), st.integers(1, 120))
def test_what_is_looked_at_is_evenly_spread(n: int, wanted: int) -> None:
    found = label_free.spread(n, wanted)
    assert len(found) == len(set(found)) == min(n, wanted)
    assert found == sorted(found)
    assert all(0 <= place < n for place in found)
    gaps = np.diff([*found, n + found[0]] if found else [])
    assert gaps.max(initial=0) - gaps.min(initial=n) <= 1


@pytest.mark.parametrize(("wanted", "places"), [(1, [0]), (2, [0, 2]), (4, [0, 1, 2, 3]), (100, [0, 1, 2, 3, 4])])
def test_they_stand_evenly_in_the_sorted_training_images(run: Run, wanted: int, places: list[int]) -> None:
    files = [path.name.removesuffix("_leftImg8bit.png") for path in photographs(run.data_root)]
    found = [stem for stems, _ in label_free.images(run, label_free.some(run, wanted)) for stem in stems]
    assert len(files) == COUNTS["target_train"]
    assert [stem.removesuffix("_leftImg8bit") for stem in found] == [files[place] for place in places]


def test_no_label_of_the_target_is_opened(chain: Chain, own_data: Path, tmp_path: Path) -> None:
    shutil.rmtree(own_data / "streets/cityscapes/gtFine")
    run = on(chain, own_data, tmp_path / "score")
    found, _ = label_free.judge(run, "self_training", Labels(run, "self_training", "labels"), 100, NONE)
    assert {name.removeprefix("label_free/") for name in found} == {
        *("entropy", "confidence", "agreement", "stability", "consensus", "vanished")
    }


# --- the numbers, slowly -----------------------------------------------------------------


def seen_by(run: Run, part: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Logits (K, h, w) and features (D, h, w) of every target training image, one by one."""
    net = run.segmenter("self_training", part).eval()
    with torch.no_grad():
        maps = [net(x[None]) for _, image in run.images(TARGET, "train") for x in image]
    return [(p.logits[0].double().numpy(), p.features[0].double().numpy()) for p in maps]


def test_every_number_is_that_of_a_loop_over_cells(run: Run) -> None:
    labels = Labels(run, "self_training", "labels")
    found, vanished = label_free.judge(run, "self_training", labels, 100, NONE)
    student, teacher = seen_by(run, "student"), seen_by(run, "teacher")
    entropy, confidence, stable, won, spots = [], [], [], [], []
    for (logits, features), (told, _) in zip(student, teacher, strict=True):
        for i, j in np.ndindex(logits.shape[1:]):
            p = np.exp(logits[:, i, j] - logits[:, i, j].max())
            p /= p.sum()
            entropy.append(-sum(q * math.log(q) for q in p if q) / math.log(19))
            confidence.append(p.max())
            stable.append(logits[:, i, j].argmax() == told[:, i, j].argmax())
            won.append(int(logits[:, i, j].argmax()))
            spots.append(features[:, i, j])
    centroids = {k: np.mean([s for s, w in zip(spots, won, strict=True) if w == k], 0) for k in set(won)}
    nearest = [min(centroids, key=lambda k: float(np.linalg.norm(spot - centroids[k]))) for spot in spots]
    wanted = {
        "entropy": np.mean(entropy),
        "confidence": np.mean(confidence),
        "stability": np.mean(stable),
        "agreement": np.mean(np.equal(nearest, won)),
    }
    for name, value in wanted.items():
        assert found[f"label_free/{name}"] == pytest.approx(value, abs=1e-5), name
    known = {int(told[:, i, j].argmax()) for told, _ in teacher for i, j in np.ndindex(told.shape[1:])}
    assert vanished is not None
    known |= set(run.read("self_training")["prototypes"]["seen"].nonzero().flatten().tolist())
    assert set(vanished.nonzero().flatten().tolist()) == known - set(won)
    assert found["label_free/vanished"] == len(known - set(won)) > 0


def test_consensus_is_the_share_of_pixels_where_both_kinds_of_label_agree(run: Run) -> None:
    found, _ = label_free.judge(run, "self_training", Labels(run, "self_training", "labels"), 100, NONE)
    rho = run.read("self_training")["prototypes"]
    teacher, same = run.segmenter("self_training", "teacher").eval(), []
    for stems, image in run.images(TARGET, "train"):
        for stem, x in zip(stems, image, strict=True):
            with torch.no_grad():
                f = teacher(x[None]).features[0]
            distance = (f[None] - rho["vectors"][:, :, None, None]).square().sum(1).sqrt()
            distance[rho["seen"] == 0] = torch.inf
            nearest = upsample((-distance).softmax(0)[None], x)[0].argmax(0)
            stored = torch.from_numpy(png(run.inputs["labels"] / "labels" / f"{stem}.png"))
            same.append((nearest == stored).double().mean().item())
    assert found["label_free/consensus"] == pytest.approx(np.mean(same), abs=1e-4)


def test_a_class_known_before_and_silent_now_has_vanished(run: Run) -> None:
    before = label_free.judge(run, "self_training", None, 100, NONE)[1]
    everything = label_free.judge(run, "self_training", None, 100, ~NONE)[1]
    won = label_free.look(run, run.segmenter("self_training"), label_free.some(run, 100)).won
    assert before is not None
    assert everything is not None
    assert torch.equal(everything, ~won)
    assert not (before & won).any()


def test_every_snapshot_is_looked_at_by_a_quarter(chain: Chain, run: Run) -> None:
    rows = told_by(chain.folders["score"])
    files = sorted((chain.folders["self_training"] / "snapshots").glob("*.pt"))
    assert [step for step, _ in rows] == [int(file.stem) for file in files]
    assert run.stage_of("score").looked_at // 4 > COUNTS["target_train"]
    for file, (_, values) in zip(files, rows, strict=True):
        net = run.segmenter("self_training")
        net.load_state_dict(torch.load(file, weights_only=True))
        for name, value in label_free.look(run, net, label_free.some(run, 100)).shares.items():
            assert values[f"label_free/{name}"] == value
        assert {"label_free/entropy", "label_free/agreement"} < set(values)


def test_a_quarter_of_few_is_one(chain: Chain, data: Path, tmp_path: Path) -> None:
    run = on(chain, data, tmp_path / "score", score__looked_at=4, score__statistics=["plain"])
    scores(run)
    net = run.segmenter("self_training")
    net.load_state_dict(torch.load(max((run.inputs["self_training"] / "snapshots").glob("*.pt")), weights_only=True))
    alone = label_free.look(run, net, label_free.some(run, 1)).shares
    assert told_by(run.folder)[-1][1]["label_free/entropy"] == alone["entropy"]


# --- where there is little to see --------------------------------------------------------


class Stubborn(nn.Module):
    """One class everywhere, surely; features are the image's colours."""

    def forward(self, image: Tensor) -> Prediction:
        logits = torch.zeros(len(image), 19, 4, 4)
        logits[:, 5] = 1e4
        return Prediction(logits, nn.functional.interpolate(image, (4, 4)))


def test_a_network_of_one_class_is_sure_and_agrees_with_itself(run: Run) -> None:
    found = label_free.look(run, Stubborn(), label_free.some(run, 100))
    assert found.shares == {"entropy": 0.0, "confidence": 1.0, "agreement": 1.0}
    assert found.won.nonzero().flatten().tolist() == [5]


def test_of_no_domain_nothing_is_told(run: Run) -> None:
    found = label_free.look(run, Stubborn(), [])
    assert found.shares == {}
    assert not found.won.any()


def test_a_recipe_without_target_has_no_such_numbers(chain: Chain, data: Path, tmp_path: Path) -> None:
    alone = {"targets": [], "warm_up__translator": None, "score__of": "warm_up"}
    found = scores(on(chain, data, tmp_path / "score", **alone))
    assert not any(name.startswith(("label_free/", "drift/", f"{TARGET}/adabn")) for name in found)
    assert f"{TARGET}/plain/last/miou" in found
    assert "vanished_from_training_images" not in json.loads((tmp_path / "score/diagnostics.json").read_text())


def test_switched_off_it_opens_no_training_image(chain: Chain, own_data: Path, tmp_path: Path) -> None:
    shutil.rmtree(own_data / "streets/cityscapes/leftImg8bit/train")
    run = on(
        chain,
        own_data,
        tmp_path / "score",
        score__label_free=False,
        score__features=0,
        score__statistics=["plain", "teacher"],
    )
    assert run.recipe.stages["score"].reads() == frozenset()
    assert not any(name.startswith("label_free/") for name in scores(run))


def test_one_image_is_enough(chain: Chain, own_data: Path, tmp_path: Path) -> None:
    for path in photographs(own_data)[1:]:
        path.unlink()
    found = scores(on(chain, own_data, tmp_path / "score"))
    assert {"label_free/entropy", "label_free/agreement", f"drift/{TARGET}"} <= set(found)


def test_a_target_without_training_images_is_refused_by_name(chain: Chain, own_data: Path, tmp_path: Path) -> None:
    for path in photographs(own_data):
        path.unlink()
    with pytest.raises(DataError, match="0 files match"):
        scores(on(chain, own_data, tmp_path / "score"))
