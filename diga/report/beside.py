"""Published numbers beside ours, and ours less them: in columns or rows of their own, never ranked with ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from diga.report import ablation, cells
from diga.report.ablation import PUBLISHED, Shown
from diga.report.records import Records
from diga.report.table import Cell, Column, Row, Table

HEADER = "ours − paper"
GAP = Column(key="gap", header=HEADER, group=PUBLISHED, kind="paper", signed=True)
ROWS_OF_GAPS = "Rows ours − paper are a row above less what the paper has of it."
DOMAINS = {  # as papers call them; streets' trees of the same names stand for them
    "cityscapes": "Cityscapes",
    "bdd100k": "BDD100k",
    "mapillary": "Mapillary",
    "mapillary_ddb": "Mapillary",
}


def domain(name: str) -> str:
    """What papers call a domain; "" for one that none has."""
    return DOMAINS.get(name.removeprefix("streets/"), "")


def gaps(ours: Mapping[str, Cell], paper: Mapping[str, float]) -> dict[str, Cell]:
    """Our means less the published numbers, where both are known; all else is blank."""
    return {
        key: Cell(mean=cell.mean - paper[key]) if key in paper and cell.is_number else Cell()
        for key, cell in ours.items()
    }


def columns(records: Records, known: Mapping[str, float]) -> list[Shown]:
    """Published mIoU by row, its step, and our last less it, where there is any."""
    score = Column(key="paper", header="mIoU", group=PUBLISHED, kind="paper")
    step = Column(key="paper_step", header="Δ", group=PUBLISHED, kind="paper", signed=True)
    ours = cells.scores(records, ablation.plain(cells.metric_of(records)))
    gap = Shown(GAP, gaps(ours, known))
    return [
        Shown(score, cells.paper_cells(known, records)),
        Shown(step, cells.paper_cells(cells.paper_steps(known, records), records)),
        *([gap] if gap.has_numbers else []),
    ]


def row(columns: Sequence[Column], label: str, ours: Mapping[str, Cell], paper: Mapping[str, float]) -> list[Row]:
    """A row of a table less the published, both by the columns' keys; none where they have nothing in common."""
    found = {key: cell for key, cell in gaps(ours, paper).items() if cell.is_number}
    text = f"{label}, {HEADER}"
    return [ablation.line(columns, text, found | {"row": Cell(text=text)}, "gaps", GAP)] if found else []


def matrix(records: Records, folder: Path) -> Table | None:
    """Published scores of methods under their own headings, to stand below ours; None if the study names none."""
    known = cells.published_matrix(records, folder)
    names = dict.fromkeys(name for scores in known.values() for name in scores)
    about = [
        Column(key=f"paper_{n}", header=n, group=f"{PUBLISHED}, mIoU (%)", kind="paper", decimals=2) for n in names
    ]
    columns = (Column(key="paper", header="Method"), *about)
    lines = {method: {f"paper_{n}": Cell(mean=x) for n, x in scores.items()} for method, scores in known.items()}
    found = tuple(
        ablation.line(columns, method, {"paper": Cell(text=method)} | scores) for method, scores in lines.items()
    )
    return Table(title=PUBLISHED, caption="", label="", columns=columns, rows=found) if found else None
