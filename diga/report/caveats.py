"""What makes a study's numbers less than they seem: a sentence each, which says what to do."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from diga.report import runs

if TYPE_CHECKING:
    from diga.report.records import Records

MOST = 3  # named of a kind


def of(known: Records) -> Iterator[str]:
    """All of them, those that touch every number first."""
    if known.cells.empty and known.trials.empty:
        yield f"Nothing of this study has been run yet: `{_launch(known)}` starts it."
    yield from _code(known)
    yield from _layout(known)
    yield from _rows(known)
    yield from _duplicates(known)
    yield from _not_finite(known)
    yield from _silent(known)


def _launch(known: Records) -> str:
    if known.sweep:
        return f"diga sweep {shlex.quote(str(known.sweep['space']))} --name {shlex.quote(known.name)}"
    return f"diga ablate {shlex.quote(known.name)}"


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more


def _cells(n: int) -> str:
    return f"{n} cell" + "s" * (n != 1)


def _code(known: Records) -> Iterator[str]:
    """Versions of the code, each by its revision, or by a digest of its text where it was changed by hand."""
    lines = known.done[["code", "git", "source", "dirty"]].itertuples(index=False)
    versions = Counter(_version(str(c), str(g), str(s), bool(d)) for c, g, s, d in lines)
    if len(versions) > 1:
        said = _named([f"{name} ({_cells(n)})" for name, n in versions.most_common()])
        yield (
            f"Cells come from {len(versions)} versions of the code: {said}. Differences between rows may be owed to "
            "it: compare rows that one version computed."
        )
    if changed := int(known.done["dirty"].sum()):
        yield f"{_cells(changed)} ran with uncommitted changes: what they ran is in provenance/code.diff of their runs."


def _version(code: str, git: str, source: str, dirty: bool) -> str:
    """How a version is told: stages of one cell may come from several."""
    name = code or git or "not recorded"
    return f"{name} with changes{f', {source}' if source else ''}" if dirty else name


def _layout(known: Records) -> Iterator[str]:
    """Runs that an older version left without what tells cells apart."""
    lines = _read(known, "row", "seed")
    lacking = sum(line["row"] is None or line["seed"] is None for line in lines)
    if lacking:
        yield (
            f"{lacking} runs without a row or a seed, of an older layout, are left out: "
            f"`{_launch(known)}` records their cells anew."
        )


def _rows(known: Records) -> Iterator[str]:
    labels = {row.label for row in known.rows}
    for row in known.rows:
        if row.parent and row.parent not in labels:
            yield f"Row {row.label} is compared with {row.parent}, no row of the study: no difference is given."
    if strange := sorted(set(known.cells["row"]) - labels):
        yield f"Cells of rows that the study does not declare are left out: {_named(strange)}."


def _duplicates(known: Records) -> Iterator[str]:
    """Several runs of one cell that are done; retired ones do not count."""
    lines = _read(known, "row", "seed", "status")
    count = Counter((line["row"], line["seed"]) for line in lines if line["status"] == "done")
    twice = [f"{row}, seed {seed} ({n} times)" for (row, seed), n in count.items() if n > 1 and row is not None]
    if twice:
        yield f"Recorded more than once: {_named(twice)}. The latest counts; delete the others in MLflow."


def _not_finite(known: Records) -> Iterator[str]:
    """Numbers that are none, in cells that are done."""
    if known.runs is None:
        return
    metrics = [name for name in known.runs.column_names if name not in runs.FIELDS.names]
    counted = set(known.done["run_id"])
    found = []
    for name in metrics:
        odd = known.runs.filter(pc.invert(pc.is_finite(known.runs[name])))  # a null is neither
        for one in odd.select(["row", "seed", "run_id", name]).to_pylist():
            if one["run_id"] in counted:
                found.append(f"{name} of {one['row']}, seed {one['seed']} is {one[name]:g}")
    if found:
        yield f"Not finite, and counted as no number: {_named(found)}."


def _silent(known: Records) -> Iterator[str]:
    """Cells that are done and have not the number that the study is about."""
    metric = str(known.study["metric"])
    scored = known.values(metric)
    lines = zip(known.done["row"], known.done["seed"], strict=True)
    silent = [f"{row}, seed {seed}" for row, seed in lines if int(seed) not in scored.get(row, {})]
    if silent:
        others = f"; no cell has it: is {metric!r} a metric of this study?" if not scored else ""
        yield f"Done, but without {metric}: {_named(silent)}{others}."


def _read(known: Records, *names: str) -> list[dict[str, Any]]:
    """Facts of all runs that were read."""
    if known.runs is not None:
        return list(known.runs.select(names).to_pylist())
    return [dict(zip(names, line, strict=True)) for line in known.cells[list(names)].itertuples(index=False)]


def data_of(known: Records) -> dict[str, set[str]]:
    """Fingerprints of each domain that finished cells read, by use: more than one is a change of the data."""
    found: dict[str, set[str]] = {}
    for text in known.done["data"]:
        for use, digest in json.loads(text or "{}").items():
            found.setdefault(use, set()).add(digest)
    return found
