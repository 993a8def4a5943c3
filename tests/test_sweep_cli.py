"""`diga sweep` as it is typed, and all that can be asked of what it leaves."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from diga.cli.promote import module
from diga.cli.searching import Typed, declared, spaces
from diga.errors import ConfigError
from diga.pipeline import Place
from diga.recipe import Recipe, dumps, loads, override
from diga.report import facts
from diga.sweep import Sweep
from experiments.diga import streets
from tests import make_records as make
from tests import tiny
from tests.searching import source_only

WORDS = ("sweep", "baselines.source_only", "--inline")
MORE = ("--name", "found", "--trials", "5", "--rungs", "2:4", "--confirm", "1:2", "--objective", "confidence")
TARGET = f"{tiny.TARGET}/plain/last/miou"


def problems(errors: str) -> list[str]:
    """Lines of standard error, warnings left out."""
    return [line for line in errors.splitlines() if not line.startswith("warning: ")]


class Swept:
    """A home where a sweep was typed, and the command line there."""

    def __init__(self, folder: Path) -> None:
        self.place, self.folder = tiny.place(folder), folder
        (folder / "base.json").write_text(dumps(source_only()))

    def __call__(self, *words: str, **more: str) -> tuple[int, str, str]:
        told = [str(self.folder / word) if word.endswith((".json", ".py")) else word for word in words]
        return tiny.typed(self.place.home, *told, **more)

    def said(self, *words: str) -> str:
        code, told, errors = self(*words)
        assert (code, problems(errors)) == (0, []), (told, errors)
        return told

    def refused(self, code: int, *words: str) -> str:
        found, told, errors = self(*words)
        assert found == code, (told, errors)
        (line,) = problems(errors)
        assert line.startswith("error: ")
        return line

    def runs(self, name: str, kind: str) -> list[Any]:
        return tiny.runs(tiny.client(self.place), f"diga/{name}", kind)

    def done(self) -> str:
        """The number of a trial that was carried out whole."""
        return next(str(r.data.tags["trial"]) for r in self.runs("found", "trial") if r.data.tags["status"] == "done")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Five trials by two rungs, the best confirmed with two seeds; every stage a real one."""
    found = Swept(tmp_path_factory.mktemp("swept"))
    found.first = found.said(*WORDS, "--base", "base.json", *MORE)  # type: ignore[attr-defined]
    return found


@pytest.fixture
def fresh(tmp_path: Path) -> Swept:
    return Swept(tmp_path)


# --- searched, confirmed, reported -------------------------------------------------------------


@pytest.mark.slow
def test_what_it_says(swept: Swept) -> None:
    told = swept.first  # type: ignore[attr-defined]
    lines = [line for line in told.splitlines() if re.match(r"\[ ?[0-5]/5\] #\d ", line)]
    waited = [line for line in lines if line.endswith("the best of its rung so far: it waits for the others")]
    assert len(lines) - len(waited) == 5
    assert 1 <= len(waited) <= 4
    counts = re.search(r"found: 5 of 5 trials: (\d) carried out whole, (\d) ended at a rung, (\d) failed", told)
    assert counts
    assert sum(map(int, counts.groups())) == 5
    best = re.search(r"best of the search: #(\d), confidence ([\d.]+)\n  next: diga promote found (\d) NAME", told)
    assert best
    assert best[1] == best[3]
    whole = [run for run in swept.runs("found", "trial") if run.data.tags["status"] == "done"]
    done = {run.data.tags["trial"]: run.data.metrics["objective/confidence"] for run in whole}
    assert done[best[1]] == max(done.values())
    assert int(counts[1]) == len(done)
    assert "report: " in told


@pytest.mark.slow
def test_typed_again_nothing_is_done_again(swept: Swept) -> None:
    before = tiny.marks(swept.place.home)
    runs = {r.info.run_id: r.data.tags for kind in ("trial", "cell", "study") for r in swept.runs("found", kind)}
    told = swept.said(*WORDS, "--base", "base.json", *MORE)
    assert "5 of 5 trials were there" in told
    assert tiny.marks(swept.place.home) == before
    after = {r.info.run_id: r.data.tags for kind in ("trial", "cell", "study") for r in swept.runs("found", kind)}
    assert after.keys() == runs.keys()


@pytest.mark.slow
def test_confirmed_cells_are_whole_and_have_other_seeds(swept: Swept) -> None:
    cells = swept.runs("found", "cell")
    assert {run.data.tags["seed"] for run in cells} == {"1", "2"}
    rows = {run.data.tags["row"] for run in cells}
    assert len(cells) == 4
    assert "default" in rows
    (label,) = rows - {"default"}
    (trial,) = [run for run in swept.runs("found", "trial") if f"#{run.data.tags['trial']}" == label]
    assert trial.data.tags["status"] == "done"
    for run in cells:
        assert run.data.tags["status"] == "done"
        recipe = loads(tiny.artifact(tiny.client(swept.place), run, "recipe.json"))
        assert recipe.stages["warm_up"].plan.steps == 4, "no rung"
        assert recipe.seed == int(run.data.tags["seed"])


@pytest.mark.slow
def test_one_warm_up_a_seed(swept: Swept) -> None:
    """Of trials and confirmation together: every distinct stage once."""
    kinds: dict[tuple[int, int], int] = {}
    for path in tiny.manifests(swept.place.home).values():
        facts = json.loads(path.read_text())["facts"]
        if facts["stage"]["is"].endswith("SourceOnly"):
            key = facts["recipe"]["seed"], facts["stage"]["plan"]["steps"]
            kinds[key] = kinds.get(key, 0) + 1
    trials = swept.runs("found", "trial")
    done = sum(run.data.tags["status"] == "done" for run in trials)
    assert kinds == {(0, 1): 5, (0, 4): done, (1, 4): 2, (2, 4): 2}


@pytest.mark.slow
def test_status_counts_trials(swept: Swept) -> None:
    told = swept.said("status", "found")
    assert "4 done of 4 cells" in told
    assert re.search(r"(\d done)?(, )?(\d pruned)? of 5 trials", told)
    assert swept.said("status", "found", "--watch").count("of 5 trials") == 1, "all is over: it does not wait"


@pytest.mark.slow
def test_diff_of_two_trials(swept: Swept) -> None:
    done = sorted(run.data.tags["trial"] for run in swept.runs("found", "trial") if run.data.tags["status"] == "done")
    told = swept.said("diff", f"found/#{done[0]}", f"found/#{done[-1]}")
    assert "warm_up.plan.lr" in told
    assert "mean IoU" in told
    assert "is there" not in told
    assert "no trial 77" in swept.refused(2, "diff", f"found/#{swept.done()}", "found/#77")
    assert "no trial recorded" in swept.refused(2, "diff", "fuond/#0", "found/#0")


@pytest.mark.slow
def test_gc_keeps_done_trials_and_confirmed_cells(swept: Swept) -> None:
    told = swept.said("gc", "--all")
    done = sum(run.data.tags["status"] == "done" for run in swept.runs("found", "trial"))
    assert len(re.findall(r"no cell refers", told)) >= 2 * 5, "rungs may go"
    assert f"{done + 4} recorded cells refer to {2 * done + 8} stage runs, which stay" in told


# --- promoted --------------------------------------------------------------------------------------


def fingerprints(place: Place, recipe: Recipe) -> list[str]:
    return [run.fingerprint for run in place.stage_runs(recipe)]


def made_by(path: Path, name: str) -> Recipe:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    recipe = getattr(found, name)()
    assert isinstance(recipe, Recipe)
    return recipe


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["py", "json"])
def test_a_promoted_trial_is_the_trial(swept: Swept, suffix: str) -> None:
    run = next(r for r in swept.runs("found", "trial") if r.data.tags["status"] == "done")
    told = swept.said("promote", "found", run.data.tags["trial"], "best", "--out", f"best.{suffix}")
    path = swept.folder / f"best.{suffix}"
    recipe = made_by(path, "best") if suffix == "py" else loads(path.read_text())
    assert recipe.name == "best"
    stages = {v for k, v in run.data.tags.items() if k.startswith("stage.")}
    assert set(fingerprints(swept.place, recipe)) == stages
    assert recipe.stages["warm_up"].plan.lr == json.loads(run.data.params["warm_up.plan.lr"])
    if suffix == "json":
        assert f"diga run --recipe {path}" in told
        assert "2 of 2 stages were there" in swept.said("run", "--recipe", "best.json")
    else:
        text = path.read_text()
        for word in ("sweep: found", f"trial: {run.data.tags['trial']}", f"run: {run.info.run_id}", "confidence: 0."):
            assert word in text
    before = path.read_bytes()
    assert "is there already" in swept.refused(2, "promote", "found", swept.done(), "best", "--out", f"best.{suffix}")
    assert path.read_bytes() == before


@pytest.mark.slow
def test_what_cannot_be_promoted(swept: Swept) -> None:
    for name in ("no-name", "class", "1st", "", "a.b"):
        assert "a word that Python takes" in swept.refused(2, "promote", "found", swept.done(), name)
    assert "ends in .py or .json" in swept.refused(2, "promote", "found", swept.done(), "a", "--out", "a.txt")
    assert "no trial 99" in swept.refused(2, "promote", "found", "99", "a")
    assert "'found'" in swept.refused(2, "promote", "fuond", "0", "a")
    pruned = [r.data.tags["trial"] for r in swept.runs("found", "trial") if r.data.tags["status"] != "done"]
    assert pruned
    assert "is pruned" in swept.refused(2, "promote", "found", pruned[0], "a")
    assert swept.refused(4, "promote", "found", swept.done(), "a", "--out", "no/such/a.py")


def test_a_recipe_of_experiments_is_changed_and_not_copied(tmp_path: Path) -> None:
    changes = {"self_training.distil": 0.31, "self_training.mix.kind": "cut", "crop": [28, 56]}
    recipe = override(streets(), {"name": "best"} | changes)
    told = {"sweep": 'odd """ \\ name\n', "trial": 3, "space": "x"}
    text = module("best", recipe, "diga/streets", told)
    assert "from experiments.diga import streets as base" in text
    assert len(text) < 1500
    (tmp_path / "best.py").write_text(text)
    assert made_by(tmp_path / "best.py", "best") == recipe
    other = recipe.model_copy(update={"stages": dict(recipe.stages) | {"again": recipe.stages["score"]}})
    (tmp_path / "other.py").write_text(module("other", other, "diga/streets", told))
    assert made_by(tmp_path / "other.py", "other") == other, "what no change of it makes is copied"


# --- refused before anything starts ------------------------------------------------------------------

BAD: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no such space": (("--trials", "3"), 2, "did you mean 'baselines.source_only'"),
    "no trial": (("--trials", "0"), 2, "--trials: found 0"),
    "less than none": (("--trials", "-4"), 2, "--trials: found -4"),
    "no such recipe": (("--base", "diga:streetz"), 2, "did you mean 'diga:streets'"),
    "a base without the stage": (("--base", "tiny.json"), 2, "warm_up"),
    "no such objective": (("--objective", "taget"), 2, "did you mean 'target'"),
    "an unlabelled measure of no target": (("--base", "alone.json", "--objective", "entropy"), 2, "has none"),
    "no validation images": (("--objective", "source"), 3, "streets/gta5"),
    "a confirmation": (("--confirm", "3"), 2, "K:N"),
    "rungs": (("--rungs", "9:9"), 2, "first with an update"),
    "rungs that are none": (("--rungs", "three"), 2, "R:E"),
    "two objectives and rungs": (("--objective", "target", "--objective", "compute", "--prune", "asha"), 2, "--prune"),
    "a storage that is away": (("--storage", "postgresql+psycopg://me:secret@127.0.0.1:9/x"), 4, "127.0.0.1:9"),
    "a storage that is none": (("--storage", "gopher://x"), 4, "gopher"),
    "MLflow that is none": (("--tracking", "sqlite:////dev/null/mlflow.db"), 4, "/dev/null"),
    "a value that the base refuses": (("--set", "warm_up.plan.lr=-1"), 2, "warm_up.plan.lr"),
    "sizes that were never measured": (("--pack",), 2, "--pack"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_costs_nothing_and_leaves_nothing(fresh: Swept, case: str) -> None:
    (fresh.folder / "tiny.json").write_text(dumps(tiny.recipe()))
    (fresh.folder / "alone.json").write_text(dumps(source_only(targets=[])))
    words, code, part = BAD[case]
    space = "baselines.source_onyl" if case == "no such space" else "baselines.source_only"
    rest = {"--base": "base.json", "--rungs": "2:2", "--trials": "1"}
    usual = [word for option, value in rest.items() if option not in words for word in (option, value)]
    line = fresh.refused(code, "sweep", space, "--inline", *usual, *words)
    assert part in line
    assert "secret" not in line
    assert not list((fresh.place.home / "sweeps").glob("*/*"))
    assert not tiny.manifests(fresh.place.home)
    assert [e.name for e in tiny.client(fresh.place).search_experiments()] == ["Default"]


@pytest.mark.slow
def test_a_sweep_that_exists_is_not_another(swept: Swept) -> None:
    again = (*WORDS, "--base", "base.json", *MORE[:2], *MORE[-2:], "--trials", "6")
    before = len(swept.runs("found", "trial"))
    assert "rungs [1, 4], not [1, 2, 4]" in swept.refused(2, *again, "--rungs", "3:2")
    assert "rungs" in swept.refused(2, *again, "--prune", "none")
    other = "another base recipe, data or objective"
    assert other in swept.refused(2, *again, "--rungs", "2:4", "--set", "warm_up.aux=0.3")
    assert other in swept.refused(2, *again, "--rungs", "2:4", "--seed", "4")
    assert other in swept.refused(2, *again, "--rungs", "2:4", "--objective", "target")
    assert len(swept.runs("found", "trial")) == before
    tiny.launch(tiny.study(name="taken"), swept.place)
    taken = (*WORDS, "--base", "base.json", "--name", "taken", "--rungs", "2:4")
    assert "no sweep" in swept.refused(2, *taken)


def test_what_diverges_is_exit_code_6_and_never_best(fresh: Swept, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real training, a rate so high that its loss is no number."""

    def high(trial: Any) -> None:
        trial.suggest_categorical("warm_up.plan.lr", (1e-3, 1e6))

    monkeypatch.setattr("diga.cli.searching.spaces", lambda: {"x.high": high})
    (fresh.folder / "base.json").write_text(dumps(source_only(warm_up__plan__steps=12)))
    words = ("sweep", "x.high", "--inline", "--base", "base.json", "--trials", "3", "--prune", "none")
    code, told, errors = fresh(*words, "--sampler", "random", "--confirm", "4:1")
    assert code == 6, (told, errors)
    assert "trials and 0 confirmed cells failed: divergence" in errors
    assert "best of the search: #0" in told
    statuses = {run.data.params["warm_up.plan.lr"]: run.data.tags["status"] for run in fresh.runs("x.high", "trial")}
    assert statuses == {"0.001": "done", "1000000.0": "failed"}
    assert {run.data.tags["row"] for run in fresh.runs("x.high", "cell")} <= {"default"}
    assert fresh(*words)[0] == 6, "typed again it has failed still"


# --- planned -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_sweeps_plan(swept: Swept) -> None:
    words = ("plan", "baselines.source_only", "--base", "base.json", "--trials", "64", "--rungs", "2:4")
    told = swept.said(*words)
    assert "in every trial: warm_up, score" in told
    assert "256" in told
    assert "and rungs: 64 → 16 trials" in told and "sampler that learns" not in told
    as_each_comes = swept.said(*words, "--prune", "asha")
    assert "and rungs: 64 → 16.1 trials" in as_each_comes
    assert "sampler that learns" in as_each_comes
    assert "GPU-hours to run" in swept.refused(4, *words, "--budget", "0.0001")
    assert swept.said(*words, "--budget", "1000")


def test_a_plan_of_what_was_never_measured_is_no_budget(fresh: Swept) -> None:
    words = ("plan", "baselines.source_only", "--base", "base.json", "--trials", "8", "--rungs", "2:2")
    assert "unknown" in fresh.said(*words)
    assert "unknown" in fresh.refused(4, *words, "--budget", "1000")


def test_spaces_are_listed(fresh: Swept) -> None:
    told = fresh.said("list")
    assert all(name in told for name in spaces())


# --- typed again from its report -------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--set", "warm_up.plan.lr=0.002", "--set", "score.samples=0", "--seed", "3", "--name=-x y", "--trials", "7"),
        ("--objective", "confidence", "--sampler", "random", "--prune", "watch", "--rungs", "2:2", "--confirm", "2:3"),
        ("--prune", "asha"),
        ("--objective", "target", "--objective", "compute", "--sampler", "nsga2"),
    ],
)
def test_the_command_of_a_report_is_the_very_sweep(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Sweep] = []

    def no_more(typed: Typed) -> None:
        made.append(declared(typed).sweep)
        raise ConfigError("here", "the sweep is declared", "no more")

    monkeypatch.setattr(importlib.import_module("diga.cli.sweep"), "declared", no_more)
    swept = Swept(tmp_path)
    base = ("--base", "base.json", "--rungs", "2:4") if "--rungs" not in words else ("--base", "base.json")
    assert "the sweep is declared" in swept("sweep", "baselines.source_only", *base, *words)[2]
    known = make.in_memory(make.Spec(made[0].study({}).layout()))
    command = next(iter(facts.commands(known).values())).partition(" && ")[0]
    assert "the sweep is declared" in tiny.typed(swept.place.home, *shlex.split(command)[1:])[2], command
    assert made[1] == made[0]
