"""Which parameters of a sweep mattered, by two methods that are named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from diga.report import importance, search
from diga.report.cells import PERCENT
from diga.report.importance import METHODS, Method
from diga.report.records import Records
from diga.report.search import Search
from diga.report.table import Cell, Column, Row, Table
from diga.space import Dimension

MANY = 100  # trials below which shares are rough
ABOUT: dict[Method, str] = {
    "fANOVA": (
        "fANOVA (Hutter et al., 2014): the share of the variance over the whole space that a parameter alone explains "
        "in a random forest, of its sum over parameters."
    ),
    "PED-ANOVA": (
        "PED-ANOVA (Watanabe et al., 2023): how far the best tenth of the trials lies from all of them in a parameter, "
        "of its sum over parameters: what it takes to be among the best."
    ),
}
Shares = Mapping[Method, Mapping[str, float]]


def table(records: Records) -> Table:
    """A row a parameter, those that matter most first.  Raises ConfigError for a study that is no sweep."""
    found = search.of(records)
    shares = {method: importance.importances(found, method) for method in METHODS}
    columns = (
        Column(key="parameter", header="Parameter"),
        Column(key="range", header="Range"),
        *(Column(key=m, header=m, group="Share (%)", kind="score", spread=False) for m in METHODS),
        Column(key="n", header="trials", kind="score", spread=False, decimals=0),
    )
    order = sorted(found.dimensions, key=lambda d: -max(shares[m].get(d.path, 0.0) for m in METHODS))
    return Table(
        title="What mattered",
        caption=f"{search.caption(found)} Importance for {found.main.name}, of trials {found.compared.which}.",
        label=f"importance-{records.name}",
        columns=columns,
        rows=tuple(_row(found, dimension, shares) for dimension in order),
        notes=tuple(_notes(found, shares)),
    )


def _row(found: Search, dimension: Dimension, shares: Shares) -> Row:
    path = dimension.path
    known = (shares[m].get(path) for m in METHODS)
    told = (Cell(status="n/a") if share is None else Cell(mean=PERCENT * share) for share in known)
    asked = sum(path in found.params[n] for n in found.compared.values)
    return Row(key=path, cells=(Cell(text=path), Cell(text=dimension.told()), *told, Cell(mean=asked)))


def _notes(found: Search, shares: Shares) -> Iterator[str]:
    n = len(found.compared.values)
    if not any(shares.values()):
        yield f"{n} trials are done: nothing is said of fewer than {search.ENOUGH}, or of trials that are all alike."
        return
    yield from ABOUT.values()
    if n < MANY:
        yield f"Of {n} trials alone: below {MANY} such shares change much with the next trials."
    if (sampler := found.told["sampler"]) != "random":
        yield f"The sampler {sampler} went where it hoped for more: shares are of what it looked at, not of the space."
    if paths := importance.conditional(found):
        names = ", ".join(found.names[path] for path in paths)
        yield f"fANOVA leaves out what some trials were not asked for: {names}."
    if found.compared.values.keys() != found.scores(found.main).keys():
        yield "Too few trials were carried out whole; how well that rung ranks them is in the sweep's own table."
    elif "pruned" in found.status.values():
        yield "Trials that were ended at a rung are not counted: those were the worse ones."
