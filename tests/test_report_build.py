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
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from diga.data.labels import COLOURS
from diga.errors import ConfigError, StorageError
from diga.report import build as building
from diga.report import figures, latex, page
from diga.report.build import build, module_of, names_of_tables, replacing, slug, spread, write
from reports import per_class, table3
from tests import make_records as make

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
    tables = {f"tables/{name}.{end}" for name in ("table3", "per_class") for end in ("md", "tex", "csv", "json")}
    assert set(tree(made)) == {"report.md", "claims.md", "figures/ladder.png", "figures/samples.png", *tables}
    assert made.name == "demo"
    assert [p.name for p in made.parent.iterdir()] == ["demo"]


def test_every_link_of_the_page_leads_to_a_file(made: Path) -> None:
    tokens = MarkdownIt("commonmark").parse((made / "report.md").read_text("utf8"))
    inline = [child for token in tokens for child in token.children or []]
    targets = [t.attrGet("href") or t.attrGet("src") for t in inline if t.type in ("link_open", "image")]
    assert len(targets) == 8
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
    assert (made / "claims.md").read_text("utf8").count(": holds: ") == 3


def test_a_second_report_is_the_same_to_the_byte(made: Path, demo: str, tmp_path: Path) -> None:
    assert tree(build("demo", demo, tmp_path)) == tree(made)


def test_what_went_wrong_is_on_the_page(tmp_path: Path) -> None:
    def change(cell: make.Cell) -> make.Cell | None:
        if cell.index == 1:
            return make.replace(cell, status="failed", error="Diverged: loss is nan\nsecond | line", metrics={})
        return None if cell.index == 5 else make.replace(cell, git=f"sha{cell.seed}", dirty=cell.seed == 1)

    text = page.text(make.in_memory(make.ladder().changed(change)), {}, {}, [])
    assert "18 cells (6 rows, 3 seeds), 12 done, 3 failed, 3 missing." in text
    assert "- + MST, seed 0: failed: Diverged: loss is nan second \\| line\n" in text
    assert "- (iv), seed 2: missing\n" in text
    assert "different commits" in text
    assert "uncommitted changes" in text


def test_rows_that_are_one_cell_are_called_so() -> None:
    assert "same cell" not in page.text(make.in_memory(make.ladder()), {}, {}, [])
    known = make.in_memory(make.ladder())
    known.cells.loc[known.cells["row"] == "(ii)", "cell"] = list(known.cells["cell"][known.cells["row"] == "(i)"])
    assert page.text(known, {}, {}, []).count("rows (i) and (ii) are the same cell") == 1


def test_secrets_of_an_address_are_not_shown() -> None:
    shown = page.redacted("postgresql://diga:hunter2@db.lab:5432/mlflow?password=hunter2")
    assert shown == "postgresql://db.lab:5432/mlflow"
    assert page.redacted("sqlite:////home/x/mlflow.db") == "sqlite:////home/x/mlflow.db"


def test_a_partial_study_has_a_whole_report(tmp_path: Path) -> None:
    spec = make.ladder("partial").changed(lambda c: c if c.index < 2 and c.seed == 0 else None)
    folder = build("partial", make.recorded(spec, tmp_path), tmp_path / "out")
    text = (folder / "report.md").read_text("utf8")
    assert "2 done, 16 missing" in text
    assert "No pictures" in text
    assert (folder / "figures/ladder.png").is_file()
    bare = build("bare", make.recorded(make.replace(make.ladder("bare"), cells=()), tmp_path), tmp_path / "out")
    assert list((bare / "figures").iterdir()) == []


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
def test_a_hostile_name_stays_in_its_folder_and_shows_as_it_is(name: str, tmp_path: Path) -> None:
    """As the study's name, its title, a row, a component, and an error."""
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
    assert [p.name for p in (outside / "out").iterdir()] == [folder.name]
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
    assert sum(t.type == "td_open" for t in tokens) == 6 * 13
    headings = [t.tag for t in parser.parse(whole) if t.type == "heading_open"]
    assert headings == ["h1"] + ["h2"] * 7
    inline = [c for t in parser.parse(whole) for c in t.children or []]
    assert not any(t.type in ("html_block", "html_inline") for t in [*parser.parse(whole), *inline])
    assert all(str(t.attrGet("href")).startswith("tables/") for t in inline if t.type == "link_open")
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
    before = tree(tmp_path)

    def breaks(*_: object) -> str:
        assert tree(folder) == {k.removeprefix("demo/"): v for k, v in before.items()}
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page, "claims", breaks)
    with pytest.raises(StorageError, match="No space left on device"):
        write(known, tmp_path)
    assert tree(tmp_path) == before


def test_an_interrupted_report_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> Iterator[None]:
        with replacing(tmp_path / "demo") as folder:
            (folder / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(interrupted() or [])
    assert list(tmp_path.iterdir()) == []


def test_a_new_report_replaces_all_of_the_old(tmp_path: Path) -> None:
    folder = write(make.in_memory(make.ladder()), tmp_path)
    (folder / "stale.txt").write_text("from an earlier version")
    write(make.in_memory(make.ladder()), tmp_path)
    assert not (folder / "stale.txt").exists()


def test_a_folder_that_is_no_report_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="is no report"):
        write(make.in_memory(make.ladder()), tmp_path)
    assert (tmp_path / "demo" / "thesis.tex").read_text() == "years of work"


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="report not written"):
        write(make.in_memory(make.ladder()), tmp_path / "file")


# --- figures -----------------------------------------------------------------------------


def test_the_grid_has_every_prediction_in_its_colours(demo: str, tmp_path: Path) -> None:
    known = building.records(demo, "demo")
    found = figures.samples(known, make.DOMAIN, ["Source-only", "(iv)"], tmp_path)
    assert [s.stem for s in found] == ["city_0", "city_1"]
    assert figures.grid(found, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as opened:
        picture = np.asarray(opened.convert("RGB"))
    step = figures.PANEL + figures.GAP
    assert picture.shape[1] == figures.LEFT + 4 * step
    for y in range(2):
        top = figures.TOP + y * (figures.PANEL // 2 + figures.GAP)
        truth = picture[top : top + figures.PANEL // 2, figures.LEFT + step : figures.LEFT + step + figures.PANEL]
        assert tuple(truth[5, -5]) == COLOURS[10]
        assert tuple(truth[-3, 100]) == (0, 0, 0)
        last = picture[top : top + figures.PANEL // 2, figures.LEFT + 3 * step :][:, : figures.PANEL]
        first = picture[top : top + figures.PANEL // 2, figures.LEFT + 2 * step :][:, : figures.PANEL]
        assert (last == truth).mean() > (first == truth).mean() > 0.4


def test_pictures_need_a_seed_that_all_rows_have(demo: str, tmp_path: Path) -> None:
    known = building.records(demo, "demo")
    assert figures.samples(known, "streets/elsewhere", ["(iv)"], tmp_path) == []
    assert figures.samples(known, make.DOMAIN, ["(iv)", "no such row"], tmp_path) == []
    assert not figures.grid([], tmp_path / "none.png")


def test_rows_of_a_figure_are_spread_evenly() -> None:
    assert spread("abc", 6) == ["a", "b", "c"]
    assert spread("abcdefghijk", 6) == ["a", "c", "e", "g", "i", "k"]


# --- speed and TeX -----------------------------------------------------------------------


def test_a_report_is_a_matter_of_seconds(demo: str, tmp_path: Path) -> None:
    """18 cells in a new process, imports included; processor time, since other work may share the machine."""
    code = (
        "import sys, resource; from pathlib import Path; from diga.report.build import build;"
        "build('demo', sys.argv[1], Path(sys.argv[2]));"
        "used = resource.getrusage(resource.RUSAGE_SELF); print(used.ru_utime + used.ru_stime)"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, demo, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    took = min(float(done.stdout), time.monotonic() - started)
    assert took < 20, f"{took:.1f} s"  # 5 s alone on a quiet core
    assert done.stderr == ""


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
    done = subprocess.run(command, cwd=tmp_path, env=safe, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "t.pdf").stat().st_size > 1000
