"""The planner: every distinct stage once, in an order that works, at no cost and without torch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from diga.errors import StorageError
from diga.pipeline import Place, carry_out
from diga.plan import StageRun, digests, distinct, stage_runs
from diga.recipe import override
from experiments.diga import streets, streets_two_rounds, table3
from tests.test_data_reading import cityscapes, gta5

ROOT = Path(__file__).parents[1]


def data(name: str, use: str) -> str:
    """A stand-in for the digest of a domain's files."""
    return f"{use} of {name}"


def runs_of_table3(seeds: int) -> list[StageRun]:
    """All stage runs of Table 3, repeated ones included."""
    return [run for cell in table3(range(seeds)).cells() for run in stage_runs(cell.recipe, data)]


# --- what there is to do -----------------------------------------------------------------------


def test_a_seed_of_table_3_is_fourteen_stages_of_seventeen() -> None:
    """Worked out by hand: 4 rows of 2, one of 3, one of 6; shared are source-only, warm-up and translator."""
    runs = runs_of_table3(1)
    assert len(runs) == 4 * 2 + 3 + 6
    kinds = Counter(run.kind for run in distinct(runs).values())
    assert kinds == Counter(
        {"SourceOnly": 1, "WarmUp": 3, "ColourTransfer": 1, "PseudoLabels": 1, "Centroids": 1}
        | {"SelfTraining": 1, "Score": 6}
    )


def test_seeds_share_nothing() -> None:
    alone = len(distinct(runs_of_table3(1)))
    assert len(distinct(runs_of_table3(5))) == 5 * alone


def test_rows_share_what_they_have_in_common() -> None:
    of = {
        cell.row.label: {r.name: r.fingerprint for r in stage_runs(cell.recipe, data)} for cell in table3((0,)).cells()
    }
    assert of["source-only"]["warm_up"] == of["source-only + MST"]["warm_up"]
    assert of["source-only"]["score"] != of["source-only + MST"]["score"]
    assert len({of[row]["warm_up"] for row in ("source-only", "(i)", "(ii)", "(iii)")}) == 4
    assert of["(iii)"]["warm_up"] == of["(iv)"]["warm_up"]
    assert of["(iii)"]["translator"] == of["(iv)"]["translator"]


def test_a_stage_comes_after_all_it_reads() -> None:
    for recipe in (streets(), streets_two_rounds(), *(r.recipe for r in table3().rows)):
        done: set[str] = set()
        for run in stage_runs(recipe, data):
            assert set(run.inputs.values()) <= done
            assert set(run.inputs) < set(recipe.stages)
            done.add(run.fingerprint)


def test_the_first_of_a_fingerprint_stands_for_all() -> None:
    runs = runs_of_table3(1)
    once = distinct(runs)
    assert list(once) == list(dict.fromkeys(run.fingerprint for run in runs))
    for run in reversed(runs):
        assert once[run.fingerprint] in runs[: runs.index(run) + 1]


def test_a_stage_run_knows_its_stage() -> None:
    recipe = streets()
    by_name = {run.name: run for run in stage_runs(recipe, data)}
    assert by_name["warm_up"].stage is recipe.stages["warm_up"]
    assert by_name["warm_up"].kind == "WarmUp"
    assert by_name["warm_up"].steps == 500
    assert by_name["labels"].steps == 0
    assert by_name["score"].inputs == {"self_training": by_name["self_training"].fingerprint}


def test_two_rounds_train_from_the_first() -> None:
    by_name = {run.name: run for run in stage_runs(streets_two_rounds(), data)}
    first = {run.name: run.fingerprint for run in stage_runs(streets(), data)}
    assert {n: by_name[n].fingerprint for n in first if n != "score"} == {
        n: f for n, f in first.items() if n != "score"
    }
    assert set(by_name["self_training_2"].inputs) == {"self_training", "labels_2", "centroids", "translator"}


# --- data --------------------------------------------------------------------------------------


def test_digests_are_of_the_files_read_once(tmp_path: Path) -> None:
    gta5(tmp_path, 2)
    cityscapes(tmp_path, 1)
    digest = digests(tmp_path, None)
    labelled, images = digest("gta5", "train"), digest("gta5", "unlabelled")
    assert len(labelled) == 32
    assert labelled != images
    assert digest("cityscapes", "val") != digest("cityscapes", "train")
    label = next((tmp_path / "gta5/labels").iterdir())
    label.write_bytes(b"")
    assert digest("gta5", "train") == labelled, "remembered"
    assert digests(tmp_path, None)("gta5", "unlabelled") == images, "labels were not opened"


def test_whoever_watches_hears_what_is_read_and_how_far_it_is(tmp_path: Path) -> None:
    gta5(tmp_path, 3)
    heard: list[tuple[str, int, int]] = []
    digest = digests(tmp_path, None, lambda what, done, total: heard.append((what, done, total)))
    assert (digest("gta5", "train"), heard) == (digest("gta5", "train"), [("gta5 train", i, 3) for i in (1, 2, 3)])


# --- what is imported ---------------------------------------------------------------------------

LIGHT = [
    *("experiments.diga", "diga.plan", "diga.past", "diga.forecast", "diga.cost", "diga.waste"),
    *("diga.pipeline", "diga.study", "diga.store", "diga.cli", "reports.table3"),
]


def imported_by(module: str) -> set[str]:
    """Packages that are loaded by importing a module in a fresh interpreter."""
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", LIGHT)
def test_planning_and_reporting_need_no_torch(module: str) -> None:
    assert not imported_by(module) & {"torch", "ray", "mlflow", "optuna"}


@pytest.mark.parametrize("module", ["diga.report", "diga.report.build", "diga.report.table", "diga.report.statistics"])
def test_reporting_needs_neither_torch_nor_ray(module: str) -> None:
    assert not imported_by(module) & {"torch", "ray", "optuna"}


def test_making_a_plan_needs_no_torch() -> None:
    code = "import sys; from experiments.diga import *; from diga.plan import *; "
    code += "[stage_runs(c.recipe, lambda n, u: n) for c in table3().cells()]; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_help_is_there_within_a_second_and_a_half() -> None:
    code, seconds = "from diga.cli import main; main()", []
    for _ in range(3):
        begun = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code, "--help"], cwd=ROOT, capture_output=True, text=True)
        seconds.append(time.perf_counter() - begun)
        assert done.returncode == 0, done.stderr
    assert min(seconds) <= 4.0, seconds  # half a second on a free core


# --- carrying out ------------------------------------------------------------------------------


def fake(run: StageRun, work: Path, inputs: dict[str, Path], place: Place, progress: object) -> dict[str, object]:
    """A stage that leaves its name and what it read."""
    text = [run.name, *sorted((folder / "name").read_text().splitlines()[0] for folder in inputs.values())]
    (work / "name").write_text("\n".join(text))
    return {}


def test_a_recipe_is_carried_out_in_order_and_only_once(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path)
    for how in ("computed", "found"):
        for run in stage_runs(streets(), data):
            found = carry_out(run, place, fake)
            assert found.how == how
            read = (found.folder / "name").read_text().splitlines()
            assert read == [run.name, *sorted(run.inputs)]


def test_a_stage_whose_input_is_missing_or_damaged_is_not_carried_out(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path)
    first, second, *_ = stage_runs(streets(), data)
    with pytest.raises(StorageError, match=f"{first.fingerprint}.*a finished stage was expected"):
        carry_out(second, place, fake)
    folder = carry_out(first, place, fake).folder
    (folder / "name").write_text("poison")
    with pytest.raises(StorageError, match=f"{folder / 'name'}: sha256"):
        carry_out(second, place, fake)
    assert carry_out(first, place, fake).how == "computed"
    assert carry_out(second, place, fake).how == "computed"


def test_the_place_is_what_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DIGA_DATA", raising=False)
    assert Place.here() == Place(tmp_path / "home", tmp_path / "home/data")
    monkeypatch.setenv("DIGA_DATA", str(tmp_path / "data"))
    assert Place.here() == Place(tmp_path / "home", tmp_path / "data")
    monkeypatch.delenv("DIGA_HOME")
    assert Place.here().home == Path(os.getcwd()) / "diga-home"
    assert not (tmp_path / "home").exists()


def test_a_changed_seed_changes_every_stage() -> None:
    one = {r.fingerprint for r in stage_runs(streets(), data)}
    other = {r.fingerprint for r in stage_runs(override(streets(), {"seed": 1}), data)}
    assert not one & other
