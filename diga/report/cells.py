"""From records to the cells of a table: what every table of a study asks, asked in one place."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from diga.errors import ConfigError, expected_one_of
from diga.report.records import Records
from diga.report.statistics import Difference, among, between, difference
from diga.report.table import Cell, Status

PERCENT = 100.0
LEAST = 3  # seeds that a tie takes
MEAN = "mean"  # what stands for a domain in the mean of all that were scored


class Metric(NamedTuple):
    """`<domain>/<statistic>/<select>/<name>`, the address of a number."""

    domain: str
    statistic: str = "plain"
    select: str = "last"
    name: str = "miou"

    def __str__(self) -> str:
        return "/".join(self)

    @property
    def where(self) -> str:
        """The domain in a sentence."""
        return "the mean of all domains" if self.domain == MEAN else self.domain


def metric_of(records: Records) -> Metric:
    """The number a study is about.  Raises ConfigError for anything but a full address."""
    text = str(records.study["metric"])
    parts = text.rsplit("/", 3)
    if len(parts) != 4 or not all(parts):
        raise ConfigError("study.metric", f"found {text!r}", "<domain>/<statistic>/<select>/<name>")
    return Metric(*parts)


def why_nothing(records: Records, row: str) -> Status:
    """What to say of a row without a number: the worst that has become of a cell, missing if nothing has.

    A row whose every cell is done lacks nothing: it has no such number, as one without a teacher.
    """
    states = {records.status(row, seed) for seed in records.seeds}
    if states == {"done"}:
        return "n/a"
    told: tuple[Status, ...] = ("failed", "stopped", "running")
    return next((state for state in told if state in states), "missing")


def domains(records: Records, metric: Metric) -> list[str]:
    """Domains with a number at the metric's address in some finished cell; the mean is none."""
    address = str(metric._replace(domain=""))
    columns = [c for c in records.done.columns if c.endswith(address) and bool(records.done[c].notna().any())]
    return [name for c in columns if (name := c.removesuffix(address)) != MEAN]


def shown_domain(records: Records) -> str:
    """The domain that pictures show: the study's own, or of several the first by name."""
    metric = metric_of(records)
    return min(domains(records, metric), default=MEAN) if metric.domain == MEAN else metric.domain


def by_class(records: Records) -> tuple[Metric, str]:
    """The study's metric at the end of training in the domain that tables of classes show, and what to call it.

    A mean of domains has no classes: of a study judged by one, the domain that pictures show stands for it.
    """
    metric = metric_of(records)._replace(statistic="plain", select="last", domain=shown_domain(records))
    if metric_of(records).domain != MEAN or metric.domain == MEAN:
        return metric, metric.where
    return metric, f"{metric.where} alone, one of the domains whose mean the study is judged by"


def scores(records: Records, metric: Metric | str, scale: float = PERCENT) -> dict[str, Cell]:
    """Mean and spread over seeds of a metric, in percent, for every row of the study."""
    known = records.values(str(metric))
    return {
        r.label: _cell(records, r.label, known[r.label], scale)
        if r.label in known
        else Cell(status=why_nothing(records, r.label))
        for r in records.rows
    }


def _cell(records: Records, row: str, values: Mapping[int, float], scale: float) -> Cell:
    over = difference(list(values.values()))
    runs = tuple(records.run_of[row, seed] for seed in values)
    return Cell(mean=over.mean * scale, sd=over.sd * scale, n=over.n, runs=runs)


def steps(records: Records, metric: Metric) -> dict[str, Difference]:
    """Paired difference, as a fraction, of every row that has a parent with its parent; p by Holm over these rows."""
    known = records.values(str(metric))
    found = {r.label: between(known.get(r.label, {}), known.get(r.parent, {})) for r in records.rows if r.parent}
    return dict(zip(found, among(list(found.values())), strict=True))


def step_cells(records: Records, metric: Metric) -> dict[str, Cell]:
    """`steps` in percent points; rows without a parent stay blank."""
    found = {label: points(step) for label, step in steps(records, metric).items()}
    return {row.label: found.get(row.label, Cell()) for row in records.rows}


def points(step: Difference) -> Cell:
    """A difference of fractions as a cell, in percent points."""
    if step.n == 0:
        return Cell(status="missing")
    low, high = step.low * PERCENT, step.high * PERCENT
    return Cell(mean=step.mean * PERCENT, sd=step.sd * PERCENT, n=step.n, low=low, high=high, p=step.adjusted)


def with_ties(records: Records, metric: Metric | str, found: Mapping[str, Cell]) -> dict[str, Cell]:
    """Scores of rows, where those that cannot be told apart from the best of them are marked.

    A tie: of LEAST seeds or more that both have, the 95 % interval of the paired difference holds zero.
    """
    known = records.values(str(metric))
    best = max((row for row in found if found[row].is_number), key=lambda row: found[row].mean, default="")
    first, rivals = known.get(best, {}), [row for row in found if row in known and row != best]
    pairs = {row: [value - known[row][seed] for seed, value in first.items() if seed in known[row]] for row in rivals}
    tied = {row for row, values in pairs.items() if len(values) >= LEAST and difference(values).verdict != "holds"}
    return {row: replace(cell, tied=True) if row in tied else cell for row, cell in found.items()}


# --- protocols ---------------------------------------------------------------------------


def protocols(records: Records, ablated: str = "") -> dict[str, str]:
    """Evaluation protocol of every row that has a finished cell.

    One column holds one protocol, unless the protocol is itself what the component `ablated` switches:
    then the rows with it share one and the rows without it another.  Raises ConfigError otherwise, and
    for rows that tell different numbers of classes apart, whose means are of different things.
    """
    if len(maps := sorted({str(k) for k in records.done["classes"]})) > 1:
        found_maps = ", ".join(k or "not recorded" for k in maps)
        raise ConfigError("a column", f"mixes the numbers of classes {found_maps}", "one label map a column")
    found: dict[str, str] = {}
    each = set(zip(records.done["row"], records.done["protocol"], strict=True))
    for row in records.rows:
        here = sorted(protocol for label, protocol in each if label == row.label)
        if len(here) > 1:
            raise _mixed(f"row {row.label!r}", here, "one protocol a row")
        if here:
            found[row.label] = here[0]
    declared = ablated in records.study["components"]
    for switched in (True, False) if declared else (None,):
        rows = [r for r in records.rows if switched in (None, ablated in r.components)]
        here = sorted({found[r.label] for r in rows if r.label in found})
        if len(here) > 1:
            of = {True: f"rows with {ablated}", False: f"rows without {ablated}", None: "a column"}[switched]
            raise _mixed(of, here, "one protocol a column, or a component that switches it")
    return found


def _mixed(where: str, found: list[str], expected: str) -> ConfigError:
    return ConfigError(where, f"mixes the protocols {', '.join(found)}", expected)


def protocol_sentence(records: Records, ablated: str = "") -> str:
    """What a caption says about protocols."""
    found = protocols(records, ablated)
    by_switch: dict[bool, str] = {}
    for row in records.rows:
        if row.label in found:
            by_switch[ablated in row.components] = found[row.label]
    if not found:
        return "Nothing has been evaluated yet."
    if len(set(by_switch.values())) == 1:
        return f"Protocol: {next(iter(by_switch.values()))}."
    return f"Protocol: {by_switch[True]} in rows with {ablated}; rows without {ablated} are {by_switch[False]}."


# --- published numbers -------------------------------------------------------------------


def published(records: Records, folder: Path) -> dict[str, float]:
    """Published mIoU, in percent, by row of the study, from the study's `reference` file.

    A line of the file is a row's when it has the same switches on, in the study's order of components;
    where the file has other switches, when it has the same label and no other line has.
    """
    lines = reference(records, folder)
    return _matched(records, lines) if lines else {}


def published_matrix(records: Records, folder: Path) -> dict[str, dict[str, float]]:
    """Published numbers of a `reference` file whose other columns are all scores, by its first column."""
    found = {}
    for line in reference(records, folder):
        label, *names = line
        found[line[label]] = {name: float(line[name]) for name in names if line[name]}
    return found


def reference(records: Records, folder: Path) -> list[dict[str, str]]:
    """Lines of the study's reference file; none if it names none.  Raises ConfigError for an unknown one."""
    name = str(records.study.get("reference") or "")
    if not name:
        return []
    known = [p.name for p in folder.glob("*.csv")]
    if name not in known:
        raise ConfigError("study.reference", f"no {name!r}", expected_one_of(name, known))
    with (folder / name).open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file))


def _matched(records: Records, lines: list[dict[str, str]]) -> dict[str, float]:
    components = [str(c) for c in records.study["components"]]
    label, *rest = lines[0]
    switches = [c for c in rest if {line[c] for line in lines} <= {"0", "1"}]
    if switches and len(switches) == len(components):
        by_switch = {tuple(line[c] == "1" for c in switches): line for line in lines}
        found = {r.label: by_switch.get(tuple(c in r.components for c in components)) for r in records.rows}
    else:
        count = Counter(line[label] for line in lines)
        by_label = {line[label]: line for line in lines if count[line[label]] == 1}
        found = {r.label: by_label.get(r.label) for r in records.rows}
    return {row: float(line["mIoU"]) for row, line in found.items() if line and line.get("mIoU")}


def paper_cells(values: Mapping[str, float], records: Records) -> dict[str, Cell]:
    """Published numbers as cells; a row that was not published is blank."""
    return {r.label: Cell(mean=values[r.label]) if r.label in values else Cell() for r in records.rows}


def paper_steps(values: Mapping[str, float], records: Records) -> dict[str, float]:
    """Published difference of every row with its parent, where both were published."""
    pairs = [(r.label, r.parent) for r in records.rows if r.label in values and r.parent in values]
    return {label: values[label] - values[parent] for label, parent in pairs}


def classes_in(records: Records, metric: Metric) -> list[str]:
    """Names of the classes that have a number in some finished cell."""
    prefix = str(metric._replace(name="iou")) + "/"
    columns = [c for c in records.done.columns if c.startswith(prefix)]
    return [c.removeprefix(prefix) for c in columns if bool(pd.notna(records.done[c]).any())]
