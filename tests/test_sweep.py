"""A sweep as a value: what it searches for, how trials are shortened, which of them is best."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from diga.errors import ConfigError
from diga.recipe import override
from diga.space import Dimension
from diga.sweep import COMPUTE, Confirm, Halving, Objective, Sweep, confirm, halving, objective, ranked, with_source
from experiments.generalization import streets as generalization
from tests import searching

BASE = searching.base()
TARGET, SOURCE = "streets/cityscapes", "streets/gta5"
RATE = Dimension(path=searching.PATH, kind="float", low=1e-4, high=1e-1, log=True)


def sweep(**changes: Any) -> Sweep:
    values: dict[str, Any] = {"name": "s", "space": "x.y", "base": BASE, "dimensions": (RATE,), "trials": 6}
    return Sweep(**(values | {"objectives": (objective("target", BASE),)} | changes))


def refused(make: Any) -> str:
    with pytest.raises(ConfigError) as failure:
        make()
    assert "\n" not in str(failure.value)
    return str(failure.value)


# --- objectives --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "metric", "direction", "oracle"),
    [
        ("target", f"{TARGET}/plain/last/miou", "max", True),
        ("source", f"{SOURCE}/plain/last/miou", "max", False),
        ("entropy", "label_free/entropy", "min", False),
        ("vanished", "label_free/vanished", "min", False),
        ("confidence", "label_free/confidence", "max", False),
        ("agreement", "label_free/agreement", "max", False),
        ("stability", "label_free/stability", "max", False),
        ("consensus", "label_free/consensus", "max", False),
        ("compute", COMPUTE, "min", False),
    ],
)
def test_objectives_by_name(name: str, metric: str, direction: Any, oracle: bool) -> None:
    """Only the target's own score reads its labels, and says so."""
    assert objective(name, BASE) == Objective(name=name, metric=metric, direction=direction, oracle=oracle)


def test_an_objective_that_cannot_be() -> None:
    assert "'target'" in refused(lambda: objective("targt", BASE))
    assert "has none" in refused(lambda: objective("entropy", generalization()))
    unlooked = override(BASE, {"score.label_free": False})
    assert "score.label_free" in refused(lambda: objective("entropy", unlooked))
    endless = BASE.model_copy(update={"stages": {k: v for k, v in BASE.stages.items() if k != "score"}})
    assert "scores nothing" in refused(lambda: objective("target", endless))


def test_the_source_is_scored_beside_the_target() -> None:
    assert with_source(BASE).stages["score"].scores() == (TARGET, SOURCE)
    assert with_source(with_source(BASE)) == with_source(BASE)
    whole = override(BASE, {"sources": [f"{SOURCE}@1/2"]})
    assert with_source(whole) == whole, "part of a training set has no validation images of its own"


# --- rungs ---------------------------------------------------------------------------------------


def test_rungs_are_parts_of_the_last_training() -> None:
    found = halving(BASE, 3, 4)
    assert (found.stage, found.rungs, found.eta, found.ends) == ("self_training", (1, 4, 16), 4, True)
    uneven = halving(override(BASE, {"self_training.plan.steps": 100}), 3, 3)
    assert uneven.rungs == (11, 33, 100)
    assert "first with an update" in refused(lambda: halving(BASE, 4, 4))
    assert "two rungs at least" in refused(lambda: halving(BASE, 1, 4))


def test_a_rung_is_a_training_whose_rate_decays_to_its_own_end() -> None:
    """At every rung the same share of the plan has passed where the same share of its rate is left."""
    whole = override(BASE, {"self_training.plan.steps": 160, "self_training.plan.ramp": 40})
    asked = sweep(base=whole, halving=halving(whole, 3, 4))
    plans = [asked.recipe_of({searching.PATH: 0.01}, rung).stages["self_training"].plan for rung in (10, 40, 160)]
    assert [(p.steps, p.ramp, p.lr) for p in plans] == [(10, 2, 0.01), (40, 10, 0.01), (160, 40, 0.01)]
    assert [p.snapshots for p in plans] == [1, 1, whole.stages["self_training"].plan.snapshots]
    for plan in plans:
        assert plan.lr_at(plan.steps // 2) == pytest.approx(0.01 * 0.5**0.9)
        assert plan.lr_at(plan.steps - 1) == pytest.approx(0.01 / plan.steps**0.9)


def test_a_rung_is_scored_for_what_is_asked_alone() -> None:
    base = override(BASE, {"score.samples": 2})
    asked = sweep(base=base, halving=halving(base, 2, 2))
    short, whole = asked.recipe_of({}, 8).stages["score"], asked.recipe_of({}, 16).stages["score"]
    assert (short.samples, short.label_free) == (0, False)
    assert whole == base.stages["score"]
    blind = sweep(base=base, halving=halving(base, 2, 2), objectives=(objective("entropy", base),))
    assert blind.recipe_of({}, 8).stages["score"].label_free


def test_the_last_rung_is_the_recipe_itself() -> None:
    """Nothing but its name says that it was a trial."""
    asked = sweep(halving=halving(BASE, 2, 2))
    alone = override(BASE, {searching.PATH: 0.01})
    for found in (asked.recipe_of({searching.PATH: 0.01}, 16), asked.recipe_of({searching.PATH: 0.01})):
        assert found.model_copy(update={"name": BASE.name}) == alone
    assert asked.recipe_of({searching.PATH: 0.01}, 8) != asked.recipe_of({searching.PATH: 0.01})


def test_what_cannot_be_declared() -> None:
    two = (objective("target", BASE), objective("compute", BASE))
    steps = Dimension(path="self_training.plan.steps", kind="int", low=4, high=16)
    kinds = Dimension(path="self_training.mix.kind", kind="categorical", choices=("cut", "grid"))
    assert "one: trials of a rung" in refused(lambda: sweep(objectives=two, halving=halving(BASE, 2, 2)))
    assert "plan.steps" in refused(lambda: sweep(dimensions=(steps,), halving=halving(BASE, 2, 2)))
    assert "no number" in refused(lambda: sweep(dimensions=(kinds,), sampler="cmaes"))
    assert "several objectives" in refused(lambda: sweep(objectives=two, sampler="cmaes"))
    for bad in ({"trials": 0}, {"trials": -3}, {"dimensions": ()}, {"objectives": ()}, {"name": ""}):
        refused(lambda bad=bad: sweep(**bad))
    with pytest.raises(ConfigError):
        Halving(stage="x", rungs=(4,), eta=2)
    with pytest.raises(ConfigError):
        Confirm(top=0, seeds=(1,))


# --- confirmation ----------------------------------------------------------------------------------


def test_confirmed_seeds_are_never_the_searchs() -> None:
    for seed, n in itertools.product(range(6), range(1, 5)):
        found = confirm(f"2:{n}", seed)
        assert found
        assert (found.top, len(found.seeds)) == (2, n)
        assert seed not in found.seeds
        assert len(set(found.seeds)) == n
    assert confirm(None, 0) is None


@pytest.mark.parametrize("text", ["", "3", "3:", ":3", "0:3", "3:0", "a:b", "3:1001", "-1:3", "1.5:2", "3:3:3"])
def test_a_confirmation_that_cannot_be(text: str) -> None:
    assert "K:N" in refused(lambda: confirm(text, 0))


def test_a_study_has_the_default_and_the_confirmed() -> None:
    asked = sweep(confirm=confirm("2:2", 0))
    study = asked.study({7: {searching.PATH: 0.01}, 3: {searching.PATH: 0.02}})
    assert [(row.label, row.parent) for row in study.rows] == [("default", ""), ("#7", "default"), ("#3", "default")]
    assert study.seeds == (1, 2)
    assert [row.recipe.stages["self_training"].plan.lr for row in study.rows[1:]] == [0.01, 0.02]
    assert study.rows[0].recipe == BASE
    assert len({cell.seed for cell in study.cells()} & {asked.seed}) == 0
    told = study.layout()["sweep"]
    assert told["objectives"] == [
        {"name": "target", "metric": f"{TARGET}/plain/last/miou", "direction": "max", "oracle": True}
    ]
    assert (told["base"], told["seed"], told["trials"], told["halving"]) == (BASE.name, 0, 6, None)
    assert told["naive_steps"] == 6 * (32 + 16)


# --- ranking -----------------------------------------------------------------------------------------


def test_one_objective() -> None:
    done = {0: {"target": 0.2}, 1: {"target": 0.5}, 2: {"target": 0.2}, 3: {"target": 0.4}}
    assert ranked(done, [objective("target", BASE)]) == [1, 3, 0, 2]
    low = {n: {"entropy": v["target"]} for n, v in done.items()}
    assert ranked(low, [objective("entropy", BASE)]) == [0, 2, 3, 1]
    assert ranked({}, [objective("target", BASE)]) == []


def test_several_objectives_have_a_front() -> None:
    """Against the slow definition: whom nobody beats in one and equals in all others."""
    chance = random.Random(0)
    goals = [objective("target", BASE), objective("compute", BASE)]
    for _ in range(50):
        grid = range(8)
        done = {n: {"target": chance.choice((0.1, 0.2, 0.3)), "compute": chance.choice((1.0, 2.0, 3.0))} for n in grid}

        def beats(a: int, b: int, done: Any = done) -> bool:
            better = done[a]["target"] > done[b]["target"], done[a]["compute"] < done[b]["compute"]
            worse = done[a]["target"] < done[b]["target"], done[a]["compute"] > done[b]["compute"]
            return any(better) and not any(worse)

        front = {n for n in done if not any(beats(m, n) for m in done)}
        order = ranked(done, goals)
        assert set(order[: len(front)]) == front
        for part in (order[: len(front)], order[len(front) :]):
            assert part == sorted(part, key=lambda n: (-done[n]["target"], n))
