"""The other tables from records: golden texts, partial studies, one seed, and what no column may mix."""

from __future__ import annotations

import csv
import io
import itertools
import math
import operator
import os
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.stats import spearmanr

from diga.errors import ConfigError
from diga.report import ablation, build, cells, exchange, latex, markdown
from diga.report.correlation import rank
from diga.report.records import frame
from diga.report.table import Cell, Table
from reports import controls, label_free, quirks, table1, table2, table4, table5, table6, table7
from tests import make_records as make
from tests import tiny

GOLDEN = Path(__file__).parent / "golden"
WRITERS: dict[str, Callable[[Table], str]] = {"md": markdown.table, "tex": latex.table, "csv": exchange.as_csv}
TABLES: dict[str, tuple[ModuleType, Callable[..., make.Spec]]] = {
    "table4": (table4, make.table4),
    "table5": (table5, make.table5),
    "table6": (table6, make.table6),
    "table7": (table7, make.table7),
    "quirks": (quirks, make.quirks),
    "controls": (controls, make.controls),
    "label_free": (label_free, make.controls),
}
every = pytest.mark.parametrize(("module", "spec"), TABLES.values(), ids=TABLES)
LAST = f"{make.DOMAIN}/plain/last/miou"
SPREADS = ("±", r"\pm", "nan")


def partial(spec: make.Spec) -> make.Spec:
    """A study under way: a failed cell, a row with one seed, and a last row that is running."""
    last = len(spec.study["rows"]) - 1

    def change(cell: make.Cell) -> make.Cell | None:
        if cell.index == last:
            return make.replace(cell, status="running", metrics={}) if cell.seed == 0 else None
        if (cell.index, cell.seed) == (1, 2):
            return make.replace(cell, status="failed", error="DataError: damaged image", metrics={})
        return None if cell.index == 2 and cell.seed > 0 else cell

    return spec.changed(change)


def column(table: Table, key: str) -> dict[str, Cell]:
    at = [c.key for c in table.columns].index(key)
    return {row.key: row.cells[at] for row in table.rows}


def keys(table: Table) -> list[str]:
    return [c.key for c in table.columns]


# --- every table -------------------------------------------------------------------------


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("state", ["", "_partial"])
@pytest.mark.parametrize("name", TABLES)
def test_golden(name: str, state: str, ending: str) -> None:
    """The texts as they were last read by a person; WRITE_GOLDEN=1 writes them anew for reading."""
    module, spec = TABLES[name]
    text = WRITERS[ending](module.table(make.in_memory(partial(spec()) if state else spec())))
    file = GOLDEN / f"{name}{state}.{ending}"
    if os.environ.get("WRITE_GOLDEN"):
        file.write_text(text, "utf8")
    assert text == file.read_text("utf8")
    assert ending != "tex" or latex.problems(text) == []


@every
def test_a_number_is_bold_only_where_it_is_the_best_of_ours(module: ModuleType, spec: Callable[..., make.Spec]) -> None:
    table = module.table(make.in_memory(spec()))
    assert table.best
    for i, j in table.best:
        assert table.rows[i].about is None
        assert table.columns[j].kind == "score"
        rivals = [r.cells[j].mean for r in table.rows if r.about is None and r.cells[j].is_number]
        assert table.rows[i].cells[j].mean >= max(rivals) - 0.1


@every
def test_one_seed_has_neither_spread_nor_verdict(module: ModuleType, spec: Callable[..., make.Spec]) -> None:
    known = make.in_memory(spec(seeds=[3]))
    table = module.table(known)
    for text in (markdown.table(table), latex.table(table)):
        assert not any(sign in text.replace("\\hphantom{$\\,\\pm", "").replace("@{$\\,\\pm", "") for sign in SPREADS)
    assert "seed 3 alone, hence without spread or interval" in table.caption
    assert latex.problems(latex.table(table)) == []
    if module is not label_free:
        assert all(": open: " in line and "one seed more" in line for line in module.verdicts(known))


@every
def test_a_study_that_has_just_been_declared_has_a_table(module: ModuleType, spec: Callable[..., make.Spec]) -> None:
    known = make.in_memory(make.replace(spec(), cells=()))
    table = module.table(known)
    assert "Nothing has been evaluated yet" in table.caption
    ours = [j for j, about in enumerate(table.columns) if about.kind != "paper"]
    assert not any(row.cells[j].is_number for row in table.rows for j in ours)
    assert latex.problems(latex.table(table)) == []
    assert all("no seed is done in both rows" in line for line in module.verdicts(known))


@every
def test_what_is_not_done_is_said_once(module: ModuleType, spec: Callable[..., make.Spec]) -> None:
    first, *_, last = [row["label"] for row in spec().study["rows"]]
    note = module.table(make.in_memory(partial(spec()))).notes[-1]
    assert note.startswith("Not complete: ")
    assert "(seed 2 failed)" in note
    assert f"{last} (seed 0 running, seed 1 missing, seed 2 missing)" in note
    assert f"{first} (seed" not in note
    assert not any("Not complete" in note for note in module.table(make.in_memory(spec())).notes)


@every
def test_two_protocols_in_a_column_are_refused(module: ModuleType, spec: Callable[..., make.Spec]) -> None:
    mixed = spec().changed(lambda c: make.replace(c, protocol="two_scale") if c.index == 1 else c)
    with pytest.raises(ConfigError, match="a column: mixes the protocols single_scale, two_scale"):
        module.table(make.in_memory(mixed))


@every
def test_two_label_maps_in_a_column_are_refused(module: ModuleType, spec: Callable[..., make.Spec]) -> None:
    mixed = spec().changed(lambda c: make.replace(c, classes="16" if c.index == 1 else "19"))
    with pytest.raises(ConfigError, match="a column: mixes the numbers of classes 16, 19"):
        module.table(make.in_memory(mixed))
    alike = spec().changed(lambda c: make.replace(c, classes="16"))
    assert module.table(make.in_memory(alike)) == module.table(make.in_memory(spec()))


@every
def test_columns_without_a_number_are_left_out(module: ModuleType, spec: Callable[..., make.Spec]) -> None:
    def fewer(cell: make.Cell) -> make.Cell:
        return make.replace(cell, metrics={k: v for k, v in cell.metrics.items() if k.endswith("plain/last/miou")})

    table = module.table(make.in_memory(spec().changed(fewer)))
    assert not {"teacher", "adabn", "best", "updates", "entropy", "consensus_kept"} & set(keys(table))
    assert not any(word in table.caption for word in ("Teacher", "Re-estimated", "Best", "Updates"))
    assert latex.problems(latex.table(table)) == []


HOSTILE = ("$&%#_{}~^\\", "[0.5em] x", "=cmd|' /C calc'!A0", "a | b", "\\input{x}", "-- *", "\u202eright\u202c", "車 α")


@every
def test_no_label_changes_a_tables_shape(module: ModuleType, spec: Callable[..., make.Spec]) -> None:
    """Labels of rows, each of which is a parent's, too; a comma, since some tables ask for one."""
    rows = spec().study["rows"]
    called = {r["label"]: f"{HOSTILE[i % len(HOSTILE)]}, {HOSTILE[-i % 8]}{i}" for i, r in enumerate(rows)} | {"": ""}
    hostile = [r | {"label": called[r["label"]], "parent": called[r["parent"]]} for r in rows]
    known = spec().declared(rows=hostile, name=HOSTILE[0]).changed(lambda c: make.replace(c, row=called[c.row]))
    table = module.table(make.in_memory(known))
    assert latex.problems(latex.table(table)) == []
    sheet = list(csv.reader(io.StringIO(exchange.as_csv(table))))
    assert {len(line) for line in sheet} == {len(sheet[0])}
    assert not any(field.startswith(("=", "@")) for line in sheet for field in line)
    widths = {line.replace(r"\|", "").count("|") for line in markdown.table(table).split("\n") if line.startswith("|")}
    assert len(widths) == (1 if table.below is None else 2)
    assert module.verdicts(make.in_memory(known))


@pytest.mark.slow
def test_every_table_has_its_report(tmp_path: Path) -> None:
    """Whole pages, of whole studies and of studies under way; the numbers of classes are read from parameters."""
    for name, (_, spec) in TABLES.items():
        for seen in (spec(), partial(spec())):
            declared = seen.declared(tables=[name], name=name)
            folder = build.write(make.in_memory(declared), tmp_path)
            assert (folder / f"tables/{name}.tex").is_file()
            assert (folder / "figures/ladder.png").is_file()
            assert (folder / "claims.md").read_text("utf8").count("\n- ") == len(
                TABLES[name][0].verdicts(make.in_memory(seen))
            )


def test_tables_fit_a_paper_of_two_columns(tmp_path: Path) -> None:
    """The real TeX says of no table that it is too wide, whatever its labels."""
    if shutil.which("pdflatex") is None:
        assert os.environ.get("CI") != "true", "CI must have pdflatex"
        pytest.skip("pdflatex is not installed")
    known = [
        module.table(make.in_memory(state(spec())))
        for module, spec in TABLES.values()
        for state in (partial, make.Spec.declared)
    ]
    called = {"(iv)": "DiGA", "(iii)": "DiGA, authors' code"}
    rows = [r | {"label": called.get(r["label"], r["label"]), "parent": ""} for r in make.ladder().study["rows"]]
    named = make.ladder().changed(lambda c: make.replace(c, row=called.get(c.row, c.row))).declared(rows=rows)
    for module, name in ((table1, "table1_gta5_cityscapes"), (table2, "table2_synthia_cityscapes")):
        known.append(module.table(make.in_memory(named.declared(reference=f"diga_{name}.csv"))))
    head = r"\documentclass[twocolumn]{article}\usepackage[textwidth=6.9in]{geometry}\usepackage{booktabs,amssymb}"
    body = "\n\\clearpage\n".join(map(latex.table, known))
    (tmp_path / "t.tex").write_text(f"{head}\n\\begin{{document}}\n{body}\n\\end{{document}}\n", "ascii")
    command = ["pdflatex", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    safe = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "openin_any": "p", "openout_any": "p"}
    done = subprocess.run(command, cwd=tmp_path, env=safe, capture_output=True, text=True, timeout=tiny.LONG)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_what_a_row_does_not_have_is_not_missing() -> None:
    """A row without a teacher, all seeds of which are done; another is under way, and may get one."""

    def change(cell: make.Cell) -> make.Cell | None:
        bare = {k: v for k, v in cell.metrics.items() if "/teacher/" not in k}
        if cell.index == 1 and cell.seed == 2:
            return None
        return make.replace(cell, metrics=bare) if cell.index < 2 else cell

    table = table4.table(make.in_memory(make.table4().changed(change)))
    found = column(table, "teacher")
    assert [found[label].status for label in ("Adv.", "Distil.", "Adv. + CrDoMix")] == ["n/a", "missing", ""]
    assert "| n/a |" in markdown.table(table)
    assert [line["teacher_status"] for line in csv.DictReader(io.StringIO(exchange.as_csv(table)))][:2] == [
        "n/a",
        "missing",
    ]
    assert table.notes[0] == "n/a: all cells of the row are done, and have no such number."
    assert not any(note.startswith("n/a") for note in table4.table(make.in_memory(make.table4())).notes)


# --- warm-up and labels --------------------------------------------------------------------


def test_rows_are_lettered_and_say_which_row_they_are_over() -> None:
    table = table4.table(make.in_memory(make.table4()))
    assert [c.text for c in column(table, "mark").values()] == list("abcde")
    assert [c.text for c in column(table, "over").values()] == ["", "a", "a", "b", "a"]
    assert [round(c.mean, 1) for c in column(table, "paper").values() if c.is_number] == [45.2, 48.9, 47.3, 51.1]
    assert [round(c.mean, 1) for c in column(table, "paper_step").values() if c.is_number] == [3.7, 2.1, 2.2]


def test_a_step_is_paired_by_seed_with_its_own_parent() -> None:
    known = make.in_memory(make.table4())
    values = {(c.row, c.seed): 100 * c.metrics[LAST] for c in make.table4().cells}
    by_hand = [values["Distil. + CrDoMix", s] - values["Distil.", s] for s in range(3)]
    found = column(table4.table(known), "step")["Distil. + CrDoMix"]
    assert found.mean == pytest.approx(sum(by_hand) / 3)
    assert found.low < min(by_hand) < max(by_hand) < found.high
    assert table4.verdicts(known)[2].startswith("Distil. + CrDoMix over Distil.: holds: +")
    assert table4.verdicts(known)[2].endswith("Published: +2.2.")
    assert "Published" not in table4.verdicts(known)[3]


def test_numbers_in_labels_are_their_short_names() -> None:
    table = table5.table(make.in_memory(make.table5()))
    assert "mark" not in keys(table)
    assert [c.text for c in column(table, "over").values()] == ["", "(1)", "(2)", "(3)", "(4)", "(2)"]
    assert not column(table, "paper")["(6) confident fraction"].is_number


@pytest.mark.parametrize(
    ("labels", "short"),
    [
        (["(1) a", "(2) b"], ["(1)", "(2)"]),
        (["(1) a", "(1) b"], ["a", "b"]),
        (["(1) a", "b"], ["a", "b"]),
        (["(i)", "(ii)"], ["a", "b"]),
        ([f"row {i}" for i in range(30)], [*"abcdefghijklmnopqrstuvwxyz", "aa", "ab", "ac", "ad"]),
    ],
)
def test_short_names_tell_rows_apart(labels: list[str], short: list[str]) -> None:
    assert list(ablation.marks(make.in_memory(make.study("x", [(n, "", 0.1) for n in labels]))).values()) == short


def test_quality_of_labels_is_shown_where_it_says_something() -> None:
    table = table5.table(make.in_memory(make.table5()))
    shown = [k for k in keys(table) if k.startswith(("warm", "feature", "consensus", "teacher_"))]
    assert shown == ["warm_accuracy", "feature_accuracy", "consensus_kept", "consensus_accuracy"]
    values = [c.metrics["labels/consensus/kept"] for c in make.table5().cells if c.index == 4]
    assert column(table, "consensus_kept")["(5) bilateral consensus"].mean == pytest.approx(100 * sum(values) / 3)
    assert any(note.startswith("Kept: ") for note in table.notes)

    def less(cell: make.Cell) -> make.Cell:
        return make.replace(cell, metrics=dict(cell.metrics) | {"labels/warm/kept": 0.97 if cell.index else 1.0})

    assert "warm_kept" in keys(table5.table(make.in_memory(make.table5().changed(less))))
    bare = make.table5().changed(lambda c: make.replace(c, metrics={LAST: c.metrics[LAST]}))
    assert not any(note.startswith("Kept: ") for note in table5.table(make.in_memory(bare)).notes)


# --- unseen domains --------------------------------------------------------------------------


def test_the_published_have_a_table_of_their_own_below() -> None:
    table = table6.table(make.in_memory(make.table6()))
    assert [c.header for c in table.columns[2:]] == ["cityscapes", "bdd100k", "mapillary", "mean", "mean, best"]
    assert keys(table)[2:5] == ["streets/cityscapes", "streets/bdd100k", "streets/mapillary"]
    assert "paper" not in {c.kind for c in table.columns}
    assert table.below is not None
    assert [c.header for c in table.below.columns] == ["Method", "Cityscapes", "BDD100k", "Mapillary", "SYNTHIA"]
    assert column(table.below, "paper_Mapillary")["DiGA distillation"].mean == 51.78
    assert not column(table.below, "paper_SYNTHIA")["SHADE"].is_number
    assert table.below.best == frozenset()
    assert table6.table(make.in_memory(make.table6().declared(reference=""))).below is None


def test_what_is_below_shares_no_column_in_any_text() -> None:
    table = table6.table(make.in_memory(make.table6()))
    assert latex.table(table).count(r"\begin{tabular}") == 2
    assert markdown.table(table).count("| --- |") == 2
    lines = list(csv.DictReader(io.StringIO(exchange.as_csv(table))))
    assert [line["kind"] for line in lines] == ["score"] * 3 + ["delta"] * 2 + ["paper"] + [""] * 5
    for line in lines:
        assert bool(line["row"]) != bool(line["paper"])
        assert bool(line["streets/cityscapes"]) != bool(line["paper_Cityscapes"])


def test_headings_of_domains_tell_them_apart() -> None:
    def moved(cell: make.Cell) -> make.Cell:
        found = {k.replace("bdd100k", "dusk/cityscapes"): v for k, v in cell.metrics.items() if "mapillary" not in k}
        return make.replace(cell, metrics=found)

    table = table6.table(make.in_memory(make.table6().changed(moved)))
    assert [c.header for c in table.columns[2:5]] == ["cityscapes", "dusk/cityscapes", "mean"]
    assert "evaluated on streets/cityscapes, streets/dusk/cityscapes: mean" in table.caption


def test_steps_are_shown_for_every_domain_and_their_mean() -> None:
    spec = make.table6()
    table = table6.table(make.in_memory(spec))
    for key in (*make.SEEN, "mean"):
        values = {(c.index, c.seed): 100 * c.metrics[f"{key}/plain/last/miou"] for c in spec.cells}
        found = column(table, key)["DiGA distillation over source-only, strong views"]
        assert found.mean == pytest.approx(sum(values[2, s] - values[1, s] for s in range(3)) / 3)
        assert column(table, key)["source-only"].mean == pytest.approx(sum(values[0, s] for s in range(3)) / 3)
    said = table6.verdicts(make.in_memory(spec))
    assert said[0].startswith("source-only, strong views over source-only: holds: +")
    assert said[0].endswith("By domain: holds on streets/cityscapes, streets/bdd100k, streets/mapillary.")


def test_means_over_other_domains_are_refused() -> None:
    def less(cell: make.Cell) -> make.Cell:
        kept = {k: v for k, v in cell.metrics.items() if cell.index != 1 or "mapillary" not in k}
        return make.replace(cell, metrics=kept)

    with pytest.raises(ConfigError, match="row 'source-only, strong views': not scored on streets/mapillary"):
        table6.table(make.in_memory(make.table6().changed(less)))


def test_pictures_of_several_domains_are_of_one() -> None:
    assert cells.shown_domain(make.in_memory(make.table6())) == "streets/bdd100k"
    assert cells.shown_domain(make.in_memory(make.table4())) == make.DOMAIN
    assert cells.metric_of(make.in_memory(make.table6())).where == "the mean of all domains"


# --- few labels ------------------------------------------------------------------------------


def test_the_matrix_has_a_row_a_method_and_a_column_a_part() -> None:
    table = table7.table(make.in_memory(make.table7()))
    methods = ["supervised", "warm-up", "DiGA"]
    below = ["warm-up over supervised", "DiGA over warm-up", "DiGA, ours − paper"]
    assert [r.key for r in table.rows] == methods + below
    assert [c.header for c in table.columns] == ["Method", *["1/16", "1/8", "1/4", "1/2"] * 2]
    assert [c.group for c in table.columns[5:]] == ["Reads target labels, best"] * 4
    values = [100 * c.metrics[LAST] for c in make.table7().cells if c.row == "DiGA, 1/4"]
    assert column(table, "miou_1/4")["DiGA"].mean == pytest.approx(sum(values) / 3)
    assert table.below is not None
    assert column(table.below, "paper_1/4 (744)")["CPS"].mean == 79.24


def test_steps_are_never_the_best_however_large() -> None:
    rows = [("supervised, 1/8", "", 0.01), ("DiGA, 1/8", "supervised, 1/8", 0.9), ("warm-up, 1/8", "", 0.02)]
    table = table7.table(make.in_memory(make.study("steep", rows)))
    assert table.rows[3].cells[1].mean > table.rows[0].cells[1].mean
    assert table.ranks(1) == (3, 1, 2, None)


def test_rows_of_another_kind_are_told_apart_in_a_spreadsheet() -> None:
    lines = list(csv.DictReader(io.StringIO(exchange.as_csv(table7.table(make.in_memory(make.table7()))))))
    assert [line["kind"] for line in lines] == ["score"] * 3 + ["delta"] * 2 + ["paper"] + [""] * 2
    assert [bool(lines[i]["miou_1/16_sd"]) for i in (0, 3)] == [True, True]
    assert lines[0]["miou_1/16_low"] == ""
    assert float(lines[3]["miou_1/16_low"]) < float(lines[3]["miou_1/16"]) < float(lines[3]["miou_1/16_high"])


def test_a_study_of_fewer_parts_has_fewer_columns() -> None:
    rows = [("supervised, 1/8", "", 0.4), ("DiGA, 1/8", "supervised, 1/8", 0.5), ("DiGA, 1/4", "DiGA, 1/8", 0.6)]
    known = make.in_memory(make.study("few", rows, reference="diga_table7_semi_supervised.csv"))
    table = table7.table(known)
    assert [c.header for c in table.columns] == ["Method", "1/8", "1/4", "1/8", "1/4"]
    assert column(table, "miou_1/4")["supervised"] == Cell()
    assert [r.key for r in table.rows if r.group == "steps"] == ["DiGA over supervised", "DiGA over DiGA, 1/8"]


@pytest.mark.parametrize("label", ["full supervision", "DiGA,", ", 1/16", "DiGA 1/16"])
def test_a_row_that_is_in_no_column_is_refused(label: str) -> None:
    with pytest.raises(ConfigError, match="is in no column"):
        table7.table(make.in_memory(make.study("few", [(label, "", 0.4)])))


# --- quirks and controls -----------------------------------------------------------------------


def test_a_quirk_raises_lowers_or_cannot_be_told() -> None:
    known = make.in_memory(make.quirks())
    table = quirks.table(known)
    said = {label: cell.text for label, cell in column(table, "verdict").items()}
    assert list(said) == [row["label"] for row in make.quirks().study["rows"]]
    for label, step in cells.steps(known, cells.metric_of(known)).items():
        expected = "tie" if step.low <= 0 <= step.high else "raises" if step.low > 0 else "lowers"
        assert said[label] == expected
    assert {"tie", "raises", "lowers"} <= set(said.values())
    assert said["clean"] == said["warm-up alone"] == ""
    assert [line.split(": ")[1] for line in quirks.verdicts(known)] == [v for v in said.values() if v]
    groups = ["", "quirk", "quirk", "quirk", "quirk", "official", "warm-up alone", "warm-up alone"]
    assert [r.group for r in table.rows] == groups
    assert latex.table(table).count(r"\midrule") == 4


def test_quirks_are_many_and_the_table_says_what_that_means() -> None:
    notes = quirks.table(make.in_memory(make.quirks())).notes
    assert notes[0] == "Of 6 intervals of 95 %, about 0.3 would leave zero out if no quirk changed anything."
    steps = column(quirks.table(make.in_memory(make.quirks())), "step")
    whole = {row["label"] for row in make.quirks().study["rows"] if row["parent"] == "clean"} - {"official"}
    alone = math.fsum(steps[label].mean for label in whole)
    assert f"add up to {alone:+.1f} points; the row official is at {steps['official'].mean:+.1f}" in notes[1]


def test_controls_say_what_a_step_isolates_and_what_it_took() -> None:
    known = make.in_memory(make.controls())
    table = controls.table(known)
    assert [c.text for c in column(table, "isolates").values()] == [
        *("", "updates", "augmentation", "distillation", "translation", "distillation", "target labels"),
        "distillation",
    ]
    assert [c.mean for c in column(table, "updates").values()] == [500, 900, 500, 500, 500, 500, 900, 900]
    assert table.notes[0].startswith("What alone is other between two rows: b over a, updates: ")
    assert table.notes[1] == "Not matched for updates: b over a (900 and 500); g over f (900 and 500)."
    assert controls.verdicts(known)[1].endswith("It isolates: the source's strong view, with its own labels.")


def test_as_much_computing_is_compared_though_it_is_nobodys_parent() -> None:
    spec = make.controls()
    values = {(c.row, c.seed): 100 * c.metrics[LAST] for c in spec.cells}
    rival, matched = "CrDoMix, distillation", "source-only, matched compute"
    mean = sum(values[rival, s] - values[matched, s] for s in range(3)) / 3
    said = f"{rival} over {matched}: holds: {mean:+.2f} points"
    assert controls.verdicts(make.in_memory(spec))[-1].startswith(said)
    assert any(
        note.startswith(f"With as much computing, {said}") for note in controls.table(make.in_memory(spec)).notes
    )


def test_a_step_that_no_one_has_named_isolates_nothing() -> None:
    rows = [("source-only", "", 0.4), ("CrDoMix, hard labels", "source-only", 0.5)]
    table = controls.table(make.in_memory(make.study("other", rows)))
    assert [c.text for c in column(table, "isolates").values()] == ["", ""]
    assert table.notes == ()


# --- selection without labels ----------------------------------------------------------------------


@given(some.lists(some.tuples(some.integers(0, 5), some.integers(0, 5)), min_size=3, max_size=5))
@settings(deadline=None)  # the first of all draws pays for imports
def test_a_rank_correlation_is_the_slow_one(pairs: list[tuple[int, int]]) -> None:
    """Against another's function, and its p against every order, one by one."""
    x, y = zip(*pairs, strict=True)
    found = rank(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(found.rho)
        return
    assert found.rho == pytest.approx(spearmanr(x, y).statistic)
    a, b = centred(x), centred(y)
    products = [abs(sum(map(operator.mul, order, b))) for order in itertools.permutations(a)]
    assert found.p == pytest.approx(sum(p >= abs(sum(map(operator.mul, a, b))) for p in products) / len(products))


def centred(values: tuple[int, ...]) -> list[Fraction]:
    """Mean ranks less their mean, exactly."""
    places = [[j for j, w in enumerate(sorted(values)) if w == v] for v in values]
    return [Fraction(sum(at), len(at)) - Fraction(len(values) - 1, 2) for at in places]


def test_of_many_rows_a_sample_of_orders_is_tried() -> None:
    x = list(range(12))
    assert rank(x, x) == (pytest.approx(1.0), pytest.approx(1e-4), 12)
    mixed = [3, 1, 0, 5, 2, 7, 4, 6, 11, 8, 10, 9]
    assert rank(x, mixed).p == pytest.approx(spearmanr(x, mixed).pvalue, abs=0.01)
    assert math.isnan(rank([1, 2], [1, 2]).rho)
    assert math.isnan(rank([], []).p)


def test_measures_are_ranked_against_the_score() -> None:
    known = make.in_memory(make.controls())
    table = label_free.table(known)
    assert keys(table) == ["row", "entropy", "agreement", "vanished", "miou"]
    assert [r.key for r in table.rows[-3:]] == ["ρ with mIoU", "p", "lost by choosing so (points)"]
    assert column(table, "entropy")["ρ with mIoU"].mean == pytest.approx(-1)
    assert 0 < column(table, "agreement")["ρ with mIoU"].mean < 0.9
    assert column(table, "entropy")["lost by choosing so (points)"].mean == 0
    assert "(p below 0.001); it takes the best row, self-training" in label_free.verdicts(known)[0]
    assert column(table, "vanished")["source-only"].mean < 9  # a count, and no share


def test_a_measure_that_misleads_costs_points() -> None:
    """Entropy is lowest in a row that has collapsed; of rows that a count cannot tell apart, the worst is counted."""

    def collapsed(cell: make.Cell) -> make.Cell:
        odd = {"label_free/entropy": 0.01} if cell.index == 0 else {}
        return make.replace(cell, metrics=dict(cell.metrics) | odd | {"label_free/vanished": float(cell.index < 2)})

    known = make.in_memory(make.controls().changed(collapsed))
    table, miou = label_free.table(known), column(label_free.table(known), "miou")
    lost = column(table, "entropy")["lost by choosing so (points)"].mean
    assert lost == pytest.approx(miou["self-training"].mean - miou["source-only"].mean)
    assert f"it takes source-only, {lost:.2f} points below the best row" in label_free.verdicts(known)[0]
    tied = column(table, "vanished")["lost by choosing so (points)"].mean
    assert tied == pytest.approx(miou["self-training"].mean - miou["strong views, hard labels"].mean)


def test_measures_that_are_not_recorded_are_said_to_be() -> None:
    bare = make.controls().changed(lambda c: make.replace(c, metrics={LAST: c.metrics[LAST]}))
    table = label_free.table(make.in_memory(bare))
    assert keys(table) == ["row", "miou"]
    assert table.notes == ("No measure without labels is recorded.",)
    assert label_free.verdicts(make.in_memory(bare)) == []
    two = make.in_memory(make.study("two", [("a", "", 0.4), ("b", "a", 0.5)]))
    assert len(label_free.table(two).rows) == 2


# --- what they share -----------------------------------------------------------------------------


def test_numbers_of_classes_come_from_parameters() -> None:
    """They are logged where rows differ in them, and only there."""
    runs = [
        SimpleNamespace(
            data=SimpleNamespace(tags={"row": str(k), "seed": "0"}, params=params, metrics={}),
            info=SimpleNamespace(run_id=str(k), artifact_uri=""),
        )
        for k, params in enumerate([{"classes": "16"}, {}])
    ]
    assert list(frame(runs)["classes"]) == ["16", ""]  # type: ignore[arg-type]
