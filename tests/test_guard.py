"""The guard: a dead switch stops a launch by name, a live one does not, and neither costs much."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from diga.errors import ConfigError
from diga.launch.glimpse import Glimpse, left, look, shrunk
from diga.launch.guard import check
from diga.launch.timing import seconds_a_step
from diga.methods.diga import WarmUp
from diga.pipeline import Place
from diga.plan import stage_runs
from diga.recipe import Recipe, override
from diga.rows import Component, Row
from diga.settings import Plan
from diga.study import Study, ladder, swap
from experiments.diga import METRIC, streets, table3
from tests import tiny

WHOLE = override(streets(), {"crop": [28, 56], "batch": 2})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("home"), tiny.data())


def study(*rows: Row, name: str = "s") -> Study:
    return Study(name=name, rows=rows, seeds=(0,), metric=METRIC)


def pair(**changes: Any) -> Study:
    """The whole method, and the whole method changed."""
    paths = {k.replace("__", "."): v for k, v in changes.items()}
    return study(Row(label="base", recipe=WHOLE), Row(label="changed", recipe=override(WHOLE, paths), parent="base"))


def symbolic(name: str, use: str) -> str:
    return name


# --- live switches ----------------------------------------------------------------------------


def test_every_row_of_table_3_comes_to_something_else(place: Place) -> None:
    rows = tuple(
        row.model_copy(update={"recipe": override(row.recipe, {"crop": [28, 56], "batch": 2})}) for row in table3().rows
    )
    seen: list[tuple[int, int]] = []
    begun = time.process_time()
    check(study(*rows), place, lambda done, total: seen.append((done, total)))
    assert time.process_time() - begun < 60, "seconds on a free core"
    assert seen == [(i, 6) for i in range(1, 7)]
    assert list(place.home.iterdir()) == [], "nothing is left, nothing is stored"


LIVE: dict[str, Any] = {
    "score.protocol": "single_scale",
    "warm_up.alpha": 0.4,
    "warm_up.plan.steps": 600,
    "warm_up.plan.power": 0.5,
    "warm_up.plan.ramp": 60,
    "warm_up.ema": 0.9,  # the cap of a rate that rises: it shows at the end of a training alone
    "self_training.delta": 0.5,
    "self_training.rule": "warm_up",
    "centroids.translator": None,
    "score.of": "warm_up",
}


@pytest.mark.slow
def test_live_switches_pass(place: Place) -> None:
    """Each beside the whole method; that none is as another comes with it."""
    changed = [Row(label=path, recipe=override(WHOLE, {path: to}), parent="base") for path, to in LIVE.items()]
    check(study(Row(label="base", recipe=WHOLE), *changed), place)


# --- dead ones --------------------------------------------------------------------------------


def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make warm-up forget its alpha."""
    before = WarmUp.two_views

    def two_views(self: WarmUp, *args: Any) -> Any:
        return before(self.model_copy(update={"alpha": 0.5}), *args)

    monkeypatch.setattr(WarmUp, "two_views", two_views)


@pytest.mark.slow
def test_a_switch_that_the_code_forgets_is_named_with_its_rows(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    deaf(monkeypatch)
    what = r"s: rows 'base' and 'changed' come to the same: warm_up.alpha 0.5 -> 0.1 changes nothing \(.*--no-guard"
    with pytest.raises(ConfigError, match=what):
        check(pair(warm_up__alpha=0.1), place)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["warm_up.mask.side", "centroids.cap", "self_training.trust.quantile"])
def test_a_field_that_this_method_never_reads_is_found(place: Place, path: str) -> None:
    value = {"quantile": 0.25}.get(path.rpartition(".")[2], 17)
    with pytest.raises(ConfigError, match=rf"{path} .* changes nothing"):
        check(pair(**{path.replace(".", "__"): value}), place)


def test_a_row_that_is_another_row_costs_no_step(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diga.launch.glimpse.look", None)
    dormant = study(
        Row(label="a", recipe=override(WHOLE, {"score.of": "warm_up"})),
        Row(label="b", recipe=override(WHOLE, {"score.of": "warm_up", "self_training.alpha": 0.1})),
    )
    with pytest.raises(ConfigError, match=r"rows 'a' and 'b' come to the same: self_training.alpha 0.5 -> 0.1"):
        check(dormant, place)


def test_a_row_that_differs_in_more_than_it_says_costs_no_step(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diga.launch.glimpse.look", None)
    rows = list(ladder(WHOLE, [Component(name="alpha", off={"warm_up.alpha": 0.0})]))
    rows[1] = rows[1].model_copy(update={"recipe": override(rows[1].recipe, {"flip": 0.0})})
    with pytest.raises(ConfigError, match=r"row '\+ alpha': differs from 'none' in flip \(in warm_up.alpha alone\)"):
        check(study(*rows), place)


# --- what it leaves to the launch ---------------------------------------------------------------


def test_a_row_that_diverges_is_left_to_the_launch(place: Place) -> None:
    check(tiny.with_a_failure(), place)
    bad = tiny.recipe(train__plan__lr=1e6, train__plan__steps=3000, train__plan__optimizer="adam")
    worse = override(bad, {"train.plan.lr": 9e5})
    check(tiny.study(("base", tiny.recipe()), ("bad", bad), ("worse", worse)), place)


def test_missing_data_are_left_to_the_launch(tmp_path: Path) -> None:
    check(pair(warm_up__alpha=0.1), Place(tmp_path, tmp_path / "nothing"))


# --- how it looks -----------------------------------------------------------------------------------


def runs_of(recipe: Recipe) -> dict[str, Any]:
    return {run.name: run for run in stage_runs(recipe, symbolic)}


def test_a_look_is_the_start_and_the_end_of_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, int]] = []
    before = Glimpse.pairs

    def pairs(self: Glimpse, start: int, stop: int) -> Any:
        steps.append((start, stop))
        return before(self, start, stop)

    monkeypatch.setattr(Glimpse, "pairs", pairs)
    recipe = tiny.recipe(train__plan__steps=50)
    first = look(runs_of(recipe)["train"], tmp_path / "a", {}, tiny.data())
    assert steps == [(0, 50), (48, 50)]
    assert look(runs_of(recipe)["train"], tmp_path / "b", {}, tiny.data()) == first, "the same look, the same answer"
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"artifact.pt", "metrics.jsonl", "snapshots"}


def test_a_look_sees_few_images_of_either_split(tmp_path: Path) -> None:
    recipe = tiny.recipe()
    run = Glimpse(recipe, "train", tmp_path, {}, tiny.data(), few=2)
    whole = {split: run.domain("streets/cityscapes").samples(split, labelled=False) for split in ("train", "val")}
    assert {split: len(samples) for split, samples in whole.items()} == {"train": 2, "val": 2}


def test_a_look_is_of_losses_and_weights_not_of_rates(tmp_path: Path) -> None:
    for name, lr, loss, weight in (
        ("a", 0.1, 1.0, 1.0),
        ("b", 0.2, 1.0, 1.0),
        ("c", 0.1, 2.0, 1.0),
        ("d", 0.1, 1.0, 2.0),
    ):
        (tmp_path / name).mkdir()
        torch.save({"student": {"w": torch.tensor([weight])}}, tmp_path / name / "artifact.pt")
        line = f'{{"step": 0, "time": {time.time_ns()}, "values": {{"lr": {lr}, "loss/x": {loss}}}}}\n'
        (tmp_path / name / "metrics.jsonl").write_text(line)
    a, b, c, d = (left(tmp_path / name) for name in "abcd")
    assert a == b
    assert len({a, c, d}) == 3


def test_crops_are_cut_to_what_a_cpu_can_bear() -> None:
    large = override(streets(), {"crop": [512, 896]})
    assert shrunk(large).crop == (128, 224)
    assert shrunk(WHOLE) is WHOLE
    assert shrunk(large).stages == large.stages


def test_the_last_two_looks_tell_apart_what_the_first_cannot(place: Place) -> None:
    """The label rules agree on the few cells of two steps, often; sixteen steps and more images tell them apart."""
    check(study(*swap(WHOLE, "self_training.rule", ["consensus", "feature", "warm_up"])), place)


# --- timing -------------------------------------------------------------------------------------


def test_a_step_is_timed_once_for_all_seeds_and_near_what_it_takes(place: Place) -> None:
    recipes = [override(tiny.recipe(), {"seed": s, "train.plan": Plan(steps=300)}) for s in (0, 1, 2)]
    runs = [run for recipe in recipes for run in stage_runs(recipe, symbolic) if run.steps]
    begun = time.perf_counter()
    found = seconds_a_step(runs, place)
    wall = time.perf_counter() - begun
    assert set(found) == {run.fingerprint for run in runs}
    (seconds,) = set(found.values())
    assert 0 < 4 * seconds < wall


def test_too_few_steps_to_time_are_refused_in_one_line(place: Place) -> None:
    runs = [run for run in stage_runs(tiny.recipe(), symbolic) if run.steps]
    with pytest.raises(ConfigError, match=r"stage 'train': 4 steps, too few to time \(5 at least\)"):
        seconds_a_step(runs, place)
