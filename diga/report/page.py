"""The page of a report: what was found, what is missing, where it is and how to get it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit, urlunsplit

from diga.report import markdown
from diga.report.figures import Figure
from diga.report.markdown import code, escape
from diga.report.records import PREFIX, Records
from diga.report.table import Table

NAME = "report.md"


def text(
    known: Records,
    tables: Mapping[str, Table],
    drawn: Sequence[Figure],
    lacking: Mapping[str, str],
    verdicts: Sequence[str],
) -> str:
    """report.md, whose links lead to the files beside it."""
    parts = [f"# {escape(str(known.study.get('title') or known.name))}", _state(known)]
    for name, table in tables.items():
        files = " · ".join(f"[{ending}](tables/{name}.{ending})" for ending in ("tex", "csv", "json"))
        parts += [f"## {escape(table.title)}", markdown.table(table).strip(), files]
    parts += ["## Verdicts", _bullets(verdicts) or "No comparison is declared.", *_figures(drawn, lacking)]
    parts += ["## Missing", _missing(known), "## Where this comes from", _provenance(known)]
    parts += ["## Again", "Starts what is missing, then makes this page:", *_commands(known)]
    return "\n\n".join(parts) + "\n"


def claims(known: Records, verdicts: Sequence[str]) -> str:
    """claims.md: one sentence a comparison, and what the words mean."""
    legend = (
        "holds, of a quirk raises: the 95 % interval of the difference, paired by seed, is above zero. "
        "reversed, of a quirk lowers: below. "
        "tie: zero is in it. open: fewer than two pairs. "
        "Intervals are one by one, not corrected for how many there are."
    )
    return f"# Claims of {escape(known.name)}\n\n{_bullets(verdicts) or 'None yet.'}\n\n{legend}\n"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {escape(line)}" for line in lines)


def _states(known: Records) -> Iterator[tuple[str, int, str]]:
    for row in known.rows:
        for seed in known.seeds:
            yield row.label, seed, known.status(row.label, seed)


def _state(known: Records) -> str:
    states = [state for _, _, state in _states(known)]
    count = {s: states.count(s) for s in ("done", "failed", "running", "missing")}
    said = ", ".join(f"{n} {s}" for s, n in count.items() if n or s == "done")
    size = f"{len(states)} cells ({len(known.rows)} rows, {len(known.seeds)} seeds)"
    return f"Study {escape(known.name)}: {size}, {said}."


def _missing(known: Records) -> str:
    lines = []
    for label, seed, state in _states(known):
        if state != "done":
            here = known.cells[(known.cells["row"] == label) & (known.cells["seed"] == seed)]
            error = str(here["error"].iloc[0]) if len(here) else ""
            lines.append(f"{label}, seed {seed}: {state}{f': {error}' if error else ''}")
    return _bullets(lines) or "Nothing: every cell is done."


def _figures(drawn: Sequence[Figure], lacking: Mapping[str, str]) -> Iterator[str]:
    yield "## Figures"
    for figure in drawn:
        files = f"[png](figures/{figure.name}.png) · [pdf](figures/{figure.name}.pdf)"
        yield f"![{escape(figure.title)}](figures/{figure.name}.png)"
        yield f"**{escape(figure.title)}.** {escape(figure.caption)} {files}"
    if lacking:
        yield "Not drawn:"
        yield _bullets([f"{title}: {why}" for title, why in lacking.items()])


def _provenance(known: Records) -> str:
    commits = sorted({str(g) for g in known.done["git"] if g})
    lines = [
        f"records: {redacted(known.uri)}, experiment {PREFIX}{known.name}",
        f"code: {', '.join(commits) or 'not recorded'}",
        f"protocols: {', '.join(sorted(set(known.done['protocol']))) or 'none yet'}",
    ]
    if len(commits) > 1:
        lines.append("**cells come from different commits**")
    lines += [f"**{escape(twins)}**" for twins in _twins(known)]
    if known.done["dirty"].any():
        lines.append("**some cells ran with uncommitted changes**")
    return "\n".join(f"- {line if line.startswith('**') else escape(line)}" for line in lines)


def _twins(known: Records) -> Iterator[str]:
    """Rows that ran the very same cell: what tells them apart on paper changed nothing."""
    rows: dict[str, list[str]] = {}
    for row, cell in zip(known.done["row"], known.done["cell"], strict=True):
        if cell and row not in rows.setdefault(cell, []):
            rows[cell].append(row)
    for same in sorted({tuple(labels) for labels in rows.values() if len(labels) > 1}):
        yield f"rows {' and '.join(same)} are the same cell: the switch between them changes nothing"


def _commands(known: Records) -> Iterator[str]:
    name = shlex.quote(markdown.visible(known.name))
    name = f"-- {name}" if known.name.startswith("-") else name
    seeds = ",".join(map(str, known.seeds))
    yield code(f"diga ablate {name} --seeds {seeds} && diga report {name}")


def redacted(uri: str) -> str:
    """A tracking address without the user and password it may hold."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return "(an address that cannot be shown)"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host, query="", fragment="")) if parts.netloc else uri.partition("?")[0]
