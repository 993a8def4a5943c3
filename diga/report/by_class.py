"""Tables of classes: a column a class and their means, our rows, and published methods below by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from diga.report import ablation, beside, cells
from diga.report.ablation import ORACLE, Shown
from diga.report.cells import Metric
from diga.report.records import Records
from diga.report.statistics import between
from diga.report.table import Cell, Column, Table

SHORT = {  # headings as papers have them; keys stay whole
    "sidewalk": "side.",
    "building": "build.",
    "vegetation": "veget.",
    "terrain": "terr.",
    "person": "pers.",
    "motorcycle": "moto.",
    "bicycle": "bike",
}
METHODS = {"DiGA": "DiGA (Ours, ResNet)", "DiGA, authors' code": "DiGA (Ours, ResNet)"}  # rows, as papers have them
PUBLISHED = {"light": "traffic light", "sign": "traffic sign"}  # as papers call them
OURS = "Ours, IoU (%)"


def table(
    records: Records,
    classes: Sequence[str],
    means: Mapping[str, str],
    *,
    title: str,
    kind: str,
    folder: Path,
    notes: Sequence[str] = (),
) -> Table:
    """IoU of some classes, then `means` (metric and heading), of the last checkpoint; below, what `folder` published.

    The means of the best checkpoint follow, where they are recorded.  Raises ConfigError when rows were evaluated by
    protocols, or tell numbers of classes apart, that no column may mix.
    """
    metric, where = cells.by_class(records)
    known = has_classes(records, metric, classes)
    scored = _mean(records, metric, next(iter(means)))
    shown = [
        ablation.labels(records, "Method"),
        *(_of_class(records, metric, name, scored) for name in known),
        *_last(records, metric, means),
        *_best(records, metric, means),
        *_gaps(records, metric, means, folder),
    ]
    columns = tuple(s.column for s in shown)
    absent = [s.column.key for s in shown if s.column.key in classes and _is_absent(s)]
    lines = [
        *notes,
        *lacking_classes(records, known),
        *_absent(absent),
        *_rises(records, metric, classes),
        *ablation.lacking_note(records),
    ]
    return Table(
        title=title,
        caption=ablation.caption(records, where, columns, ablation.PROTOCOL, **_says(columns)),
        label=f"{kind}-{records.name}",
        columns=columns,
        rows=ablation.rows(records, shown),
        notes=tuple(lines),
        n=len(records.seeds),
        below=published(records, folder, [*classes, *means.values()]),
    )


def _says(columns: Sequence[Column]) -> dict[str, str]:
    """What the first column of a kind means."""
    ends = {"_best": "best", "_gap": "gap"}
    first = {end: next((c.key for c in columns if c.key.endswith(end)), "") for end in ends}
    return {first[end]: ablation.SAYS[key] for end, key in ends.items() if first[end]}


def _about(key: str, header: str, group: str, *, spread: bool = False) -> Column:
    return Column(key=key, header=header, group=group, kind="score", better="max", spread=spread)


def _mean(records: Records, metric: Metric, name: str) -> dict[str, Cell]:
    where = metric._replace(name=name)
    return cells.with_ties(records, where, cells.scores(records, where))


def _of_class(records: Records, metric: Metric, name: str, scored: Mapping[str, Cell]) -> Shown:
    """A class without a number in a row that was evaluated is neither present nor predicted there.

    Ties are marked in means alone: of so many columns a few would be told apart by chance.
    """
    found = cells.scores(records, metric._replace(name=f"iou/{name}"))
    absent = {row for row, cell in found.items() if scored[row].is_number and not cell.is_number}
    known = {row: Cell(status="n/a") if row in absent else cell for row, cell in found.items()}
    return Shown(_about(name, SHORT.get(name, name), OURS), known)


def _is_absent(shown: Shown) -> bool:
    return any(cell.status == "n/a" for cell in shown.cells.values())


def _last(records: Records, metric: Metric, means: Mapping[str, str]) -> Iterator[Shown]:
    """The means at the end of training; for want of room the first alone prints its spread."""
    for k, (key, head) in enumerate(means.items()):
        yield Shown(_about(f"{key}_last", f"{head} (last)", OURS, spread=k == 0), _mean(records, metric, key))


def _best(records: Records, metric: Metric, means: Mapping[str, str]) -> Iterator[Shown]:
    """The means of the checkpoint that target labels chose."""
    for key, head in means.items():
        shown = Shown(
            _about(f"{key}_best", f"{head} (best)", ORACLE), _mean(records, metric._replace(select="best"), key)
        )
        if shown.has_numbers:
            yield shown


def has_classes(records: Records, metric: Metric, classes: Sequence[str]) -> Sequence[str]:
    """The classes that have columns: none where cells are done and no class has a number in any."""
    return classes if records.done.empty or cells.classes_in(records, metric) else ()


def lacking_classes(records: Records, known: Sequence[str]) -> Iterator[str]:
    """Why a table of classes has none."""
    if not known:
        yield f"No cell has IoU by class on {cells.by_class(records)[0].where}."


# --- notes -------------------------------------------------------------------------------


def _absent(classes: Sequence[str]) -> Iterator[str]:
    if classes:
        yield f"n/a: neither present nor predicted, and not part of the mean: {', '.join(classes)}."


def _rises(records: Records, metric: Metric, classes: Sequence[str]) -> Iterator[str]:
    """How many classes each step raises, and of how many one can tell."""
    said = []
    for row in records.rows:
        known = [records.values(str(metric._replace(name=f"iou/{name}"))) for name in classes]
        steps = [between(of[row.label], of[row.parent]) for of in known if row.label in of and row.parent in of]
        if steps := [step for step in steps if step.n]:
            surely = sum(step.verdict == "holds" for step in steps)
            rise, fall = sum(step.mean > 0 for step in steps), sum(step.verdict == "reversed" for step in steps)
            said.append(f"{row.label} over {row.parent} {rise} of {len(steps)} ({surely} surely, {fall} surely fall)")
    if said:
        yield (
            f"Classes that rise: {'; '.join(said)}. Surely: the 95 % interval of the paired difference leaves zero "
            "out, class by class, not corrected for how many there are."
        )


# --- published ---------------------------------------------------------------------------


def _gaps(records: Records, metric: Metric, means: Mapping[str, str], folder: Path) -> Iterator[Shown]:
    """Our means less those of the method that a row is, by METHODS."""
    known = cells.published_matrix(records, folder)
    for key, head in means.items():
        found = {row: known.get(method, {}) for row, method in METHODS.items()}
        paper = {row: scores[head] for row, scores in found.items() if head in scores}
        about = replace(beside.GAP, key=f"{key}_gap", header=f"{head} ({beside.HEADER})")
        shown = Shown(about, beside.gaps(cells.scores(records, metric._replace(name=key)), paper))
        if shown.has_numbers:
            yield shown


def published(records: Records, folder: Path, names: Sequence[str]) -> Table | None:
    """Methods of the study's reference file, a column a name; None if the study names none."""
    known = cells.published_matrix(records, folder)
    about = [
        Column(key=f"paper_{name}", header=SHORT.get(name, name), group="Published, IoU (%)", kind="paper")
        for name in names
    ]
    columns = (Column(key="paper", header="Method"), *about)
    own = {PUBLISHED.get(name, name): f"paper_{name}" for name in names}
    lines = {m: {own.get(k, k): Cell(mean=v) for k, v in scores.items()} for m, scores in known.items()}
    rows = tuple(ablation.line(columns, m, {"paper": Cell(text=m)} | found) for m, found in lines.items())
    return Table(title=ablation.PUBLISHED, caption="", label="", columns=columns, rows=rows) if rows else None
