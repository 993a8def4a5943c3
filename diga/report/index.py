"""A report in one file, index.html, that needs nothing else: neither network nor script.

Pictures are inside it, colours follow the reader's light or dark, and it holds on a telephone; its own policy forbids
it to load anything.  Tables come from `diga.report.html`, and every text is escaped here or there.
"""

from __future__ import annotations

import base64
import html as characters
from collections.abc import Iterable, Iterator
from pathlib import Path

from diga.report import facts, html, page, search, writers
from diga.report.facts import Claim, Told
from diga.report.figures import Figure
from diga.report.markdown import visible
from diga.report.style import SHEET
from diga.report.table import Table, number

NAME = "index.html"
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
BADGES = {"holds": "▲", "reversed": "▼", "tie": "=", "open": "?"}
ICON = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E%3Crect width='8' height='8' rx='2' fill='%230072b2'/%3E%3C/svg%3E"  # noqa: E501


def text(told: Told, folder: Path) -> str:
    """The whole page; pictures are read from `folder`/figures."""
    title = said(str(told.known.study.get("title") or told.known.name))
    sections = list(_sections(told, folder))
    links = "".join(f'<a href="#{key}">{name}</a>' for key, name, _ in sections)
    body = "\n".join(f'<section id="{key}"><h2>{name}</h2>\n{inside}\n</section>' for key, name, inside in sections)
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f'<title>{title}</title>\n<link rel="icon" href="{ICON}">\n<style>{SHEET}</style>\n</head>\n<body>',
            f"<header>{_head(told, title)}</header>",
            f'<nav aria-label="Sections">{links}</nav>',
            f"<main>\n{body}\n</main>",
            "</body>\n</html>\n",
        ]
    )


def said(text: str) -> str:
    """A text as it is, whatever it holds."""
    return characters.escape(visible(text))


def _sections(told: Told, folder: Path) -> Iterator[tuple[str, str, str]]:
    """Key, heading and content of every section there is."""
    if warned := facts.warnings(told.known):
        yield "warnings", "Warnings", f'<ul class="warn">{_items(warned)}</ul>'
    yield "verdicts", "What the numbers support", _verdicts(told)
    yield "tables", "Tables", "\n".join(_table(name, table) for name, table in told.tables.items())
    if told.drawn:
        yield "figures", "Figures", "\n".join(_figure(figure, folder) for figure in told.drawn)
    yield "missing", "What is missing", _missing(told)
    yield "cost", "Cost", _cost(told)
    yield "origin", "Where this comes from", _origin(told)


def _items(lines: Iterable[str]) -> str:
    return "".join(f"<li>{said(line)}</li>" for line in lines)


# --- head --------------------------------------------------------------------------------


def _head(told: Told, title: str) -> str:
    known, count = told.known, facts.progress(told.known)
    total = sum(count.values())
    chips = "".join(f'<li class="{said(state)}"><b>{n}</b> {said(state)}</li>' for state, n in count.items())
    bar = "".join(f'<span class="{said(s)}" style="flex-grow:{n}"></span>' for s, n in count.items() if n)
    size = f"{len(known.rows)} rows × {len(known.seeds)} seeds = {total} cells"
    if known.sweep:
        confirmed = f"; confirmation: {size}" if total else ""
        size = f"{said(search.counts(search.of(known)))}{confirmed}"
    where = said(f"{known.study['metric']}")
    return (
        f'<p class="kicker">{"sweep" if known.sweep else "study"} <b>{said(known.name)}</b></p>\n<h1>{title}</h1>\n'
        f'<p class="lead">{size}, judged by <code>{where}</code></p>\n'
        f"{_first(told)}"
        f'<ul class="chips">{chips}</ul>\n<div class="bar" aria-hidden="true">{bar}</div>'
    )


def _first(told: Told) -> str:
    """The row with the highest mean."""
    found = facts.best(told.known)
    if found is None:
        return ""
    row, cell = found
    spread = f" ± {number(cell.sd)}" if cell.has_spread else ""
    return f'<p class="lead">Highest mean: <b>{said(row)}</b>, {number(cell.mean)}{spread} (n = {cell.n})</p>\n'


# --- sections ----------------------------------------------------------------------------


def _verdicts(told: Told) -> str:
    claims = [facts.claim(line) for line in told.verdicts]
    if not claims:
        return "<p>No comparison is declared.</p>"
    lines = "\n".join(map(_claim, claims))
    return f'<ul class="claims">{lines}</ul>\n<p class="note">{said(page.meaning(told))}</p>'


def _claim(claim: Claim) -> str:
    if not claim.verdict:
        return f'<li class="remark"><p>{said(claim.measured)}</p></li>'
    badge = f'<span class="badge">{BADGES[claim.verdict]} {claim.word}</span>'
    return f'<li class="{claim.verdict}">{badge}<p><b>{said(claim.what)}</b> {said(claim.measured)}</p></li>'


def _table(name: str, table: Table) -> str:
    files = " ".join(f'<a href="tables/{name}.{ending}">{ending}</a>' for ending in writers.FORMATS)
    return f'<div class="entry" id="table-{name}">{html.table(table)}<p class="files">{files}</p></div>'


def _figure(figure: Figure, folder: Path) -> str:
    data = base64.b64encode((folder / "figures" / f"{figure.name}.png").read_bytes()).decode()
    files = " ".join(f'<a href="figures/{figure.name}.{ending}">{ending}</a>' for ending in ("png", "pdf"))
    return (
        f'<figure class="{figure.kind}" id="figure-{figure.name}">\n'
        f'<div class="scroll" tabindex="0"><img alt="{said(figure.title)}" src="data:image/png;base64,{data}"></div>\n'
        f"<figcaption><h3>{said(figure.title)}</h3><p>{said(figure.caption)}</p>"
        f'<p class="files">{files}</p></figcaption>\n</figure>'
    )


def _missing(told: Told) -> str:
    cells = facts.missing(told.known)
    found = f"<ul>{_items(cells)}</ul>" if cells else "<p>No cell: every one is done.</p>"
    if told.lacking:
        lines = (f"{title}: {why}" for title, why in told.lacking.items())
        found += f"\n<p>Figures that could not be drawn:</p><ul>{_items(lines)}</ul>"
    return found


def _cost(told: Told) -> str:
    spent = facts.cost(told.known)
    if not spent:
        return "<p>Not recorded.</p>"
    longest = max(c.seconds for c in spent) or 1.0
    lines = "".join(
        f'<tr><th scope="row">{said(c.row)}</th><td>{facts.duration(c.seconds)}</td><td>{c.updates:,.0f}</td>'
        f'<td class="gauge"><span style="width:{100 * c.seconds / longest:.0f}%"></span></td></tr>'
        for c in spent
    )
    whole = facts.duration(sum(c.seconds * c.n for c in spent))
    return (
        '<div class="scroll" tabindex="0"><table class="plain"><thead><tr><th>Row</th><th>a cell</th><th>updates</th>'
        f"<th></th></tr></thead><tbody>{lines}</tbody></table></div>\n"
        '<p class="note">Time and updates of all stages of a cell, those it shares with other rows included; the cells '
        f"that are done would have taken {whole} one by one, each from its beginning.</p>"
    )


def _origin(told: Told) -> str:
    lines = "".join(f"<dt>{said(k)}</dt><dd>{said(v)}</dd>" for k, v in facts.provenance(told.known).items())
    again = "".join(
        f'<p>{said(what)}</p><pre tabindex="0"><code>{said(command)}</code></pre>'
        for what, command in facts.commands(told.known).items()
    )
    return f"<dl>{lines}</dl>\n{again}"
