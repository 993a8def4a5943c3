"""Spaces: what they ask for is known before anything starts, and what a recipe cannot be is one line."""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

import search_spaces
from diga.cli.searching import spaces
from diga.errors import ConfigError
from diga.recipe import Recipe, override
from diga.registry import names_in
from diga.space import Dimension, Explored, Space, differences, explored
from experiments import baselines, ddb, gta5_cityscapes
from experiments.diga import streets

WHOLE = streets()
ONE_ROUND = (ddb.streets(1), ddb.gta5_cityscapes(1))
BASES = {  # on streets, and at the paper's size
    "diga.warm_up": (WHOLE, gta5_cityscapes.diga(), gta5_cityscapes.official(), gta5_cityscapes.generalization()),
    "diga.self_training": (WHOLE, gta5_cityscapes.diga(), gta5_cityscapes.official()),
    "diga.labels": (WHOLE, gta5_cityscapes.diga(), gta5_cityscapes.official()),
    "diga.length": (WHOLE,),
    "ddb.cut_path": (ddb.streets(), ddb.gta5_cityscapes(), ddb.official(), *ONE_ROUND),
    "ddb.class_path": (ddb.streets(), ddb.gta5_cityscapes(), ddb.official(), *ONE_ROUND),
    "ddb.student": (ddb.streets(), ddb.gta5_cityscapes(), ddb.official(), *ONE_ROUND),
    "baselines.source_only": (baselines.source_only(), gta5_cityscapes.table1().rows[0].recipe),
    "baselines.adversarial": (baselines.adversarial(),),
}


def heard(space: Space, base: Recipe = WHOLE) -> Explored:
    return explored(space, base, "space s")


def by_path(space: Space, base: Recipe = WHOLE) -> dict[str, Dimension]:
    return {d.path: d for d in heard(space, base).dimensions}


def refused(space: Space, base: Recipe = WHOLE) -> str:
    with pytest.raises(ConfigError) as failure:
        heard(space, base)
    assert "\n" not in str(failure.value)
    return str(failure.value)


# --- those of the project --------------------------------------------------------------------


def test_every_space_has_a_base_here() -> None:
    assert spaces().keys() == BASES.keys()


@pytest.mark.parametrize(
    ("name", "base"), [(n, b) for n in BASES for b in BASES[n]], ids=lambda x: getattr(x, "name", x)
)
def test_it_fits_its_recipes(name: str, base: Recipe) -> None:
    """What Optuna makes of it, fifty times at random, its recipe takes; and it is what was heard."""
    found = {d.path: d for d in heard(spaces()[name], base).dimensions}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    met = set()
    for number in range(50):
        trial = study.ask()
        more = spaces()[name](trial) or {}
        if number < 10:
            override(base, trial.params | dict(more))
        assert trial.params.keys() == {d.path for d in found.values() if d.asked(trial.params)}
        assert all(found[path].holds(value) for path, value in trial.params.items())
        met |= trial.params.keys()
        study.tell(trial, 0.0)
    assert met == found.keys(), "what is asked under some choice was heard"


@pytest.mark.parametrize("module", [p.stem for p in Path(search_spaces.__file__).parent.glob("*.py")])
def test_a_space_imports_nothing_of_ours(module: str) -> None:
    name = "search_spaces" if module == "__init__" else f"search_spaces.{module}"
    code = f"import sys, {name}; print(*(m for m in sys.modules if m.split('.')[0] in ('diga', 'optuna', 'torch')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_number_and_choice_of_a_space_is_a_literal() -> None:
    """A space is read, not computed: no call but those of the trial and of its own helpers."""
    for path in Path(search_spaces.__file__).parent.glob("*.py"):
        whole = ast.parse(path.read_text())
        own = {node.name for node in ast.walk(whole) if isinstance(node, ast.FunctionDef)}
        for call in [node for node in ast.walk(whole) if isinstance(node, ast.Call)]:
            assert ast.unparse(call.func).startswith("trial.suggest_") or ast.unparse(call.func) in own


@pytest.mark.parametrize(
    ("name", "at"), [("diga.warm_up", "warm_up.mask"), ("diga.self_training", "self_training.mix")]
)
def test_a_masks_own_parameters_are_asked_for_with_that_mask_alone(name: str, at: str) -> None:
    found = by_path(spaces()[name])
    assert found[f"{at}.side"].when == {f"{at}.kind": ("grid", "noise", "cow")}
    assert found[f"{at}.fraction"].when == {f"{at}.kind": ("classes", "cut", "grid", "noise", "cow", "fourier")}
    assert set(found[f"{at}.kind"].choices) == names_in("diga.ops.masks")
    assert found[f"{at}.kind"].when == {}
    rest = {d.path for d in found.values() if d.when}
    assert rest == {f"{at}.side", f"{at}.fraction"}


# --- what hangs on what ------------------------------------------------------------------------


def nested(trial: Any) -> None:
    """A mask's side under two kinds, and a rate under the kind and an optimizer."""
    kind = trial.suggest_categorical("warm_up.mask.kind", ("classes", "cut", "grid"))
    if kind == "grid":
        trial.suggest_int("warm_up.mask.side", 4, 16)
        if trial.suggest_categorical("warm_up.plan.optimizer", ("sgd", "adamw")) == "adamw":
            trial.suggest_float("warm_up.plan.beta_2", 0.9, 0.99)


def crossing(trial: Any) -> None:
    """A parameter that only one of twelve combinations asks for, each far from the first choices."""
    kind = trial.suggest_categorical("warm_up.mask.kind", ("classes", "cut", "grid"))
    optimizer = trial.suggest_categorical("warm_up.plan.optimizer", ("sgd", "adamw"))
    schedule = trial.suggest_categorical("warm_up.plan.schedule", ("poly", "constant"))
    if (kind, optimizer, schedule) == ("grid", "adamw", "constant"):
        trial.suggest_float("warm_up.plan.beta_2", 0.9, 0.99)


def by_number(trial: Any) -> None:
    """A choice, and what hangs on it, behind a number."""
    if trial.suggest_float("warm_up.distil", 0.0, 1.0) > 0.5:
        kind = trial.suggest_categorical("warm_up.mask.kind", ("classes", "grid"))
        if kind == "grid":
            trial.suggest_int("warm_up.mask.side", 4, 16)


def test_nested_choices() -> None:
    found = by_path(nested)
    assert found["warm_up.plan.optimizer"].when == {"warm_up.mask.kind": ("grid",)}
    under = {"warm_up.mask.kind": ("grid",), "warm_up.plan.optimizer": ("adamw",)}
    assert found["warm_up.plan.beta_2"].when == under
    assert found["warm_up.plan.beta_2"].asked({"warm_up.mask.kind": "grid", "warm_up.plan.optimizer": "adamw"})
    assert not found["warm_up.plan.beta_2"].asked({"warm_up.mask.kind": "cut"})


def test_crossing_choices() -> None:
    found = by_path(crossing)
    under = {
        "warm_up.mask.kind": ("grid",),
        "warm_up.plan.optimizer": ("adamw",),
        "warm_up.plan.schedule": ("constant",),
    }
    assert found["warm_up.plan.beta_2"].when == under
    assert all(not found[path].when for path in under)


def test_what_hangs_on_a_number_is_heard() -> None:
    found = by_path(by_number)
    assert found["warm_up.mask.kind"].when == {}
    assert found["warm_up.mask.side"].when == {"warm_up.mask.kind": ("grid",)}


def test_one_of_two_choices_is_no_condition() -> None:
    def either(trial: Any) -> None:
        optimizer = trial.suggest_categorical("warm_up.plan.optimizer", ("sgd", "adamw"))
        schedule = trial.suggest_categorical("warm_up.plan.schedule", ("poly", "constant"))
        if optimizer == "adamw" or schedule == "constant":
            trial.suggest_float("warm_up.plan.beta_2", 0.9, 0.99)

    assert by_path(either)["warm_up.plan.beta_2"].when == {}


def test_corners_are_recipes_at_both_ends_of_every_choice() -> None:
    corners = heard(nested).corners
    assert {r.stages["warm_up"].mask.kind for r in corners} == {"classes", "cut", "grid"}
    assert {r.stages["warm_up"].mask.side for r in corners} >= {4, 16}
    assert {r.stages["warm_up"].plan.beta_2 for r in corners} >= {0.9, 0.99}


def test_many_choices_are_heard_in_time_and_too_many_refused() -> None:
    paths = [f"{stage}.{name}" for stage in ("warm_up", "self_training") for name in ("plan.steps", "plan.ramp")]

    def wide(trial: Any) -> None:
        for path in paths:
            trial.suggest_categorical(path, tuple(range(1, 9)))
        trial.suggest_float("warm_up.distil", 0.0, 1.0)

    found = heard(wide)
    assert [d.path for d in found.dimensions] == [*paths, "warm_up.distil"]
    assert all(not d.when for d in found.dimensions)
    for path, value in itertools.product(paths, range(1, 9)):
        stage, _, name = path.split(".")
        assert any(getattr(r.stages[stage].plan, name) == value for r in found.corners)

    def wider(trial: Any) -> None:
        trial.suggest_categorical("warm_up.plan.steps", tuple(range(1, 2000)))

    assert "1999 choices" in refused(wider)


def test_what_follows_from_a_choice_may_be_returned() -> None:
    def sized(trial: Any) -> dict[str, Any]:
        side = trial.suggest_categorical("batch", (2, 4))
        return {"crop": (28 * side, 56), "target_frames.gate": side > 2}

    found = heard(sized)
    assert [d.path for d in found.dimensions] == ["batch"]
    assert {(r.batch, r.crop) for r in found.corners} == {(2, (56, 56)), (4, (112, 56))}


# --- refused -------------------------------------------------------------------------------------

FLOAT, INT, ONE_OF = "suggest_float", "suggest_int", "suggest_categorical"
BAD: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], tuple[str, ...]]] = {
    "typo of a field": (FLOAT, ("warm_up.distill", 0.1, 1.0), {}, ("warm_up.distill", "'distil'")),
    "typo of a stage": (FLOAT, ("warmup.distil", 0.1, 1.0), {}, ("warmup.distil", "'warm_up'")),
    "below a leaf": (FLOAT, ("warm_up.distil.x", 0.1, 1.0), {}, ("warm_up.distil.x",)),
    "a fraction for a whole number": (FLOAT, ("warm_up.plan.steps", 1.5, 9.5), {}, ("warm_up.plan.steps", "1.5")),
    "a word for a number": (ONE_OF, ("warm_up.distil", ("a", "b")), {}, ("warm_up.distil", "'a'")),
    "no such choice": (ONE_OF, ("warm_up.mask.kind", ("classes", "holes")), {}, ("warm_up.mask.kind", "holes")),
    "below its bound": (FLOAT, ("warm_up.alpha", -0.5, 1.0), {}, ("warm_up.alpha", "-0.5")),
    "above its bound": (FLOAT, ("warm_up.ema", 0.9, 1.5), {}, ("warm_up.ema", "1.5")),
    "the lower last": (FLOAT, ("warm_up.alpha", 0.9, 0.1), {}, ("0.9 to 0.1", "the lower first")),
    "one value": (INT, ("warm_up.mask.side", 4, 4), {}, ("4 to 4", "the lower first")),
    "infinite": (FLOAT, ("warm_up.alpha", 0.0, float("inf")), {}, ("0 to inf", "finite")),
    "not a number": (FLOAT, ("warm_up.alpha", float("nan"), 1.0), {}, ("nan to 1", "finite")),
    "log through 0": (FLOAT, ("warm_up.distil", 0.0, 1.0), {"log": True}, ("0 to 1, log", "above 0")),
    "log of whole numbers through 0": (INT, ("warm_up.plan.ramp", 0, 8), {"log": True}, ("0 to 8, log", "above 0")),
    "no step": (FLOAT, ("warm_up.distil", 0.1, 1.0), {"step": 0.0}, ("a step of 0", "0.9 at most")),
    "a step too long": (INT, ("warm_up.mask.side", 4, 8), {"step": 5}, ("a step of 5", "4 at most")),
    "log in steps": (FLOAT, ("warm_up.distil", 0.1, 1.0), {"step": 0.1, "log": True}, ("log or steps",)),
    "no choice": (ONE_OF, ("warm_up.mask.kind", ()), {}, ("[]", "two or more")),
    "one choice": (ONE_OF, ("warm_up.mask.kind", ("cut",)), {}, ("['cut']", "two or more")),
    "the same twice": (ONE_OF, ("warm_up.mask.kind", ("cut", "grid", "cut")), {}, ("all different",)),
    "lists": (ONE_OF, ("crop", ((28, 56), (56, 112))), {}, ("crop", "may be returned")),
    "the seed": (INT, ("seed", 0, 9), {}, ("seed", "--confirm")),
    "the name": (ONE_OF, ("name", ("a", "b")), {}, ("name",)),
    "what no trial has": ("suggest_uniform", ("warm_up.alpha", 0.0, 1.0), {}, ("suggest_uniform",)),
    "too few bounds": (FLOAT, ("warm_up.alpha", 0.0), {}, ("TypeError",)),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_one_line(case: str) -> None:
    method, values, more, words = BAD[case]
    told = refused(lambda trial: getattr(trial, method)(*values, **more) and None)
    assert told.startswith("space s")
    assert all(word in told for word in words), told


def test_an_empty_space() -> None:
    assert "asks for nothing" in refused(lambda trial: None)


def test_a_name_asked_for_in_two_ways() -> None:
    def twice(trial: Any) -> None:
        trial.suggest_float("warm_up.distil", 0.1, 1.0)
        trial.suggest_float("warm_up.distil", 0.1, 2.0)

    assert "0.1 to 1 and as 0.1 to 2" in refused(twice)

    def apart(trial: Any) -> None:
        kind = trial.suggest_categorical("warm_up.mask.kind", ("classes", "grid"))
        trial.suggest_float("warm_up.mask.fraction", 0.2, 0.8 if kind == "grid" else 0.6)

    assert "0.2 to 0.6 and as 0.2 to 0.8" in refused(apart)


def test_a_wrong_value_far_from_the_first_choices() -> None:
    def far(trial: Any) -> None:
        kind = trial.suggest_categorical("warm_up.mask.kind", ("classes", "cut", "grid"))
        optimizer = trial.suggest_categorical("warm_up.plan.optimizer", ("sgd", "adamw"))
        if (kind, optimizer) == ("grid", "adamw"):
            trial.suggest_float("warm_up.plan.beta_2", 0.9, 1.9)

    assert "warm_up.plan.beta_2" in refused(far)


def test_a_stage_that_nothing_reads() -> None:
    warm_up_alone = override(WHOLE, {"score.of": "warm_up"})
    told = refused(spaces()["diga.self_training"], warm_up_alone)
    assert "nothing that is scored reads 'self_training'" in told


def test_a_space_that_raises() -> None:
    assert "KeyError: 'cut'" in refused(lambda trial: {}["cut"])


# --- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dimension", "inside", "outside"),
    [
        (Dimension(path="p", kind="float", low=0.1, high=1.0), [0.1, 0.5, 1], [0.05, 1.1, True, "0.5", None]),
        (Dimension(path="p", kind="float", low=0.0, high=1.0, step=0.25), [0.0, 0.75, 1.0], [0.3]),
        (Dimension(path="p", kind="int", low=4, high=16, step=1), [4, 16], [3, 17, 5.5, True]),
        (Dimension(path="p", kind="int", low=4, high=16, step=4), [4, 8], [6]),
        (Dimension(path="p", kind="categorical", choices=("a", None)), ["a", None], ["b", 1]),
    ],
)
def test_what_lies_in_a_dimension(dimension: Dimension, inside: list[Any], outside: list[Any]) -> None:
    assert [dimension.holds(value) for value in inside] == [True] * len(inside)
    assert [dimension.holds(value) for value in outside] == [False] * len(outside)


def test_how_two_spaces_differ() -> None:
    def one(**more: Any) -> Dimension:
        return Dimension(**({"path": "p", "kind": "float", "low": 0.1, "high": 1.0} | more))

    before = [one(), one(path="gone"), one(path="same")]
    now = [one(high=2.0), one(path="new"), one(path="same")]
    assert differences(before, now) == ["new is new", "gone is gone", "p 0.1 to 1 then, 0.1 to 2 now"]
    assert differences([one()], [one(step=0.1)]) == ["p 0.1 to 1 then, 0.1 to 1, by 0.1 now"]
    assert differences([one()], [one(log=True)]) == ["p 0.1 to 1 then, 0.1 to 1, log now"]
    assert differences([one()], [one(kind="int")]) == ["p 0.1 to 1 then, 0.1 to 1, whole now"]
    (told,) = differences([one()], [one(when={"kind": ("cut",)})])
    assert told == "p under {} then, {'kind': ('cut',)} now"
    assert differences(before, before) == []
