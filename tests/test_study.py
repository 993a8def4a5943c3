"""Studies: rows are what the paper's table says, and differ in what they declare and in nothing else."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from diga.errors import ConfigError
from diga.files import slug
from diga.recipe import Recipe, override, plain
from diga.study import Component, Row, Study, ladder, off_states
from experiments.diga import streets, table3

TABLE3 = table3()
PAPER = Path(__file__).parents[1] / "reports/paper/diga_table3_components.csv"
COLUMNS = ("MST", "distil_weak_to_strong", "distil_strong_to_weak", "CrDoMix", "self_training")
ROWS = TABLE3.rows


def published() -> list[list[bool]]:
    """Table 3 of the paper: which of the five components each row has."""
    with PAPER.open() as file:
        return [[row[c] == "1" for c in COLUMNS] for row in csv.DictReader(file)]


def switches(recipe: Recipe) -> list[bool]:
    """Which of the five components a recipe has, read from what it would do."""
    needed = {name: recipe.stages[name] for name in recipe.needed()}
    kinds = {name: type(stage).__name__ for name, stage in needed.items()}
    trained = [stage for stage in needed.values() if hasattr(stage, "alpha")]
    assert len({stage.alpha > 0 for stage in trained}) <= 1
    assert len({stage.translator is None for stage in trained}) <= 1
    return [
        needed["score"].protocol == "two_scale_max",  # type: ignore[attr-defined]
        kinds["warm_up"] == "WarmUp" and trained[0].distil > 0,
        any(stage.alpha > 0 for stage in trained),
        any(stage.translator for stage in trained),
        "SelfTraining" in kinds.values(),
    ]


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """JSON as dotted paths and single values."""
    if not isinstance(value, dict):
        return {path: value}
    return {k: v for key, inner in value.items() for k, v in flat(inner, f"{path}.{key}".strip(".")).items()}


def differing(one: Recipe, other: Recipe) -> set[str]:
    """Dotted paths, stages' names first, in which two recipes differ."""
    first, second = flat(plain(one)), flat(plain(other))
    paths = {p for p in first.keys() | second.keys() if p not in first or p not in second or first[p] != second[p]}
    return {p.removeprefix("stages.") for p in paths}


# --- Table 3 -----------------------------------------------------------------------------------


def test_rows_of_table_3_have_the_components_the_paper_says() -> None:
    assert [switches(row.recipe) for row in ROWS] == published()
    names = {"MST", "weak to strong", "strong to weak", "CrDoMix", "self-training"}
    assert set(TABLE3.components) == names
    for row, on in zip(ROWS, published(), strict=True):
        assert row.components == tuple(n for n, is_on in zip(TABLE3.components, on, strict=True) if is_on)


def test_rows_of_table_3_carry_out_what_they_need_and_no_more() -> None:
    whole = ("translator", "warm_up", "labels", "centroids", "self_training", "score")
    expected = [("warm_up", "score")] * 4 + [("translator", "warm_up", "score"), whole]
    assert [row.recipe.needed() for row in ROWS] == expected
    kinds = [type(row.recipe.stages["warm_up"]).__name__ for row in ROWS]
    assert kinds == ["SourceOnly"] * 2 + ["WarmUp"] * 4
    scored = [row.recipe.stages["score"].of for row in ROWS]  # type: ignore[attr-defined]
    assert scored == ["warm_up"] * 5 + ["self_training"]


def test_rows_of_table_3_are_scored_alike_but_for_mst() -> None:
    protocols = [row.recipe.stages["score"].protocol for row in ROWS]  # type: ignore[attr-defined]
    assert protocols == ["single_scale"] + ["two_scale_max"] * 5
    rest = [plain(row.recipe.stages["score"]) | {"of": "", "protocol": ""} for row in ROWS]
    assert all(r == rest[0] for r in rest)


def test_rows_of_table_3_train_as_long_and_as_fast() -> None:
    plans = [row.recipe.stages["warm_up"].plan for row in ROWS]  # type: ignore[attr-defined]
    assert all(plan == plans[0] for plan in plans)


DECLARED = [
    {"score.protocol"},
    {"warm_up"},
    {"warm_up.alpha", "self_training.alpha"},
    {"warm_up.translator", "centroids.translator", "self_training.translator"},
    {"score.of"},
]


@pytest.mark.parametrize("rung", range(5))
def test_consecutive_rows_differ_in_what_their_component_declares(rung: int) -> None:
    lower, upper = ROWS[rung].recipe, ROWS[rung + 1].recipe
    found = differing(lower, upper) - {"name"}
    heads = {next((d for d in DECLARED[rung] if path == d or path.startswith(f"{d}.")), path) for path in found}
    # with the warm-up come the off states of what needs it; in stages that neither row carries out they show
    dormant = (DECLARED[2] | DECLARED[3]) - {"warm_up.alpha", "warm_up.translator"} if rung == 1 else set()
    assert heads == DECLARED[rung] | dormant
    assert not {path.split(".")[0] for path in dormant} & {*lower.needed(), *upper.needed()}
    assert lower.seed == upper.seed


def test_the_last_rung_is_the_whole_recipe() -> None:
    assert differing(ROWS[-1].recipe, streets()) == {"name"}


def test_each_rung_stands_on_the_one_below() -> None:
    labels = ["source-only", "source-only + MST", "(i)", "(ii)", "(iii)", "(iv)"]
    assert [row.label for row in ROWS] == labels
    assert [row.parent for row in ROWS] == ["", *labels[:-1]]


# --- cells -------------------------------------------------------------------------------------


def test_cells_are_rows_times_seeds_one_seed_after_the_other() -> None:
    cells = list(table3((4, 7)).cells())
    assert [(c.seed, c.index) for c in cells] == [(s, i) for s in (4, 7) for i in range(6)]
    for cell in cells:
        assert cell.recipe == override(cell.row.recipe, {"seed": cell.seed})
        assert cell.row == ROWS[cell.index]


def test_a_layout_is_json_and_holds_no_recipe() -> None:
    layout = json.loads(json.dumps(TABLE3.layout()))
    assert layout["name"] == "table3"
    assert layout["seeds"] == [0, 1, 2]
    assert layout["rows"][2] == {
        "label": "(i)",
        "index": 2,
        "parent": "source-only + MST",
        "components": ["MST", "weak to strong"],
    }
    assert "stages" not in json.dumps(layout)


def test_a_component_whose_need_is_off_goes_with_it() -> None:
    parts = (
        Component(name="a", off={"x": 0}),
        Component(name="b", off={"y": 0}, needs=("a",)),
        Component(name="c", off={"z": 0}, needs=("a", "b")),
    )
    assert off_states(parts, ()) == {"x": 0}
    assert off_states(parts, ("a",)) == {"y": 0}
    assert off_states(parts, ("a", "b")) == {"z": 0}
    assert off_states(parts, ("a", "b", "c")) == {}


def test_what_a_ladder_cannot_mean_is_refused() -> None:
    part = Component(name="part", off={"score.of": "warm_up"})
    with pytest.raises(ConfigError, match=r"1 labels .2: one more than components"):
        ladder(streets(), [part], ["one"])
    with pytest.raises(ConfigError, match=r"component 'b': needs 'prat' .did you mean 'part'\?"):
        ladder(streets(), [part, Component(name="b", off={}, needs=("prat",))], ["x", "y", "z"])
    with pytest.raises(ConfigError, match=r"score\.off: no 'off' in Score"):
        ladder(streets(), [Component(name="part", off={"score.off": "warm_up"})], ["x", "y"])


def study(*rows: Row, seeds: tuple[int, ...] = (0,)) -> Study:
    """A study of some rows."""
    return Study(name="s", rows=rows, metric="m", seeds=seeds)


def row(label: str, parent: str = "") -> Row:
    """A row, whatever its recipe."""
    return Row(label=label, recipe=streets(), parent=parent)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: study(), "at least 1 item"),
        (lambda: study(row("a"), row("a")), "labels of rows"),
        (lambda: study(row("a"), seeds=()), "at least 1 item"),
        (lambda: study(row("a"), seeds=(0, 0)), "found seeds"),
        (lambda: study(row("a"), row("b", "aa")), "did you mean 'a'"),
        (lambda: study(row("a", "b"), row("b")), "no row above it"),
        (lambda: study(row("a", "a")), "no row above it"),
        (lambda: study(row("a"), seeds=("0",)), "valid integer"),  # type: ignore[arg-type]
        (lambda: study(row("a")).model_copy(update={"sedes": (1,)}), "Extra inputs"),
    ],
)
def test_what_a_study_cannot_mean_is_refused(make: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


def test_a_seed_out_of_bounds_is_refused_with_its_bound() -> None:
    with pytest.raises(ConfigError, match=r"seed: found -1 .greater than or equal to 0"):
        list(study(row("a"), seeds=(-1,)).cells())


def test_rows_of_a_seed_or_seeds_of_a_row_come_first() -> None:
    some = study(row("a"), row("b", "a"), seeds=(3, 5))
    assert [(c.seed, c.index) for c in some.cells()] == [(3, 0), (3, 1), (5, 0), (5, 1)]
    assert [(c.seed, c.index) for c in some.cells("rows")] == [(3, 0), (5, 0), (3, 1), (5, 1)]
    for cell in some.cells("rows"):
        assert cell.recipe == override(streets(), {"seed": cell.seed})


# --- names on a disk -----------------------------------------------------------------------------

NAMES = ["table3", "v1.2", "../../x", "a/b", "a b", "a-b", "CON", "con.txt", "x" * 300, "", ".", "..", "-x", "x.", "🛣️"]


@pytest.mark.parametrize("name", NAMES)
def test_a_slug_is_a_name_any_disk_takes(tmp_path: Path, name: str) -> None:
    made = slug(name)
    assert len(made) <= 73
    assert made.isascii()
    assert set(made).isdisjoint("/\\: \n*?\"'<>|")
    assert made.strip(".-_") == made
    (tmp_path / made).mkdir()
    assert [p.name for p in tmp_path.iterdir()] == [made]


def test_slugs_tell_names_apart_and_leave_harmless_ones_alone() -> None:
    names = [*NAMES, slug("a/b"), slug(slug("a/b")), "x" * 301, "A/b"]
    assert len({slug(name) for name in names}) == len(names)
    assert (slug("table3"), slug("v1.2")) == ("table3", "v1.2")
    assert slug("a/b") != "a-b"
