"""Recipes: what goes to JSON comes back, and what cannot be meant is refused in one line."""

from __future__ import annotations

import importlib
import inspect
import json
import math
import pkgutil
import string
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from diga.cli.console import catalogue
from diga.errors import ConfigError, DigaError, expected_one_of, shown
from diga.methods.diga import SelfTraining, WarmUp
from diga.methods.score import Score
from diga.methods.source_only import SourceOnly
from diga.methods.targets import PseudoLabels
from diga.methods.translation import ColourTransfer
from diga.recipe import Recipe, dumps, loads, override, plain
from diga.registry import names_in
from diga.settings import Frozen, Plan, Strong
from diga.stage import Stage, refs
from diga.study import Study
from experiments.diga import streets


def made_by_experiments() -> dict[str, Recipe]:
    """Every recipe that a function of `experiments` makes, and that of every row of every study."""
    found = {name: make() for name, make in catalogue(Recipe).items()}
    for name, make in catalogue(Study).items():
        found |= {f"{name} {row.label}": row.recipe for row in make().rows}
    return found


RECIPES = made_by_experiments()


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted path of a recipe that override can change, down to single values."""
    if isinstance(value, Recipe):
        for name, stage in value.stages.items():
            yield from leaves(stage, name)
    names = [n for n in type(value).model_fields if n != "stages"] if isinstance(value, Frozen) else []
    for name in names:
        yield from leaves(getattr(value, name), f"{path}.{name}".strip("."))
    if not names:
        yield path, value


STREETS = streets()
LEAVES = dict(leaves(STREETS))
NUMBERS = [path for path, value in LEAVES.items() if isinstance(value, int | float) and not isinstance(value, bool)]


def refusal(changes: dict[str, Any]) -> str:
    """The one line with which a change of the streets recipe is refused."""
    with pytest.raises(ConfigError) as caught:
        override(STREETS, changes)
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) < 400, line
    return line


# --- to JSON and back ------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_comes_back_from_json_equal(name: str) -> None:
    recipe = RECIPES[name]
    back = loads(dumps(recipe))
    assert back == recipe
    assert dumps(back) == dumps(recipe)
    assert [type(s) for s in back.stages.values()] == [type(s) for s in recipe.stages.values()]
    assert list(back.stages) == list(recipe.stages)


def test_the_json_names_every_default() -> None:
    document = json.loads(dumps(STREETS))
    for path in LEAVES:
        place = document["stages"] if path.split(".")[0] in STREETS.stages else document
        for name in path.split("."):
            place = place[name]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("[1]", "found list"),
        ("{" * 100_000, "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"seed": 1' + "0" * 5000 + "}", "not JSON"),
        ('{"name": "a", "name": "b"}', "a key stands twice"),
        ('{"name": "a", "sources": ["a"], "stages": 5}', "stages: found 5"),
        ('{"name": "a", "sources": ["a"], "stages": {}}', "one source and one stage"),
        ('{"name": "a", "sources": ["a"], "stages": {"x": {}}}', "x.is: found None"),
        ('{"name": "a", "sources": ["a"], "stages": {"x": 5}}', "stages.x: found 5"),
        ('{"sources": ["a"]}', "found nothing"),
        ('{"\\ud800": 1}', "recipe"),
    ],
)
def test_a_text_that_is_no_recipe_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(text)
    assert said.lower() in str(caught.value).lower()
    assert len(str(caught.value)) < 400


def test_json_that_names_a_class_elsewhere_is_refused_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "sung"
    (tmp_path / "canary.py").write_text(f"open({str(canary)!r}, 'w').close()\nclass Bird: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    names = ["canary.Bird", "diga.methods.canary.Bird", "diga.methods...canary.Bird", "canary.diga.methods.x.Bird"]
    names += [f"diga.methods.{tmp_path}/canary.Bird", "diga.methods.diga.canary.Bird", "diga.methods.Bird", "Bird"]
    names += ["os.system", "builtins.eval", "diga.recipe.Stage", "diga.methods.score.Stage", "diga.methods.score."]
    names += ["diga.methods.diga.Distillation", "diga.methods.diga.bilateral_consensus", "diga.methods\0.score.Score"]
    for name in [*names, None, 5, [], {}, "x" * 10_000]:
        document = json.loads(dumps(STREETS))
        document["stages"]["score"]["is"] = name
        with pytest.raises(ConfigError, match=r"^score\.is: found .*a stage of diga\.methods"):
            loads(json.dumps(document))
    assert not canary.exists()
    assert "canary" not in sys.modules


# --- unknown keys ----------------------------------------------------------------------------


def typos(word: str) -> set[str]:
    """The word with one letter dropped, doubled, or swapped with the next."""
    cuts = [(word[:i], word[i], word[i + 1 :]) for i in range(len(word))]
    dropped, doubled = {a + c for a, _, c in cuts}, {a + b + b + c for a, b, c in cuts}
    swapped = {a + c[0] + b + c[1:] for a, b, c in cuts if c}
    return (dropped | doubled | swapped) - {word, ""}


def misspelt() -> Iterator[tuple[str, str]]:
    """(path with a typo in one of its keys, the key that was meant), for every key of the streets recipe."""
    paths = {p.rsplit(".", n)[0] for p in LEAVES for n in range(p.count(".") + 1)}
    for path in sorted(paths):
        before, _, key = path.rpartition(".")
        beside = {p for p in paths if p.rpartition(".")[0] == before}
        for typo in sorted(typos(key)):
            if f"{before}.{typo}".strip(".") not in beside:
                yield f"{before}.{typo}".strip("."), key


def test_a_misspelt_key_is_answered_with_the_right_one() -> None:
    right = wrong = 0
    for path, meant in misspelt():
        line = refusal({path: 0})
        assert line.startswith(f"{path}: no ")
        right, wrong = (right + 1, wrong) if f"did you mean {meant!r}?" in line else (right, wrong + 1)
    assert right + wrong > 1000
    assert right / (right + wrong) >= 0.95, (right, wrong)


def test_a_misspelt_key_inside_a_value_is_answered_too() -> None:
    assert refusal({"warm_up.plan": {"stepz": 3}}) == "warm_up.plan.stepz: no such key (did you mean 'steps'?)"
    document = json.loads(dumps(STREETS)) | {"sead": 3}
    with pytest.raises(ConfigError, match=r"sead: no such key .did you mean 'seed'"):
        loads(json.dumps(document))


def test_a_misspelt_name_of_a_function_is_answered_with_the_right_one() -> None:
    assert "did you mean 'classes'?" in refusal({"warm_up.mask.kind": "clases"})
    assert "did you mean 'two_scale_max'?" in refusal({"score.protocol": "two_scale_mx"})
    assert "known: deeplab_resnet101" in refusal({"model": "zzz"})


@pytest.mark.parametrize("module", ["diga.models", "diga.ops.masks", "diga.engine.protocols"])
def test_names_read_from_a_modules_text_are_its_callables(module: str) -> None:
    live = importlib.import_module(module)
    for name in names_in(module):
        assert callable(getattr(live, name))
    own = {n for n, f in inspect.getmembers(live, inspect.isfunction) if f.__module__ == module}
    assert {n for n in own if not n.startswith("_")} <= names_in(module)


# --- strict values ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", NUMBERS)
@pytest.mark.parametrize("value", ["0.3", "1e-4", True, None, math.nan, math.inf, -math.inf, [], {}, -1, -1e-9])
def test_what_is_no_number_of_its_kind_is_refused(path: str, value: Any) -> None:
    line = refusal({path: value})
    assert line.startswith(f"{path}: found {shown(value)} (")


@pytest.mark.parametrize("path", list(NUMBERS))
@pytest.mark.parametrize("value", [1e308, 10**12, 10**40])
def test_every_number_has_an_upper_bound(path: str, value: float) -> None:
    assert refusal({path: value}).startswith(f"{path}: found ")


@pytest.mark.parametrize("path", [p for p, v in LEAVES.items() if isinstance(v, bool)])
@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_what_is_no_truth_value_is_refused(path: str, value: Any) -> None:
    assert refusal({path: value}) == f"{path}: found {value!r} (a valid boolean)"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("classes", "19"),
        ("crop", [56]),
        ("crop", [56, 112, 3]),
        ("crop", [0, 112]),
        ("crop", "56x112"),
        ("scale", [-2.0, -1.0]),
        ("scale", [2.0, 1.0]),
        ("scale", [0, 1]),
        ("sources", []),
        ("sources", "streets/gta5"),
        ("score.domains", []),
        ("score.statistics", ["mean"]),
        ("warm_up.translator", ""),
        ("labels.of", ""),
        ("labels.of", None),
        ("seed", 2**31),
        ("warm_up", {}),
        ("warm_up", None),
        ("warm_up", [1]),
        ("warm_up", {"is": "diga.methods.diga.WarmUp", "alpha": -1}),
        ("seed", {1, 2}),
        ("seed", object()),
        ("seed", b"1"),
        ("", 1),
        (".", 1),
        ("stages", {}),
        ("stages.warm_up.alpha", 0.1),
        ("crop.0", 1),
        ("warm_up.alpha.x", 1),
        ("warm_up..alpha", 1),
        ("\x1b[31m\n\0", 1),
        ("\ud800", 1),
    ],
)
def test_what_cannot_be_meant_is_refused(path: str, value: Any) -> None:
    refusal({path: value})


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    assert refusal({"seed": 10**5000}) == "seed: found int (a value that JSON can hold)"
    assert refusal({"seed": 10**4000}).startswith("seed: found 1000")


def test_changes_that_do_not_fit_together_are_refused() -> None:
    assert "no such key" in refusal({"warm_up": SourceOnly(), "warm_up.alpha": 0.3})
    assert "an earlier change" in refusal({"warm_up": "text", "warm_up.alpha": 0.3})
    assert "an earlier change" in refusal({"warm_up.plan": None, "warm_up.plan.steps": 3})


def test_python_is_held_to_the_same_as_json() -> None:
    for wrong in ({"seed": True}, {"seed": "1"}, {"flip": 2.0}, {"sead": 1}, {"crop": (0, 1)}, {"batch": 1.0}):
        with pytest.raises(ValidationError):
            STREETS.model_copy(update=wrong)
        with pytest.raises(ValidationError):
            Recipe(**(dict(STREETS) | wrong))
    with pytest.raises(ValidationError):
        STREETS.seed = 3  # type: ignore[misc]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([10**400, -(2**63), "x" * 5000, "../..", "\\input{/etc/passwd}", "\x00", "\udcff", "warm_up"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
PATHS = (
    st.sampled_from([*LEAVES, *STREETS.stages, "warm_up.plan", "self_training.strong", "sources", "stages"])
    | st.text(string.ascii_lowercase + "._", max_size=20)
    | st.text(max_size=10)
)
SPENT: list[float] = []


@settings(max_examples=2000, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.dictionaries(PATHS, JSON, min_size=1, max_size=4))
def check_random_changes(changes: dict[str, Any]) -> None:
    begun = time.perf_counter()
    try:
        recipe: Recipe | None = override(STREETS, changes)
        line = ""
    except ConfigError as failure:
        recipe, line = None, str(failure)
    SPENT.append(time.perf_counter() - begun)
    assert line.isprintable()
    assert (recipe is None) == bool(line)
    if recipe is not None:
        assert loads(dumps(recipe)) == recipe


@pytest.mark.slow
def test_two_thousand_random_changes_give_a_recipe_or_a_config_error() -> None:
    SPENT.clear()
    check_random_changes()
    assert len(SPENT) >= 1900
    assert sum(SPENT) / len(SPENT) <= 0.005


# --- stages ----------------------------------------------------------------------------------


def test_a_stage_is_put_in_a_stages_place() -> None:
    changed = override(STREETS, {"warm_up": SourceOnly(plan=Plan(steps=7))})
    assert changed.stages["warm_up"] == SourceOnly(plan=Plan(steps=7))
    assert list(changed.stages) == list(STREETS.stages)
    assert override(changed, {"warm_up": STREETS.stages["warm_up"]}) == STREETS
    assert override(STREETS, {"warm_up.strong": Strong(blend=0.1)}).stages["warm_up"].strong.blend == 0.1  # type: ignore[attr-defined]


def test_a_change_is_not_written_into_the_value_given() -> None:
    given = {"steps": 5}
    assert override(STREETS, {"warm_up.plan": given, "warm_up.plan.steps": 7}).stages["warm_up"].plan.steps == 7  # type: ignore[attr-defined]
    assert given == {"steps": 5}


def test_no_change_is_no_change() -> None:
    assert override(STREETS, {}) == STREETS
    assert override(STREETS, LEAVES) == STREETS


@pytest.mark.parametrize("ref", ["self_training", "score", "nowhere", "warm_up", "centroids.of", "diga/streets"])
def test_a_stage_that_reads_a_later_or_unknown_one_is_refused(ref: str) -> None:
    line = refusal({"warm_up.translator": ref})
    assert f"stage 'warm_up' reads {ref!r}; earlier stages are: translator" in line
    warm_up = STREETS.stages["warm_up"].model_copy(update={"translator": ref})
    with pytest.raises(ValidationError, match="earlier stages are: translator"):
        STREETS.model_copy(update={"stages": STREETS.stages | {"warm_up": warm_up}})


def test_refs_are_the_fields_that_name_stages() -> None:
    assert refs(STREETS.stages["self_training"]) == ["translator", "warm_up", "labels", "centroids"]
    assert refs(STREETS.stages["warm_up"]) == ["translator"]
    assert refs(STREETS.stages["translator"]) == []
    assert refs(WarmUp()) == []
    assert set(refs(SelfTraining(warm_up="a", labels="b", centroids="c"))) == {"a", "b", "c"}


def test_only_the_last_stage_and_what_it_reads_is_needed() -> None:
    assert STREETS.needed() == tuple(STREETS.stages)
    alone = override(STREETS, {"score.of": "warm_up", "warm_up.translator": None})
    assert alone.needed() == ("warm_up", "score")
    extra = {"beside": PseudoLabels(of="warm_up"), "score": STREETS.stages["score"]}
    stages = {k: v for k, v in STREETS.stages.items() if k != "score"} | extra
    assert "beside" not in STREETS.model_copy(update={"stages": stages}).needed()


@pytest.mark.parametrize("name", ["seed", "name", "sources", "a.b", "a b", "", "../x", "1st", "stages"])
def test_a_stage_name_that_no_path_could_say_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="found the name"):
        STREETS.model_copy(update={"stages": {name: SourceOnly()}})


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../../etc", "\\input{/etc/passwd}", "$&%#_{}~^\\", "=cmd|' /C calc'!A0", "Κως 🚗", "-rf"]
)
def test_a_name_is_data(name: str) -> None:
    assert loads(dumps(override(STREETS, {"name": name}))).name == name


@pytest.mark.parametrize("name", ["", "x" * 201, "x" * 5000, None, 5])
def test_a_name_has_a_length(name: Any) -> None:
    assert refusal({"name": name}).startswith("name: found ")


# --- errors ----------------------------------------------------------------------------------


def test_an_error_is_one_printable_line() -> None:
    line = str(DigaError("a\nb", "x\x1b[31m\ty", "\ud800\u202e"))
    assert line == "a b: x\\x1b[31m y (\\ud800\\u202e)"


def test_a_quoted_value_is_short() -> None:
    for value in (10**5000, "x" * 10_000, [[1] * 50] * 50, b"\0" * 300):
        assert len(shown(value)) < 100


def test_the_nearest_right_answer_is_given_or_all() -> None:
    assert expected_one_of("sead", ["seed", "name"]) == "did you mean 'seed'?"
    assert expected_one_of("qqqq", ["seed", "name"]) == "known: name, seed"
    assert expected_one_of("qqqq", []) == "known: none"


def mask(kind: str, fraction: float) -> dict[str, Any]:
    return {"kind": kind, "fraction": fraction}


def every_stage_class() -> Iterator[type[Stage]]:
    import diga.methods

    for info in pkgutil.iter_modules(diga.methods.__path__):
        module = importlib.import_module(f"diga.methods.{info.name}")
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, Stage) and kind.__module__ == module.__name__ and not inspect.isabstract(kind):
                yield kind


def test_every_stage_class_comes_back_from_json() -> None:
    kinds = list(every_stage_class())
    assert {WarmUp, SelfTraining, Score, SourceOnly} <= set(kinds)
    needed: Callable[[type[Stage]], dict[str, Any]] = lambda kind: {  # noqa: E731
        n: ("a",) if n == "domains" else "first" for n, f in kind.model_fields.items() if f.is_required()
    }
    whole = {stage: name for name, recipe in RECIPES.items() for stage in map(type, recipe.stages.values())}
    for kind in kinds:
        if kind in whole:  # some of them go with no other stages than their own
            assert loads(dumps(RECIPES[whole[kind]])) == RECIPES[whole[kind]]
            continue
        stage = kind(**needed(kind))
        recipe = Recipe(name="x", sources=("a",), targets=("b",), stages={"first": ColourTransfer(), "second": stage})
        assert loads(dumps(recipe)) == recipe
        assert plain(stage)["is"].endswith(kind.__name__)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"self_training.centroids": None}, ("self_training.centroids", "'consensus'", "known: centroids")),
        ({"self_training.rule": "bdl"}, ("self_training.rule", "'labels' does not keep", "'confidence'")),
        ({"self_training.rule": "proda"}, ("self_training.rule", "'labels' does not keep", "'probabilities'")),
        ({"self_training.labels": "warm_up"}, ("self_training.labels", "'warm_up' is a WarmUp", "PseudoLabels")),
        ({"warm_up.translator": "translator", "translator": SourceOnly()}, ("warm_up.translator", "paints nothing")),
        ({"self_training.trust.threshold": 1.0}, ("self_training.trust.threshold", "less than 1")),
        ({"self_training.trust.quantile": 0.0}, ("self_training.trust.quantile", "greater than 0")),
        ({"warm_up.mask.fraction": 0.0}, ("warm_up.mask.fraction", "greater than 0")),
        ({"warm_up.mask.fraction": 0.05}, ("warm_up.mask.fraction: found 0.05", "no class of 19", "0.05263 or more")),
        ({"warm_up.mask.fraction": 0.02, "warm_up.mask.rounding": "nearest"}, ("warm_up.mask", "no class of 19")),
        ({"warm_up.mask.fraction": 0.06, "classes": 16}, ("warm_up.mask.fraction", "no class of 16", "0.0625")),
        ({"self_training.mix": mask("cut", 0.008)}, ("self_training.mix.fraction", "no pixel of 56 x 112", "0.008929")),
        ({"self_training.mask": mask("grid", 0.005)}, ("self_training.mask.fraction", "'grid'", "0.005102 or more")),
        ({"warm_up.mask": mask("noise", 1e-5)}, ("warm_up.mask.fraction: found 1e-05", "no pixel", "7.972e-05")),
        ({"self_training.centroids": "labels"}, ("self_training.centroids", "'labels' is a PseudoLabels")),
        ({"self_training.warm_up": "centroids"}, ("self_training.warm_up", "leaves no student", "warm_up")),
        ({"score.of": "translator"}, ("score.of", "leaves no student")),
        ({"centroids.of": "translator"}, ("centroids.of", "leaves no student")),
        ({"labels.of": "translator"}, ("labels.of", "leaves no student")),
        ({"targets": []}, ("targets", "'translator' reads target images")),
        ({"classes": 13}, ("classes", "found 13", "19 or 16")),
        ({"score.quality": True}, ("score.quality", "no labels to judge")),
        ({"source_frames.sizes": [{"images": 3, "height": 9, "width": 9}]}, ("source_frames.sizes", "3 images", "4")),
        ({"source_frames.scale": [1.0, 0.5]}, ("source_frames.scale", "lower bound first")),
    ],
)
def test_what_cannot_be_meant_is_refused_when_the_recipe_is_made(changes: dict[str, Any], parts: Sequence[str]) -> None:
    said = refusal(changes)
    assert "\n" not in said
    for part in parts:
        assert part in said, said
