"""Reports of sweeps: trials are read as they were recorded, ranked as they may be, and nothing is best that failed."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from pandas import DataFrame
from pandas.testing import assert_frame_equal
from pyarrow.parquet import read_table

from diga.cli.report import made
from diga.errors import ConfigError
from diga.report import build, correlation, facts, figures, importance, latex, markdown, search, snapshot
from diga.report.evidence import Evidence
from diga.report.facts import Told
from diga.report.figures import settings, trials
from diga.report.records import Records, client, records
from diga.report.table import Table
from reports import sweep, sweep_choices, sweep_confirmed, sweep_importance
from tests import make_records, make_sweep
from tests.make_sweep import Trial
from tests.test_report_build import HOSTILE, tree

GOLDEN = Path(__file__).parent / "golden"
MODULES = {
    "sweep": sweep,
    "sweep_confirmed": sweep_confirmed,
    "sweep_choices": sweep_choices,
}
TARGET = f"{make_records.DOMAIN}/plain/last/miou"


@pytest.fixture(scope="module")
def known() -> Records:
    return make_sweep.in_memory(make_sweep.sweep())


@pytest.fixture(scope="module")
def found(known: Records) -> search.Search:
    return search.of(known)


def changed(number: int, **changes: object) -> Records:
    """The sweep with one trial changed."""

    def change(one: Trial) -> Trial:
        return make_records.replace(one, **changes) if one.number == number else one

    return make_sweep.in_memory(make_sweep.sweep().changed(change))


def column(table: Table, key: str) -> dict[str, object]:
    """What is printed in a column, by row."""
    at = [c.key for c in table.columns].index(key)
    return {row.key: table.printed(i, at).text for i, row in enumerate(table.rows)}


# --- reading -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("sweep")
    return make_sweep.recorded(make_sweep.sweep(), folder), folder / "cache"


def comparable(trials: DataFrame) -> DataFrame:
    """Without what a store names in its own way, columns in one order."""
    return trials.drop(columns=["run_id"])[sorted(set(trials.columns) - {"run_id"})]


def test_trials_are_read_as_they_were_recorded(store: tuple[str, Path], known: Records) -> None:
    read = records(store[0], "sweep", store[1])
    assert_frame_equal(comparable(read.trials), comparable(known.trials))
    assert read.sweep == known.sweep
    assert len(read.cells) == len(known.cells)
    assert read.trials["params"][3] == make_sweep.setting(3)
    assert read.trials["rungs"][0] == make_sweep.trial(0).rungs


def test_what_is_done_is_asked_for_once(store: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    first = records(store[0], "sweep", store[1])
    given: list[str] = []
    whole = MlflowClient.get_metric_history

    def history(self: MlflowClient, run: str, name: str) -> object:
        given.append(run)
        return whole(self, run, name)

    monkeypatch.setattr(MlflowClient, "get_metric_history", history)
    again = records(store[0], "sweep", store[1])
    assert again.same_runs(first)
    state = dict(zip(first.trials["run_id"], first.trials["status"], strict=True))
    assert "done" not in {state[run] for run in given}, "a run that MLflow calls FINISHED keeps its numbers"


def test_a_trial_that_ends_is_in_the_next_report(tmp_path: Path) -> None:
    spec = make_sweep.sweep(4)
    last = make_records.replace(spec.trials[3], status="running", metrics={}, rungs={})
    uri = make_sweep.recorded(make_records.replace(spec, trials=spec.trials[:3]), tmp_path)
    asked = client(uri)
    where = asked.get_experiment_by_name("diga/sweep")
    assert where
    run = make_sweep.tell(asked, where.experiment_id, last)
    assert dict(records(uri, "sweep", tmp_path / "cache").trials["status"])[3] == "running"
    asked.log_metric(run, "objective/target", 0.9)
    asked.set_tag(run, "status", "done")
    asked.set_terminated(run, "FINISHED")
    read = records(uri, "sweep", tmp_path / "cache")
    assert search.of(read).ranked[0] == 3


def test_trials_of_an_earlier_sweep_of_the_name_leave_what_was_kept(tmp_path: Path) -> None:
    uri = make_sweep.recorded(make_sweep.sweep(4, top=0), tmp_path)
    known, cache = client(uri), tmp_path / "cache"
    before = records(uri, "sweep", cache).trials
    assert len(before) == 4
    for run in before["run_id"]:
        known.set_tag(run, "kind", "superseded trial")
    where = known.get_experiment_by_name("diga/sweep")
    assert where
    again = make_sweep.tell(known, where.experiment_id, make_sweep.trial(0))
    known.set_terminated(again, "FINISHED")
    assert list(records(uri, "sweep", cache).trials["run_id"]) == [again]


def test_all_records_are_asked_for_again_of_trials_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is FINISHED is not asked for again, even if somebody has changed it, but for --fresh."""
    monkeypatch.setenv("DIGA_HOME", str(tmp_path))
    monkeypatch.setattr(figures, "PARTS", ())
    monkeypatch.setattr(figures, "SWEEP", ())
    uri = make_sweep.recorded(make_sweep.sweep(4, top=0), tmp_path)

    def kept(fresh: bool = False) -> float:
        folder = made("sweep", uri, tmp_path / "out", fresh).folder
        return float(read_table(folder / "trials.parquet")["objective/target"][0].as_py())

    assert kept() == make_sweep.trial(0).metrics["objective/target"]
    client(uri).log_metric(records(uri, "sweep").trials["run_id"].iloc[0], "objective/target", 0.99)
    assert kept() == make_sweep.trial(0).metrics["objective/target"]
    assert kept(fresh=True) == 0.99


@pytest.mark.slow
def test_the_report_again_is_the_same_to_the_byte(tmp_path: Path) -> None:
    folder = build.write(make_sweep.in_memory(make_sweep.sweep(12)), tmp_path / "a")
    lock = json.loads((folder / snapshot.LOCK).read_text())
    assert snapshot.TRIALS in lock["files"]
    assert len(lock["trials"]) == 12
    assert tree(build.write(snapshot.read_back(folder), tmp_path / "b")) == tree(folder)


# --- what may be best ----------------------------------------------------------------------


def test_the_best_are_those_that_are_done_in_the_order_of_what_was_searched_for(found: search.Search) -> None:
    done = [t for t in map(make_sweep.trial, range(24)) if t.status == "done"]
    assert found.ranked == [t.number for t in sorted(done, key=lambda t: -t.metrics["objective/target"])]
    assert {"pruned", "failed"} <= set(found.status.values())


@pytest.mark.parametrize(
    "change", [{"status": "failed"}, {"status": "pruned"}, {"metrics": {"objective/target": math.inf}}, {"metrics": {}}]
)
def test_nothing_is_best_that_is_no_number(change: dict[str, object], found: search.Search) -> None:
    first, second = found.ranked[:2]
    assert search.of(changed(first, **change)).ranked[0] == second
    assert column(sweep.table(changed(first, **change)), "trial")[f"#{second}"] == f"#{second}"


def test_of_two_objectives_come_first_what_none_dominates() -> None:
    known = make_sweep.in_memory(make_sweep.sweep(24, ("target", "compute")))
    found = search.of(known)
    points = {
        n: (found.values("objective/target")[n], -found.values("objective/compute")[n])
        for n in found.values("objective/target")
    }
    front = {n for n, p in points.items() if not any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in points.values())}
    assert set(found.ranked[: len(front)]) == front
    assert found.early == ()
    assert "EFLOP" in str([c.header for c in sweep.table(known).columns])


# --- tables ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_tables_are_as_they_were(name: str, known: Records) -> None:
    """The goldens say what a reader sees: look at the difference before copying it."""
    assert markdown.table(MODULES[name].table(known)) == (GOLDEN / f"{name}.md").read_text("utf8")


def test_counts_and_savings(known: Records, found: search.Search) -> None:
    states = [t.status for t in map(make_sweep.trial, range(24))]
    counts = search.counts(found)
    assert counts.startswith(f"24 trials: {states.count('done')} done, {states.count('pruned')} pruned, 2 failed")
    assert "1 divergence" in counts
    assert "1 memory" in counts
    steps = int(sum(make_sweep.trial(n).metrics["cost/steps"] for n in range(24)))
    notes = " ".join(sweep.table(known).notes)
    assert f"{steps:,}" in notes
    assert f"{24 * 900:,}" in notes
    assert "target labels" in notes


def test_rungs_are_ranked_against_the_end(known: Records, found: search.Search) -> None:
    done = found.scores(found.main)
    for steps in (25, 100):
        both = [(found.rungs[n][steps], done[n]) for n in done]
        signs = [np.sign((a - c) * (b - d)) for (a, b), (c, d) in itertools.combinations(both, 2)]
        tau = sum(signs) / len(signs)
        assert correlation.kendall(*zip(*both, strict=True)) == pytest.approx(tau)
        assert f"{steps} updates τ {tau:+.2f} (n = {len(done)})" in " ".join(sweep.table(known).notes)
    assert math.isnan(correlation.kendall([1.0, 2.0], [1.0, 2.0]))


def test_confirmation_is_paired_with_the_default_and_says_what_was_luck(known: Records) -> None:
    table = sweep_confirmed.table(known)
    labels = [row.label for row in known.rows]
    assert [row.key for row in table.rows] == labels
    values = known.values(TARGET)
    for label in labels:
        number = int(label[1:]) if label != "default" else 0
        mean = np.mean(list(values[label].values()))
        assert column(table, "search")[label] == f"{100 * make_sweep.trial(number).metrics[TARGET]:.1f}"
        assert column(table, "last")[label] == f"{100 * mean:.1f}"
        shrunk = 100 * (mean - make_sweep.trial(number).metrics[TARGET])
        assert float(str(column(table, "shrunk")[label])) == pytest.approx(shrunk, abs=0.051)
    first, winner = sweep_confirmed.verdicts(known)[0], sweep_confirmed.verdicts(known)[-1]
    assert facts.claim(first).verdict == "holds"
    best = max(labels, key=lambda label: np.mean(list(values[label].values())))
    assert f"reads labels of the target whatever was searched for, the winner is {best}, " in winner


def test_without_a_confirmation_it_says_how_to_have_one() -> None:
    known = make_sweep.in_memory(make_sweep.sweep(6, top=0))
    assert "--confirm" in " ".join(sweep_confirmed.table(known).notes)
    assert facts.missing(known) == []
    assert facts.progress(known) == {"done": 0}
    assert known.warnings == ()


def test_a_base_that_the_search_has_no_trial_of_has_no_score_of_it() -> None:
    """Trial 0 is then a setting like others."""
    spec = make_sweep.sweep()
    inside, outside = (
        make_sweep.in_memory(spec.declared(default=told)) for told in ({"self_training.ema": 0.99}, None)
    )
    scored = {told: column(sweep_confirmed.table(of), "search") for told, of in (("in", inside), ("out", outside))}
    assert scored["in"]["default"] == f"{100 * make_sweep.trial(0).metrics[TARGET]:.1f}"
    assert scored["out"] == scored["in"] | {"default": "--"}
    assert "lies outside the space" in " ".join(sweep_confirmed.table(outside).notes)


def test_what_was_saved_is_of_the_trials_that_are_over() -> None:
    """A search that was stopped early has not saved what it has not searched."""
    spec = make_sweep.sweep()
    few = make_sweep.in_memory(spec.changed(lambda t: t if t.number < 6 else None))
    computed = int(sum(make_sweep.trial(n).metrics["cost/steps"] for n in range(6)))
    (said,) = search.saved(search.of(few))
    assert f"Updates computed: {computed:,}; 6 chains, each whole and alone, would take 5,400" in said


def test_of_few_whole_trials_what_mattered_is_said_of_a_rung() -> None:
    """With halving few trials are carried out whole; those of a rung can be compared with each other."""

    def early(one: Trial) -> Trial:
        score = -abs(math.log(one.params["self_training.distil"] / 0.3))
        rungs = {25: score} | ({100: score} if one.number < 5 else {})
        done = one.number < 3
        metrics = {"objective/target": 1.0} if done else {}
        return make_records.replace(one, status="done" if done else "pruned", rungs=rungs, metrics=metrics)

    found = search.of(known := make_sweep.in_memory(make_sweep.sweep(40).changed(early)))
    assert found.compared.which == "at the rung of 25 updates"
    assert found.compared.values.keys() == set(range(40))
    assert len(found.scores(found.main)) == 3
    for method in importance.METHODS:
        shares = importance.importances(found, method)
        assert max(shares, key=lambda path: shares[path]) == "self_training.distil", method
    assert "at the rung of 25 updates" in sweep_importance.table(known).caption
    assert "Too few trials were carried out whole" in " ".join(sweep_importance.table(known).notes)


def test_each_criterion_chooses_its_own_best(known: Records, found: search.Search) -> None:
    table = sweep_choices.table(known)
    miou = found.values(TARGET)
    slow = {
        "target mIoU": max(miou, key=lambda n: miou[n]),
        f"mIoU on {make_sweep.SOURCE}": max(
            miou, key=lambda n: found.values(f"{make_sweep.SOURCE}/plain/last/miou")[n]
        ),
        "agreement": max(miou, key=lambda n: found.values("label_free/agreement")[n]),
        "entropy": min(miou, key=lambda n: found.values("label_free/entropy")[n]),
    }
    assert column(table, "trial") == {name: f"#{n}" for name, n in slow.items()}
    assert column(table, "lost") == {name: f"{100 * (max(miou.values()) - miou[n]):.2f}" for name, n in slow.items()}
    assert column(table, "reads")["agreement"] == "nothing"
    assert len(sweep_choices.verdicts(known)) == 3


def test_what_mattered_is_what_the_numbers_follow() -> None:
    """Of trials whose score follows one parameter alone, both methods name it first."""

    def alone(one: Trial) -> Trial:
        score = -abs(math.log(one.params["self_training.distil"] / 0.3))
        return make_records.replace(one, status="done", metrics={"objective/target": score})

    known = make_sweep.in_memory(make_sweep.sweep(60).changed(alone))
    found = search.of(known)
    for method in importance.METHODS:
        shares = importance.importances(found, method)
        assert sum(shares.values()) == pytest.approx(1)
        assert max(shares, key=lambda path: shares[path]) == "self_training.distil", method
    assert importance.conditional(found) == ["self_training.mix.fraction"]
    assert "self_training.mix.fraction" not in importance.importances(found, "fANOVA")
    assert "self_training.mix.fraction" in importance.importances(found, "PED-ANOVA")
    assert importance.importances(found, "fANOVA") == importance.importances(found, "fANOVA")
    table = sweep_importance.table(known)
    assert table.rows[0].key == "self_training.distil"
    said = " ".join(table.notes)
    assert all(word in said for word in ("Hutter", "Watanabe", "Of 60 trials alone", "sampler tpe", "leaves out"))


def test_of_few_or_equal_trials_nothing_mattered() -> None:
    assert importance.importances(search.of(make_sweep.in_memory(make_sweep.sweep(5))), "fANOVA") == {}
    equal = make_sweep.sweep(20).changed(
        lambda t: make_records.replace(t, status="done", metrics={"objective/target": 0.5})
    )
    assert importance.importances(search.of(make_sweep.in_memory(equal)), "PED-ANOVA") == {}
    assert "nothing is said" in " ".join(sweep_importance.table(make_sweep.in_memory(equal)).notes)


def test_a_study_that_is_no_sweep_has_none_of_this() -> None:
    known = make_records.in_memory(make_records.ladder())
    assert known.sweep is None
    assert known.trials.empty
    for module in (*MODULES.values(), sweep_importance):
        with pytest.raises(ConfigError, match="is no sweep"):
            module.table(known)
    assert figures.parts(known) == figures.PARTS


def test_names_are_the_shortest_that_tell_parameters_apart(found: search.Search) -> None:
    assert list(found.names.values()) == ["distil", "ema", "mix.kind", "fraction", "mask.kind"]


def test_hostile_choices_stay_text(tmp_path: Path) -> None:
    spec = make_sweep.sweep(12)
    dimensions = [
        d | ({"choices": HOSTILE[:3]} if d["path"].endswith("mix.kind") else {}) for d in make_sweep.DIMENSIONS
    ]

    def change(one: Trial) -> Trial:
        kind = HOSTILE[make_sweep.KINDS.index(one.params["self_training.mix.kind"])]
        return make_records.replace(one, params=one.params | {"self_training.mix.kind": kind}, error=HOSTILE[4])

    known = make_sweep.in_memory(spec.changed(change).declared(dimensions=dimensions, space=HOSTILE[5]))
    for module in (*MODULES.values(), sweep_importance):
        assert latex.problems(latex.table(module.table(known))) == []
    for figure in (settings.choices, settings.parallel, trials.history):
        assert figure(known, Evidence(), tmp_path / figure.__name__)
    assert {p.suffix for p in tmp_path.iterdir()} == {".png", ".pdf"}


# --- figures and pages ---------------------------------------------------------------------


@pytest.mark.slow
def test_a_sweep_has_its_figures(known: Records, tmp_path: Path) -> None:
    drawn, missing = figures.draw(known, Evidence(), tmp_path)
    names = {"history", "mattered", "responses", "choices", "parallel", "rungs", "ladder", "deltas"}
    assert {f.name for f in drawn} == names
    assert "Two objectives" in missing
    pareto, _ = figures.draw(
        make_sweep.in_memory(make_sweep.sweep(12, ("target", "compute"))), Evidence(), tmp_path / "2"
    )
    assert {"front", "history"} <= {f.name for f in pareto}
    assert "rungs" not in {f.name for f in pareto}


def test_a_sweep_that_has_begun_has_a_report(tmp_path: Path) -> None:
    begun = make_sweep.sweep(3, top=0).changed(
        lambda t: make_records.replace(t, status="running", metrics={}, rungs={})
    )
    folder = build.write(make_sweep.in_memory(begun), tmp_path)
    assert "3 trials: 0 done, 3 running" in (folder / "report.md").read_text("utf8")
    empty = build.write(make_sweep.in_memory(make_records.replace(begun, trials=())), tmp_path)
    text = (empty / "index.html").read_text("utf8")
    assert "0 of 3 trials" in text
    assert "diga sweep diga.self_training" in text


def test_how_far_a_sweep_is_counts_trials_and_confirmed_cells(known: Records) -> None:
    assert facts.so_far(known) == f"{search.counts(search.of(known))}; confirmation: 9 cells: 9 done"
    alone = facts.so_far(make_sweep.in_memory(make_sweep.sweep(top=0)))
    assert alone.startswith("24 trials: ")
    assert alone.endswith("; confirmation: none")


def test_pages_and_claims_speak_of_the_sweep(known: Records) -> None:
    from diga.report import index, page

    tables = {name: module.table(known) for name, module in MODULES.items()}
    verdicts = [line for module in MODULES.values() for line in module.verdicts(known)]
    told = Told(known, tables, verdicts=verdicts)
    claims = page.claims(told)
    assert "Of 2 comparisons: 2 hold" in claims
    assert "The search's best trial by target" in claims
    assert "Choosing by agreement" in claims
    assert "24 trials:" in page.state(known)
    assert "confirmation: 3 rows" in index.text(told, Path())
