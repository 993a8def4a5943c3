"""What a sweep is held to: where its trials are, whose they are, what they have cost, what may not be varied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diga.errors import ConfigError
from diga.launch.tracking import Tracker
from diga.pipeline import Place
from diga.plan import StageRun
from diga.recipe import Recipe, override
from diga.space import explored
from diga.sweep import objective
from experiments import cityscapes_parts, gta5_cityscapes, semi_supervised
from tests import searching, tiny
from tests.searching import PATH, Hands, Seen, alone, carried_out, rate


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return tiny.place(tmp_path)


# --- where trials are --------------------------------------------------------------------------


def test_a_sweep_that_is_in_another_storage_is_not_begun_anew(place: Place) -> None:
    """A forgotten --storage would hide its trials, and number others as they were."""
    url = f"sqlite:///{place.home / 'trials.db'}"
    asked = searching.sweep(2)
    carried_out(asked, place, url=url)
    for other in (None, f"sqlite:///{place.home / 'other.db'}"):
        with pytest.raises(ConfigError, match=f"its trials are in {url}, not in"):
            searching.search(asked, place, url=other)
    tried, seen = carried_out(asked, place, url=url)
    assert len(tried) == 2
    assert seen.over == {}
    assert len(tiny.runs(tiny.client(place), "diga/s", "trial")) == 2


def test_trials_of_another_run_home_are_left_as_they_are(place: Place, tmp_path: Path) -> None:
    """Two people, one MLflow server, one name."""
    carried_out(searching.sweep(2), place)
    (tmp_path / "theirs").mkdir()
    other = tiny.place(tmp_path / "theirs")
    one = searching.search(searching.sweep(2), other)
    tracker = Tracker(tiny.uri(place), place.home / "mlflow-artifacts")
    with pytest.raises(ConfigError, match=r"of 1 other run home .*--name"):
        one(tracker, lambda course: alone(course, other, searching.pretended, {}), Seen())
    assert len(tiny.runs(tiny.client(place), "diga/s", "trial")) == 2
    assert len(tiny.runs(tiny.client(place), "diga/s", "study")) == 1


# --- what they cost --------------------------------------------------------------------------------


def test_what_was_computed_before_a_driver_died_is_counted(place: Place) -> None:
    def dies(run: StageRun) -> None:
        if run.name == "self_training":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carried_out(searching.sweep(2, rate), place, Hands(dies), rate)
    hands = Hands()
    tried, _ = carried_out(searching.sweep(2, rate), place, hands, rate)
    assert hands.of("warm_up") == []
    assert [one.outcome.steps for one in tried] == [32 + 16, 16]
    again, _ = carried_out(searching.sweep(2, rate, name="again"), place, hands, rate, learn=False)
    assert [one.outcome.steps for one in again] == [0, 0], "another sweep's"


def test_an_hour_is_an_hour_of_what_a_trial_occupies(place: Place) -> None:
    carried_out(searching.sweep(2), place)
    one = searching.search(searching.sweep(2), place)
    whole = one.hours(1.0)
    assert whole > 0
    assert one.hours(0.25) == pytest.approx(whole / 4)
    assert one.hours(8) == pytest.approx(whole * 8)


# --- what others may teach ---------------------------------------------------------------------------


def test_a_setting_that_a_space_completed_otherwise_teaches_nothing(place: Place) -> None:
    def more(trial: Any) -> dict[str, Any]:
        rate(trial)
        return {"self_training.distil": 0.01}

    carried_out(searching.sweep(3, more), place, function=more)
    one = searching.search(searching.sweep(1, rate, name="plain"), place, rate)
    carried_out(searching.sweep(1, rate, name="plain"), place, function=rate)
    assert [t for t in one.ledger.study.trials if "known" in t.user_attrs] == []


# --- what is declared ----------------------------------------------------------------------------------


def test_a_base_outside_the_space_is_no_trial_and_said_so() -> None:
    inside, outside = (searching.sweep(2, whole=searching.base(self_training__plan__lr=lr)) for lr in (2e-3, 0.5))
    assert inside.layout()["default"] == {PATH: 2e-3, "self_training.mix.kind": "classes"}
    assert outside.layout()["default"] is None


@pytest.mark.parametrize("base", [semi_supervised.streets(), cityscapes_parts.sixteenth()], ids=lambda b: b.name)
def test_a_source_that_is_no_dataset_is_no_objective(base: Recipe) -> None:
    with pytest.raises(ConfigError, match=r"is not scored .*agreement"):
        objective("source", base)
    assert objective("source", gta5_cityscapes.diga()).metric == "gta5/plain/last/miou"


@pytest.mark.parametrize("path", ["score.protocol", "score.domains", "sources"])
def test_a_yardstick_is_not_varied(path: str) -> None:
    def measured(trial: Any) -> dict[str, Any]:
        rate(trial)
        return {path: {"score.protocol": "single_scale"}.get(path, ["streets/gta5"])}

    with pytest.raises(ConfigError, match=f"space s: {path}: is not for a space to vary"):
        explored(measured, searching.base(), "space s")


def test_a_step_of_a_logarithm_is_refused_as_optuna_would(place: Place) -> None:
    def stepped(trial: Any) -> None:
        trial.suggest_float(PATH, 1, 8, step=1, log=True)

    with pytest.raises(ConfigError, match="log or steps, not both"):
        explored(stepped, override(searching.base(), {PATH: 1.0}), "space s")
