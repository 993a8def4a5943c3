"""Designs: rows are what the slow reading of a design says, and what a design cannot mean is one line."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diga.design import MAX_CELLS, Design, factorial, ladder, leave_one_out, resolution, swap, union
from diga.differences import between, fields
from diga.errors import ConfigError
from diga.plan import distinct, stage_runs
from diga.recipe import Recipe, override
from diga.rows import Component, Row, meaning, undeclared
from diga.study import Study
from experiments.diga import METRIC, streets, table3
from tests import tiny

WHOLE = streets()
MST = Component(name="MST", off={"score.protocol": "single_scale"})
ALPHA = Component(name="alpha", off={"warm_up.alpha": 0.0, "self_training.alpha": 0.0})
MIX = Component(name="mix", off={"warm_up.translator": None, "self_training.translator": None})
ROUND = Component(name="ST", off={"score.of": "warm_up"})
PARTS = (MST, ALPHA, MIX, ROUND)


def five() -> tuple[Component, ...]:
    """Five components that need nothing."""
    paths = ("warm_up.distil", "warm_up.alpha", "self_training.distil", "self_training.alpha", "self_training.aux")
    return tuple(Component(name=n, off={p: 0.0}) for n, p in zip("ABCDE", paths, strict=True))


def off(recipe: Recipe, parts: tuple[Component, ...]) -> set[str]:
    """Which components a recipe is without, read from its fields."""
    now = fields(recipe)
    return {p.name for p in parts if all(now[path] == value for path, value in p.off.items())}


def symbolic(name: str, use: str) -> str:
    return f"{use} of {name}"


# --- what rows there are -------------------------------------------------------------------


def test_a_ladder_turns_on_one_part_a_rung() -> None:
    rows = ladder(WHOLE, PARTS)
    assert [row.label for row in rows] == ["none", "+ MST", "+ alpha", "+ mix", "+ ST"]
    names = [part.name for part in PARTS]
    assert [off(row.recipe, PARTS) for row in rows] == [set(names[i:]) for i in range(5)]
    assert between(fields(rows[-1].recipe), fields(WHOLE)) == {}


def test_leave_one_out_is_the_whole_and_each_part_off_alone() -> None:
    rows = leave_one_out(WHOLE, PARTS)
    assert [row.label for row in rows] == ["whole", *(f"without {part.name}" for part in PARTS)]
    assert [off(row.recipe, PARTS) for row in rows] == [set(), *({part.name} for part in PARTS)]
    assert [row.parent for row in rows] == ["", *["whole"] * 4]
    some = leave_one_out(WHOLE, PARTS, only=("mix",), label="full", each="- {}")
    assert [row.label for row in some] == ["full", "- mix"]


def test_what_needs_a_part_goes_with_it() -> None:
    parts = (MST, MIX, Component(name="alpha", off=ALPHA.off, needs=("mix",)))
    without = {row.label: row for row in leave_one_out(WHOLE, parts)}["without mix"]
    assert without.components == ("MST",)
    assert off(without.recipe, parts) == {"mix"}, "its fields stand as they are: it is not there to be switched"


def test_a_swap_of_a_field_differs_in_that_field() -> None:
    rows = swap(WHOLE, "self_training.rule", {"ours": "consensus", "features": "feature"})
    assert [(row.label, row.parent) for row in rows] == [("ours", ""), ("features", "ours")]
    assert set(between(*(fields(row.recipe) for row in rows))) == {"self_training.rule"}
    named = swap(WHOLE, "warm_up.alpha", [0.5, 0.25])
    assert [row.label for row in named] == ["warm_up.alpha=0.5", "warm_up.alpha=0.25"]


def test_a_swap_of_a_part_puts_others_in_its_place() -> None:
    rows = swap(WHOLE, ALPHA, {"weak": {"warm_up.alpha": 0.1}, "none": ALPHA.off})
    assert [row.label for row in rows] == ["alpha", "weak", "none"]
    assert meaning(rows[0].recipe) == meaning(WHOLE)
    assert [row.declared for row in rows] == [None, ("warm_up.alpha",), tuple(ALPHA.off)]


def test_a_full_factorial_is_every_combination_once() -> None:
    rows = factorial(WHOLE, PARTS)
    found = [frozenset(row.components) for row in rows]
    names = [part.name for part in PARTS]
    subsets = {frozenset(s) for n in range(5) for s in itertools.combinations(names, n)}
    assert len(found) == 16
    assert set(found) == subsets
    for row in rows:
        assert off(row.recipe, PARTS) == set(names) - set(row.components)
        if row.parent:
            parent = next(other for other in rows if other.label == row.parent)
            assert len(set(row.components) - set(parent.components)) == 1


def test_a_factorial_leaves_out_what_cannot_be_made() -> None:
    parts = (MST, MIX, Component(name="alpha", off=ALPHA.off, needs=("mix",)))
    found = {frozenset(row.components) for row in factorial(WHOLE, parts)}
    assert found == {frozenset(s.split()) for s in ("", "MST", "mix", "MST mix", "mix alpha", "MST mix alpha")}
    undeclared(factorial(WHOLE, parts))


@pytest.mark.parametrize(
    ("generators", "rows", "told"),
    [({"E": "ABCD"}, 16, 5), ({"D": "AB", "E": "AC"}, 8, 3), ({"E": "ABC"}, 16, 4)],
)
def test_a_fraction_is_balanced_to_its_resolution(generators: dict[str, str], rows: int, told: int) -> None:
    """The slow reading: the effects of fewer parts than the resolution has are no multiple of each other."""
    design = factorial(WHOLE, five(), generators)
    assert (len(design), resolution(generators)) == (rows, told)
    levels = [{n: 1 if n in row.components else -1 for n in "ABCDE"} for row in design]
    words = [w for n in range(1, 6) for w in itertools.combinations("ABCDE", n)]
    sums = {w: abs(sum(product(level[n] for n in w) for level in levels)) for w in words}
    shortest = min(len(w) for w, total in sums.items() if total == rows)
    assert shortest == told
    assert all(total == 0 for w, total in sums.items() if len(w) < told)
    assert meaning(WHOLE) in {meaning(row.recipe) for row in design}, "the whole is one of them"
    undeclared(design)


def product(values: Any) -> int:
    total = 1
    for value in values:
        total *= value
    return total


def test_resolution_is_of_the_shortest_word_of_the_whole_relation() -> None:
    assert resolution({"D": "AB", "E": "AC"}) == 3
    assert resolution({"E": "ABC", "F": "ABD"}) == 4
    assert resolution({"F": "ABCD", "G": "ABCE"}) == 4, "their product DEFG is shorter than either word"
    assert resolution({}) == 0


# --- unions ----------------------------------------------------------------------------------


def test_a_cell_of_two_designs_is_one_cell_with_both_names() -> None:
    both = (
        ladder(WHOLE, PARTS) | leave_one_out(WHOLE, PARTS) | swap(WHOLE, "self_training.rule", ["consensus", "feature"])
    )
    rows = {row.label: row for row in both}
    assert len(both) == 5 + 3 + 1, "the whole is in all three, and without ST is the rung below"
    assert [a.label for a in rows["+ ST"].aliases] == ["whole", "self_training.rule=consensus"]
    assert rows["without MST"].parent == "+ ST"
    assert rows["self_training.rule=feature"].parent == "+ ST"
    (again,) = rows["+ mix"].aliases
    assert (again.label, again.parent, rows["+ mix"].parent) == ("without ST", "+ ST", "+ alpha")
    undeclared(both)
    study = Study(name="s", rows=both, metric=METRIC)
    assert study.layout()["rows"][3]["aliases"] == [{"label": "without ST", "parent": "+ ST"}]


def test_a_union_costs_what_its_distinct_cells_cost() -> None:
    designs = (ladder(WHOLE, PARTS), leave_one_out(WHOLE, PARTS), factorial(WHOLE, PARTS))
    apart = {meaning(row.recipe) for design in designs for row in design}
    together = union(*designs)
    assert len(together) == len(apart)
    runs = [run for row in together for run in stage_runs(row.recipe, symbolic)]
    slow = [run for design in designs for row in design for run in stage_runs(row.recipe, symbolic)]
    assert set(distinct(runs)) == set(distinct(slow))


def test_a_union_of_unions_is_the_union() -> None:
    a, b, c = ladder(WHOLE, PARTS), leave_one_out(WHOLE, PARTS), swap(WHOLE, "warm_up.alpha", [0.5, 0.1])
    left, right = (a | b) | c, union(a, b, c)
    assert left == right
    assert isinstance(left, Design)
    assert a | a == a


def test_what_is_not_carried_out_makes_no_other_cell() -> None:
    dormant = override(WHOLE, {"score.of": "warm_up", "self_training.alpha": 0.1})
    assert meaning(dormant) == meaning(override(WHOLE, {"score.of": "warm_up", "name": "other"}))
    assert meaning(dormant) != meaning(WHOLE)


# --- declared and found ----------------------------------------------------------------------


@pytest.mark.parametrize("make", [ladder, leave_one_out, factorial], ids=lambda make: make.__name__)
def test_every_design_differs_in_what_it_declares(make: Callable[..., Design]) -> None:
    undeclared(make(WHOLE, PARTS))
    undeclared(table3().rows)


def test_a_row_that_differs_in_more_or_in_nothing_is_named() -> None:
    rows = list(ladder(WHOLE, PARTS))
    wrong = override(rows[2].recipe, {"warm_up.ema": 0.5})
    with pytest.raises(ConfigError, match=r"row '\+ alpha': differs from '\+ MST' in warm_up.ema \(in warm_up.alpha,"):
        undeclared([*rows[:2], rows[2].model_copy(update={"recipe": wrong})])
    same = Row(label="twin", recipe=rows[0].recipe, parent="none", declared=("warm_up.alpha",))
    with pytest.raises(ConfigError, match=r"row 'twin': is 'none' again: warm_up.alpha changes nothing"):
        undeclared([rows[0], same])
    undeclared([rows[0], same.model_copy(update={"declared": None})])


# --- what cannot be meant --------------------------------------------------------------------

BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "unknown need": (
        lambda: ladder(WHOLE, [MST, Component(name="b", off={"flip": 0.0}, needs=("MTS",))]),
        r"component 'b': needs 'MTS' \(did you mean 'MST'\?\)",
    ),
    "unknown in leave one out": (lambda: leave_one_out(WHOLE, PARTS, only=("mxi",)), r"no component 'mxi' \(did you"),
    "cycle": (
        lambda: factorial(
            WHOLE,
            [Component(name="a", off={"flip": 0.0}, needs=("b",)), Component(name="b", off={"batch": 2}, needs=("a",))],
        ),
        r"component 'a': needs itself, by way of b, a",
    ),
    "same field": (
        lambda: ladder(WHOLE, [MIX, Component(name="other", off={"warm_up.translator": None})]),
        r"'mix' and 'other' both switch warm_up.translator \(one component a field\)",
    ),
    "field inside another's": (
        lambda: ladder(WHOLE, [ALPHA, Component(name="w", off={"warm_up": tiny.recipe().stages["train"]})]),
        r"'alpha' and 'w' both switch warm_up \('alpha' to need 'w'\)",
    ),
    "two of a name": (lambda: ladder(WHOLE, [MST, MST]), r"found \['MST', 'MST'\]"),
    "off that is on": (
        lambda: leave_one_out(WHOLE, [Component(name="dead", off={"flip": WHOLE.flip})]),
        r"component 'dead': its off state is what the whole method already is",
    ),
    "below its need": (
        lambda: ladder(WHOLE, [Component(name="alpha", off=ALPHA.off, needs=("mix",)), MIX]),
        r"component 'alpha' stands below 'mix'",
    ),
    "unknown field": (
        lambda: ladder(WHOLE, [Component(name="x", off={"warm_up.alhpa": 0.0})]),
        r"warm_up.alhpa: no 'alhpa' in WarmUp \(did you mean 'alpha'",
    ),
    "invalid recipe": (
        lambda: swap(WHOLE, "self_training.centroids", ["centroids", None]),
        r"row 'self_training.centroids=None', self_training.centroids: none, and the rule 'consensus'",
    ),
    "out of bounds": (lambda: swap(WHOLE, "flip", [0.5, 1.5]), r"row 'flip=1.5', flip: found 1.5 \(less than or equal"),
    "one alternative": (lambda: swap(WHOLE, "flip", [0.5]), r"swap: 1 alternatives \(two at least\)"),
    "no changes": (lambda: swap(WHOLE, ALPHA, ["x"]), r"swap of 'alpha': found \['x'\]"),
    "same twice": (lambda: union(swap(WHOLE, "flip", {"a": 0.5, "b": 0.5})), r"are the same: 'a' and 'b'"),
    "one label, two rows": (
        lambda: swap(WHOLE, "flip", {"a": 0.5, "b": 0.1}) | swap(WHOLE, "flip", {"a": 0.4, "c": 0.2}),
        r"row 'a': two designs call different rows so",
    ),
    "resolution II": (lambda: factorial(WHOLE, five(), {"E": "A"}), r"resolution 2: two components always switch"),
    "unknown generator": (lambda: factorial(WHOLE, five(), {"E": "AX"}), r"no component 'X'"),
    "generated twice": (lambda: factorial(WHOLE, five(), {"E": "AD", "D": "BC"}), r"'D' is generated itself"),
    "generates itself": (lambda: factorial(WHOLE, five(), {"E": "AEB"}), r"other components than 'E'"),
    "fraction with needs": (
        lambda: factorial(WHOLE, [*five()[:4], five()[4].model_copy(update={"needs": ("A",)})], {"D": "ABC"}),
        r"'E' needs another component",
    ),
    "empty label": (lambda: Row(label="", recipe=WHOLE), r"row.label: found '' \(String should have at least 1"),
    "no such key": (lambda: Component(name="x", of={}), r"component.off: found .*Field required"),  # type: ignore[call-arg]
}


@pytest.mark.parametrize("case", BAD)
def test_what_a_design_cannot_mean_is_one_line(case: str) -> None:
    make, said = BAD[case]
    with pytest.raises(ConfigError) as failure:
        make()
    assert re.search(said, str(failure.value)), str(failure.value)
    assert "\n" not in str(failure.value)


def test_too_many_rows_are_refused_before_one_is_made() -> None:
    many = [Component(name=f"c{i}", off={f"warm_up.plan.{p}": v}) for i, (p, v) in enumerate([("lr", 1.0)] * 40)]
    with pytest.raises(ConfigError, match="both switch"):
        factorial(WHOLE, many)
    paths = [
        f"{s}.{f}"
        for s in ("warm_up", "self_training")
        for f in ("distil", "alpha", "ema", "aux", "strong.jitter", "strong.grey")
    ]
    with pytest.raises(ConfigError, match=rf"factorial: 2\^12 rows \({MAX_CELLS} at most"):
        factorial(WHOLE, [Component(name=p, off={p: 0.0}) for p in paths])


def test_more_cells_than_agreed_are_an_error_and_never_a_sample() -> None:
    rows = factorial(WHOLE, PARTS)
    with pytest.raises(ConfigError, match=r"16 rows times 100 seeds are 1600 cells \(1000 at most: max_cells=1600"):
        Study(name="many", rows=rows, seeds=tuple(range(100)), metric=METRIC)
    agreed = Study(name="many", rows=rows, seeds=tuple(range(100)), metric=METRIC, max_cells=1600)
    assert len(list(agreed.cells())) == 1600


@pytest.mark.parametrize("name", ["../../x", "a/b\\c", "n" * 200, "line\nbreak", "CON", "ünï çødé 🛣️"])
def test_any_name_is_kept_as_it_is(name: str) -> None:
    assert Study(name=name, rows=ladder(WHOLE, [MST]), metric=METRIC).layout()["name"] == name


def test_a_name_of_300_characters_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"study.name: found .*…? of 302 characters \(String should have at most 200"):
        Study(name="n" * 300, rows=ladder(WHOLE, [MST]), metric=METRIC)


# --- what the documentation shows ------------------------------------------------------------


def snippet() -> str:
    """The study of docs/studies.md."""
    text = (Path(__file__).parents[1] / "docs/studies.md").read_text("utf8")
    return text.partition("```python\n")[2].partition("```")[0]


def test_an_ablation_is_declared_in_fifteen_lines() -> None:
    code = snippet()
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 15, "imports, signature, docstring and all"
    space: dict[str, Any] = {}
    exec(compile(code, "studies.md", "exec"), space)  # the documentation's own example
    study = space["components"]()
    undeclared(study.rows)
    assert [row.label for row in study.rows] == [
        *("none", "+ MST", "+ CrDoMix", "+ self-training"),
        *("without MST", "without CrDoMix", "feature", "warm-up"),
    ]
    assert [a.label for a in study.rows[3].aliases] == ["whole", "consensus"]
