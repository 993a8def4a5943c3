"""What a user does wrong is one line and an exit code, and costs nothing that was finished."""

from __future__ import annotations

import json
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diga.pipeline import Place
from diga.recipe import dumps
from tests import tiny

Said = tuple[int, str, str]
Typed = Callable[..., Said]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    """A home of its own and data that a test may spoil."""
    shutil.copytree(tiny.data(), tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.json").write_text(dumps(tiny.recipe()))
    return Place(tiny.place(tmp_path).home, tmp_path / "data")


@pytest.fixture
def typed(place) -> Typed:
    """Exit code, standard output and standard error of a command typed here."""
    return lambda *words, home=place.home: tiny.typed(home, *words, DIGA_DATA=str(place.data))


def refused(said: Said, code: int, *parts: str) -> None:
    """One line on standard error, but for warnings, that names what is wrong, and the exit code of its kind."""
    assert said[0] == code, said
    (line,) = (line for line in said[2].splitlines() if not line.startswith("warning: "))
    assert line.startswith("error: ")
    assert "Traceback" not in said[1] + said[2]
    for part in parts:
        assert part in line, (part, line)


RUN = ("run", "--recipe", "tiny.json")
USAGE = [
    (("run", "diga:streetz"), ("diga:streetz", "did you mean 'diga:streets'?")),
    (("ablate", "diga:tabel3"), ("no such study", "'diga:table3'")),
    (("plan", "diga:tabel3"), ("no such recipe or study", "'diga:table3'")),
    (("ablate", "diga:streets"), ("diga:streets", "no such study")),
    (("plan", "nothing"), ("nothing", "diga list")),
    (("run",), ("recipe", "found none")),
    ((*RUN, "diga:streets"), ("recipe", "two")),
    ((*RUN, "--set", "train.plan.stesp=3"), ("train.plan.stesp", "did you mean 'steps'?")),
    ((*RUN, "--set", "trian.plan.steps=3"), ("trian", "did you mean 'train'?")),
    ((*RUN, "--set", "train.plan.steps=0"), ("train.plan.steps", "greater than or equal to 1", "found 0")),
    ((*RUN, "--set", "train.plan.lr=fast"), ("train.plan.lr", "found 'fast'")),
    ((*RUN, "--set", "train.plan.lr=NaN"), ("train.plan.lr",)),
    ((*RUN, "--set", "batch=true"), ("batch", "found True")),
    ((*RUN, "--set", "model=streetnett"), ("streetnett", "did you mean 'streetnet'?")),
    ((*RUN, "--set", "name="), ("name", "at least 1 character")),
    ((*RUN, "--set", "name=" + "x" * 5000), ("name", "at most 200 characters")),
    ((*RUN, "--set", "batch"), ("--set", "found 'batch'", "PATH=VALUE")),
    ((*RUN, "--set", 'sources=["streets/gta6"]'), ("streets/gta6", "did you mean 'gta5'?")),
    ((*RUN, "--set", 'sources=["../data/streets/gta5"]'), ("../data/streets/gta5", "relative path")),
    ((*RUN, "--workers", "3"), ("--workers", "found 3", "batch of 2")),
    ((*RUN, "--workers", "-1"), ("diga run", "--workers")),
    ((*RUN, "--seed", "x"), ("diga run: ", "--seed", "integer")),
    ((*RUN, "--sed", "1"), ("--sed", "--seed")),
    (("ablate", "diga:table3", "--seeds", "x"), ("--seeds", "found 'x'", "0,1,2")),
    (("ablate", "diga:table3", "--seeds", "0"), ("--seeds", "found '0'")),
    (("ablate", "diga:table3", "--seeds", "1,1"), ("--seeds", "found '1,1'")),
    (("ablate", "diga:table3", "--seeds", "-3"), ("--seeds", "found '-3'")),
    (("ablate", "diga:table3", "--set", "warm_up.alhpa=1"), ("warm_up.alhpa", "did you mean 'alpha'?")),
    (("run", "--recipe", "nowhere.json"), ("nowhere.json", "No such file")),
    (("run", "--recipe", "."), ("cannot be read",)),
    (("show", "abcdef12"), ("abcdef12", "0 stage runs")),
    (("report", "tabel3"), ("tabel3",)),
    (("nonsense",), ("diga", "nonsense", "diga --help")),
    (("data", "make", "towns"), ("diga data make", "'towns'", "streets")),
    (("data", "make", "streets", "--gap", "7"), ("--gap", "found 7")),
    (("serve", "--port", "99999999"), ("diga serve", "--port")),
]


@pytest.mark.parametrize(("words", "parts"), USAGE, ids=[" ".join(w)[:60] for w, _ in USAGE])
def test_what_cannot_be_meant_is_refused_in_one_line(typed, place, words, parts):
    refused(typed(*words), 2, *parts)
    assert not (place.home / "stages").exists()
    assert not (place.home / "mlflow-artifacts").exists(), "nothing is recorded of a command that means nothing"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"[1, 2]", "found list"),
        (b'{"name": "x"', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"name": "x"}', "sources"),
        (b'{"name": "x", "sources": ["a"], "stages": {"s": {"is": "os.system"}}}', "'os.system'"),
        (b'{"name": "x", "sources": ["a"], "stages": {}}', "one stage"),
        (b'{"name": "\\ud800", "sources": ["a"], "stages": {}}', "error"),
    ],
)
def test_a_recipe_file_that_is_none(typed, tmp_path, text, part):
    (tmp_path / "bad.json").write_bytes(text)
    refused(typed("run", "--recipe", "bad.json"), 2, part)


# --- data --------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def unknown_id(path: Path) -> None:
    label = Image.open(path)
    ids = np.array(label)
    ids[3, 4] = 77
    painted = Image.fromarray(ids)
    painted.putpalette(label.getpalette() or [])
    painted.save(path)


def smaller(path: Path) -> None:
    label = Image.open(path)
    label.crop((0, 0, 40, 32)).save(path)


DAMAGE = [
    ("gta5/images/00003.png", truncate, ("00003.png", "damaged")),
    ("gta5/labels/00002.png", truncate, ("00002.png", "damaged")),
    ("gta5/labels/00002.png", unknown_id, ("00002.png", "unknown label ids 77 (1 pixels)")),
    ("gta5/labels/00001.png", smaller, ("00001.png", "40 x 32 pixels", "64 x 32")),
    ("gta5/labels/00001.png", Path.unlink, ("00001.png", "1 labels are missing")),
]


@pytest.mark.parametrize(("file", "spoil", "parts"), DAMAGE, ids=[f"{s.__name__} {f}" for f, s, _ in DAMAGE])
def test_damaged_data_is_named_before_anything_is_trained(typed, place, file, spoil, parts):
    spoil(place.data / "streets" / file)
    refused(typed(*RUN), 3, *parts)
    refused(typed("plan", "diga:streets"), 3, *parts)
    assert not (place.home / "stages").exists()


def test_an_empty_tree_is_said_at_once(typed, place):
    for image in (place.data / "streets/gta5/images").iterdir():
        image.unlink()
    refused(typed(*RUN), 3, "gta5")


def test_missing_streets_are_answered_with_the_command_that_makes_them(typed, place):
    shutil.rmtree(place.data / "streets")
    for words in (RUN, ("ablate", "diga:table3"), ("plan", "diga:table3"), ("plan", "diga:streets")):
        refused(typed(*words), 3, "streets", "`diga data make streets`")
    refused(typed(*RUN, "--set", 'sources=["real/gta5"]', "--set", 'targets=["real/cityscapes"]'), 3, "streets")


def test_another_missing_tree_is_named_with_the_nearest(typed):
    refused(typed(*RUN, "--set", 'sources=["street/gta5"]'), 3, "street/gta5", "did you mean 'streets/gta5'?")


# --- storage, divergence ---------------------------------------------------------------------------


def test_a_database_that_is_none_is_named(typed, place):
    (place.home / "mlflow.db").write_bytes(b"not a database " * 999)
    refused(typed(*RUN), 4, "mlflow.db", "not a database")
    assert not (place.home / "stages").exists()


def test_a_home_that_cannot_be_is_named(typed, tmp_path):
    (tmp_path / "file").write_text("in the way")
    refused(typed(*RUN, home=tmp_path / "file"), 4, str(tmp_path / "file"))


def test_no_records_yet(typed, tmp_path):
    for words in (("status", "table3"), ("report", "table3")):
        refused(typed(*words, home=tmp_path / "fresh"), 4, "mlflow.db", "no records there")
    assert not (tmp_path / "fresh").exists()


def test_a_loss_that_is_not_finite_ends_a_lone_run_with_its_own_code(typed, place):
    assert typed(*RUN)[0] == 0
    before = tiny.marks(place.home)
    said = typed(*RUN, "--set", "train.plan.lr=1e6", "--set", "train.plan.steps=40")
    refused(said, 5, "train step", "loss/source is", "try a lower plan.lr")
    assert "0 of 1 cells done" in said[1]
    assert tiny.marks(place.home) == before, "what was finished stays"
    assert typed(*RUN)[0] == 0
    assert tiny.marks(place.home) == before


@pytest.mark.slow
def test_a_study_with_a_failed_cell_ends_with_six_and_names_it(typed, place):
    small = ("warm_up.plan.steps=2", "self_training.plan.steps=60", "self_training.plan.lr=1e6", "crop=[28,56]")
    words = ["ablate", "diga:table3", "--inline", "--no-guard", "--seeds", "1"]
    words += [w for s in small for w in ("--set", s)]
    said = typed(*words)
    refused(said, 6, "table3", "1 cells failed: divergence", "diga retry table3")
    text = (place.home / "reports/table3/report.md").read_text()
    (declared,) = tiny.runs(tiny.client(place), "diga/table3", "study")
    assert tiny.artifact(tiny.client(place), declared, "report/report.md") == text, "MLflow has it, as by diga report"
    assert "5 of 6 cells done" in said[1]
    (line,) = (line for line in said[1].splitlines() if "failed:" in line)
    assert "self_training" in line
    code, told, _ = typed("status", "table3")
    assert (code, told.count("failed: divergence")) == (0, 1)
    code, told, errors = typed("report", "table3")
    assert code == 0, errors
    assert "failed" in (place.home / "reports/table3/report.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../../escape", "/etc/passwd", "a\nb", "'\"; DROP", r"\input{x}", "🛣️‮", "-rf"])
def test_a_hostile_name_is_only_a_name(typed, place, tmp_path, name):
    outside = {p for p in tmp_path.rglob("*") if place.home not in p.parents}
    code, _, errors = typed(*RUN, "--set", f"name={json.dumps(name)}")
    assert (code, errors) == (0, "")
    assert {p for p in tmp_path.rglob("*") if place.home not in p.parents} == outside
    (cell,) = (
        cell
        for experiment in tiny.client(place).search_experiments()
        for cell in tiny.runs(tiny.client(place), experiment.name, "cell")
    )
    assert cell.data.tags["recipe"] == cell.data.tags["row"] == name
    assert typed("status", "--", name)[0] == 0


def test_a_taken_port_is_named(typed):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused(typed("serve", "--port", port), 2, "--port", f"port {port} is taken")
        refused(typed("serve", "--reports-port", port), 2, "--reports-port", f"port {port} is taken")
    refused(typed("serve", "--port", port, "--reports-port", port), 2, "--reports-port")


def test_debug_shows_where_an_error_came_from(tmp_path):
    code, _, errors = tiny.diga(tmp_path, "--debug", "run", "diga:streetz")
    assert code == 1
    assert "Traceback" in errors
    assert "ConfigError" in errors


def test_a_closed_pipe_is_no_error(tmp_path):
    process = tiny.spawn(tmp_path, "list")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    assert "Traceback" not in tiny.ended(process)[2]
    assert process.returncode in (0, 1, -signal.SIGPIPE)
