"""Several sources or targets: every target by itself and on average, and the step to the row each is compared with."""

from __future__ import annotations

from diga.errors import ConfigError
from diga.report import ablation, cells, sentences
from diga.report.ablation import Shown
from diga.report.cells import MEAN, Metric
from diga.report.records import Records
from diga.report.table import Column, Table

STEP = "Δ is the difference of the mean with the row each row builds on, paired by seed, with Student's 95 % interval."


def table(records: Records) -> Table:
    """A column a domain, one of their mean, and its steps.

    Raises ConfigError when rows were evaluated by different protocols or on different domains.
    """
    metric = ablation.plain(cells.metric_of(records))._replace(domain=MEAN)
    each = [_column(records, metric._replace(domain=domain)) for domain in _domains(records, metric)]
    mean = _column(records, metric)
    return ablation.table(
        records,
        [*ablation.marked(records), *each, mean, *ablation.ours(records, metric, "step", "over")],
        title=str(records.study["title"]),
        kind="ddb-domains",
        says={"step": STEP},
        notes=[*ablation.updates_note(records), *ablation.lacking_note(records)],
    )


def _domains(records: Records, metric: Metric) -> list[str]:
    """Domains that all finished cells were scored on.  Raises ConfigError for a row that lacks one."""
    found = cells.domains(records, metric)
    for row in records.rows:
        here = records.done[records.done["row"] == row.label]
        if lacking := [d for d in found if bool(here[str(metric._replace(domain=d))].isna().any())]:
            raise ConfigError(f"row {row.label!r}", f"not scored on {', '.join(lacking)}", f"all of {', '.join(found)}")
    return found


def _column(records: Records, metric: Metric) -> Shown:
    header = "mean" if metric.domain == MEAN else metric.domain
    column = Column(key=metric.domain, header=header, group=ablation.OURS, kind="score", better="max", count=False)
    return Shown(column, cells.scores(records, metric))


def verdicts(records: Records) -> list[str]:
    """One sentence a step of the mean."""
    return sentences.verdicts(records, ablation.plain(cells.metric_of(records))._replace(domain=MEAN))
