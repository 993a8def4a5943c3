"""A search in this process: what is computed once, which trials count, what MLflow is told, how it goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from diga.errors import ConfigError, DataError, DigaError, Diverged, StorageError
from diga.launch.references import referred
from diga.launch.storage import folder_of
from diga.launch.sweeps import shared
from diga.launch.tracking import Tracker
from diga.launch.trial_mirror import unclaimed
from diga.launch.tried import Tried
from diga.pipeline import Place, execute
from diga.plan import StageRun, digests, stage_runs
from diga.recipe import override
from diga.space import explored
from diga.sweep import confirm, ranked
from tests import searching, tiny
from tests.searching import PATH, Hands, carried_out, rate, space

SHARED = ("translator", "warm_up", "labels", "centroids")
TARGET = f"{tiny.TARGET}/plain/last/miou"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return tiny.place(tmp_path)


def trials_of(place: Place, name: str = "s") -> dict[int, Any]:
    """MLflow's runs of trials by number."""
    found = tiny.runs(tiny.client(place), f"diga/{name}", "trial")
    assert len({run.data.tags["trial"] for run in found}) == len(found)
    return {int(run.data.tags["trial"]): run for run in found}


def statuses(tried: list[Tried]) -> list[str]:
    return [one.outcome.status for one in tried]


# --- computed once -----------------------------------------------------------------------------


def test_what_trials_share_is_computed_once(place: Place) -> None:
    """Counted by who began what, and by what is in the store."""
    hands = Hands()
    tried, _ = carried_out(searching.sweep(8), place, hands)
    assert statuses(tried) == ["done"] * 8
    assert {name: len(hands.of(name)) for name in SHARED} == dict.fromkeys(SHARED, 1)
    distinct = {json.dumps(dict(one.changes)) for one in tried}
    assert len(hands.of("self_training")) == len(hands.of("score")) == len(distinct)
    assert len(tiny.manifests(place.home)) == len(SHARED) + 2 * len(distinct)
    assert sum(one.outcome.steps for one in tried) == 32 + 16 * len(distinct)
    carried_out(searching.sweep(8), place, hands)
    assert len(hands.begun) == len(SHARED) + 2 * len(distinct), "typed again it is all there"


def test_what_is_shared_is_what_no_corner_changes(place: Place) -> None:
    digest = digests(place.data, place.manifests)
    chain = stage_runs(searching.base(), digest)
    by_name = {run.name: run.fingerprint for run in chain}
    found = shared(chain, explored(space, searching.base(), "s"), digest)
    assert found == {by_name[name] for name in SHARED}

    def deep(trial: Any) -> None:
        if trial.suggest_categorical("self_training.mix.kind", ("classes", "cut")) == "cut":
            trial.suggest_float("warm_up.distil", 0.1, 1.0)

    assert shared(chain, explored(deep, searching.base(), "s"), digest) == {by_name["translator"]}


def test_the_first_trial_is_the_base_as_it_is(place: Place) -> None:
    tried, _ = carried_out(searching.sweep(3), place)
    assert tried[0].changes == {PATH: 2e-3, "self_training.mix.kind": "classes"}
    assert tried[0].outcome.cell == place.stage_runs(searching.base())[-1].fingerprint
    outside = searching.sweep(2, whole=searching.base(self_training__plan__lr=0.5), name="outside")
    assert outside.default is None
    tried, _ = carried_out(outside, place)
    assert all(1e-4 <= one.changes[PATH] <= 1e-1 for one in tried)


# --- rungs -----------------------------------------------------------------------------------------


def test_rungs_end_trials_and_the_last_is_the_recipe_run_alone(place: Place) -> None:
    hands = Hands()
    asked = searching.sweep(10, rungs=3)
    tried, seen = carried_out(asked, place, hands)
    assert set(statuses(tried)) == {"done", "pruned"}
    for one in tried:
        steps = [int(n) for n in one.outcome.rungs]
        assert steps == [4, 8, 16][: len(steps)]
        assert (one.outcome.status == "done") == (steps[-1] == 16)
        assert seen.over[one.number] == one.outcome
        if one.done:
            alone = override(searching.base(), one.changes)
            assert one.outcome.cell == place.stage_runs(alone)[-1].fingerprint
            assert one.outcome.values == {"target": searching.worth(alone)}
            assert one.outcome.rungs["16"] == one.outcome.values["target"]
            before = len(hands.begun)
            execute(alone, place, hands)
            assert len(hands.begun) == before, "run alone, all of it is there"
        else:
            assert one.outcome.values == {}
    computed = sum(run.stage.plan.steps for run in hands.of("self_training"))
    assert sum(one.outcome.steps for one in tried) == 32 + computed
    assert computed < 0.75 * 16 * len(tried)
    runs = trials_of(place)
    for one in tried:
        told = runs[one.number]
        assert told.data.tags["status"] == one.outcome.status
        assert told.info.status == {"done": "FINISHED", "pruned": "KILLED"}[one.outcome.status]
        history = tiny.client(place).get_metric_history(told.info.run_id, "rung/target")
        assert {str(p.step): p.value for p in history} == one.outcome.rungs
        assert (TARGET in told.data.metrics) == one.done


def test_watched_rungs_end_none(place: Place) -> None:
    tried, _ = carried_out(searching.sweep(5, rungs=2, ends=False), place)
    assert statuses(tried) == ["done"] * 5
    assert all(list(one.outcome.rungs) == ["8", "16"] for one in tried)


# --- what went wrong -------------------------------------------------------------------------------


def hilly(trial: Any) -> None:
    """A rate so wide that some have no score."""
    trial.suggest_float(PATH, 1e-4, 1e2, log=True)


def test_what_failed_diverged_or_was_pruned_is_never_best(place: Place) -> None:
    """What diverges late has been the best of its rung before."""

    def late(run: StageRun) -> None:
        if run.name == "self_training" and run.stage.plan.steps == 16 and run.stage.plan.lr > searching.PEAK:
            raise Diverged("self_training", "loss/source is nan", "a lower rate")

    asked = searching.sweep(20, hilly, rungs=2, confirm=confirm("20:1", 0))
    tried, _ = carried_out(asked, place, Hands(late), hilly)
    by = {status: [one for one in tried if one.outcome.status == status] for status in ("done", "pruned", "failed")}
    assert all(by.values()), statuses(tried)
    assert {one.outcome.failure for one in by["failed"]} == {"divergence"}
    assert any(one.changes[PATH] > searching.BEYOND for one in by["failed"]), "no number for a score"
    assert any(one.changes[PATH] <= searching.BEYOND for one in by["failed"]), "a loss that is none"
    found = searching.search(asked, place, hilly).best(tried)
    assert set(found) < {one.number for one in by["done"]}
    runs = trials_of(place)
    for one in by["failed"]:
        told = runs[one.number]
        assert (told.info.status, told.data.tags["status"], told.data.tags["failure"]) == (
            "FAILED",
            "failed",
            "divergence",
        )
        assert told.data.tags["error"] == one.outcome.error
        assert not any(name.startswith("objective/") for name in told.data.metrics)
    done = {one.number: one.outcome.values for one in by["done"]}
    best = ranked(done, asked.objectives)[0]
    assert searching.search(asked, place, hilly).ledger.study.best_trial.user_attrs["number"] == best
    again, _ = carried_out(asked, place, Hands(), hilly)
    assert again == tried, "what diverged is not tried again"


@pytest.mark.slow
def test_a_search_leaves_the_settings_that_have_no_score(place: Place) -> None:
    """To Optuna's samplers a trial that failed is one that was never made, and they would come back for ever."""
    tried, _ = carried_out(searching.sweep(30, hilly), place, function=hilly)
    failed = [one.outcome.status == "failed" for one in tried]
    assert failed == [one.changes[PATH] > searching.BEYOND for one in tried]
    assert sum(failed[:10]) >= 3
    assert sum(failed[10:]) <= 4


def test_the_best_are_confirmed_each_setting_once_and_the_default_never(place: Place) -> None:
    def two(trial: Any) -> None:
        trial.suggest_categorical("self_training.mix.kind", ("classes", "cut", "none"))

    asked = searching.sweep(9, two, confirm=confirm("5:2", 0), sampler="random")
    tried, _ = carried_out(asked, place, function=two)
    found = searching.search(asked, place, two).best(tried)
    assert sorted(c["self_training.mix.kind"] for c in found.values()) == ["cut", "none"]
    assert next(iter(found)) == min(one.number for one in tried if one.changes["self_training.mix.kind"] == "cut")
    assert searching.search(asked.model_copy(update={"confirm": None}), place, two).best(tried) == {}


@pytest.mark.parametrize(("failure", "code"), [(StorageError("disk", "full"), 4), (DataError("x.png", "cut short"), 3)])
def test_what_is_no_settings_fault_ends_the_search_and_it_goes_on(place: Place, failure: DigaError, code: int) -> None:
    hands, asked = Hands(), searching.sweep(5)

    def third(run: StageRun) -> None:
        if len(hands.of("self_training")) == 3:
            raise failure

    hands.fate = third
    with pytest.raises(type(failure), match="goes on from here") as raised:
        carried_out(asked, place, hands)
    assert raised.value.code == code
    assert str(failure) in str(raised.value)
    before = trials_of(place)
    assert [before[n].data.tags["status"] for n in range(3)] == ["done", "done", "stopped"]
    hands.fate = lambda run: None
    tried, _ = carried_out(asked, place, hands)
    assert statuses(tried) == ["done"] * 5
    assert tried[2].suggested == {k: json.loads(v) for k, v in before[2].data.params.items()}
    after = trials_of(place)
    assert after[2].info.run_id == before[2].info.run_id
    assert after[2].data.tags["status"] == "done"
    assert after[2].data.tags["error"] == ""


def test_a_shared_stage_that_fails_ends_the_search_with_its_error(place: Place) -> None:
    def broken(run: StageRun) -> None:
        if run.name == "centroids":
            raise Diverged("centroids", "no class has one", "a longer warm-up")

    hands = Hands(broken)
    with pytest.raises(Diverged, match="no class has one") as raised:
        carried_out(searching.sweep(5), place, hands)
    assert raised.value.code == 5
    assert len(hands.of("centroids")) == 1, "no other trial meets it again"
    tried, _ = carried_out(searching.sweep(5), place, Hands())
    assert statuses(tried) == ["done"] * 5


def test_a_stage_of_its_own_may_fail_before_what_is_shared_is_there(place: Place) -> None:
    """Labels are made before centroids, which every trial reads: what kills one trial is no reason to stop."""

    def early(trial: Any) -> None:
        trial.suggest_categorical("labels.protocol", ("two_scale_max", "single_scale"))

    def first(run: StageRun) -> None:
        if run.name == "labels" and len(hands.of("labels")) == 1:
            raise Diverged("labels", "none is left")

    hands = Hands(first)
    tried, _ = carried_out(searching.sweep(4, early), place, hands, early)
    assert statuses(tried) == ["failed", "done", "done", "done"]
    assert len(hands.of("centroids")) == 1


def test_an_objective_that_is_not_scored_ends_the_search_at_once(place: Place) -> None:
    asked = searching.sweep(5, objectives=("stability",))
    hands = Hands()
    with pytest.raises(ConfigError, match="label_free/stability") as raised:
        carried_out(asked, place, hands)
    assert raised.value.code == 2
    assert len(hands.of("score")) == 1


def test_compute_of_a_network_without_a_cost_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diga.cost.NETWORKS", {})
    with pytest.raises(ConfigError, match="no cost model"):
        searching.search(searching.sweep(4, objectives=("target", "compute")), place)
    assert not (place.home / "sweeps").exists()


# --- several objectives, budgets ----------------------------------------------------------------------


def test_target_against_compute(place: Place) -> None:
    def longer(trial: Any) -> None:
        trial.suggest_int("self_training.plan.steps", 4, 32)

    asked = searching.sweep(6, longer, objectives=("target", "compute"), sampler="nsga2")
    tried, _ = carried_out(asked, place, function=longer)
    assert statuses(tried) == ["done"] * 6
    by_steps = sorted(tried, key=lambda one: one.changes["self_training.plan.steps"])
    costs = [one.outcome.values["compute"] for one in by_steps]
    assert costs == sorted(costs)
    assert costs[0] > 0
    runs = trials_of(place)
    for one in tried:
        assert runs[one.number].data.metrics["objective/compute"] == one.outcome.exaflop
        assert runs[one.number].data.metrics["cost/exaflop"] == one.outcome.exaflop


def test_a_budget_ends_the_search_and_typed_again_it_goes_on(place: Place) -> None:
    tried, _ = carried_out(searching.sweep(4), place, budget=0.0)
    assert tried == []
    tried, _ = carried_out(searching.sweep(4), place, budget=1e-9)
    assert statuses(tried) == ["done"]
    tried, _ = carried_out(searching.sweep(4), place)
    assert statuses(tried) == ["done"] * 4


# --- what MLflow is told --------------------------------------------------------------------------------


def test_every_trial_is_a_readable_child_of_the_sweep(place: Place) -> None:
    asked = searching.sweep(3)
    tried, _ = carried_out(asked, place)
    (parent,) = tiny.runs(tiny.client(place), "diga/s", "study")
    declared = json.loads(tiny.artifact(tiny.client(place), parent, "study.json"))
    assert declared["sweep"] == asked.layout()
    assert [row["label"] for row in declared["rows"]] == ["default"]
    for number, run in trials_of(place).items():
        one, tags = tried[number], run.data.tags
        assert run.info.run_name.startswith(f"#{number:03} lr=")
        assert f"kind={one.changes['self_training.mix.kind']}" in run.info.run_name
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert {"study": "s", "seed": "0", "space": "tests.space", "cell": one.outcome.cell}.items() <= tags.items()
        assert {k: json.loads(v) for k, v in run.data.params.items()} == one.suggested
        scores = json.loads((place.store.folder(one.outcome.cell) / "scores.json").read_text())
        assert scores.items() <= run.data.metrics.items()
        assert run.data.metrics["objective/target"] == scores[TARGET]
        assert run.data.metrics["cost/steps"] == one.outcome.steps
        stages = {k: v for k, v in tags.items() if k.startswith("stage.")}
        alone = place.stage_runs(override(searching.base(), one.changes))
        assert stages == {f"stage.{r.name}": r.fingerprint for r in alone}


def test_gc_keeps_what_done_trials_are_made_of(place: Place) -> None:
    tried, _ = carried_out(searching.sweep(6, rungs=2), place)
    kept, runs = referred(tiny.uri(place))
    done = [one for one in tried if one.done]
    assert runs == len(done) < len(tried)
    chains = [place.stage_runs(override(searching.base(), one.changes)) for one in done]
    assert kept == {run.fingerprint for chain in chains for run in chain}
    assert kept < set(tiny.manifests(place.home)), "rungs may go"


def test_what_mlflow_would_not_take_is_told_when_typed_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = searching.sweep(3)

    def away(*words: Any, **more: Any) -> None:
        raise OSError("server away")

    monkeypatch.setattr("diga.launch.sweeps.PATIENCE", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(
            "mlflow.MlflowClient.set_terminated", lambda self, run_id, status=None, **m: status == "FINISHED" or away()
        )
        patch.setattr("diga.launch.trial_mirror.TrialMirror._recipe", away)
        one = searching.search(asked, place)
        tracker = Tracker(tiny.uri(place), place.home / "mlflow-artifacts")
        tried = one(tracker, lambda course: searching.alone(course, place, searching.pretended, {}), searching.Seen())
        assert "server away" in one.trouble
    assert statuses(tried) == ["done"] * 3
    carried_out(asked, place)
    assert {run.data.tags["status"] for run in trials_of(place).values()} == {"done"}
    assert len(trials_of(place)) == 3


def test_trials_whose_ledger_is_gone_are_in_no_table(place: Place) -> None:
    """Under the same name and number there would be two settings."""
    carried_out(searching.sweep(3, sampler="random"), place)
    shutil.rmtree(folder_of(place.home, "s"))
    tried, _ = carried_out(searching.sweep(2, sampler="tpe", whole=searching.base(seed=1)), place)
    assert len(trials_of(place)) == 2
    for one in tried:
        assert trials_of(place)[one.number].data.metrics["objective/target"] == one.outcome.values["target"]
    assert len(tiny.runs(tiny.client(place), "diga/s", "superseded trial")) == 3


def test_a_studys_name_is_not_taken(place: Place) -> None:
    tracker = Tracker(tiny.uri(place), place.home / "mlflow-artifacts")
    unclaimed(tracker, "tiny")
    tracker.study(tiny.study(), {}, {})
    with pytest.raises(ConfigError, match="no sweep"):
        unclaimed(tracker, "tiny")
    carried_out(searching.sweep(1), place)
    unclaimed(tracker, "s")


# --- what others measured --------------------------------------------------------------------------------


def narrow(trial: Any) -> None:
    trial.suggest_float(PATH, 1e-3, 1e-2, log=True)


def test_a_second_sweep_starts_from_what_the_first_measured(place: Place) -> None:
    first, _ = carried_out(searching.sweep(6, rate), place, function=rate)

    def known(asked: Any, function: Any, **terms: Any) -> dict[str, dict[str, Any]]:
        one = searching.search(asked, place, function)
        carried_out(asked, place, function=function, **terms)
        return {t.user_attrs["known"]: dict(t.params) for t in one.ledger.study.trials if "known" in t.user_attrs}

    every = {f"s #{one.number}": dict(one.suggested) for one in first}
    assert known(searching.sweep(2, rate, name="second"), rate) == every
    shutil.rmtree(folder_of(place.home, "second"))
    carried_out(searching.sweep(1, rate, name="second"), place, function=rate)
    every["second #0"] = every["s #0"]
    inside = {source: told for source, told in every.items() if 1e-3 <= told[PATH] <= 1e-2}
    assert 0 < len(inside) < 7
    assert known(searching.sweep(1, narrow, name="narrow"), narrow) == inside
    assert known(searching.sweep(1, rate, name="free"), rate, learn=False) == {}
    assert known(searching.sweep(1, rate, name="other", objectives=("entropy",)), rate) == {}
    assert known(searching.sweep(1, rate, name="seed", whole=searching.base(seed=1)), rate) == {}
    assert known(searching.sweep(1, space, name="more"), space) == {}, "it asks for a mask, too"
