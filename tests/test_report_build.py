"""The report as a folder: whole or not at all, under its slug and nowhere else, whatever a name holds."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from diga.errors import ConfigError, StorageError
from diga.report import facts, figures, latex, page, writers
from diga.report.build import build, module_of, names_of_tables, slug, write
from diga.report.facts import Told
from diga.report.replacing import VERSIONS
from reports import per_class, table3
from tests import make_records as make
from tests import tiny

HOSTILE = [
    "../x",
    "..",
    ".",
    "",
    "/etc/passwd",
    "a/../../b",
    "C:\\windows\\x",
    "nul",
    "CON",
    "-rf",
    "--help",
    "a\nb\r\nc",
    "a | b | c",
    "\\input{/etc/passwd}",
    "\\write18{touch /tmp/owned}",
    "$&%#_{}~^\\",
    "[0.5em] x",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "<script>alert(1)</script>",
    "```\n# heading\n```",
    "\u202eright to left\u202c",
    "\u200f\u2067עברית",
    "emoji 🚗 and 車",
    "tab\tand nul\x00 and bell\x07",
    "a" * 5000,
    "' ; touch /tmp/owned ; '",
    "![x](javascript:alert(1))",
]


def tree(folder: Path) -> dict[str, str]:
    """Every file below and the digest of what is in it."""
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make.recorded(make.ladder(), tmp_path_factory.mktemp("demo"), pictures=2)


@pytest.fixture(scope="module")
def made(demo: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("demo", demo, tmp_path_factory.mktemp("out"))


# --- what is in it -----------------------------------------------------------------------


def test_the_folder_holds_everything(made: Path) -> None:
    tables = {f"tables/{name}.{end}" for name in ("table3", "per_class") for end in writers.FORMATS}
    drawn = (
        "ladder",
        "deltas",
        "classes",
        "confusion",
        "losses",
        "snapshots",
        "snapshot_classes",
        "samples",
        "changes",
    )
    pictures = {f"figures/{name}.{end}" for name in drawn for end in ("png", "pdf")}
    pages = {"index.html", "report.md", "claims.md", "tables/numbers.tex", "runs.parquet", "runs.lock.json"}
    pages |= {"figures/drawn.json"}
    found = {name for name in tree(made) if not name.startswith("evidence/")}
    assert found == pages | tables | pictures
    assert made.name == "demo"
    assert {p.name for p in made.parent.iterdir()} == {"demo", VERSIONS}


def test_every_link_of_the_page_leads_to_a_file(made: Path) -> None:
    tokens = MarkdownIt("commonmark").parse((made / "report.md").read_text("utf8"))
    inline = [child for token in tokens for child in token.children or []]
    targets = [t.attrGet("href") or t.attrGet("src") for t in inline if t.type in ("link_open", "image")]
    assert len(targets) == 2 * (len(writers.FORMATS) - 1) + 9 * 3
    assert all((made / str(target)).is_file() for target in targets)


def test_the_page_says_what_was_found_and_where(made: Path, demo: str) -> None:
    text = (made / "report.md").read_text("utf8")
    for expected in (
        "18 cells (6 rows, 3 seeds), 18 done",
        "every cell is done",
        "abc1234",
        "diga report demo",
        demo,
    ):
        assert expected.replace("_", "\\_") in text or expected in text


def test_claims_are_parted_by_what_they_are(made: Path) -> None:
    text = (made / "claims.md").read_text("utf8")
    assert "Of 5 comparisons: 3 hold, 2 tie, 0 reversed. Over seeds 0, 1, 2." in text
    assert "3 of 5 hold: (i) over + MST; (iii) over (ii); (iv) over (iii)." in text
    supported, not_supported = text.split("## Supported")[1].split("## Not supported: zero is in the interval")
    assert supported.count(": holds: ") == 3
    assert not_supported.count(": tie: ") == 2
    assert not_supported.count("more would leave it out") == 2
    assert text.count("Published:") == 5


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a over b: holds: +2.0 points. Published: +1.0.", "holds"),
        ("a over b: holds: +2.0 points. Published: -1.0.", "reversed"),
        ("a over b: reversed: -2.0 points. Published: -1.0.", "holds"),
        ("a over b: tie: +0.1 points. Published: -1.0.", "tie"),
        ("a over b: open: no seed is done in both rows. Published: +1.0.", "open"),
        ("a over b: holds: +2.0 points. Published: 0.0.", ""),
        ("a over b: holds: +2.0 points.", ""),
    ],
)
def test_an_order_of_the_paper_has_its_own_sign(line: str, expected: str) -> None:
    assert facts.order(line) == expected


def test_a_study_without_numbers_claims_nothing() -> None:
    known = make.in_memory(make.replace(make.ladder(), cells=()))
    assert "No two rows have been compared yet." in page.claims(Told(known, {}))


@pytest.mark.slow
def test_a_second_report_is_the_same_to_the_byte(made: Path, demo: str, tmp_path: Path) -> None:
    assert tree(build("demo", demo, tmp_path)) == tree(made)


def test_what_went_wrong_is_on_the_page(tmp_path: Path) -> None:
    def change(cell: make.Cell) -> make.Cell | None:
        if cell.index == 1:
            return make.replace(cell, status="failed", error="Diverged: loss is nan\nsecond | line", metrics={})
        return None if cell.index == 5 else make.replace(cell, git=f"sha{cell.seed}", dirty=cell.seed == 1)

    text = page.text(Told(make.in_memory(make.ladder().changed(change)), {}))
    assert "18 cells (6 rows, 3 seeds), 12 done, 3 failed, 3 missing." in text
    assert "- + MST, seeds 0, 1, 2: failed: Diverged: loss is nan second \\| line\n" in text
    assert "- (iv), seeds 0, 1, 2: missing\n" in text
    assert "versions of the code" in text
    assert "uncommitted changes" in text


def test_rows_that_are_one_cell_are_called_so() -> None:
    assert "same cell" not in page.text(Told(make.in_memory(make.ladder()), {}))
    known = make.in_memory(make.ladder())
    known.cells.loc[known.cells["row"] == "(ii)", "cell"] = list(known.cells["cell"][known.cells["row"] == "(i)"])
    assert page.text(Told(known, {})).count("rows (i) and (ii) are the same cell") == 1


def test_secrets_of_an_address_are_not_shown() -> None:
    secret = "postgresql://diga:hunter2@db.lab:5432/mlflow?password=hunter2"
    told = Told(replace(make.in_memory(make.ladder()), uri=secret), {})
    assert "postgresql://db.lab:5432/mlflow" in page.text(told)
    assert "hunter2" not in page.text(told)


def test_a_partial_study_has_a_whole_report(tmp_path: Path) -> None:
    spec = make.ladder("partial").changed(lambda c: c if c.index < 2 and c.seed == 0 else None)
    folder = build("partial", make.recorded(spec, tmp_path), tmp_path / "out")
    text = (folder / "report.md").read_text("utf8")
    assert "2 done, 16 missing" in text
    assert "Images: no seed has samples" in text
    assert (folder / "figures/ladder.png").is_file()
    bare = build("bare", make.recorded(make.replace(make.ladder("bare"), cells=()), tmp_path), tmp_path / "out")
    assert [p.name for p in (bare / "figures").iterdir()] == ["drawn.json"]


# --- which tables ------------------------------------------------------------------------


def test_tables_are_the_modules_of_reports() -> None:
    assert {"table3", "per_class"} <= set(names_of_tables())
    assert module_of("table3") is table3


@pytest.mark.parametrize("name", ["table33", "os", "__init__", "table3.json", "../table3", ""])
def test_no_other_module_is_imported(name: str) -> None:
    with pytest.raises(ConfigError, match="no table"):
        module_of(name)


def test_a_misspelt_table_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'table3'"):
        write(make.in_memory(make.ladder().declared(tables=["tabel3"])), tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- where, and whole or not at all ------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_stays_in_its_folder_and_shows_as_it_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the study's name, its title, a row, a component, and an error; drawn once, for all of it is words."""
    monkeypatch.setattr(figures, "PARTS", figures.PARTS[:1])
    spec = make.ladder(name, seeds=[0, 1]).declared(title=name, components=[*make.COMPONENTS[:4], name])
    rows = [row | {"label": name if row["index"] == 2 else row["label"]} for row in spec.study["rows"]]
    spec = spec.declared(rows=rows).changed(
        lambda c: make.replace(c, row=name if c.index == 2 else c.row, error=name, git=name)
    )
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = write(make.in_memory(spec), outside / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["outside"]
    assert [p.name for p in outside.iterdir()] == ["out"]
    assert {p.name for p in (outside / "out").iterdir()} == {folder.name, VERSIONS}
    assert folder.parent == outside / "out"
    assert slug(name) == folder.name
    assert len(folder.name) <= 80
    tex = (folder / "tables/table3.tex").read_text("utf8")
    assert latex.problems(tex) == []
    back = json.loads((folder / "tables/table3.json").read_text("utf8"))
    assert back["rows"][2]["key"] == back["columns"][5]["header"] == name
    _shape_holds((folder / "tables/table3.md").read_text("utf8"), (folder / "report.md").read_text("utf8"))
    sheet = list(csv.reader(io.StringIO((folder / "tables/table3.csv").read_text("utf8"))))
    assert {len(line) for line in sheet} == {len(sheet[0])}
    assert not sheet[3][0].lstrip().startswith(("=", "+", "-", "@"))


def _shape_holds(table: str, whole: str) -> None:
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    tokens = parser.parse(table)
    assert sum(t.type == "tr_open" for t in tokens) == 7
    assert sum(t.type == "td_open" for t in tokens) == 6 * 14
    headings = [t.tag for t in parser.parse(whole) if t.type == "heading_open"]
    assert headings[0] == "h1"
    assert set(headings[1:]) == {"h2"}
    assert len(headings) == whole.count("\n## ") + 1
    inline = [c for t in parser.parse(whole) for c in t.children or []]
    assert not any(t.type in ("html_block", "html_inline") for t in [*parser.parse(whole), *inline])
    assert all(str(t.attrGet("href")).startswith(("tables/", "figures/")) for t in inline if t.type == "link_open")
    assert not {"\u202e", "\u2067", "\u200f", "\x00", "\x07"} & set(whole)


@pytest.mark.parametrize("name", ["diga-components", "table_3", "v1.2", "A"])
def test_a_harmless_name_is_its_own_slug(name: str) -> None:
    assert slug(name) == name


def test_slugs_tell_names_apart() -> None:
    names = [*HOSTILE, "x", "x/", "x?", "x\n", "a" * 4999, slug("x?")]
    slugs = [slug(n) for n in names]
    assert len(set(slugs)) == len(set(names))
    assert all(set(s) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") for s in slugs)


def test_the_report_before_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = make.in_memory(make.ladder())
    folder = write(known, tmp_path)
    before, whole = tree(tmp_path), tree(folder)

    def breaks(*_: object) -> str:
        assert tree(folder) == whole
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page, "claims", breaks)
    with pytest.raises(StorageError, match="No space left on device"):
        write(known, tmp_path)
    assert tree(tmp_path) == before


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="report not written"):
        write(make.in_memory(make.ladder()), tmp_path / "file")


# --- speed and TeX -----------------------------------------------------------------------


IMPORTS = "mlflow, pandas, pyarrow.parquet, scipy.stats, matplotlib.figure, matplotlib.backends.backend_pdf"


@pytest.mark.slow
def test_a_report_takes_a_few_times_what_its_libraries_take_to_be_imported(demo: str, tmp_path: Path) -> None:
    """18 cells in a new process against an empty one that imports: processor time, on whatever machine this is."""
    work = (
        "from pathlib import Path; from diga.report.build import build; build('demo', sys.argv[1], Path(sys.argv[2]))"
    )
    (imports, _), (report, said) = (seconds_of(text, demo, str(tmp_path)) for text in (f"import {IMPORTS}", work))
    assert report < 8 * imports, f"{report:.1f} s, {imports:.1f} s of imports"  # three times, alone and in a quiet hour
    assert said == ""


def seconds_of(work: str, *words: str) -> tuple[float, str]:
    """Processor seconds of a new process and of those that it started, and what it said to standard error."""
    code = f"import resource, sys; {work}; kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN);"
    code += "print(sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, kinds)))"
    whole = [sys.executable, "-c", code, *words]
    done = subprocess.run(whole, capture_output=True, text=True, check=True, timeout=tiny.LONG)
    return float(done.stdout), done.stderr


def test_tables_compile(tmp_path: Path) -> None:
    """The real TeX, on the tables of a whole study and on one whose every text is hostile."""
    if shutil.which("pdflatex") is None:
        assert os.environ.get("CI") != "true", "CI must have pdflatex"
        pytest.skip("pdflatex is not installed")
    spec = make.ladder()
    rows = [r | {"label": HOSTILE[i + 16]} for i, r in enumerate(spec.study["rows"])]
    hostile = spec.declared(rows=rows, name=" ".join(HOSTILE)[:2000], components=HOSTILE[6:11])
    tables = [m.table(make.in_memory(s)) for m in (table3, per_class) for s in (spec, hostile)]
    body = "\n".join(latex.table(t) for t in tables)
    assert latex.problems(body) == []
    head = r"\documentclass{article}\usepackage[margin=1cm,landscape]{geometry}\usepackage{booktabs,amssymb}"
    (tmp_path / "t.tex").write_text(f"{head}\n\\begin{{document}}\n{body}\n\\end{{document}}\n", "ascii")
    command = ["pdflatex", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    safe = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "openin_any": "p", "openout_any": "p"}
    done = subprocess.run(command, cwd=tmp_path, env=safe, capture_output=True, text=True, timeout=tiny.LONG)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "t.pdf").stat().st_size > 1000
