"""Domain generalization: domains no training has seen, ours above, published methods below (DiGA, Table 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

from diga.errors import ConfigError
from diga.report import ablation, beside, cells, sentences
from diga.report.cells import MEAN, Metric
from diga.report.records import Records
from diga.report.table import Cell, Column, Row, Table

PAPER = Path(__file__).parent / "paper"
SOURCE = "DiGA (CVPR 2023), Table 6, trained on GTA5 alone; one run each"


def table(records: Records) -> Table:
    """A column a domain and one of their mean, our rows and their steps; the published below, by themselves.

    Raises ConfigError when rows were evaluated by different protocols or on different domains.
    """
    metric, names = ablation.plain(cells.metric_of(records)), ablation.marked(records, "Method")
    domains, best = _domains(records, metric), _best(records, metric)
    columns = [*(s.column for s in names), *_columns(domains, metric.domain == MEAN), *(s.column for s in best)]
    scores, where = list(_scores(records, metric, columns, [*names, *best])), ", ".join(domains) or "no domain yet"
    steps, gaps = list(_steps(records, metric, columns)), list(_gaps(records, columns, scores))
    says = [ablation.ROWS_OF_STEPS] * bool(steps) + [beside.ROWS_OF_GAPS] * bool(gaps)
    return Table(
        title="Domains that no training has seen",
        caption=" ".join([ablation.caption(records, where, columns), *says]),
        label=f"generalization-{records.name}",
        columns=tuple(columns),
        rows=(*scores, *steps, *gaps),
        notes=(
            *ablation.stars_note(records),
            *ablation.source_note(records, SOURCE, ablation.APART),
            *ablation.lacking_note(records),
        ),
        n=len(records.seeds),
        below=beside.matrix(records, PAPER),
    )


# --- domains -----------------------------------------------------------------------------


def _domains(records: Records, metric: Metric) -> list[str]:
    """Domains that were scored, in the published order, then by name.

    Raises ConfigError for a row that was scored on others: its mean would be of something else.
    """
    found = cells.domains(records, metric)
    for row in records.rows:
        here = records.done[records.done["row"] == row.label]
        lacking = [d for d in found if bool(here[str(metric._replace(domain=d))].isna().any())]
        if lacking:
            raise ConfigError(f"row {row.label!r}", f"not scored on {', '.join(lacking)}", f"all of {', '.join(found)}")
    order = [name.casefold() for line in cells.published_matrix(records, PAPER).values() for name in line]
    return sorted(found, key=lambda d: (order.index(k) if (k := _last(d).casefold()) in order else len(order), d))


def _last(domain: str) -> str:
    return domain.rpartition("/")[2]


def _columns(domains: Sequence[str], with_mean: bool) -> list[Column]:
    """A column a domain, by what its name does not share with all others, and one of their mean."""
    folders = zip(*(d.split("/")[:-1] for d in domains), strict=False)
    shared = len(list(takewhile(lambda names: len(set(names)) == 1, folders)))
    heads = {d: "/".join(d.split("/")[shared:]) for d in domains} | ({MEAN: "mean"} if with_mean else {})
    return [Column(key=d, header=h, group=ablation.LAST, kind="score", better="max") for d, h in heads.items()]


def _best(records: Records, metric: Metric) -> list[ablation.Shown]:
    """The checkpoint that target labels chose, by the number that the study is about, if it is recorded."""
    header = "mean, best" if metric.domain == MEAN else "best"
    about = Column(key="best", header=header, group=ablation.ORACLE, kind="score", better="max")
    shown = ablation.Shown(about, _tied(records, metric._replace(select="best")))
    return [shown] if shown.has_numbers else []


# --- blocks of rows ----------------------------------------------------------------------


def _scores(
    records: Records, metric: Metric, columns: Sequence[Column], names: Sequence[ablation.Shown]
) -> Iterator[Row]:
    known = {c.key: _tied(records, metric._replace(domain=c.key)) for c in columns if c.group == ablation.LAST}
    known |= {s.column.key: dict(s.cells) for s in names}
    for row in records.rows:
        yield ablation.line(columns, row.label, {key: found[row.label] for key, found in known.items()})


def _tied(records: Records, metric: Metric) -> dict[str, Cell]:
    return cells.with_ties(records, metric, cells.scores(records, metric))


def _steps(records: Records, metric: Metric, columns: Sequence[Column]) -> Iterator[Row]:
    marks = ablation.marks(records)
    known = {
        c.key: cells.step_cells(records, metric._replace(domain=c.key)) for c in columns if c.group == ablation.LAST
    }
    for row in records.rows:
        if row.parent:
            found = {key: steps[row.label] for key, steps in known.items()}
            found["row"] = Cell(text=f"Δ {marks[row.label]} over {marks.get(row.parent, row.parent)}")
            yield ablation.line(columns, f"{row.label} over {row.parent}", found, "steps", ablation.STEP)


def _gaps(records: Records, columns: Sequence[Column], scores: Sequence[Row]) -> Iterator[Row]:
    """Rows less the published ones that are called the same, by domain."""
    known = cells.published_matrix(records, PAPER)
    for row in scores:
        paper, ours = known.get(row.key, {}), dict(zip((c.key for c in columns), row.cells, strict=True))
        said = {key: name for key in ours if (name := beside.domain(key)) in paper}
        yield from beside.row(columns, row.key, ours, {key: paper[name] for key, name in said.items()})


# --- sentences ---------------------------------------------------------------------------


def verdicts(records: Records) -> list[str]:
    """One sentence a step of the mean, and what the step is on each domain."""
    metric = ablation.plain(cells.metric_of(records))
    said = sentences.verdicts(records, metric)
    domains = _domains(records, metric)
    labels = [r.label for r in records.rows if r.parent]
    return [line + _each(records, metric, label, domains) for label, line in zip(labels, said, strict=True)]


def _each(records: Records, metric: Metric, label: str, domains: Sequence[str]) -> str:
    found: dict[str, list[str]] = {}
    for domain in domains:
        step = cells.steps(records, metric._replace(domain=domain))[label]
        found.setdefault(step.verdict, []).append(domain)
    said = "; ".join(f"{verdict} on {', '.join(names)}" for verdict, names in found.items())
    return f" By domain: {said}." if said else ""
