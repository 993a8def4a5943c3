"""What both pages of a report say beside tables and figures: how far a study is, what it cost, where it comes from."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from diga.report import ablation, cells, search
from diga.report.figures import Figure
from diga.report.markdown import visible
from diga.report.records import PREFIX, Records
from diga.report.snapshot import redacted
from diga.report.table import Cell, Table

STATES = ("done", "failed", "stopped", "running", "missing")
TOLD = re.compile(r"(?P<what>.*?): (?P<verdict>holds|raises|tie|reversed|lowers|open): (?P<measured>.*)", re.DOTALL)
PUBLISHED = re.compile(r"Published: ([+-]?[0-9.]+)\.$")
KINDS = {"raises": "holds", "lowers": "reversed"}  # of rows that nobody says are better
SIZES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class Told:
    """Everything a page tells: records, tables by name, figures, what could not be drawn and why, and verdicts."""

    known: Records
    tables: Mapping[str, Table]
    drawn: Sequence[Figure] = ()
    lacking: Mapping[str, str] | None = None
    verdicts: Sequence[str] = ()


class Claim(NamedTuple):
    """A verdict in its parts: what is compared, holds, tie, reversed or open ("" for a remark), and the numbers."""

    what: str
    verdict: str
    word: str
    measured: str


def claim(line: str) -> Claim:
    """A verdict's sentence, parted; one that is no comparison is a remark."""
    found = TOLD.fullmatch(line)
    if found is None:
        return Claim("", "", "", line)
    word = found["verdict"]
    return Claim(found["what"], KINDS.get(word, word), word, found["measured"])


def order(line: str) -> str:
    """Whether a published order of two rows holds, ties, is reversed or open with us; "" where none is published.

    A published step below zero holds where ours is below zero.
    """
    found, said = claim(line), PUBLISHED.search(line)
    if not (found.verdict and said) or float(said[1]) == 0:
        return ""
    turned = {"holds": "reversed", "reversed": "holds"} if float(said[1]) < 0 else {}
    return turned.get(found.verdict, found.verdict)


def states(known: Records) -> Iterator[tuple[str, int, str]]:
    """Row, seed and state of every cell that the study asks for; a sweep asks for none before its confirmation."""
    if known.sweep and known.cells.empty and not known.sweep.get("confirm"):
        return
    for row in known.rows:
        for seed in known.seeds:
            yield row.label, seed, known.status(row.label, seed)


def progress(known: Records) -> dict[str, int]:
    """How many cells are in each state; those that nothing is in are left out, but for done."""
    count = Counter(state for _, _, state in states(known))
    return {
        state: count[state] for state in dict.fromkeys((*STATES, *sorted(count))) if count[state] or state == "done"
    }


def so_far(known: Records) -> str:
    """How far a study is, in one line: its cells by state; of a sweep, its trials and then the confirmed cells."""
    count = progress(known)
    total, states_said = sum(count.values()), ", ".join(f"{n} {state}" for state, n in count.items())
    cells_said = f"{total} cell{'s' * (total != 1)}: {states_said}"
    if not known.sweep:
        return cells_said
    return f"{search.counts(search.of(known))}; confirmation: {cells_said if total else 'none'}"


def missing(known: Records) -> list[str]:
    """A line for the cells of a row that are not done for the same reason."""
    errors = dict(zip(zip(known.cells["row"], known.cells["seed"], strict=True), known.cells["error"], strict=True))
    seeds: dict[tuple[str, str], list[int]] = {}
    for label, seed, state in states(known):
        if state != "done":
            error = str(errors.get((label, seed), "") or "")
            why = f": {error}" if error not in ("", state) else ""
            seeds.setdefault((label, state + why), []).append(seed)
    return [f"{label}, {_seeds(which)}: {why}" for (label, why), which in seeds.items()]


def _seeds(which: Sequence[int]) -> str:
    return f"seed{'s' * (len(which) > 1)} {', '.join(map(str, which))}"


def best(known: Records) -> tuple[str, Cell] | None:
    """The row with the highest mean of the study's metric, in percent."""
    scores = cells.scores(known, ablation.plain(cells.metric_of(known)))
    found = {row: cell for row, cell in scores.items() if cell.is_number}
    if not found:
        return None
    row = max(found, key=lambda label: found[label].mean)
    return row, found[row]


def warnings(known: Records) -> list[str]:
    """What a reader of the numbers must know."""
    return [*known.warnings, *_twins(known)]


def _twins(known: Records) -> Iterator[str]:
    """Rows that ran the very same cell: what tells them apart on paper changed nothing."""
    rows: dict[str, list[str]] = {}
    for row, cell in zip(known.done["row"], known.done["cell"], strict=True):
        if cell and row not in rows.setdefault(cell, []):
            rows[cell].append(row)
    for same in sorted({tuple(labels) for labels in rows.values() if len(labels) > 1}):
        yield f"rows {' and '.join(same)} are the same cell: the switch between them changes nothing"


def provenance(known: Records) -> dict[str, str]:
    """Where the numbers come from, by what is said."""
    commits = sorted({str(g) for g in known.done["git"] if g})
    return {
        "records": f"{redacted(known.uri)}, experiment {PREFIX}{known.name}",
        "code": ", ".join(commits) or "not recorded",
        "protocols": ", ".join(sorted(set(known.done["protocol"]))) or "none yet",
        "metric": str(known.study["metric"]),
        "seeds": ", ".join(map(str, known.seeds)) or "none",
    }


def commands(known: Records) -> dict[str, str]:
    """Commands that make a report again, by what they do."""
    name = shlex.quote(visible(known.name))
    name = f"-- {name}" if known.name.startswith("-") else name
    seeds = ",".join(map(str, known.seeds))
    launch = _sweeping(known.name, known.sweep) if known.sweep else f"diga ablate {name} --seeds {seeds}"
    return {
        "Carry out what is missing, then write this report:": f"{launch} && diga report {name}",
        "Write it again from this folder alone, byte for byte:": "diga report --from .",
    }


def _sweeping(name: str, told: Mapping[str, Any]) -> str:
    """The command of a sweep, whole: another base, objective, sampler or seed is another sweep."""
    halving, confirmed = told["halving"], told["confirm"]
    words = ["diga", "sweep", told["space"], "--base", told.get("typed_base") or told["base"]]
    words += [word for change in told.get("changes", ()) for word in ("--set", change)]
    words += [word for objective in told["objectives"] for word in ("--objective", objective["name"])]
    words += ["--sampler", told["sampler"], "--seed", told["seed"], "--trials", told["trials"]]
    words += ["--prune", _rule(halving)]
    words += ["--rungs", f"{len(halving['rungs'])}:{halving['eta']}"] if halving else []
    words += ["--confirm", f"{confirmed['top']}:{len(confirmed['seeds'])}"] if confirmed else []
    return " ".join(shlex.quote(visible(str(word))) for word in (*words, f"--name={name}"))


def _rule(halving: Mapping[str, Any] | None) -> str:
    """Who goes on from a rung, as it is typed."""
    if not halving:
        return "none"
    return "watch" if not halving.get("ends", True) else "sha" if halving.get("in_turn") else "asha"


# --- cost --------------------------------------------------------------------------------


class Cost(NamedTuple):
    """What a cell of a row takes, were it alone: mean seconds and updates over n seeds."""

    row: str
    seconds: float
    updates: float
    n: int


def cost(known: Records) -> list[Cost]:
    """A line a row whose cost is recorded."""
    seconds, updates = cells.scores(known, "cost/seconds", 1), cells.scores(known, "cost/steps", 1)
    return [
        Cost(row.label, seconds[row.label].mean, updates[row.label].mean, seconds[row.label].n or 0)
        for row in known.rows
        if seconds[row.label].is_number
    ]


def duration(seconds: float) -> str:
    """Two units at most: 1 h 5 min."""
    rest = round(seconds)
    parts: list[str] = []
    for size, unit in SIZES:
        if rest >= size and len(parts) < 2:
            parts.append(f"{rest // size} {unit}")
            rest %= size
        elif parts:
            break
    return " ".join(parts) or "0 s"
