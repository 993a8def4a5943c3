"""Sixty names that mean harm or mishap, through every writer: each shows as it is, and does nothing."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from markdown_it import MarkdownIt

from diga.report import exchange, html, latex, macros, markdown, writers
from diga.report.build import write
from diga.report.exchange import FORMULA
from diga.report.table import Cell, Column, Row, Table
from tests import make_records as make
from tests import tiny

NAMES = [
    *("a\nb", "a\r\nb", "a\rb", "\n", "\n=cmd", "tab\tand nul\x00", "bell\x07 and escape \x1b[31m", "\u2028line\u2029"),
    *(
        r"\input{/etc/passwd}",
        r"\write18{touch owned}",
        r"\immediate\openout5=owned",
        r"\def\x{\x}\x",
        r"\end{document}",
    ),
    *("}", "{", "$", "$$", "%", "&", r"\\", "#1", "_", "^", "~", "^^5cinput{x}", "[0.5em] x", "*", r"\verb|x|", "\\"),
    *(
        "=cmd|' /C calc'!A0",
        "+1+1",
        "-1+1",
        "@SUM(1+1)",
        "＝1+1",
        "x;=1+1",
        "x\t=1+1",
        "x\n+1",
        "' =1",
        '"=1',
        'a,b;c"d',
    ),
    *(
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "</table>",
        "&lt;b&gt;",
        "<!--",
        "javascript:x",
        "]]>",
    ),
    *("a | b", "|", "||---||", "```", "# heading", "![x](javascript:1)", "[x](http://x)", "<http://x>", "- item"),
    *(
        "\u202eright to left\u202c",
        "\u200f\u2067עברית",
        "العربية",
        "\ud800 half a pair",
        "🚗 車",
        "e\u0301\u0301\u0301",
        "\ufeff",
    ),
    *("../../x", "/etc/passwd", "C:\\windows\\x", "nul", "-rf", "", " ", "a" * 5000, "\\input{" * 700, "| " * 2500),
]
everywhere = pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))


def table_of(name: str) -> Table:
    """A table with a name in every place that takes one."""
    columns = (
        Column(key=name, header=name, group=name),
        Column(key="on", header=name, group=name, kind="check"),
        Column(key="score", header=name, group=name, kind="score", better="max"),
        Column(key="step", header=name, kind="delta"),
    )
    number, step = Cell(mean=40.0, sd=0.5, n=3, runs=(name,)), Cell(mean=-1.0, low=-2.0, high=0.5, n=6, p=0.001)
    rows = (
        Row(key=name, cells=(Cell(text=name), Cell(text="✓"), number, step)),
        Row(key=f"{name} again", cells=(Cell(text=name), Cell(), Cell(mean=39.0, sd=0.1, n=2, tied=True), Cell())),
        Row(key=name, group=name, cells=(Cell(text="third"), Cell(), Cell(mean=38.0, n=1), Cell(text=name))),
    )
    below = Table(
        title=name, caption="", label="", columns=columns[:1], rows=(Row(key=name, cells=(Cell(text=name),)),)
    )
    return Table(title=name, caption=name, label=name, columns=columns, rows=rows, notes=(name,), n=3, below=below)


def test_there_are_sixty() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 60


@everywhere
def test_nothing_is_written_outside_the_folder(name: str, tmp_path: Path) -> None:
    place = tmp_path / "place" / "tables"
    writers.write({"table3": table_of(name)}, place, name)
    assert [p.name for p in tmp_path.iterdir()] == ["place"]
    assert {p.name for p in place.iterdir()} == {*(f"table3.{end}" for end in writers.FORMATS), writers.NUMBERS}


@everywhere
def test_markdown_keeps_its_columns(name: str) -> None:
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown.table(table_of(name)))
    rows: list[int] = []
    for before, _ in pairwise(tokens):
        if before.type == "tr_open":
            rows.append(0)
        rows[-1:] = [rows[-1] + 1] if before.type in ("th_open", "td_open") else rows[-1:]
    assert rows == [4, 4, 4, 4, 1, 1]
    inline = [child for token in tokens for child in token.children or []]
    kinds = {t.type for t in [*tokens, *inline]}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "heading_open", "code_inline", "fence", "hr"}
    assert not kinds & {"bullet_list_open", "ordered_list_open", "blockquote_open", "lheading_open", "code_block"}


class Shape(HTMLParser):
    """What a browser makes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {key for key, _ in attrs}
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


@everywhere
def test_html_is_text(name: str) -> None:
    shape = Shape()
    shape.feed(html.table(table_of(name)))
    known = {"div", "table", "caption", "strong", "thead", "tbody", "tr", "th", "td", "bdi", "small", "p"}
    assert set(shape.tags) <= known
    assert shape.attributes <= {"class", "scope", "colspan", "title"}
    assert (shape.tags.count("td"), shape.tags.count("table")) == (13, 2)
    assert markdown.visible(name) in shape.cells or not markdown.visible(name)


@everywhere
def test_csv_is_inert(name: str) -> None:
    text = exchange.as_csv(table_of(name))
    lines = list(csv.reader(io.StringIO(text)))
    assert len({len(line) for line in lines}) == 1
    cells = [cell for line in lines for cell in line]
    for cell in cells:
        assert re.fullmatch(r"-?[\d.]+", cell) or not cell.lstrip().startswith(FORMULA)
        assert not any(part.lstrip().startswith(FORMULA) for part in re.split("[;\t\n]", cell)[1:])
    assert "\r" not in text
    assert "\x00" not in text


@everywhere
def test_json_and_parquet_come_back(name: str, tmp_path: Path) -> None:
    back = json.loads(exchange.as_json(table_of(name)))
    assert back["title"] == back["rows"][0]["key"] == back["columns"][0]["header"] == name
    (tmp_path / "t.parquet").write_bytes(exchange.as_parquet(table_of(name)))
    read = pq.read_table(tmp_path / "t.parquet")
    written = name.encode("utf8", "replace").decode()
    assert read.column(0).to_pylist()[:2] == [written, written]
    assert read["score"].to_pylist() == [40.0, 39.0, 38.0, None]
    assert len(set(read.column_names)) == read.num_columns


@everywhere
def test_latex_is_a_table(name: str) -> None:
    assert latex.problems(latex.table(table_of(name))) == []
    numbers = macros.numbers({"table3": table_of(name), name: table_of(name)}, name)
    commands = re.findall(r"^\\newcommand\{\\(\w+)\}\{(.*)\}$", numbers, re.MULTILINE)
    assert len(commands) == len(numbers.splitlines()) - 1 == 2 * 12  # four numbers, and what is known around them
    assert len({command for command, _ in commands}) == len(commands)
    assert all(command.isascii() and command.isalpha() and len(command) < 300 for command, _ in commands)
    around = {"0.5", "0.1", "$-2.0$", "$+0.5$", "1", "2", "3", "6"}
    assert {value for _, value in commands} == {"40.0", "39.0", "38.0", "$-1.0$"} | around


def test_all_of_them_compile(tmp_path: Path) -> None:
    """One document, with every table and every number in it."""
    if shutil.which("pdflatex") is None:
        assert os.environ.get("CI") != "true", "CI must have pdflatex"
        pytest.skip("pdflatex is not installed")
    tables = {f"t{i}": table_of(name) for i, name in enumerate(NAMES)}
    writers.write(tables, tmp_path / "in", "".join(NAMES[:40]))
    numbers = (tmp_path / "in/numbers.tex").read_text("ascii")
    used = " ".join(re.findall(r"\\Diga\w+", numbers))
    body = "\\clearpage\n".join((tmp_path / f"in/{name}.tex").read_text("ascii") for name in tables)
    head = r"\documentclass{article}\usepackage[margin=1cm,landscape]{geometry}\usepackage{booktabs,amssymb}"
    text = f"{head}\n{numbers}\\begin{{document}}\n{body}\n\\clearpage {used}\n\\end{{document}}\n"
    (tmp_path / "t.tex").write_text(text, "ascii")
    command = ["pdflatex", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    safe = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "in"), "openin_any": "p", "openout_any": "p"}
    done = subprocess.run(command, cwd=tmp_path, env=safe, capture_output=True, timeout=tiny.LONG)
    assert done.returncode == 0, done.stdout.decode("latin1")[-2000:]
    assert {p.name for p in tmp_path.iterdir()} == {"in", "t.tex", "t.pdf", "t.aux", "t.log"}


@pytest.mark.slow
def test_a_whole_report_of_them(tmp_path: Path) -> None:
    """Study, title, rows, components, errors and code, as a launch might have recorded them."""
    some = [n for n in NAMES if n.strip()]
    for k, study in enumerate((some[8], some[40], "../../x")):
        rows = [row | {"label": some[6 * k + row["index"]]} for row in make.ladder().study["rows"]]
        labels = {row["index"]: row["label"] for row in rows}
        spec = make.ladder(study, seeds=[0, 1]).declared(rows=rows, title=study, components=["MST", *some[20 : 20 + 4]])
        spec = spec.changed(lambda c, labels=labels: make.replace(c, row=labels[c.index], error=labels[c.index]))
        outside = tmp_path / str(k)
        folder = write(make.in_memory(spec), outside / "out")
        assert [p.name for p in outside.iterdir()] == ["out"]
        assert folder.parent == outside / "out"
        assert json.loads((folder / "runs.lock.json").read_text())["study"] == study
