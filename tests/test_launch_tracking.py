"""MLflow's picture of the store: complete, once, within its limits, and nowhere but in the run home."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest

from diga import cost
from diga.errors import StorageError, TemporaryError
from diga.files import SPOOL, slug
from diga.launch import mirror
from diga.launch.answers import refusal, without_password
from diga.launch.crew import Alone
from diga.launch.parameters import of_recipe, varying
from diga.launch.tracking import BATCH, LONGEST_TAG, POINTS, STAGES, Tracker, allowed
from diga.methods.source_only import SourceOnly
from diga.plan import stage_runs
from diga.recipe import loads, override
from diga.report.records import records
from diga.settings import Plan
from tests import tiny


def tracker(place) -> Tracker:
    return Tracker(tiny.uri(place), place.home / "mlflow-artifacts")


def test_one_run_a_stage_and_one_a_cell_linked_by_tags(tmp_path):
    place = tiny.place(tmp_path)
    study = tiny.study(("base", tiny.recipe()), ("fast", tiny.recipe(train__plan__lr=2e-3)), seeds=(0, 1))
    launched, states, _ = tiny.launch(study, place)
    where = tiny.client(place)
    assert states == {"done": 4}
    stages = {run.data.tags["fingerprint"]: run for run in tiny.runs(where, STAGES, "stage")}
    assert set(stages) == set(launched.stages) == set(tiny.manifests(place.home))
    cells = tiny.runs(where, "diga/tiny", "cell")
    assert {(c.data.tags["row"], c.data.tags["seed"]) for c in cells} == {
        (r, s) for r in ("base", "fast") for s in "01"
    }
    for cell in cells:
        assert cell.info.status == "FINISHED"
        assert cell.data.tags["status"] == "done"
        assert stages[cell.data.tags["stage.train"]].data.tags["class"] == "SourceOnly"
        assert cell.data.tags["stage.score"] == cell.data.tags["cell"]
        assert cell.data.params == {"train.plan.lr": "0.001" if cell.data.tags["row"] == "base" else "0.002"}
        assert 0 <= cell.data.metrics["streets/cityscapes/plain/last/miou"] <= 1
        assert cell.data.metrics["cost/steps"] == 4
        assert cell.data.metrics["cost/gpu_seconds"] == 0
        assert cell.data.metrics["cost/exaflop"] == cost.exaflop(launched.cells[0][1]) > 0
    assert len(tiny.runs(where, "diga/tiny", "study")) == 1
    assert all(run.info.status == "FINISHED" for run in stages.values())


@pytest.mark.parametrize(
    ("meta", "gpus"),
    [
        ({"device": "cuda"}, 1),
        ({"device": "cuda", "workers": 4, "gpus": 0.5}, 2),
        ({"device": "cpu", "workers": 2, "gpus": 0}, 0),
        ({"workers": 8}, 0),
    ],
)
def test_a_cell_costs_what_its_stages_do(meta: dict[str, object], gpus: float) -> None:
    runs = stage_runs(tiny.recipe(), lambda name, use: "")[:2]
    found = mirror.spent(runs, [{"seconds": 30.0, **meta}, {"seconds": 10.0, "device": "cpu"}])
    assert found["cost/seconds"] == 40
    assert found["cost/gpu_seconds"] == 30 * gpus
    assert found["cost/exaflop"] == sum(cost.operations(run) or 0 for run in runs) / cost.EXA


def test_what_a_network_costs_is_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(cost.NETWORKS, "streetnet")
    runs = list(stage_runs(tiny.recipe(), lambda name, use: ""))
    assert "cost/exaflop" not in mirror.spent(runs, [{"seconds": 1.0}] * len(runs))


def test_a_cell_holds_its_recipe_and_a_stage_its_files(tmp_path):
    place, study = tiny.place(tmp_path), tiny.study(seeds=(3,))
    tiny.launch(study, place)
    where = tiny.client(place)
    (cell,) = tiny.runs(where, "diga/tiny", "cell")
    assert loads(tiny.artifact(where, cell, "recipe.json")) == next(study.cells()).recipe
    found = {f.path for f in where.list_artifacts(cell.info.run_id)}
    assert {"recipe.json", "confusion.parquet", "samples"} <= found
    train = next(r for r in tiny.runs(where, STAGES) if r.data.tags["stage"] == "train")
    assert {SPOOL, "manifest.json", "stage.json", "pictures"} <= {
        f.path for f in where.list_artifacts(train.info.run_id)
    }
    assert json.loads(tiny.artifact(where, train, "stage.json"))["is"] == "diga.methods.source_only.SourceOnly"


def test_typed_twice_nothing_is_there_twice(tmp_path):
    place, study = tiny.place(tmp_path), tiny.study(seeds=(0, 1))
    tiny.launch(study, place)
    where = tiny.client(place)
    before = {r.info.run_id: tiny.histories(where, r) for n in (STAGES, "diga/tiny") for r in tiny.runs(where, n)}
    _, states, seen = tiny.launch(study, place)
    after = {r.info.run_id: tiny.histories(where, r) for n in (STAGES, "diga/tiny") for r in tiny.runs(where, n)}
    assert states == {"done": 2}
    assert (seen.there, seen.begun) == (4, [])
    assert before == after
    train = [h for h in after.values() if "loss/source" in h]
    assert len(train) == 2
    assert all(h["loss/source"] == h["lr"] == [0, 1, 2, 3] for h in train)
    assert all(steps == [0] for h in after.values() for name, steps in h.items() if name.startswith("cost/"))
    assert {r.info.status for n in (STAGES, "diga/tiny") for r in tiny.runs(where, n)} == {"FINISHED"}


def test_a_driver_that_died_between_two_copies_leaves_no_gap_and_no_double(tmp_path):
    place = tiny.place(tmp_path)
    (run, *_) = place.stage_runs(tiny.recipe(train__plan__steps=40))
    folder = tmp_path / "work"
    folder.mkdir()
    lines = [json.dumps({"step": s, "time": 1000 + s, "values": {"lr": 0.1, "loss/a": s / 7}}) for s in range(40)]
    first = tracker(place)
    run_id = first.stage(run)
    (folder / SPOOL).write_text("\n".join(lines[:20]) + '\n{"step": 20, "ti')  # killed while writing
    first.follow(run_id, folder, 40)
    (folder / SPOOL).write_text("\n".join(lines) + "\n")
    tracker(place).follow(run_id, folder, 40)
    made_again = [json.dumps(json.loads(line) | {"time": 9_999_999}) for line in lines]
    (folder / SPOOL).write_text("\n".join(made_again) + "\n")
    tracker(place).follow(run_id, folder, 40)
    (found,) = tiny.runs(tiny.client(place), STAGES)
    assert tiny.histories(tiny.client(place), found) == {"lr": list(range(40)), "loss/a": list(range(40))}


def test_losses_go_over_in_batches_and_a_long_curve_is_thinned(tmp_path, monkeypatch):
    place = tiny.place(tmp_path)
    here = tracker(place)
    (run, *_) = place.stage_runs(tiny.recipe())
    run_id = here.stage(run)
    steps = 50 * POINTS + 3
    values = {f"loss/{k}": 0.5 for k in range(9)}
    text = "".join(json.dumps({"step": s, "time": s, "values": values}) + "\n" for s in range(steps))
    (tmp_path / SPOOL).write_text(text)
    calls: list[int] = []
    whole = here.client.log_batch
    monkeypatch.setattr(
        here.client, "log_batch", lambda i, metrics=(), **k: (calls.append(len(metrics)), whole(i, metrics, **k))
    )
    here.follow(run_id, tmp_path, steps)
    (found,) = tiny.runs(tiny.client(place), STAGES)
    told = tiny.histories(tiny.client(place), found)["loss/3"]
    assert POINTS <= len(told) <= POINTS + 3
    assert told[-1] == steps - 1
    assert max(calls) <= BATCH
    assert len(calls) <= len(told) * len(values) // BATCH + 2


@pytest.mark.parametrize("name", ["loss/a,b", "a//b", "../x", "/etc", "x" * 400, "Ω²/é", "a/./b", "...", "{}\n"])
def test_any_name_becomes_one_that_mlflow_takes(tmp_path_factory, name):
    here = _shared(tmp_path_factory)
    run_id = here.run("diga/names", "names", [name], {})
    here.log(run_id, {name: 0.5}, {f"stage.{name}": "x"}, {name: [1, 2]})
    data = here.client.get_run(run_id).data
    assert data.metrics == {allowed(name): 0.5}
    assert data.params == {allowed(name): "[1, 2]"}


def test_more_than_mlflow_takes_at_once(tmp_path_factory):
    here = _shared(tmp_path_factory)
    run_id = here.run("diga/many", "many", ["many"], {"long": "x" * 20_000}, {f"p{i}": "y" * 9000 for i in range(230)})
    here.log(run_id, {f"m/{i}": float(i) for i in range(2100)}, {f"t{i}": str(i) for i in range(250)})
    data = here.client.get_run(run_id).data
    assert len(data.metrics) == 2100
    assert len(data.params) == 230
    assert data.tags["t249"] == "249"
    assert len(data.tags["long"]) == LONGEST_TAG
    again = here.run("diga/many", "many", ["many"], {}, {f"p{i}": "changed" for i in range(3)})
    assert again == run_id, "parameters that are there already are left alone"


_trackers: dict[str, Tracker] = {}


def _shared(tmp_path_factory) -> Tracker:
    """One store for the tests that only need some store."""
    if "it" not in _trackers:
        _trackers["it"] = tracker(tiny.place(tmp_path_factory.mktemp("shared")))
    return _trackers["it"]


HOSTILE = [
    "../../escape",
    "/etc/passwd",
    "two\nlines\r\tand a tab",
    """quotes ' " ` and tags.key = 'x' OR 1""",
    r"\input{/etc/passwd} $&%#_{}~^ \write18{x}",
    "=cmd|' /C calc'!A1",
    "<script>alert(1)</script>",
    "emoji 🛣️ and עברית \u202eRTL",
    "CON",
    "-rf",
    " ",
    "long " * 1000,
]


def test_hostile_names_stay_inside_and_come_back_as_they_were(tmp_path):
    place = tiny.place(tmp_path)
    outside = listing(tmp_path, place.home) | {p.name for p in Path.cwd().iterdir()}
    rows = [(label, tiny.recipe(train__plan__lr=1e-3 * (1 + i))) for i, label in enumerate(HOSTILE)]
    rows = [(label, override(recipe, {"name": label[:200]})) for label, recipe in rows]
    name = "../x\n'\"\\\\🛣️\u202e" + "n" * 150
    launched = tiny.Launch(tiny.study(*rows, name=name), place)
    here = tracker(place)
    told = mirror.Mirror(here, place, launched.cells, launched.stages)
    told.declare(launched.study, {}, {})
    cells = tiny.runs(tiny.client(place), f"diga/{name}", "cell")
    assert {c.data.tags["row"] for c in cells} == set(HOSTILE)
    assert {c.data.tags["study"] for c in cells} == {name}
    assert {c.data.tags["recipe"] for c in cells} == {label[:200] for label in HOSTILE}
    assert [row.label for row in records(tiny.uri(place), name).rows] == HOSTILE
    assert listing(tmp_path, place.home) | {p.name for p in Path.cwd().iterdir()} == outside
    written = {p.name for p in (place.home / "mlflow-artifacts").iterdir()}
    assert written == {slug(f"diga/{name}")}


@pytest.mark.parametrize(
    ("takes", "records", "told", "seconds"),
    [
        (0.6, 4, 4, 2.4),  # slow, and it goes on taking: longer than HASTE, and all of them
        (600.0, 4, 0, 1.5),  # it hangs: HASTE
        (0.6, 99, None, 4.0),  # too many to wait for: LAST
    ],
)
def test_a_stopped_launch_waits_as_long_as_records_are_taken(tmp_path, monkeypatch, takes, records, told, seconds):
    monkeypatch.setattr(mirror, "HASTE", 1.5)
    monkeypatch.setattr(mirror, "LAST", 4.0)
    monkeypatch.setattr(mirror, "COPY", 60.0)
    stopped = mirror.Mirror(cast(Any, None), tiny.place(tmp_path), [], {})
    over = threading.Event()

    def tell(fingerprint, state):
        over.wait(takes)
        stopped._told[fingerprint] = state

    monkeypatch.setattr(stopped, "_tell", tell)
    for number in range(records):
        stopped.note(f"{number:02}", mirror.State("stopped"))
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), stopped.telling():
        raise KeyboardInterrupt
    took, behind = time.monotonic() - begun, stopped.behind()
    over.set()  # the thread that still tells ends
    assert seconds <= took < seconds + 60
    assert 0 < behind < records if told is None else behind == records - told


def listing(folder: Path, but: Path) -> set[str]:
    """All files under a folder, but for one."""
    return {str(p) for p in folder.rglob("*") if but not in (p, *p.parents)}


def test_slugs_are_short_safe_and_different():
    slugs = [slug(name) for name in HOSTILE]
    assert len(set(slugs)) == len(HOSTILE)
    assert all(s.isascii() and len(s) < 80 and set(s).isdisjoint("/\\.\n '\"") for s in slugs)
    assert slug("a/b") != slug("a-b")


def test_cells_that_the_recipes_no_longer_make_leave_the_table(tmp_path):
    place = tiny.place(tmp_path)
    tiny.launch(tiny.study(("base", tiny.recipe())), place)
    _, _, seen = tiny.launch(tiny.study(("base", tiny.recipe(train__plan__lr=5e-3))), place)
    assert len(seen.begun) == 2
    where = tiny.client(place)
    assert len(tiny.runs(where, "diga/tiny", "cell")) == len(tiny.runs(where, "diga/tiny", "superseded cell")) == 1
    cells = records(tiny.uri(place), "tiny").cells
    assert list(cells["cell"]) == [tiny.runs(where, "diga/tiny", "cell")[0].data.tags["cell"]]
    _, _, seen = tiny.launch(tiny.study(("base", tiny.recipe())), place)
    assert seen.begun == [], "the first is still in the store"
    (back,) = tiny.runs(where, "diga/tiny", "cell")
    assert back.data.tags["cell"] != cells["cell"][0], "and back in the table"


def test_varying_parameters_are_those_in_which_rows_differ():
    whole = tiny.recipe()
    other = override(whole, {"train": SourceOnly(plan=Plan(steps=9, lr=1e-3, snapshots=2)), "batch": 4})
    study = tiny.study(("a", whole), ("b", other))
    assert varying(study) == {"batch", "train.plan.steps"}
    assert of_recipe(other, varying(study)) == {"batch": 4, "train.plan.steps": 9}


# --- a store that cannot be used -------------------------------------------------------------


LOCK = """
import sqlite3, sys, time
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
"""


def test_a_locked_database_is_waited_for(tmp_path):
    place = tiny.place(tmp_path)
    here = tracker(place)
    command = [sys.executable, "-c", LOCK, str(place.home / "mlflow.db"), "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        start = time.monotonic()
        launched, states, _ = tiny.launch(tiny.study(), place, tracker=here)
        assert time.monotonic() - start > 2
    assert states == {"done": 1}
    assert launched.warning() == ""
    (cell,) = tiny.runs(tiny.client(place), "diga/tiny", "cell")
    assert cell.data.tags["status"] == "done"


def test_a_corrupt_database_is_named(tmp_path):
    place = tiny.place(tmp_path)
    (place.home / "mlflow.db").write_bytes(b"not a database at all " * 500)
    with pytest.raises(StorageError, match=r"mlflow\.db: .*not a database") as caught:
        tracker(place)
    assert len(str(caught.value).splitlines()) == 1


def test_a_read_only_database_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MLflow makes the folder "file:" of such an address
    place = tiny.place(tmp_path)
    address = f"sqlite:///file:{place.home / 'mlflow.db'}?mode=ro&uri=true"
    here = Tracker(address, place.home / "mlflow-artifacts")
    with pytest.raises(StorageError, match=r"mlflow\.db.*readonly") as caught:
        tiny.launch(tiny.study(), place, tracker=here)
    assert len(str(caught.value).splitlines()) == 1
    assert not tiny.manifests(place.home), "nothing is trained whose records cannot be kept"


def test_what_a_refusal_says():
    assert isinstance(refusal("sqlite:///x", OSError("(sqlite3) database is locked\nmore")), TemporaryError)
    assert "secret" not in str(refusal("postgresql://me:secret@host/db", OSError("no route")))
    assert without_password("diga run --tracking http://u:p@h:5000") == "diga run --tracking http://h:5000"


def test_records_that_fail_at_the_end_fail_no_cell(tmp_path, monkeypatch):
    """The store goes away for good under way: everything is trained, and one warning says what to type."""
    monkeypatch.setattr(mirror, "PATIENCE", 1.0)
    monkeypatch.setattr(mirror, "COPY", 0.2)
    place, study = tiny.place(tmp_path), tiny.study()
    gone = place.home / "mlflow.db"

    class Vandal(Alone):
        def send(self, run, wider):
            gone.write_bytes(b"rubbish " * 1000)
            super().send(run, wider)

    launched, states, _ = tiny.launch(study, place, lambda: mirror.contextmanager(lambda: (yield Vandal(place)))())
    assert states == {"done": 1}
    assert len(tiny.manifests(place.home)) == 2
    assert "type the same command again" in launched.warning()
    assert len(launched.warning().splitlines()) == 1
    tiny.database(place.home)
    monkeypatch.setattr(mirror, "PATIENCE", 60.0)  # this one answers
    launched, states, seen = tiny.launch(study, place)
    assert (states, seen.begun, launched.warning()) == ({"done": 1}, [], "")
    (cell,) = tiny.runs(tiny.client(place), "diga/tiny", "cell")
    assert cell.data.tags["status"] == "done"
