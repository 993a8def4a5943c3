"""Marks, HTML, Parquet and numbers.tex of tables: the same cells in every form, and golden texts."""

from __future__ import annotations

import io
import math
import os
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from diga.report import cells, exchange, html, latex, macros, markdown, writers
from diga.report.table import Cell, Column, Row, Table
from reports import table4, table6
from tests import make_records as make

GOLDEN = Path(__file__).parent / "golden"
SCORE = Column(key="last", header="last", kind="score", better="max")
STEP = Column(key="step", header="Δ", kind="delta")
NAME = Column(key="row", header="Row")


def table(*scores: Cell, steps: tuple[Cell, ...] = (), **changes: object) -> Table:
    steps = steps or (Cell(),) * len(scores)
    rows = [
        Row(key=f"r{i}", cells=(Cell(text=f"r{i}"), s, d)) for i, (s, d) in enumerate(zip(scores, steps, strict=True))
    ]
    known = {"title": "T", "caption": "C", "label": "l", "columns": (NAME, SCORE, STEP), "rows": tuple(rows), "n": 3}
    return Table(**(known | changes))  # type: ignore[arg-type]


def score(mean: float, **more: object) -> Cell:
    return Cell(mean=mean, sd=0.5, n=3, **more)  # type: ignore[arg-type]


# --- marks -------------------------------------------------------------------------------


def test_the_second_is_underlined_and_equals_share_a_place() -> None:
    found = table(score(40.04), score(39.96), score(39.0), score(38.0))
    tex, text, page = latex.table(found), markdown.table(found), html.table(found)
    assert (tex.count(r"\textbf{40.0}"), tex.count(r"\underline{39.0}"), tex.count(r"\underline")) == (2, 1, 1)
    assert (text.count("**40.0**"), text.count("_39.0_")) == (2, 1)
    assert (page.count('class="score best"'), page.count('class="score second"')) == (2, 1)


def test_of_two_the_worse_is_not_the_second_of_anything() -> None:
    assert r"\underline" not in latex.table(table(score(40), score(39), Cell(status="failed")))


def test_a_tie_has_a_dagger_and_its_meaning() -> None:
    found = table(score(40), score(39.5, tied=True), score(30))
    assert markdown.table(found).count("†") == html.table(found).count("†") == 2
    assert latex.table(found).count(r"0.5$^{\dag}$") == 1
    assert "†" not in markdown.table(table(score(40), score(39.5), score(30)))
    bare = Column(key="last", header="last", kind="score", better="max", spread=False)
    close = latex.table(table(score(40), score(39.5, tied=True), columns=(NAME, bare, STEP)))
    assert r"39.5$^{\dag}$ &" in close
    assert r"\textbf{40.0}\hphantom{$^{\dag}$} &" in close  # digits stand below each other
    assert "dag" not in latex.table(table(score(40), score(39.5), columns=(NAME, bare, STEP)))
    assert latex.problems(latex.table(found)) == []


def test_stars_have_a_legend_and_p_a_column() -> None:
    steps = (Cell(), Cell(mean=1, low=0.5, high=2, n=6, p=0.04), Cell(mean=1, n=6, p=0.0005), Cell(mean=0, n=6, p=0.9))
    found = table(score(40), score(39), score(38), score(37), steps=steps)
    assert "$[+0.5, +2.0]$$^{*}$" in latex.table(found)
    assert latex.problems(latex.table(found)) == []
    assert r"+1.0 [+0.5, +2.0] \*" in markdown.table(found)
    assert r"+1.0 \*\*\*" in markdown.table(found)
    assert "p below 0.05" in found.remarks[-1]
    assert exchange.as_csv(found).splitlines()[2].endswith(",6,0.04")
    assert "step_p" not in exchange.as_csv(table(score(1), score(2)))


def test_who_is_tied_with_the_best_is_told_by_seeds() -> None:
    """Row (iii) beats (ii) seed by seed, although their spreads overlap; rows of two seeds are never tied."""
    records = make.in_memory(make.ladder())
    metric = cells.metric_of(records)
    found = cells.with_ties(records, metric, cells.scores(records, metric))
    assert {row for row, cell in found.items() if cell.tied} == set()
    near = make.ladder().changed(
        lambda c: make.replace(c, metrics=make.metrics(c.index if c.index != 4 else 5, c.seed))
    )
    records = make.in_memory(near)
    found = cells.with_ties(records, metric, cells.scores(records, metric))
    assert {row for row, cell in found.items() if cell.tied} == {"(iv)"} or {r for r in found if found[r].tied} == {
        "(iii)"
    }
    few = make.in_memory(make.replace(near, cells=tuple(c for c in near.cells if c.seed < 2)))
    assert not any(c.tied for c in cells.with_ties(few, metric, cells.scores(few, metric)).values())


def test_six_seeds_have_a_p_that_knows_how_many_rows_there_are() -> None:
    records = make.in_memory(make.ladder(seeds=range(6)))
    found = cells.steps(records, cells.metric_of(records))
    best = found["(iv)"]
    assert best.p == 2 / 64
    assert best.adjusted == pytest.approx(min(1, 5 * 2 / 64))
    assert all(
        math.isnan(step.p) for step in cells.steps(make.in_memory(make.ladder()), cells.metric_of(records)).values()
    )


# --- forms -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["table4", "table6"])
@pytest.mark.parametrize("ending", ["html", "numbers.tex"])
def test_golden(name: str, ending: str) -> None:
    """As last read by a person; WRITE_GOLDEN=1 writes them anew for reading."""
    module, spec = {"table4": (table4, make.table4), "table6": (table6, make.table6)}[name]
    found = module.table(make.in_memory(spec()))
    text = html.table(found) if ending == "html" else macros.numbers({name: found}, "streets")
    file = GOLDEN / f"{name}.{ending}"
    if os.environ.get("WRITE_GOLDEN"):
        file.write_text(text, "utf8")
    assert text == file.read_text("utf8")


def test_html_has_groups_rules_and_no_script() -> None:
    found = html.table(table4.table(make.in_memory(make.table4())))
    spans = [int(n) for n in re.findall(r'colspan="(\d+)"', found)]
    assert sum(spans) == len(table4.table(make.in_memory(make.table4())).columns)
    assert "http" not in found + html.STYLE
    parted = table(score(1), score(2))
    rows = (Row(key="a", cells=parted.rows[0].cells, group="x"), parted.rows[1])
    assert html.table(table(score(1), score(2), rows=rows)).count("class=rule") == 1


@pytest.mark.parametrize("module", [table4, table6])
def test_parquet_is_csv_with_types(module) -> None:
    found = module.table(make.in_memory({table4: make.table4, table6: make.table6}[module]()))
    read = pq.read_table(io.BytesIO(exchange.as_parquet(found)))
    head, *lines = exchange.as_csv(found).splitlines()
    assert read.num_rows == len(lines)
    assert len(head.split(",")) == read.num_columns
    assert {str(f.type) for f in read.schema} <= {"string", "double", "int64"}
    assert read.schema.metadata is not None
    assert found.title in read.schema.metadata[b"diga"].decode()


def test_a_command_for_every_number_and_for_every_gap() -> None:
    found = table(score(40.04), Cell(status="failed"), Cell(status="missing"), steps=(Cell(), Cell(mean=-1.25), Cell()))
    text = macros.numbers({"table3": found}, "my study 2")
    assert r"\newcommand{\DigaMyStudyTwoTableThreeRZeroLast}{40.0}" in text
    assert r"\newcommand{\DigaMyStudyTwoTableThreeROneLast}{failed}" in text
    assert r"\newcommand{\DigaMyStudyTwoTableThreeRTwoLast}{--}" in text
    assert r"\newcommand{\DigaMyStudyTwoTableThreeROneStep}{$-1.2$}" in text
    assert r"\newcommand{\DigaMyStudyTwoTableThreeRZeroLastSd}{0.5}" in text
    assert r"\newcommand{\DigaMyStudyTwoTableThreeRZeroLastN}{3}" in text
    assert text.count("newcommand") == 4 + 2


def test_a_differences_bounds_are_commands_of_their_own() -> None:
    steps = (Cell(mean=1.24, sd=0.3, low=-0.52, high=3.0, n=3), Cell(mean=1.0, n=1))
    lines = macros.numbers({"t": table(score(1), Cell(), steps=steps)}).splitlines()[1:]
    known = dict(re.fullmatch(r"\\newcommand\{\\DigaT(\w+)\}\{(.*)\}", line).groups() for line in lines)  # type: ignore[union-attr]
    zero = {k.removeprefix("RZeroStep"): v for k, v in known.items() if k.startswith("RZeroStep")}
    assert zero == {"": "$+1.2$", "Sd": "0.3", "Low": "$-0.5$", "High": "$+3.0$", "N": "3"}
    assert {k: v for k, v in known.items() if k.startswith("ROneStep")} == {"ROneStep": "$+1.0$", "ROneStepN": "1"}


def test_every_form_is_written(tmp_path: Path) -> None:
    writers.write({"a": table(score(1)), "b": table(score(2))}, tmp_path / "t", "s")
    names = {p.name for p in (tmp_path / "t").iterdir()}
    assert names == {f"{n}.{e}" for n in "ab" for e in ("md", "tex", "html", "csv", "json", "parquet")} | {
        "numbers.tex"
    }
    assert b"\r" not in (tmp_path / "t/a.csv").read_bytes()
