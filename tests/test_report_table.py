"""The table as a value, and the four texts it becomes, numbers (negative, tiny, absent, tied) above all."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from markdown_it import MarkdownIt

from diga.report import exchange, latex, markdown
from diga.report.table import Cell, Column, Row, Table, number

SCORE = Column(key="ours", header="ours", group="A", kind="score", better="max")
COLUMNS = (
    Column(key="row", header="Row"),
    Column(key="on", header="on", group="Components", kind="check"),
    SCORE,
    Column(key="step", header="Δ", group="A", kind="delta"),
    Column(key="paper", header="mIoU", group="P", kind="paper"),
)


def row(key: str, ours: Cell, on: bool = False, step: Cell | None = None, paper: float = math.nan) -> Row:
    cells = (Cell(text=key), Cell(text="✓" if on else ""), ours, step or Cell(), Cell(mean=paper))
    return Row(key=key, cells=cells)


def table(*rows: Row, **changes: Any) -> Table:
    known = {"title": "T", "caption": "C", "label": "l", "columns": COLUMNS, "rows": rows, "n": 3} | changes
    return Table(**known)


def score(mean: float, sd: float = 0.5, n: int = 3) -> Cell:
    return Cell(mean=mean, sd=sd, n=n)


def markdown_rows(text: str) -> list[list[str]]:
    """Cells of the pipe table as a Markdown parser sees them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    rows: list[list[str]] = []
    for before, token in pairwise(tokens):
        if before.type == "tr_open":
            rows.append([])
        if before.type in ("th_open", "td_open"):
            rows[-1].append("".join(c.content or "" for c in token.children or []))
    return rows


# --- ranking -----------------------------------------------------------------------------


def test_what_prints_alike_shares_the_first_place() -> None:
    both = table(row("a", score(48.64)), row("b", score(48.56)), row("c", score(48.4)))
    assert both.ranks(2) == (1, 1, 2)
    assert markdown.table(both).count("**48.6**") == 2
    assert latex.table(both).count(r"\textbf{48.6}") == 2


def test_the_published_column_is_never_ranked() -> None:
    known = table(row("a", score(40), paper=99.0), row("b", score(41), paper=1.0))
    assert known.best == {(1, 2)}
    with pytest.raises(ValueError, match="only our scores"):
        Column(key="p", header="p", kind="paper", better="max")


def test_a_lone_number_is_not_the_best_of_anything() -> None:
    known = table(row("a", score(40)), row("b", Cell(status="failed")), row("c", Cell(mean=math.nan, n=3)))
    assert known.best == frozenset()


@given(some.lists(some.floats(0, 100), min_size=2, max_size=8))
def test_ranks_are_the_slow_ranks(means: list[float]) -> None:
    found = table(*(row(str(i), score(m)) for i, m in enumerate(means))).ranks(2)
    printed = [float(f"{m:.1f}") for m in means]
    assert found == tuple(1 + len({p for p in printed if p > mine}) for mine in printed)


def test_a_row_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="5 columns"):
        table(Row(key="short", cells=(Cell(text="short"),)))


# --- numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (-0.04, False, "0.0"),
        (-0.04, True, "0.0"),
        (1e-12, True, "0.0"),
        (-3.26, True, "-3.3"),
        (3.24, True, "+3.2"),
    ],
)
def test_numbers_have_no_negative_zero(value: float, signed: bool, text: str) -> None:
    assert number(value, 1, signed) == text


def test_one_seed_has_no_spread_and_says_so() -> None:
    one = table(row("a", Cell(mean=40.0, sd=math.nan, n=1)), row("b", Cell(mean=39.0, sd=0.0, n=2)))
    first, second = markdown_rows(markdown.table(one))[1:]
    assert first[2] == "40.0 (1)"
    assert second[2] == "39.0 ± 0.0 (2)"
    assert r"{\textbf{40.0}} & (1) &" in latex.table(one)
    assert latex.problems(latex.table(one)) == []


def test_a_difference_has_its_sign_and_interval() -> None:
    step = Cell(mean=-0.5, low=-1.25, high=0.25, n=3)
    known = table(row("a", score(40), step=step), row("b", score(41), step=Cell(mean=2.0, n=1)))
    first, second = markdown_rows(markdown.table(known))[1:]
    assert (first[3], second[3]) == ("-0.5 [-1.2, +0.2]", "+2.0 (1)")
    assert "$-0.5$ & $[-1.2, +0.2]$" in latex.table(known)
    assert "$+2.0$ & (1)" in latex.table(known)


@pytest.mark.parametrize(
    ("cell", "text"),
    [(Cell(status="missing"), "--"), (Cell(status="failed"), "failed"), (Cell(status="n/a"), "n/a")],
)
def test_what_is_not_there_says_why(cell: Cell, text: str) -> None:
    known = table(row("a", cell), row("b", score(40)))
    assert markdown_rows(markdown.table(known))[1][2] == text
    assert f"\\multicolumn{{2}}{{c}}{{{text}}}" in latex.table(known)
    line = next(csv.DictReader(io.StringIO(exchange.as_csv(known))))
    assert (line["ours"], line["ours_status"]) == ("", cell.status)


def test_csv_leaves_numbers_alone_and_texts_inert() -> None:
    known = table(row("=1+1", score(-1.5), step=Cell(mean=-2.0, low=-3.0, high=-1.0, n=3)), row("b", score(1e-12)))
    first, second = csv.DictReader(io.StringIO(exchange.as_csv(known)))
    assert first["row"] == "'=1+1"
    assert (first["ours"], first["step"], first["step_low"]) == ("-1.5", "-2", "-3")
    assert float(second["ours"]) == 1e-12


@given(some.text(max_size=20), some.floats(allow_nan=True))
def test_json_gives_back_texts_exactly_and_no_number_as_null(text: str, value: float) -> None:
    known = table(row(text, Cell(mean=value)), title=text)
    back = json.loads(exchange.as_json(known), parse_constant=pytest.fail)
    assert back["title"] == text == back["rows"][0]["cells"][0]["text"]
    mean = back["rows"][0]["cells"][2]["mean"]
    assert mean == value if math.isfinite(value) else mean is None


# --- hostile texts -----------------------------------------------------------------------

ANY = some.text(max_size=60) | some.text("\\{}[]&%$#_^~|*`<>\"'-=+@ \n\t", max_size=30)


@given(ANY, ANY)
def test_no_text_changes_a_tables_shape(label: str, caption: str) -> None:
    columns = (Column(key="row", header=label, group=caption), *COLUMNS[1:])
    known = table(
        row(label, score(40), step=Cell(mean=1.0, low=0.5, high=1.5, n=3)),
        row("b", Cell(text=label, status="failed")),
        columns=columns,
        caption=caption,
        title=label,
        label=label,
        notes=(caption,),
    )
    assert latex.problems(latex.table(known)) == []
    assert [len(cells) for cells in markdown_rows(markdown.table(known))] == [5, 5, 5]
    widths = {len(line) for line in csv.reader(io.StringIO(exchange.as_csv(known)))}
    assert len(widths) == 1


@given(some.text("abc \\{}[]&%$#_^~|*`<>\"'-=+@()/.:;!?", max_size=40))
def test_markdown_shows_the_text_itself(text: str) -> None:
    shown = markdown_rows(markdown.table(table(row(text, score(1)))))[1][0]
    assert shown == " ".join(text.split())


def test_latex_knows_the_letters_of_papers() -> None:
    assert latex.escape("Δ α é ç Å → ± ✓") == r"$\Delta$ $\alpha$ \'{e} \c{c} \r{A} $\to$ $\pm$ \checkmark{}"
    assert latex.escape("車\u202e\x00x") == "?x"
    assert latex.escape("a---b") == "a-{}-{}-b"


# --- the checker -------------------------------------------------------------------------

GOOD = table(row("a", score(40), on=True), row("b", score(41), paper=3.0))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (r"\textbf{41.0}", r"\textbf{41.0", "closes"),
        (r"\end{tabular}", "", "closes"),
        ("a & ", "a & & ", "a row of 8"),
        (r"\cmidrule(lr){2-2}", r"\cmidrule(lr){2-9}", "cmidrule 2-9"),
        ("\na & ", "\n[a & ", "starts with ["),
        ("\nb & ", "\n*b & ", "starts with *"),
        ("\na & ", "\na_1 & ", "raw _"),
        ("\na & ", "\n50% & ", "raw %"),
        ("\na & ", "\n#1 & ", "raw #"),
        ("\na & ", "\nα & ", "not ASCII"),
        ("\na & ", "\n\\input{x} & ", r"unknown command \input"),
        ("\na & ", "\n\\write18{x} & ", r"unknown command \write"),
        ("\na & ", "\n$a & ", "closes"),
        (r"\centering", r"\centering &", "raw &"),
        (r"\centering", r"\centering \shortstack{a\\ [b}", "takes ["),
        (r"\multicolumn{2}{c}{ours}", r"\multicolumn{3}{c}{ours}", "a row of 8"),
    ],
)
def test_the_checker_sees(old: str, new: str, problem: str) -> None:
    tex = latex.table(GOOD)
    assert latex.problems(tex) == []
    assert tex.count(old) >= 1
    assert any(problem in found for found in latex.problems(tex.replace(old, new, 1)))


def test_groups_are_ruled_over_the_columns_they_cover() -> None:
    tex = latex.table(GOOD)
    assert r"\cmidrule(lr){2-2} \cmidrule(lr){3-6} \cmidrule(lr){7-7}" in tex
    assert re.search(r"\\begin\{tabular\}\{lcr@\{\$\\,\\pm\\,\$\}lr@\{\\ \}lr\}", tex)
    parted = table(Row(key="a", cells=GOOD.rows[0].cells, group="x"), GOOD.rows[1])
    assert latex.table(parted).count(r"\midrule") == 2
