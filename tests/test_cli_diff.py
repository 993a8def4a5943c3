"""`diga diff`: the fields that differ, the place that set each, and what came of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from diga.cli.origins import origin
from diga.differences import ABSENT, below, between, fields, flat, told
from diga.recipe import dumps, override
from experiments.diga import streets, streets_official
from experiments.official import OFFICIAL
from tests import tiny

ROOT = Path(__file__).parents[1]
SMALL = {"warm_up.plan.steps": 2, "self_training.plan.steps": 2, "crop": [28, 56], "centroids.steps": 2}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home in which a small recipe and the same with another test protocol have been carried out."""
    place = tiny.place(tmp_path_factory.mktemp("diff"))
    for name, more in (("a", {}), ("b", {"score.protocol": "single_scale", "warm_up.alpha": 0.1})):
        (place.home / f"{name}.json").write_text(dumps(override(streets(), SMALL | more)))
        said(place.home, "run", "--recipe", str(place.home / f"{name}.json"))
    return place.home


def said(home, *words: str) -> str:
    code, told_, errors = tiny.typed(home, *words)
    assert (code, errors) == (0, ""), (words, errors)
    return told_


def lines(text: str) -> dict[str, list[str]]:
    """Rows of a printed table by their first cell."""
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line.startswith("│")]
    return {row[0]: row[1:] for row in rows}


# --- values --------------------------------------------------------------------------------------


def test_differences_are_paths_with_both_values() -> None:
    one, other = {"a": {"b": 1, "c": [1]}, "d": 1}, {"a": {"b": 2, "c": [1]}, "e": {}}
    assert between(flat(one), flat(other)) == {"a.b": (1, 2), "d": (1, ABSENT), "e": (ABSENT, {})}
    assert between({"x": 1}, {"x": True}) == {"x": (1, True)}, "equal in Python, and not the same"
    assert told((0.5, ABSENT)) == "0.5 -> nothing"
    assert below("a.b", ("a",))
    assert not below("ab", ("a",))


def test_official_differs_in_its_quirks_and_each_is_where_it_is_set() -> None:
    found = between(fields(streets()), fields(streets_official()))
    assert {path: pair[1] for path, pair in found.items()} == OFFICIAL
    text = {f: (ROOT / f).read_text().splitlines() for f in ("experiments/official.py", "experiments/diga.py")}
    for path, (clean, quirk) in found.items():
        file, _, line = origin(streets_official(), path, quirk, "experiments.diga").rpartition(":")
        assert f'"{path}"' in text[file][int(line) - 1], path
        place = origin(streets(), path, clean, "experiments.diga")
        assert place.startswith("default, diga/") or "experiments/diga.py" in place, (path, place)


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("warm_up.alpha", 0.5, r"^    alpha: Weight"),
        ("warm_up.plan.power", 0.9, r"^    power: Positive"),
        ("flip", 0.5, r"^    flip:"),
        ("warm_up.ema", 0.99, r"ema=0\.99"),
        ("batch", 4, r"batch=4"),
        ("score.protocol", "two_scale_max", r'protocol="two_scale_max"'),
    ],
)
def test_a_place_is_the_line_that_says_so(path: str, value: object, line: str) -> None:
    file, _, number = origin(streets(), path, value, "experiments.diga").removeprefix("default, ").rpartition(":")
    assert re.search(line, (ROOT / file).read_text().splitlines()[int(number) - 1])


def test_a_value_that_nobody_wrote_has_no_place() -> None:
    assert origin(override(streets(), {"flip": 0.123}), "flip", 0.123, "experiments.diga") == "-"
    assert origin(streets(), "no.such.path", 1) == "-"


# --- the command ---------------------------------------------------------------------------------


def test_two_recipes_field_by_field(home) -> None:
    shown = lines(said(home, "diff", "diga:streets", "diga:streets_official"))
    assert OFFICIAL.keys() <= shown.keys()
    first, second, place, other = shown["warm_up.normalise"]
    assert (first, second) == ("'valid'", "'all'")
    assert place.startswith("default, diga/methods/diga.py:")
    assert other.startswith("experiments/official.py:")


def test_rows_and_cells_of_a_study(home) -> None:
    shown = lines(said(home, "diff", "diga:table3/(i)", "diga:table3/(ii)"))
    assert shown["warm_up.alpha"][:2] == ["0.0", "0.5"]
    assert [path for path in shown if "." in path] == ["warm_up.alpha"]
    cells = lines(said(home, "diff", "table3/(iv)/0", "table3/(iv)/2"))
    assert cells["seed"][:2] == ["0", "2"]
    assert "no field differs" in said(home, "diff", "table3/(iv)", "table3/(iv)/0")


def test_what_has_been_scored_shows_every_number(home) -> None:
    text = said(home, "diff", str(home / "a.json"), str(home / "b.json"))
    shown = lines(text)
    assert shown["score.protocol"][:2] == ["'two_scale_max'", "'single_scale'"]
    scores = []
    for manifest in tiny.manifests(home).values():
        if (file := manifest.parent / "scores.json").exists():
            protocol = json.loads(manifest.read_text())["facts"]["stage"]["protocol"]
            scores.append((protocol, json.loads(file.read_text())))
    a, b = dict(scores)["two_scale_max"], dict(scores)["single_scale"]
    for name in (n for n in a if n.endswith("/miou") and n in b):
        assert shown[name] == [f"{100 * a[name]:.1f}", f"{100 * b[name]:.1f}", f"{100 * (b[name] - a[name]):+.1f}"]
    assert "by class" in text
    assert {"road", "sky"} <= shown.keys()


def test_two_stage_runs_by_their_fingerprints(home) -> None:
    kinds: dict[str, list[str]] = {}
    for fingerprint, manifest in tiny.manifests(home).items():
        kind = json.loads(manifest.read_text())["facts"]["stage"]["is"].rpartition(".")[2]
        kinds.setdefault(kind, []).append(fingerprint)
    shown = lines(said(home, "diff", *kinds["WarmUp"]))
    assert sorted(shown["stage.alpha"]) == ["0.1", "0.5"]
    assert "by class" in said(home, "diff", *(f[:10] for f in kinds["Score"]))


@pytest.mark.parametrize(
    ("words", "told_"),
    [
        (("diga:streets", "diga:streetz"), "did you mean 'diga:streets'?"),
        (("diga:table3/(ivv)", "diga:streets"), "no row '(ivv)' in diga:table3 (did you mean '(iv)'?)"),
        (("diga:table3/(iv)/x", "diga:streets"), "no row '(iv)/x' in diga:table3"),
        (("diga:streets", "aaaaaa"), "0 stage runs start so"),
    ],
)
def test_what_there_is_not_is_one_line(home, words, told_) -> None:
    code, _, errors = tiny.typed(home, "diff", *words)
    assert (code, len(errors.splitlines())) == (2, 1)
    assert told_ in errors


def test_a_recipe_and_a_stage_run_are_not_of_one_kind(home) -> None:
    fingerprint = next(iter(tiny.manifests(home)))
    code, _, errors = tiny.typed(home, "diff", "diga:streets", fingerprint)
    assert code == 2
    assert "are not of one kind (two recipes or cells, or two stage runs)" in errors
