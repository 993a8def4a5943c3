"""What the commands that start nothing say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import partial

import pytest
import typer

import diga.data.streets as benchmark
from diga.cli import app
from diga.recipe import loads
from experiments.diga import streets
from tests import tiny

SMALL = [
    w
    for s in ("warm_up.plan.steps=2", "self_training.plan.steps=2", "crop=[28,56]", "centroids.steps=2")
    for w in ("--set", s)
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home in which one recipe has been carried out."""
    place = tiny.place(tmp_path_factory.mktemp("look"))
    said(place.home, "run", "diga:streets", *SMALL)
    return place.home


def said(home, *words: str) -> str:
    code, told, errors = tiny.typed(home, *words)
    assert (code, errors) == (0, ""), (words, errors)
    return told


def commands() -> list[tuple[str, ...]]:
    """Every command by its words."""
    whole = typer.main.get_command(app)
    found: list[tuple[str, ...]] = [()]
    for name, command in whole.commands.items():
        found.append((name,))
        found += [(name, inner) for inner in getattr(command, "commands", {})]
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_teaches(words):
    command = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]
    assert len((command.help or "").split()) >= 3
    for parameter in command.params:
        assert parameter.name in ("install_completion", "show_completion", "help") or parameter.help, parameter.name


def test_the_first_session_is_readable_on_eighty_columns(tmp_path):
    _, told, errors = tiny.diga(tmp_path, "--help", COLUMNS="80")
    lines = [line.strip() for line in (told + errors).splitlines()]
    assert "diga data make streets       an embedded benchmark of two domains" in lines
    assert "diga ablate diga:table3      run it; stop it, type it again" in lines


def test_nothing_typed_is_answered_with_help(tmp_path):
    for words in ((), ("data",)):
        code, told, errors = tiny.typed(tmp_path, *words)
        assert code == 2
        assert "Usage: diga" in told + errors
        assert "Traceback" not in errors


def test_list_names_what_can_be_typed(tmp_path):
    told = said(tmp_path, "list")
    for name in ("diga:streets", "diga:table3", "streetnet", "two_scale_max", "classes"):
        assert name in told


def test_plan_counts_what_is_there_and_starts_nothing(home, tmp_path):
    before = {p for p in home.rglob("*") if "manifests" not in p.parts}
    told = said(home, "plan", "diga:streets", *SMALL)
    assert "1 cells, 6 stage runs end to end, 6 distinct" in told
    assert {p for p in home.rglob("*") if "manifests" not in p.parts} == before
    fresh = said(tmp_path, "plan", "diga:table3")
    assert "18 cells, 51 stage runs end to end, 42 distinct" in fresh
    assert {p.name for p in tmp_path.iterdir()} <= {"manifests"}


def test_plan_says_why_and_what_it_would_take(home):
    told = said(home, "plan", "diga:streets", *SMALL, "--set", "warm_up.alpha=0.3", "--gpus", "2", "--deadline", "1")
    assert "1 × warm_up: warm_up.alpha 0.5 -> 0.3" in told
    assert "1 × self_training: reads another warm_up" in told
    assert "ColourTransfer" in told
    assert "measured, 1 runs" in told
    assert re.search(r"2 at once: over after \d+ s", told)
    assert "in 1 h: 1 of 1 cells and 1 of 1 rows complete" in told
    assert re.search(r"disk: [\d.]+ [kM]B to come; .* free", told)
    assert re.search(r"EFLOP of networks: [\d.e-]+ end to end", told)
    again = said(home, "plan", "diga:streets", *SMALL, "--all")
    assert len(re.findall(r"^  \w+ [0-9a-f]{6} seed 0: there$", again, re.MULTILINE)) == 6
    assert "1 at once: over after 0 s" in again


def test_plan_says_plainly_what_it_does_not_know(tmp_path):
    told = said(tmp_path, "plan", "diga:table3", "--deadline", "5")
    assert "18 × score: none of its class there yet" in told
    assert "time: unknown end to end, unknown with every stage once" in told
    assert "1 at once: nobody knows how long" in told
    assert "in 5 h: at most 18 of 18 cells" in told


def test_a_plan_over_its_budget_ends_with_four_and_has_said_everything(home, tmp_path):
    words = ("plan", "diga:streets", *SMALL, "--seeds", "3")
    assert "3 cells" in said(home, *words, "--budget", "100")
    code, told, errors = tiny.typed(home, *words, "--budget", "0")
    assert (code, len(errors.splitlines())) == (4, 1)
    assert re.search(r"error: diga:streets: [\d.e-]+ GPU-hours to run \(a budget of 0\)", errors)
    assert "3 cells, 18 stage runs end to end, 18 distinct" in told
    code, _, errors = tiny.typed(tmp_path, "plan", "diga:streets", "--budget", "9")
    assert code == 4
    assert "hours of ColourTransfer, WarmUp" in errors


def test_a_probe_times_what_was_never_run_and_leaves_nothing(tmp_path):
    short = [w for s in ("warm_up.plan.steps=40", "self_training.plan.steps=40", "crop=[28,56]") for w in ("--set", s)]
    told = said(tmp_path, "plan", "diga:streets", *short, "--probe")
    assert len(re.findall(r"(?:WarmUp|SelfTraining).*probe", told)) == 2
    assert "PseudoLabels" in told
    assert {p.name for p in tmp_path.iterdir()} <= {"manifests"}


def test_the_order_decides_what_is_complete_in_time(home):
    words = ("plan", "diga:table3", *SMALL, "--seeds", "2", "--all")
    seeds = [re.findall(r"seed (\d): ", said(home, *words, "--order", order)) for order in ("seeds", "rows")]
    assert seeds[0] == sorted(seeds[0])
    assert seeds[1] != sorted(seeds[1])
    assert sorted(seeds[0]) == sorted(seeds[1])


def test_a_study_of_too_many_cells_is_one_line(home):
    code, _, errors = tiny.typed(home, "plan", "diga:table3", "--seeds", "500")
    assert (code, len(errors.splitlines())) == (2, 1)
    assert "6 rows times 500 seeds are 3000 cells (1000 at most" in errors


@pytest.mark.parametrize("words", [["plan", "diga:table3"], ["list"], ["show", "diga:streets"], ["data", "list"]])
def test_looking_imports_no_torch_no_ray_and_no_mlflow(tmp_path, words):
    code = f"""
import sys
from diga.cli import main
sys.argv = ["diga", *{words!r}]
try:
    main()
except SystemExit as end:
    assert not end.code
loaded = {{name.partition(".")[0] for name in sys.modules}} & {{"torch", "ray", "mlflow", "optuna", "matplotlib"}}
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], env=tiny.environment(tmp_path), check=True, stdout=subprocess.PIPE)


def test_a_recipe_shown_as_json_is_the_recipe_and_runs_to_the_same_stages(home, tmp_path):
    text = said(home, "show", "diga:streets", *SMALL, "--json")
    assert loads(text).crop == (28, 56)
    (tmp_path / "recipe.json").write_text(text)
    before = tiny.marks(home)
    told = said(home, "run", "--recipe", str(tmp_path / "recipe.json"))
    assert "6 of 6 stages were there" in told
    assert tiny.marks(home) == before
    assert loads(said(home, "show", "diga:streets", "--json")) == streets()


def test_show_is_a_table_of_paths_that_set_takes(home):
    told = said(home, "show", "diga:streets")
    assert "warm_up.plan.lr" in told
    assert "self_training.strong.blend" in told


def test_show_of_a_study_names_its_rows(home):
    told = said(home, "show", "diga:table3")
    for part in ("source-only + MST", "(iv)", "self-training", "✓"):
        assert part in told
    layout = json.loads(said(home, "show", "diga:table3", "--json"))
    assert [row["label"] for row in layout["rows"]][-1] == "(iv)"


def test_show_of_a_fingerprint_is_what_the_stage_is_made_of(home):
    for fingerprint, manifest in tiny.manifests(home).items():
        shown = json.loads(said(home, "show", fingerprint[:8]))
        assert shown["folder"] == str(manifest.parent)
        assert shown["files"] == json.loads(manifest.read_text())["files"]


def test_show_of_a_chain_names_every_intermediate_and_what_it_reads(home):
    told = said(home, "show", "ddb:streets")
    for path in ("cut_1.start", "cut_prototypes_2.of", "classes_2.start", "student_2.teachers", "score.of"):
        assert path in told


@pytest.mark.slow
def test_status_and_report(home):
    told = said(home, "status", "diga/streets")
    assert "diga/streets" in told
    assert "done" in told
    code, told, errors = tiny.typed(home, "report", "diga/streets")
    assert code == 0
    # a checkout that somebody works on says so
    assert all(line.startswith("warning: ") and "uncommitted" in line for line in errors.splitlines())
    assert "report.md" in told
    assert "diga serve" in told


def test_doctor_says_what_is_missing_and_how_to_get_it(home, tmp_path):
    told = said(home, "doctor")
    for part in ("torch", "ray", "mlflow", "streets/gta5", "GiB free"):
        assert part in told
    code, told, errors = tiny.typed(tmp_path, "doctor", DIGA_DATA=str(tmp_path / "nothing"))
    assert (code, errors) == (0, "")
    assert "diga data make streets" in told
    (tmp_path / "file").write_text("in the way")
    code, told, errors = tiny.typed(tmp_path / "file", "doctor")
    assert code == 4
    assert errors.startswith("error: run home: ")
    assert len(errors.splitlines()) == 1


def test_data_list_and_check(home, tmp_path):
    assert said(home, "data", "list").split() == ["streets/cityscapes", "streets/gta5"]
    assert "diga data make streets" in tiny.typed(tmp_path, "data", "list", DIGA_DATA=str(tmp_path))[1]
    told = said(home, "data", "check", "streets/gta5")
    assert "streets/gta5 train: 6 images, digest " in told
    assert "vegetation" in told
    assert "4 images" in said(home, "data", "check", "streets/cityscapes", "--split", "val")


def test_data_make_writes_once(tmp_path, monkeypatch):
    few = {"source_train": 2, "source_val": 0, "target_train": 1, "target_val": 1, "third_train": 0, "third_val": 0}
    monkeypatch.setattr(benchmark, "Knobs", partial(benchmark.Knobs, **few))
    words = ("data", "make", "streets", "--height", "32", "--width", "64", "--into", str(tmp_path / "streets"))
    assert str(tmp_path / "streets") in said(tmp_path, *words)
    stamp = (tmp_path / "streets/streets.json").stat().st_mtime_ns
    said(tmp_path, *words)
    assert (tmp_path / "streets/streets.json").stat().st_mtime_ns == stamp
    code, _, errors = tiny.typed(tmp_path, *words, "--gap", "0.1")
    assert code == 2
    assert "was made with gap=0.7" in errors


def test_show_of_a_space_is_what_it_varies_and_when(home):
    told = said(home, "show", "diga.warm_up")
    assert re.search(r"warm_up.distil\W+0.05 to 2, log", told)
    assert re.search(r"warm_up.mask.side\W+4 to 16, whole, log\W+warm_up.mask.kind is grid or", told)
    found = {one["path"]: one for one in json.loads(said(home, "show", "diga.warm_up", "--json"))}
    assert found["warm_up.mask.side"]["when"] == {"warm_up.mask.kind": ["grid", "noise", "cow"]}
    assert "did you mean 'diga.warm_up'?" in tiny.typed(home, "show", "diga.warm_upp")[2]
