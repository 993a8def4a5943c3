"""Tables 1 and 2 of DiGA, and what things cost: from records, beside what was published."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from diga.data.labels import CLASSES
from diga.errors import ConfigError
from diga.report import beside, exchange, latex, markdown
from diga.report.records import Records
from diga.report.table import Cell, Table
from reports import costs, per_class, table1, table2, table3, table6, table7
from tests import make_records as make

PAPER = Path(table1.__file__).parent / "paper"
FILES = {"table1": "diga_table1_gta5_cityscapes.csv", "table2": "diga_table2_synthia_cityscapes.csv"}
both = pytest.mark.parametrize("module", [table1, table2], ids=list(FILES))


def known(module: object, **changes: object) -> Records:
    name = str(getattr(module, "__name__", "")).rpartition(".")[2]
    return make.in_memory(make.ladder().declared(reference=FILES.get(name, ""), **changes))


def column(table: Table, key: str) -> dict[str, Cell]:
    at = [c.key for c in table.columns].index(key)
    return {row.key: row.cells[at] for row in table.rows}


@both
def test_what_was_published_stands_below_number_by_number(module) -> None:
    table = module.table(known(module))
    name = FILES[module.__name__.rpartition(".")[2]]
    lines = list(csv.DictReader((PAPER / name).open(encoding="utf8")))
    assert table.below is not None
    assert [row.key for row in table.below.rows] == [line["method"] for line in lines]
    for row, line in zip(table.below.rows, lines, strict=True):
        found = {c.key.removeprefix("paper_"): cell for c, cell in zip(table.below.columns, row.cells, strict=True)}
        for key, text in list(line.items())[1:]:
            cell = found[key.removeprefix("traffic ")]
            assert (f"{cell.mean:.1f}" if cell.is_number else "") == text, (row.key, key)
    assert not table.below.best
    assert "Table 1" in " ".join(table.notes) or "Table 2" in " ".join(table.notes)


def test_nineteen_classes_and_their_mean() -> None:
    records = known(table1)
    table = table1.table(records)
    assert [c.key for c in table.columns][1:21] == [*CLASSES, "miou_last"]
    assert column(table, "miou_last")["(iv)"].mean == pytest.approx(100 * sum(make.score(5, s) for s in range(3)) / 3)
    assert {cell.status for cell in column(table, "train").values()} == {"n/a"}
    assert any("n/a" in note and "train" in note for note in table.notes)
    assert "Reads target labels" in {c.group for c in table.columns}


def test_sixteen_classes_and_the_means_of_sixteen_and_thirteen() -> None:
    table = table2.table(known(table2))
    keys = [c.key for c in table.columns]
    assert not {"terrain", "truck", "train"} & set(keys)
    assert keys[1:19][-2:] == ["miou16_last", "miou13_last"]
    assert len(keys[1:17]) == 16
    means = {key: column(table, key)["(iv)"].mean for key in ("miou16_last", "miou13_last")}
    assert means["miou13_last"] - means["miou16_last"] == pytest.approx(2)
    assert [c.header for c in table.columns][17:19] == ["mIoU (last)", "mIoU* (last)"]
    assert "without wall, fence and pole" in table.notes[0]
    assert "(iv) over (iii): holds" in table2.verdicts(known(table2))[-1]


@both
def test_how_many_classes_a_step_raises(module) -> None:
    (note,) = [n for n in module.table(known(module)).notes if n.startswith("Classes that rise")]
    many = 18 if module is table1 else 16
    assert f"(iv) over (iii) {many} of {many} ({many} surely, 0 surely fall)" in note


@both
def test_they_compile_and_say_what_is_missing(module) -> None:
    for spec in (make.ladder(), make.ladder().changed(lambda c: c if c.index < 3 else None), make.ladder(seeds=[0])):
        table = module.table(make.in_memory(spec.declared(reference=FILES[module.__name__.rpartition(".")[2]])))
        assert latex.problems(latex.table(table)) == []
        assert exchange.as_csv(table).count("\n") == len(table.rows) + 11
    assert "Not complete" not in " ".join(module.table(known(module)).notes)


@both
def test_label_maps_are_not_mixed(module) -> None:
    spec = make.ladder().changed(lambda c: make.replace(c, classes="16" if c.index else ""))
    with pytest.raises(ConfigError, match="one label map a column"):
        module.table(make.in_memory(spec))


# --- ours less the published -----------------------------------------------------------------

LEAD = "Ours are of streets"


@both
def test_our_means_stand_beside_those_of_the_method_that_a_row_is(module) -> None:
    """Rows are DiGA and what the authors' code makes of it; nothing else is a published method."""
    called = {"(iv)": "DiGA", "(iii)": "DiGA, authors' code"}
    rows = [r | {"label": called.get(r["label"], r["label"]), "parent": ""} for r in make.ladder().study["rows"]]
    spec = make.ladder().changed(lambda c: make.replace(c, row=called.get(c.row, c.row)))
    name = FILES[module.__name__.rpartition(".")[2]]
    table = module.table(make.in_memory(spec.declared(rows=rows, reference=name)))
    theirs = {line["method"]: line for line in csv.DictReader((PAPER / name).open(encoding="utf8"))}
    means = {"miou": "mIoU"} if module is table1 else {"miou16": "mIoU", "miou13": "mIoU*"}
    for key, head in means.items():
        found, ours = column(table, f"{key}_gap"), column(table, f"{key}_last")
        assert {row for row, cell in found.items() if cell.is_number} == set(called.values())
        paper = float(theirs["DiGA (Ours, ResNet)"][head])
        assert found["DiGA"].mean == pytest.approx(ours["DiGA"].mean - paper)
    assert {c.kind for c in table.columns if c.key.endswith("_gap")} == {"paper"}
    assert not any(table.columns[j].key.endswith("_gap") for _, j in table.best)
    assert "Ours − paper: " in table.caption
    assert LEAD in " ".join(table.notes)
    assert "gap" not in " ".join(c.key for c in module.table(known(module)).columns)
    assert latex.problems(latex.table(table)) == []


def test_ours_less_the_published_by_row() -> None:
    table = table3.table(make.in_memory(make.ladder().declared(reference="diga_table3_components.csv")))
    ours, gap = column(table, "last"), column(table, "gap")
    assert gap["(iv)"].mean == pytest.approx(ours["(iv)"].mean - 62.7)
    assert "| -6.6 |" in markdown.table(table)
    assert "gap" not in [c.key for c in table3.table(make.in_memory(make.ladder().declared(reference=""))).columns]


def test_ours_less_the_published_by_domain_and_by_part() -> None:
    """Only what is called the same is compared: dusk is a domain that no paper has."""
    rows = {row.key: row for row in table6.table(make.in_memory(make.table6())).rows}
    gap = [cell.mean for cell in rows["DiGA distillation, ours − paper"].cells[2:5]]
    ours = [cell.mean for cell in rows["DiGA distillation"].cells[2:5]]
    assert gap == pytest.approx([x - y for x, y in zip(ours, (48.87, 44.42, 51.78), strict=True)])
    table = table7.table(make.in_memory(make.table7()))
    found = {c.key: cell for c, cell in zip(table.columns, table.rows[-1].cells, strict=True)}
    assert found["miou_1/8"].mean == pytest.approx(column(table, "miou_1/8")["DiGA"].mean - 78.51)
    assert not found["best_1/8"].is_number
    assert column(table, "best_1/8")["DiGA"].mean == pytest.approx(column(table, "miou_1/8")["DiGA"].mean + 1.4)
    assert [
        beside.domain(d) for d in ("cityscapes", "streets/mapillary", "streets/dusk/cityscapes", "mapillary_ddb")
    ] == [*("Cityscapes", "Mapillary", "", "Mapillary")]


# --- a mean of domains -------------------------------------------------------------------

DOMAINS = (make.DOMAIN, "streets/mapillary")


def of_domains(*, classes: bool = True) -> Records:
    """A ladder that is judged by the mean of two domains, which has no classes, as scoring logs it."""

    def change(cell: make.Cell) -> make.Cell:
        found: dict[str, float] = {}
        for key, value in cell.metrics.items():
            if key.startswith(make.DOMAIN) and (classes or "/iou/" not in key):
                rest = key.removeprefix(make.DOMAIN)
                found |= {f"{domain}{rest}": value - 0.1 * k for k, domain in enumerate(DOMAINS)}
                found |= {} if "/iou/" in key else {f"mean{rest}": value - 0.05}
        return make.replace(cell, metrics=found)

    return make.in_memory(make.ladder().changed(change).declared(metric="mean/plain/last/miou", reference=""))


@pytest.mark.parametrize("module", [per_class, table1, table2])
def test_classes_of_a_mean_of_domains_are_those_of_the_first(module) -> None:
    table = module.table(of_domains())
    assert column(table, "road")["(iv)"].mean == pytest.approx(100 * sum(make.score(5, s) - 0.06 for s in range(3)) / 3)
    lacking = {c.key for row in table.rows for c, cell in zip(table.columns, row.cells, strict=True) if cell.status}
    assert lacking <= {"train"}
    assert f"evaluated on {make.DOMAIN} alone, one of the domains whose mean the study is judged by" in table.caption
    assert "judged by" not in module.table(known(module)).caption


@pytest.mark.parametrize("module", [per_class, table1, table2])
def test_without_any_class_there_is_a_mean_and_a_sentence(module) -> None:
    table = module.table(of_domains(classes=False))
    assert not {"road", "train", "bus"} & {c.key for c in table.columns}
    assert {cell.status for row in table.rows for cell in row.cells} == {""}
    assert f"No cell has IoU by class on {make.DOMAIN}." in table.notes
    assert not any("neither present" in note or "Classes that rise" in note for note in table.notes)
    assert latex.problems(latex.table(table)) == []


# --- costs -------------------------------------------------------------------------------


def with_stages(spec: make.Spec) -> Records:
    """A study whose rows share a first stage by seed, and have a second of their own."""
    records = make.in_memory(spec)
    lines = zip(records.cells["row_index"], records.cells["seed"], strict=True)
    stages = [{"warm_up": [f"shared-{seed}", 60], "train": [f"own-{row}-{seed}", 20]} for row, seed in lines]
    records.cells["stages"] = [json.dumps(s) for s in stages]
    return records


def test_costs_say_what_is_shared() -> None:
    table = costs.table(with_stages(make.ladder()))
    assert {round(cell.mean) for cell in column(table, "shared").values()} == {75}
    assert {cell.mean for cell in column(table, "updates").values()} == {80.0}
    assert column(table, "hours")["(iv)"].mean == pytest.approx(17 / 60)
    assert next(c.header for c in table.columns if c.key == "hours") == "minutes"
    said = " ".join(table.notes)
    assert "each by itself: 1,440; each stage once: 540, 62 % less" in said
    assert latex.problems(latex.table(table)) == []


def test_costs_without_stages_or_times_say_nothing_of_them() -> None:
    table = costs.table(make.in_memory(make.ladder()))
    assert "shared" not in [c.key for c in table.columns]
    bare = costs.table(make.in_memory(make.replace(make.ladder(), cells=())))
    assert "hours" not in " ".join(bare.notes[1:])
    assert markdown.table(bare)


@pytest.mark.parametrize(
    ("gpu_seconds", "exaflop", "headers", "values"),
    [
        (7200.0, 4.25, ["GPU-hours", "EFLOP"], [2.0, 4.25]),
        (90.0, 0.0425, ["GPU-minutes", "PFLOP"], [1.5, 42.5]),
        (0.0, 4.25e-6, ["TFLOP"], [4.25]),
        (0.0, 0.0, [], []),
    ],
)
def test_gpus_and_operations_have_units_of_their_size(
    gpu_seconds: float, exaflop: float, headers: list[str], values: list[float]
) -> None:
    more = {"cost/gpu_seconds": gpu_seconds} | ({"cost/exaflop": exaflop} if exaflop else {})
    spec = make.ladder().changed(lambda c: make.replace(c, metrics={**c.metrics, **(more if c.index else {})}))
    table = costs.table(make.in_memory(spec))
    found = {c.key: c.header for c in table.columns if c.key in ("gpu_hours", "flop")}
    assert list(found.values()) == headers
    assert [column(table, key)["(iv)"].mean for key in found] == pytest.approx(values)
    assert all(column(table, key)["Source-only"].status == "n/a" for key in found)  # of an older layout
    assert any(note.startswith("FLOP: ") for note in table.notes) == bool(exaflop)
    assert ("GPU-hours" in " ".join(table.notes)) == (gpu_seconds > 0)
    assert latex.problems(latex.table(table)) == []


def test_hours_of_several_machines_are_told_apart() -> None:
    records = make.in_memory(make.ladder())
    records.cells["machine"] = ["fast" if s else "slow" for s in records.cells["seed"]]
    assert any("fast (12 cells); slow (6 cells)" in n or "slow (6 cells)" in n for n in costs.table(records).notes)
    hours = make.ladder().changed(lambda c: make.replace(c, metrics={**c.metrics, "cost/seconds": 7200.0}))
    table = costs.table(make.in_memory(hours))
    assert column(table, "hours")["(i)"].mean == 2
