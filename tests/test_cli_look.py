"""What the commands that start nothing say."""

from __future__ import annotations

import json
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
        break


def test_status_and_report(home):
    told = said(home, "status", "diga/streets")
    assert "diga/streets" in told
    assert "done" in told
    told = said(home, "report", "diga/streets")
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
