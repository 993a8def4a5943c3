"""Table 3 from records: golden texts, partial studies, protocols that may and may not share a column."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from diga.errors import ConfigError
from diga.report import cells, exchange, latex, markdown, page
from diga.report.facts import Told
from diga.report.table import Cell, Table
from reports import per_class, table1, table3
from tests import make_records as make

GOLDEN = Path(__file__).parent / "golden"
WRITERS: dict[str, Callable[[Table], str]] = {
    "md": markdown.table,
    "tex": latex.table,
    "csv": exchange.as_csv,
}
LAST = f"{make.DOMAIN}/plain/last/miou"


def partial(cell: make.Cell) -> make.Cell | None:
    """A study under way: a failed cell, a running row, a row with one seed, and a row not begun."""
    if (cell.index, cell.seed) == (1, 2):
        return make.replace(cell, status="failed", error="DataError: damaged image", metrics={})
    if cell.index == 3:
        return make.replace(cell, status="running", metrics={}) if cell.seed == 0 else None
    return None if cell.index == 5 or (cell.index == 2 and cell.seed > 0) else cell


def column(table: Table, key: str) -> dict[str, Cell]:
    at = [c.key for c in table.columns].index(key)
    return {row.key: row.cells[at] for row in table.rows}


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("name", ["table3", "table3_partial"])
def test_golden(name: str, ending: str) -> None:
    """The texts as they were last read by a person; WRITE_GOLDEN=1 writes them anew for reading."""
    spec = make.ladder() if name == "table3" else make.ladder().changed(partial)
    text = WRITERS[ending](table3.table(make.in_memory(spec)))
    file = GOLDEN / f"{name}.{ending}"
    if os.environ.get("WRITE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf8")
    assert text == file.read_text("utf8")
    assert ending != "tex" or latex.problems(text) == []


def test_numbers_are_the_records_in_percent() -> None:
    table = table3.table(make.in_memory(make.ladder()))
    for i, label in enumerate(make.LABELS):
        values = [100 * make.score(i, seed) for seed in range(3)]
        ours = column(table, "last")[label]
        assert ours.mean == pytest.approx(math.fsum(values) / 3)
        assert ours.n == 3
        assert ours.runs == tuple(f"run-{i}-{seed}" for seed in range(3))
        assert column(table, "best")[label].mean == pytest.approx(ours.mean + 1.4)
        assert column(table, "teacher")[label].mean == pytest.approx(ours.mean + 0.6)
        assert column(table, "adabn")[label].mean == pytest.approx(ours.mean - 2.1)
        assert [c.text for c in table.rows[i].cells[1:6]] == ["✓"] * i + [""] * (5 - i)


def test_steps_are_paired_by_seed_with_the_row_below() -> None:
    step = column(table3.table(make.in_memory(make.ladder())), "step")
    assert step["Source-only"] == Cell()
    by_hand = [100 * (make.score(2, s) - make.score(1, s)) for s in range(3)]
    assert step["(i)"].mean == pytest.approx(sum(by_hand) / 3)
    assert step["(i)"].low < min(by_hand) < max(by_hand) < step["(i)"].high


def test_published_rows_are_matched_by_their_switches() -> None:
    """Two published rows are called Source-only: only their switches tell them apart."""
    known = make.in_memory(make.ladder())
    paper = cells.published(known, table3.PAPER)
    assert list(paper.values()) == [38.3, 38.9, 46.7, 48.9, 51.1, 62.7]
    steps = cells.paper_steps(paper, known)
    assert [round(v, 1) for v in steps.values()] == [0.6, 7.8, 2.2, 2.2, 11.6]
    fewer = make.in_memory(make.ladder().declared(components=list(make.COMPONENTS[:2])))
    assert cells.published(fewer, table3.PAPER) == {"(i)": 46.7, "(ii)": 48.9, "(iii)": 51.1, "(iv)": 62.7}


def test_a_study_without_published_numbers_has_none() -> None:
    table = table3.table(make.in_memory(make.ladder().declared(reference="")))
    assert not any(c.is_number for c in column(table, "paper").values())
    assert not any("Published" in note for note in table.notes)


@pytest.mark.parametrize("name", ["diga_table3_component.csv", "../paper/diga_table3_components.csv", "/etc/passwd"])
def test_an_unknown_reference_is_answered_with_the_nearest(name: str) -> None:
    with pytest.raises(ConfigError, match=r"diga_table3_components\.csv"):
        table3.table(make.in_memory(make.ladder().declared(reference=name)))


def test_what_is_missing_is_said() -> None:
    table = table3.table(make.in_memory(make.ladder().changed(partial)))
    ours = column(table, "last")
    assert [ours[label].status for label in ("(ii)", "(iv)")] == ["running", "missing"]
    assert [ours[label].n for label in ("Source-only", "+ MST", "(i)", "(iii)")] == [3, 2, 1, 3]
    assert "+ MST (seed 2 failed)" in table.notes[-1]
    assert "(iv) (seed 0 missing, seed 1 missing, seed 2 missing)" in table.notes[-1]
    assert column(table, "step")["(iii)"].status == "missing"


def test_a_study_that_has_just_been_declared_has_a_table() -> None:
    table = table3.table(make.in_memory(make.replace(make.ladder(), cells=())))
    assert {c.status for c in column(table, "last").values()} == {"missing"}
    assert latex.problems(latex.table(table)) == []
    assert "Nothing has been evaluated yet" in table.caption


# --- protocols ---------------------------------------------------------------------------


def test_the_caption_names_both_protocols_of_the_ablated_one() -> None:
    caption = table3.table(make.in_memory(make.ladder())).caption
    assert "two_scale in rows with MST; rows without MST are single_scale" in caption
    alike = make.ladder().changed(lambda c: make.replace(c, protocol="two_scale"))
    assert "Protocol: two_scale." in table3.table(make.in_memory(alike)).caption


def other_in_row_four(cell: make.Cell) -> make.Cell:
    return make.replace(cell, protocol="sliding") if cell.index == 4 else cell


def other_in_one_cell(cell: make.Cell) -> make.Cell:
    return make.replace(cell, protocol="sliding") if (cell.index, cell.seed) == (4, 1) else cell


@pytest.mark.parametrize("module", [table3, per_class])
@pytest.mark.parametrize(
    ("spec", "where"),
    [
        (make.ladder().changed(other_in_row_four), "rows with MST"),
        (make.ladder().changed(other_in_one_cell), r"row '\(iii\)'"),
        (make.ladder().declared(components=["MS", *make.COMPONENTS[1:]]), "a column"),
    ],
)
def test_protocols_that_no_component_explains_are_refused(module, spec: make.Spec, where: str) -> None:
    with pytest.raises(ConfigError, match=f"{where}: mixes the protocols"):
        module.table(make.in_memory(spec))


def test_a_cell_that_is_not_done_mixes_nothing() -> None:
    spec = make.ladder().changed(lambda c: make.replace(c, protocol="sliding", status="failed") if c.index == 4 else c)
    assert column(table3.table(make.in_memory(spec)), "last")["(iii)"].status == "failed"


# --- sentences ---------------------------------------------------------------------------


def test_every_rung_has_its_sentence() -> None:
    found = table3.verdicts(make.in_memory(make.ladder()))
    assert [line.split(": ")[1] for line in found] == ["tie", "holds", "tie", "holds", "holds"]
    assert found[1].startswith("(i) over + MST: holds: +5.76 points, 95 % interval [")
    assert found[1].endswith("n = 3. Published: +7.8.")
    assert "about 5 more would" in found[0]


@pytest.mark.parametrize(("seeds", "can"), [(5, None), (6, False), (7, False), (8, True)])
def test_claims_never_say_supported_of_a_p_that_is_not(seeds: int, can: bool | None) -> None:
    """Five rows: of six or seven pairs no p can be below 0.05 after Holm, of eight it can."""
    known = make.in_memory(make.ladder(seeds=range(seeds)))
    told = Told(known, {}, (), {}, table3.verdicts(known))
    found = {part.split("\n")[0]: part.count(": holds: ") for part in page.claims(told).split("\n## ")[1:]}
    alone, both = (
        found.get(h, 0) for h in ("Supported by its own interval alone", "Supported, after Holm's correction, too")
    )
    assert (alone > 0, both > 0) == (not can, bool(can))
    impossible = [line for line in told.verdicts if "p cannot be below" in line]
    assert len(impossible) == (5 if can is False else 0)
    if seeds == 6:
        assert (
            "n = 6, p cannot be below 0.156 (sign flips, 6 pairs, Holm over 5 rows; it takes 8 pairs" in impossible[0]
        )
    notes = [note for note in table3.table(known).notes if note.startswith("No difference can have a star")]
    assert len(notes) == (can is False)
    assert ("***" in markdown.table(table3.table(known)) or r"\*" in markdown.table(table3.table(known))) == bool(can)


def test_a_rung_that_goes_down_is_reversed() -> None:
    def lower(cell: make.Cell) -> make.Cell:
        return make.replace(cell, metrics={LAST: 0.3 + 0.001 * cell.seed}) if cell.index == 5 else cell

    assert table3.verdicts(make.in_memory(make.ladder().changed(lower)))[-1].startswith("(iv) over (iii): reversed: -")


def test_too_few_seeds_are_open() -> None:
    one = table3.verdicts(make.in_memory(make.ladder(seeds=[0])))
    assert all(": open: " in line and "one seed more" in line for line in one)
    none = table3.verdicts(make.in_memory(make.replace(make.ladder(), cells=())))
    assert all("no seed is done in both rows" in line for line in none)


# --- classes -----------------------------------------------------------------------------


def test_absent_classes_are_said_to_be_absent() -> None:
    table = per_class.table(make.in_memory(make.ladder().changed(partial)))
    assert column(table, "train")["(i)"].status == "n/a"
    assert column(table, "train")["(iv)"].status == "missing"
    assert column(table, "road")["(i)"].n == 1
    assert table.notes == ("n/a: neither present nor predicted, and not part of the mean: train.",)
    assert latex.problems(latex.table(table)) == []


def test_ties_are_marked_in_means_and_not_in_classes() -> None:
    alike = make.ladder().changed(lambda c: make.replace(c, metrics=make.metrics(0, (c.seed + c.index) % 3)))
    known = make.in_memory(alike.declared(reference="diga_table1_gta5_cityscapes.csv"))
    for table in (per_class.table(known), table1.table(known)):
        tied = {c.key for row in table.rows for c, cell in zip(table.columns, row.cells, strict=True) if cell.tied}
        assert tied
        assert all(key.startswith("miou") for key in tied)


def test_the_mean_of_the_classes_is_beside_them() -> None:
    table = per_class.table(make.in_memory(make.ladder()))
    assert column(table, "miou")["(iv)"] == column(table3.table(make.in_memory(make.ladder())), "last")["(iv)"]


@pytest.mark.parametrize("metric", ["miou", "a/b/c", "", "/plain/last/miou"])
def test_a_metric_without_its_address_is_refused(metric: str) -> None:
    with pytest.raises(ConfigError, match=r"study\.metric"):
        table3.table(make.in_memory(make.ladder().declared(metric=metric)))
