"""A reader's index.html: opened from disk in a real browser, wide and narrow, light and dark, alone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from diga.report import facts, html, index, markdown, page, shelf
from diga.report.build import build, write
from diga.report.facts import Told
from diga.report.records import Records
from diga.report.style import SHEET
from reports import per_class, quirks, table1, table3, table4
from tests import make_records as make
from tests.browser import Page, browser
from tests.test_report_build import HOSTILE

WIDE, NARROW = 1280, 390
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
VOID = {"meta", "link", "img", "br", "col"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = make.ladder().changed(lambda c: None if (c.index, c.seed) == (4, 2) else c)
    uri = make.recorded(spec, tmp_path_factory.mktemp("demo"), pictures=2)
    return build("demo", uri, tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with browser() as page:
        yield page


class Outline(HTMLParser):
    """Tags in their nesting, addresses, and texts."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        assert not any(name.startswith("on") for name in known), attrs
        self.tags.append(tag)
        self.links += [v for k in ("href", "src") if (v := known.get(k))]
        self.ids += [v] if (v := known.get("id")) else []
        self.stack += [] if tag in VOID else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def outline(text: str) -> Outline:
    found = Outline()
    found.feed(text)
    found.close()
    assert found.stack == []
    return found


# --- in a browser ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_it_holds_at_every_width(tab: Page, made: Path, tmp_path: Path, width: int, dark: bool) -> None:
    alone = shutil.copyfile(made / "index.html", tmp_path / "alone.html")  # nothing beside it
    tab.open(alone.as_uri(), width, dark=dark, telephone=width == NARROW)
    assert tab.value(OVERFLOW) == 0
    assert tab.complaints() == []
    assert [a for a in tab.asked_for() if not a.startswith("data:")] == [alone.as_uri()]
    assert tab.value("[...document.images].length") == 9
    assert tab.value("[...document.images].every(i => i.complete && i.naturalWidth > 200)")
    outside = "[...document.querySelectorAll('p, h1, h2, h3, li, dd, pre, .table, .scroll')]"
    assert tab.value(f"{outside}.filter(e => e.getBoundingClientRect().right > innerWidth + 1).length") == 0
    small = "[...document.querySelectorAll('p, li, td, th, a')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    assert tab.value(f"Math.min(...{small})") >= 12
    ground = tab.value("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
    assert (light < 60) == dark
    assert tab.picture(tmp_path / "page.png").stat().st_size > 50_000


def test_tables_are_whole_on_a_screen_and_keep_their_names_on_a_telephone(tab: Page, tmp_path: Path) -> None:
    """Nineteen classes, means and all fit; where a table is wider than a telephone, the rows' names stay."""
    ladder = make.in_memory(make.ladder().declared(reference="diga_table1_gta5_cityscapes.csv"))
    known = [per_class.table(ladder), table1.table(ladder), table4.table(make.in_memory(make.table4()))]
    text = f"<style>{SHEET}</style><main>{''.join(map(html.table, known))}</main>"
    (tmp_path / "t.html").write_text(f'<meta name="viewport" content="width=device-width">{text}', "utf8")
    tables, spare = "[...document.querySelectorAll('.table')]", "e => e.scrollWidth - e.clientWidth"
    tab.open((tmp_path / "t.html").as_uri(), WIDE)
    assert tab.value(f"Math.max(...{tables}.map({spare}))") == 0
    tab.open((tmp_path / "t.html").as_uri(), NARROW, telephone=True)
    assert tab.value(f"Math.min(...{tables}.map({spare}))") > 200
    tab.value(f"{tables}.forEach(e => e.scrollLeft = 200)")
    names = "[...document.querySelectorAll('td.name')]"
    left = f"{names}.map(e => e.getBoundingClientRect().left - e.closest('.table').getBoundingClientRect().left)"
    assert tab.value(f"Math.max(...{left}.map(Math.abs))") < 1
    said = tab.value(f"{names}.map(e => e.textContent).join('|')").split("|")
    assert said[-5:] == ["Adv.", "Distil.", "Adv. + CrDoMix", "Distil. + CrDoMix", "Adv. (least squares)"]


def test_colours_of_classes_are_never_changed(tab: Page, made: Path) -> None:
    tab.open((made / "index.html").as_uri(), WIDE, dark=True)
    changed = "[...document.querySelectorAll('figure')].filter(f => getComputedStyle(f.querySelector('img')).filter"
    names = set(tab.value(f"{changed} !== 'none').map(f => f.id).join(' ')").split())
    assert names == {"figure-ladder", "figure-deltas", "figure-losses", "figure-snapshots"}


def test_texts_can_be_read_on_their_ground(tab: Page, made: Path) -> None:
    """Contrast of 4.5 or more, as WCAG asks for."""
    for dark in (False, True):
        tab.open((made / "index.html").as_uri(), WIDE, dark=dark)
        read = "getComputedStyle(document.documentElement).getPropertyValue"
        of = {n: tab.value(f"{read}('--{n}').trim()") for n in ("paper", "ink", "soft", "blue", "orange", "link")}
        for name in ("ink", "soft", "blue", "orange", "link"):
            assert contrast(of[name], of["paper"]) >= 4.5, (name, dark)


def contrast(one: str, other: str) -> float:
    """Ratio of relative luminances of two #rrggbb."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_hostile_names_do_nothing_in_a_browser(tab: Page, tmp_path: Path) -> None:
    spec = make.ladder(" ".join(HOSTILE)[:3000], seeds=[0, 1])
    rows = [r | {"label": HOSTILE[i + 14]} for i, r in enumerate(spec.study["rows"])]
    spec = spec.declared(rows=rows, title=HOSTILE[19]).changed(lambda c: make.replace(c, row=HOSTILE[c.index + 14]))
    folder = write(make.in_memory(spec), tmp_path)
    for width in (WIDE, NARROW):
        tab.open((folder / "index.html").as_uri(), width)
        assert tab.value(OVERFLOW) == 0
        assert tab.complaints() == []
        assert tab.value("document.scripts.length") == 0
    assert HOSTILE[19] == "<script>alert(1)</script>"
    assert tab.value("document.title") == HOSTILE[19]


# --- as text -----------------------------------------------------------------------------


def test_it_is_well_formed_and_all_its_links_lead_somewhere(made: Path) -> None:
    found = outline((made / "index.html").read_text("utf8"))
    assert not {"script", "iframe", "object", "form"} & set(found.tags)
    assert len(found.ids) == len(set(found.ids))
    for link in found.links:
        if link.startswith("#"):
            assert link[1:] in found.ids
        elif not link.startswith("data:"):
            assert (made / link).is_file(), link
    assert found.tags.count("table") == 3
    assert found.tags.count("figure") == 9


def test_it_says_what_is_missing_and_how_to_go_on(made: Path) -> None:
    said = " ".join(outline((made / "index.html").read_text("utf8")).texts)
    for expected in (
        "6 rows × 3 seeds = 18 cells",
        "Highest mean:",
        "(iii), seed 2: missing",
        "Features: no cell left features.parquet",
        "diga ablate demo --seeds 0,1,2 && diga report demo",
        "diga report --from .",
        "16 s",
        "abc1234",
    ):
        assert expected in said, expected


def halted(status: str = "stopped", error: str = "stopped") -> Records:
    """Of six rows the last two were stopped, and one cell has not been begun."""

    def change(cell: make.Cell) -> make.Cell | None:
        if cell.index >= 4:
            return make.replace(cell, status=status, error=error, metrics={})
        return None if (cell.index, cell.seed) == (3, 2) else cell

    return make.in_memory(make.ladder().changed(change))


def test_cells_that_were_stopped_are_counted_and_called_so() -> None:
    known = halted()
    assert facts.progress(known) == {"done": 11, "stopped": 6, "missing": 1}
    told = Told(known, {"table3": table3.table(known)})
    said = " ".join(outline(index.text(told, Path())).texts)
    assert "6 rows × 3 seeds = 18 cells" in said
    assert "18 cells (6 rows, 3 seeds), 11 done, 6 stopped, 1 missing." in page.text(told)
    assert facts.missing(known)[-1] == "(iv), seeds 0, 1, 2: stopped"
    assert "(iv) (seed 0 stopped, seed 1 stopped, seed 2 stopped)" in page.text(told)
    line = next(line for line in markdown.table(told.tables["table3"]).splitlines() if "(iv)" in line)
    assert line.count("stopped") == 4
    assert facts.missing(halted(error="by the system"))[-1] == "(iv), seeds 0, 1, 2: stopped: by the system"


def test_a_state_that_nobody_knows_is_counted_too() -> None:
    known = halted(status="<lost>", error="")
    assert facts.progress(known) == {"done": 11, "missing": 1, "<lost>": 6}
    assert outline(index.text(Told(known, {}), Path())).texts.count(" <lost>") == 1


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_becomes_markup(name: str, tmp_path: Path) -> None:
    spec = make.ladder(name, seeds=[0, 1]).declared(title=name)
    rows = [row | {"label": name if row["index"] == 2 else row["label"]} for row in spec.study["rows"]]
    spec = spec.declared(rows=rows).changed(
        lambda c: make.replace(c, row=name if c.index == 2 else c.row, error=name, git=name, status="failed")
    )
    told = Told(make.in_memory(spec), {}, (), {name: name}, [f"{name} over {name}: tie: {name}", name])
    found = outline(index.text(told, tmp_path))
    plain = outline(index.text(Told(make.in_memory(make.ladder(seeds=[0, 1])), {}), tmp_path))
    assert set(found.tags) - {"ul", "li", "span", "b"} <= set(plain.tags)
    assert all(link.startswith(("#", "data:image/svg")) for link in found.links)
    assert not {"\u202e", "\u2067", "\u200f", "\x00"} & set(" ".join(found.texts))


def test_a_verdict_is_parted() -> None:
    told = facts.claim("(i) over + MST: raises: +5.70 points, n = 3.")
    assert told == ("(i) over + MST", "holds", "raises", "+5.70 points, n = 3.")
    assert facts.claim("a remark: nothing is compared").verdict == ""


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0 s"), (59.6, "1 min"), (3600, "1 h"), (3725, "1 h 2 min"), (90061, "1 d 1 h")]
)
def test_durations(seconds: float, expected: str) -> None:
    assert facts.duration(seconds) == expected


def test_only_words_that_are_used_are_explained() -> None:
    ladder, quirk = "b over a: holds: +1.0 points", "q over clean: raises: +2.0 points"

    def meant(*verdicts: str, tables: tuple[str, ...] = ()) -> str:
        known = make.in_memory(make.ladder())
        return page.meaning(Told(known, dict.fromkeys(tables, table3.table(known)), verdicts=verdicts))

    assert meant(ladder).startswith("holds: the 95 % interval")
    assert "reversed: below." in meant(ladder)
    assert meant(quirk) == meant("q over clean: open: no seed", tables=("quirks",))
    assert meant(quirk).startswith("raises: the 95 % interval")
    assert "lowers: below." in meant(quirk)
    assert meant(ladder, quirk).startswith("holds, or raises: the 95 % interval")
    for spec, module in ((make.ladder(), table3), (make.quirks(), quirks)):
        known = make.in_memory(spec)
        told = Told(known, {}, verdicts=module.verdicts(known))
        for text in (page.claims(told), index.text(told, Path())):
            assert ("raises" in text) == ("lowers: below" in text) == (module is quirks)


# --- the list of reports -----------------------------------------------------------------


def test_the_list_has_every_report_and_its_runs(made: Path) -> None:
    text = shelf.text(made.parent, {"demo": "http://127.0.0.1:5000/#/experiments/1/runs?viewStateShareKey=rows"})
    found = outline(text)
    assert found.links[1:] == ["demo/index.html", "http://127.0.0.1:5000/#/experiments/1/runs?viewStateShareKey=rows"]
    assert "18 cells: 17 done, 1 missing · written " in " ".join(found.texts)
    (made.parent / "old").mkdir()
    (made.parent / "old/index.html").write_text("")
    assert "how far it was is not recorded · written " in " ".join(outline(shelf.text(made.parent, {})).texts)
    assert "No report yet" in shelf.text(made / "tables", {})
