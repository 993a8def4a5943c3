"""Switches: each changes what it says and nothing else, and none lets a target label into a training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diga.data.streams import PairStream
from diga.engine.checkpoint import write_weights
from diga.engine.run import ARTIFACT
from diga.errors import DataError
from diga.methods.diga import WarmUp
from diga.pipeline import Place, execute
from diga.recipe import Recipe, override, plain
from diga.types import IGNORE
from experiments.diga import streets, streets_official
from experiments.official import OFFICIAL
from tests.conftest import Chain, carried_out, differing, left_by, png, small, stage_run, told_by, until

# --- official and clean ------------------------------------------------------------------


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves of a JSON value by dotted path."""
    if not isinstance(value, dict):
        return {path: value}
    return {k: v for name, part in value.items() for k, v in flat(part, f"{path}.{name}".strip(".")).items()}


def fields(recipe: Recipe) -> dict[str, Any]:
    return {path.removeprefix("stages."): value for path, value in flat(plain(recipe)).items()}


def test_official_differs_from_clean_in_the_documented_fields_alone() -> None:
    clean, official = fields(streets()), fields(override(streets(), OFFICIAL))
    assert clean.keys() == official.keys()
    changed = {path: value for path, value in official.items() if value != clean[path]}
    assert changed == OFFICIAL, changed
    named = fields(streets_official())
    assert {path for path in named if named[path] != official[path]} == {"name"}
    quirks = (Path(__file__).parents[1] / "docs/quirks.md").read_text()
    for path in OFFICIAL:
        assert path.rsplit(".", 1)[-1] in quirks, path


# --- no switch is dead -------------------------------------------------------------------

STATISTICS = "running_mean"
SWITCHES: dict[str, tuple[Any, str]] = {  # dotted path: another value, and part of a name of what must change
    # the gate's crops of one or two classes are tests/test_data_streams.py's: this town has none
    **{path: (value, "") for path, value in OFFICIAL.items() if path not in ("align_corners", "source_frames.gate")},
    "warm_up.statistics.update": (["views", "target"], f"student.fine.0.1.{STATISTICS}"),
    "self_training.order": ("target_first", "prototypes.vectors"),
    "self_training.agreed": (True, "prototypes.vectors"),
    "warm_up.distil": (0.0, "student"),
    "warm_up.alpha": (0.0, "student"),
    "warm_up.ema": (0.1, "teacher"),
    "warm_up.mask.kind": ("cut", "student"),
    "warm_up.mask.fraction": (0.2, "student"),
    "warm_up.translator": (None, "student"),
    "warm_up.strong": ({"blend": 0.2}, "student"),
    "warm_up.normalise": ("hard", "student"),
    "warm_up.distil_at": ("pixels", "student"),
    "warm_up.statistics.student": ("running", f"student.fine.0.1.{STATISTICS}"),
    "warm_up.statistics.teacher": ("copied", f"teacher.fine.0.1.{STATISTICS}"),
    "warm_up.plan.head": (3.0, "student.classifier"),
    "warm_up.plan.backbone": (3.0, "student.fine"),
    "self_training.distil": (0.0, "student"),
    "self_training.alpha": (0.0, "student"),
    "self_training.mix.kind": ("none", "student"),
    "self_training.rule": ("feature", "student"),
    "self_training.instructor": ("labels", "student"),
    "self_training.delta": (0.5, "prototypes.vectors"),
    "self_training.least": (20, "prototypes.vectors"),
    "self_training.statistics.update": (["views"], f"student.fine.0.1.{STATISTICS}"),
    "self_training.statistics.teacher": ("copied", f"teacher.fine.0.1.{STATISTICS}"),
    "centroids.translator": (None, "prototypes.vectors"),
    "centroids.agreed": (True, "prototypes.vectors"),
    "centroids.least": (40, "prototypes.vectors"),
    "centroids.normalise": ("batch", "prototypes.vectors"),
    "balance": ("none", "student"),
}
CASES = [(path, value, part) for path, (value, part) in SWITCHES.items()]
CASES += [(path, value, "student") for path, value in OFFICIAL.items() if path.endswith("normalise")]
CASES += [("align_corners", True, part) for part in ("student", "labels")]


def stage_of(path: str) -> str:
    return path.split(".")[0] if "." in path else "warm_up"


def plainest() -> Recipe:
    """Two steps of plain descent, so that what differs differs by the switch and not by its amplification."""
    how = {"plan.steps": 2, "plan.optimizer": "sgd", "plan.lr": 0.05, "plan.snapshots": 1, "delta": 0.9}
    changes = {f"{stage}.{k}": v for stage in ("warm_up", "self_training") for k, v in how.items()}
    changes |= {"centroids.average": "images"}  # where `least` has a meaning image by image
    del changes["warm_up.delta"]
    return override(small(), changes)


def far_centroids(chain: Chain, folder: Path) -> Path:
    """Centroids so far out that the origin is nearer; of them that of the commonest pseudo-label is nearest."""
    images = [png(p) for p in (chain.folders["labels"] / "labels").glob("*.png")]
    common = int(np.bincount(np.concatenate(images, None)).argmax())
    vectors, seen = torch.full((19, 48), 200.0), torch.ones(19)
    vectors[common] = 100
    vectors[16], seen[16] = 0, 0
    assert common != 16
    write_weights(folder / ARTIFACT, {"prototypes": {"vectors": vectors, "seen": seen}})
    return folder


@pytest.mark.parametrize(("path", "value", "part"), CASES)
def test_no_switch_is_dead(chain: Chain, tmp_path: Path, path: str, value: Any, part: str) -> None:
    base = override(plainest(), {"centroids.average": "cells"}) if path == "centroids.average" else plainest()
    stage = stage_of(path)
    inputs = {"centroids": far_centroids(chain, tmp_path / "far")} if path.endswith("unseen") else {}
    if part == "labels":
        first = labels_of(chain, base, tmp_path / "a")
        second = labels_of(chain, override(base, {path: value}), tmp_path / "b")
    else:
        first = carried_out(chain, base, stage, tmp_path / "a", **inputs)
        second = carried_out(chain, override(base, {path: value}), stage, tmp_path / "b", **inputs)
    changed = differing(first, second)
    assert any(name.startswith(part) for name in changed), changed


def labels_of(chain: Chain, recipe: Recipe, folder: Path) -> dict[str, Tensor]:
    """Pseudo-labels of every target image, as tensors."""
    recipe.stages["labels"](stage_run(chain, recipe, "labels", folder))
    return {f"labels.{p.name}": torch.from_numpy(png(p)) for p in (folder / "labels").glob("*.png")}


def test_centroids_of_the_source_and_of_the_target_differ(chain: Chain, tmp_path: Path) -> None:
    ours = carried_out(chain, small(), "centroids", tmp_path / "a")
    theirs = carried_out(chain, small(centroids__images="target_pred"), "centroids", tmp_path / "b")
    assert "prototypes.vectors" in differing(ours, theirs)


# --- a switch moves no other draw --------------------------------------------------------


def test_the_same_seed_and_step_draw_the_same(chain: Chain, tmp_path: Path) -> None:
    run = stage_run(chain, small(), "warm_up", tmp_path / "a")
    again = stage_run(chain, small(), "warm_up", tmp_path / "b")
    later = [stage_run(chain, small(), name, tmp_path / name) for name in ("centroids", "self_training")]
    other = stage_run(chain, small(seed=1), "warm_up", tmp_path / "c")
    draws = {(t, p): run.chance(t, p).uniform(3) for t in range(3) for p in range(5)}
    for (t, p), u in draws.items():
        assert torch.equal(u, again.chance(t, p).uniform(3))
        assert not any(torch.equal(u, run.chance(t, p).uniform(3)) for run in (other, *later))
    assert len({tuple(u.flatten().tolist()) for u in draws.values()}) == len(draws)


@pytest.mark.parametrize("mask", ["classes", "cut", "grid", "noise", "cow", "fourier", "everything"])
def test_a_mask_moves_no_other_draw(chain: Chain, tmp_path: Path, mask: str) -> None:
    """Every pixel of x_cdm is the strong view's or the translation's, whatever draws the mask."""
    recipe = small(warm_up__mask__kind=mask)
    run = stage_run(chain, recipe, "warm_up", tmp_path)
    pair = next(run.pairs(2, 3))

    def view(chosen: str, translated: bool = True) -> Tensor:
        stage = small(warm_up__mask__kind=chosen).stages["warm_up"]
        assert isinstance(stage, WarmUp)
        return stage.view(run, pair.source, stage.painter(run) if translated else None, 2)

    strong, painted = view("none", translated=False), view("none")
    front = (view(mask) == strong).all(1)
    back = (view(mask) == painted).all(1)
    assert (front | back).all()
    assert front.any()
    assert torch.equal(view("everything"), strong)
    assert (mask == "everything") == bool(front.all())


@pytest.mark.parametrize(
    ("path", "value"), [("warm_up.mask.kind", "none"), ("warm_up.strong", {"blend": 0.0}), ("warm_up.translator", None)]
)
def test_a_switch_leaves_the_first_loss_of_the_source_alone(
    chain: Chain, tmp_path: Path, path: str, value: Any
) -> None:
    """The pairs are the same; on fixed statistics the first source loss does not know of the second view."""
    base = small(warm_up__statistics__student="running", warm_up__plan__steps=2)
    for name, recipe in (("a", base), ("b", override(base, {path: value}))):
        carried_out(chain, recipe, "warm_up", tmp_path / name)
    a, b = (told_by(tmp_path / name)[0][1] for name in "ab")
    assert a["loss/source"] == b["loss/source"]
    assert a["loss/distil"] != b["loss/distil"]


# --- target labels -----------------------------------------------------------------------


def deleted(path: Path) -> None:
    shutil.rmtree(path)


def garbage(path: Path) -> None:
    for file in path.rglob("*.png"):
        file.write_bytes(b"no image")


def folders_instead(path: Path) -> None:
    for file in list(path.rglob("*.png")):
        file.unlink()
        file.mkdir()


@pytest.mark.parametrize("spoil", [deleted, garbage, folders_instead])
def test_no_training_needs_or_sees_a_target_label(
    chain: Chain, own_data: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """Translator, warm-up, labels, centroids and self-training end bit for bit as with the labels there."""
    spoil(own_data / "streets/cityscapes/gtFine")
    found = execute(until(small(), "self_training"), Place(tmp_path / "home", own_data))
    assert found.keys() | {"score"} == chain.folders.keys()
    for stage, folder in found.items():
        assert folder.name == chain.folders[stage].name, "the same fingerprint"
        if stage == "labels":
            files = sorted(p.relative_to(folder) for p in folder.rglob("*.png"))
            assert all((folder / f).read_bytes() == (chain.folders[stage] / f).read_bytes() for f in files)
        else:
            assert differing(left_by(chain.folders[stage]), left_by(folder)) == []


def test_scoring_does_need_them(own_data: Path, tmp_path: Path) -> None:
    """Else the test above would say nothing."""
    garbage(own_data / "streets/cityscapes/gtFine")
    with pytest.raises(DataError, match="gtFine"):
        execute(small(), Place(tmp_path / "home", own_data))


def test_without_a_translator_warm_up_never_sees_the_target(own_data: Path, tmp_path: Path) -> None:
    """Domain generalization: the whole target is gone."""
    recipe = until(small(warm_up__translator=None), "warm_up")
    shutil.rmtree(own_data / "streets/cityscapes")
    found = execute(recipe, Place(tmp_path / "home", own_data))
    assert list(found) == ["warm_up"]
    rows = told_by(found["warm_up"])
    assert len(rows) == recipe.stages["warm_up"].plan.steps
    leaking = override(recipe, {"warm_up.statistics.update": ["views", "target"]})
    with pytest.raises(DataError, match="cityscapes"):
        execute(leaking, Place(tmp_path / "home", own_data))


def test_a_pair_has_no_place_for_a_target_label(chain: Chain, tmp_path: Path) -> None:
    recipe = small()
    for stage in ("warm_up", "self_training"):
        pair = next(stage_run(chain, recipe, stage, tmp_path / stage).pairs(0, 1))
        assert pair.target.shape == ((4, 3, 28, 56) if stage == "self_training" else (0, 3, 28, 56))
        assert (pair.guess is None) == (stage == "warm_up")
    run = stage_run(chain, recipe, "self_training", tmp_path / "look")
    targets = [run.domain(d) for d in recipe.targets]
    stream = PairStream([], targets, crop=(28, 56), batch=4, seed=0, read=frozenset({"target"}))
    assert all(entry.sample.label is None for entry in stream.targets)


def test_the_source_of_these_tests_has_void(chain: Chain, tmp_path: Path) -> None:
    pair = next(stage_run(chain, small(), "warm_up", tmp_path).pairs(0, 1))
    shares = (pair.source.label == IGNORE).flatten(1).float().mean(1)
    assert shares.max() > 0.3
    assert shares.min() < 0.3
