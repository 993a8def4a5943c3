"""The pages of a report as text: report.md, and claims.md with the sentences that the numbers support."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from diga.report import facts, markdown, search, sentences, writers
from diga.report.facts import Told
from diga.report.markdown import code, escape
from diga.report.records import Records

NAME = "report.md"
MEANING = (
    "{}: the 95 % interval of the difference, paired by seed, is above zero. "
    "{}: below. tie: zero is in it. open: fewer than two pairs. "
    "Intervals are one by one, not corrected for how many there are."
)
GROUPS = {  # verdict, and whether it is one after Holm
    ("holds", True): "Supported, after Holm's correction, too",
    ("holds", False): "Supported by its own interval alone",
    ("reversed", True): "Reversed, after Holm's correction, too",
    ("reversed", False): "Reversed by its own interval alone",
    ("tie", False): "Not supported: zero is in the interval",
    ("open", False): "Not supported yet: no interval",
    ("", False): "Remarks",
}


def text(told: Told) -> str:
    """report.md, whose links lead to the files beside it."""
    known = told.known
    parts = [f"# {escape(str(known.study.get('title') or known.name))}", state(known)]
    parts += ["## Warnings", bullets(warned)] if (warned := facts.warnings(known)) else []
    for name, table in told.tables.items():
        files = " · ".join(f"[{ending}](tables/{name}.{ending})" for ending in writers.FORMATS if ending != "md")
        parts += [f"## {escape(table.title)}", markdown.table(table).strip(), files]
    parts += ["## Verdicts", bullets(told.verdicts) or "No comparison is declared.", *_figures(told)]
    parts += ["## Missing", bullets(facts.missing(known)) or "Nothing: every cell is done."]
    parts += ["## Cost", *_cost(known), "## Where this comes from"]
    parts += [bullets(f"{what}: {value}" for what, value in facts.provenance(known).items()), "## Again"]
    parts += [line for what, command in facts.commands(known).items() for line in (what, code(command))]
    return "\n\n".join(parts) + "\n"


def bullets(lines: Iterable[str]) -> str:
    """A list of sentences."""
    return "\n".join(f"- {escape(line)}" for line in lines)


def state(known: Records) -> str:
    """How far a study is."""
    count = facts.progress(known)
    if known.sweep:
        return f"Sweep {escape(known.name)}: {escape(search.counts(search.of(known)))}. {_confirmed(count)}"
    size = f"{sum(count.values())} cells ({len(known.rows)} rows, {len(known.seeds)} seeds)"
    return f"Study {escape(known.name)}: {size}, {escape(', '.join(f'{n} {s}' for s, n in count.items()))}."


def _confirmed(count: Mapping[str, int]) -> str:
    total = sum(count.values())
    said = ", ".join(f"{n} {s}" for s, n in count.items())
    return f"Confirmation: {total} cells, {said}." if total else "No confirmation was asked for."


def _figures(told: Told) -> Iterator[str]:
    yield "## Figures"
    for figure in told.drawn:
        files = f"[png](figures/{figure.name}.png) · [pdf](figures/{figure.name}.pdf)"
        yield f"![{escape(figure.title)}](figures/{figure.name}.png)"
        yield f"**{escape(figure.title)}.** {escape(figure.caption)} {files}"
    if told.lacking:
        yield "Not drawn:"
        yield bullets(f"{title}: {why}" for title, why in told.lacking.items())


def _cost(known: Records) -> Iterator[str]:
    spent = facts.cost(known)
    if not spent:
        yield "Not recorded."
        return
    yield "A cell, were it alone: time and updates of all its stages, those it shares with other rows included."
    lines = [f"{c.row}: {facts.duration(c.seconds)}, {c.updates:,.0f} updates" for c in spent]
    yield bullets(lines)


# --- claims ------------------------------------------------------------------------------


def claims(told: Told) -> str:
    """claims.md: what the numbers support, what they do not, how many more seeds it would take, what words mean."""
    parts = [f"# Claims of {escape(told.known.name)}", _count(told), *_orders(told)]
    found = [(_group(line), line) for line in told.verdicts]
    for group, heading in GROUPS.items():
        lines = [line for kind, line in found if kind == group]
        parts += [f"## {heading}", bullets(lines)] if lines else []
    if not found:
        parts.append("None yet.")
    return "\n\n".join([*parts, meaning(told)]) + "\n"


def meaning(told: Told) -> str:
    """What the words of verdicts mean: those of quirks, which nobody says are better, where quirks are compared."""
    words = {facts.claim(line).word for line in told.verdicts}
    has_quirks = "quirks" in told.tables or words & set(facts.KINDS)
    changed = {verdict: word for word, verdict in facts.KINDS.items()} if has_quirks else {}
    both = bool(changed) and bool(words & set(changed))
    said = [f"{v}, or {changed[v]}" if both else changed.get(v, v) for v in ("holds", "reversed")]
    return MEANING.format(*said)


def _group(line: str) -> tuple[str, bool]:
    """Where a verdict stands: a tie is none for any correction."""
    found = facts.claim(line)
    return found.verdict, found.verdict in ("holds", "reversed") and sentences.is_corrected(found.measured)


def _orders(told: Told) -> Iterator[str]:
    """Which orders of rows that a paper has published hold here."""
    found = {facts.claim(line).what: order for line in told.verdicts if (order := facts.order(line))}
    if not found:
        return
    yield "## Orders of the paper"
    for kind, word in (("holds", "hold"), ("tie", "tie"), ("reversed", "reversed"), ("open", "open")):
        same = [what for what, order in found.items() if order == kind]
        if same:
            yield f"{len(same)} of {len(found)} {word}: {escape('; '.join(same))}."


def _count(told: Told) -> str:
    kinds = [facts.claim(line).verdict for line in told.verdicts]
    said = [f"{kinds.count(v)} {word}" for v, word in (("holds", "hold"), ("tie", "tie"), ("reversed", "reversed"))]
    said += [f"{kinds.count('open')} open"] if "open" in kinds else []
    compared = sum(bool(kind) for kind in kinds)
    if not compared:
        return "No two rows have been compared yet."
    return f"Of {compared} comparisons: {', '.join(said)}. Over seeds {', '.join(map(str, told.known.seeds))}."
