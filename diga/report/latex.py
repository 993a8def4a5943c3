r"""Tables as LaTeX that needs `booktabs` and `amssymb` and nothing else.

Every character of a text is escaped here, so no name can become a command; `problems` checks the result
without TeX.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from diga.report.table import Cell, Column, Span, Table, words
from diga.report.texcheck import problems

__all__ = ["escape", "problems", "table"]

HEADING, LINE = 10, 8  # characters of a line of a heading, and of a group's for every column of TeX
TALLEST = 40  # lines of a heading: no page is higher than TeX can measure
LONG = 3000  # characters that one line of TeX can be measured with, surely
FLOATS, AIR = {"table": 225, "table*": 492}, 18  # points: a column and the page of a paper in two, and what is left
SIZES = {r"\footnotesize": 4.05, r"\scriptsize": 3.75, r"\tiny": 3.35}  # points of a letter, mostly a digit
WAYS = [  # of printing a table, best first: float, size, points on either side of a column
    *[("table", r"\footnotesize", gap) for gap in (4, 3)],
    *[("table*", r"\footnotesize", gap) for gap in (4, 3, 2)],
    *[("table*", r"\scriptsize", gap) for gap in (3, 2, 1)],
    *[("table*", r"\tiny", gap) for gap in (2, 1)],
]
TIE = r"$^{\dag}$"
PLUS_MINUS = r"$\,\pm\,$"
ASCII = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': "''",
}
SIGNS = {
    "±": r"$\pm$",
    "→": r"$\to$",
    "←": r"$\leftarrow$",
    "↔": r"$\leftrightarrow$",
    "×": r"$\times$",
    "−": "$-$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "∞": r"$\infty$",
    "·": r"$\cdot$",
    "✓": r"\checkmark{}",
    "†": r"\dag{}",
    "§": r"\S{}",
    "…": r"\ldots{}",
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "‐": "-",
    "‑": "-",
    "ß": r"\ss{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "ł": r"\l{}",
}
MARKS = "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327"
ACCENTS = dict(zip(MARKS, "`'^~=u.\"rHvc", strict=True))
GREEK = {
    "GREEK SMALL LETTER": "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho "
    "sigma tau upsilon phi chi psi omega",
    "GREEK CAPITAL LETTER": "gamma delta theta lambda xi pi sigma upsilon phi psi omega",
}


def escape(text: str) -> str:
    """`text` as it is, in ASCII: TeX commands for what it has, `?` for a letter it has not.

    White space becomes one blank; control and bidirectional characters are dropped.
    """
    plain = "".join(_character(c) for c in unicodedata.normalize("NFC", " ".join(text.split())))
    return re.sub(r"-(?=-)", "-{}", plain) if "--" in text else plain


def _character(c: str) -> str:
    if c.isascii():
        return ASCII.get(c, c) if c.isprintable() else ""
    if c in SIGNS:
        return SIGNS[c]
    if unicodedata.category(c)[0] == "C":
        return ""
    return _accented(c) or _greek(c) or "?"


def _accented(c: str) -> str:
    base, marks = (whole := unicodedata.normalize("NFD", c))[0], whole[1:]
    if len(marks) == 1 and base.isascii() and base.isalpha() and marks in ACCENTS:
        return f"\\{ACCENTS[marks]}{{{base}}}"
    return ""


def _greek(c: str) -> str:
    kind, _, letter = unicodedata.name(c, "").lower().rpartition(" ")
    letter = "lambda" if letter == "lamda" else letter
    if letter not in GREEK.get(kind.upper(), "").split():
        return ""
    return f"$\\{letter.capitalize() if 'capital' in kind else letter}$"


def table(table: Table) -> str:
    """A float with caption, label, grouped header, rows and notes; `table*` when it is wide."""
    parts = [part for part in (table, table.below) if part]
    float_, size, gap = max((_fitting(_letters(part), len(part.columns)) for part in parts), key=WAYS.index)
    return "\n".join(
        [
            r"% needs \usepackage{booktabs,amssymb}",
            f"\\begin{{{float_}}}[t]",
            r"\centering",
            f"\\caption{{{_caption(table)}}}",
            f"\\label{{tab:{re.sub('[^a-z0-9]+', '-', table.label.lower()).strip('-')}}}",
            r"\smallskip",
            size,
            f"\\setlength{{\\tabcolsep}}{{{gap}pt}}",
            "\n\\par\\medskip\n".join(map(_tabular, parts)),
            *(f"\\par\\smallskip {escape(note)}" for note in table.remarks),
            f"\\end{{{float_}}}",
            "",
        ]
    )


def _caption(table: Table) -> str:
    """Title and caption; a very long one in a box of the page's width, since TeX measures it in one line first."""
    tex = f"\\textbf{{{escape(table.title)}.}} {escape(table.caption)}"
    return tex if len(tex) < LONG else f"\\protect\\parbox[t]{{.9\\linewidth}}{{{tex}}}"


def _tabular(table: Table) -> str:
    return "\n".join(
        [
            f"\\begin{{tabular}}{{{''.join(_spec(c) for c in table.columns)}}}",
            r"\toprule",
            *_heading(table),
            *_body(table),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _fitting(letters: int, columns: int) -> tuple[str, str, int]:
    """The first of WAYS that a table fits in, or the last; the air at a page's sides is spent before \\tiny is."""
    air = {("table*", r"\scriptsize", 1): AIR}
    fits = (w for w in WAYS if SIZES[w[1]] * letters + 2 * w[2] * columns <= FLOATS[w[0]] + air.get(w, 0))
    return next(fits, WAYS[-1])


def _letters(table: Table) -> int:
    """About how many letters stand beside each other in the widest lines of all columns and their groups."""
    heads = [_widest(c.header, HEADING) for c in table.columns]
    bodies = [max((_printed(table, i, j) for i in range(len(table.rows))), default=0) for j in range(len(heads))]
    columns = list(map(max, heads, bodies))
    return sum(
        max(sum(columns[span.first : span.first + span.width]), _widest(span.title, _most(table, span)))
        for span in table.spans()
    )


def _widest(text: str, most: int) -> int:
    """Letters of the longest line of a heading."""
    return max(map(len, _broken(text, most)), default=0)


def _most(table: Table, span: Span) -> int:
    """Letters of a line of a group's heading."""
    return LINE * sum(_width(column) for column in table.columns[span.first : span.first + span.width])


def _printed(table: Table, i: int, j: int) -> int:
    """Letters of a cell."""
    if table.about(i, j).kind == "check":
        return 1
    shown = table.printed(i, j)
    parts = [shown.text, shown.interval, f"± {shown.spread}" if shown.spread else "", shown.seeds]
    return len(" ".join(part for part in parts if part)) + len(shown.stars) + shown.tied


def _line(cells: list[str]) -> str:
    return _guarded(" & ".join(cells)) + r" \\"


def _guarded(line: str) -> str:
    """After `\\\\` TeX takes a star or a bracket for an argument of the line break: not behind `{}`."""
    return "{}" + line if line.lstrip().startswith(("[", "*")) else line


def _stacked(text: str, most: int) -> str:
    """A heading of short lines."""
    lines = _broken(text, most)
    tex = r"\\".join(_guarded(escape(line)) for line in lines)
    return f"\\shortstack{{{tex}}}" if len(lines) > 1 else tex


def _broken(text: str, most: int) -> list[str]:
    """A text in at most about TALLEST lines, broken at blanks and hyphens."""
    most = max(most, len(text) // TALLEST)
    lines: list[str] = []
    for word in re.findall(r"[^\s-]*-+|[^\s-]+", text):
        joined = lines[-1] + ("" if lines[-1].endswith("-") else " ") + word if lines else word
        lines = [*lines[:-1], joined] if lines and len(joined) <= most else [*lines, word]
    return lines


def _is_pair(column: Column) -> bool:
    """Whether a number and its uncertainty take two TeX columns."""
    return column.kind in ("score", "delta") and column.spread


def _width(column: Column) -> int:
    return 2 if _is_pair(column) else 1


def _spec(column: Column) -> str:
    if _is_pair(column):
        return f"r@{{{PLUS_MINUS}}}l" if column.kind == "score" else r"r@{\ }l"
    return {"text": "l", "check": "c"}.get(column.kind, "r")


def _heading(table: Table) -> Iterator[str]:
    if table.has_groups:
        titled = [(_most(table, span), span.title) for span in table.spans()]
        yield _line([_over(most // LINE, _stacked(title, most)) for most, title in titled])
        yield " ".join(_cmidrules(table))
    heads = [(c, _stacked(c.header, HEADING)) for c in table.columns]
    yield _line([head if c.kind == "text" else _over(_width(c), head) for c, head in heads])


def _over(width: int, tex: str) -> str:
    return f"\\multicolumn{{{width}}}{{c}}{{{tex}}}"


def _body(table: Table) -> Iterator[str]:
    group = None
    for i, row in enumerate(table.rows):
        if row.group != group:
            yield r"\midrule"
        group = row.group
        yield _line([tex for j, cell in enumerate(row.cells) for tex in _cell(table, i, j, cell)])


def _cmidrules(table: Table) -> Iterator[str]:
    at = 1
    for span in table.spans():
        width = sum(_width(c) for c in table.columns[span.first : span.first + span.width])
        if span.title:
            yield f"\\cmidrule(lr){{{at}-{at + width - 1}}}"
        at += width


def _room(table: Table, j: int) -> str:
    """What takes the place of a dagger in a column that has some, so that its digits stand below each other."""
    return f"\\hphantom{{{TIE}}}" if any(table.printed(i, j).tied for i in range(len(table.rows))) else ""


def _number(text: str) -> str:
    return f"${text}$" if text[0] in "+-" else text


def _cell(table: Table, i: int, j: int, cell: Cell) -> list[str]:
    """The one or two TeX cells of a cell."""
    about, is_pair = table.about(i, j), _is_pair(table.columns[j])
    if about.kind == "check":
        return [r"\checkmark" if cell.text else ""]
    if not cell.is_number:
        text = escape(cell.text) if cell.text else words(cell)
        return [_over(2, text) if is_pair else text]
    shown, is_step = table.printed(i, j), about.kind == "delta"
    around = {1: r"\textbf{%s}", 2: r"\underline{%s}"}.get(shown.place or 0, "%s")
    tie = TIE * shown.tied
    mean = around % _number(shown.text) + ("" if is_pair else tie or _room(table, j))
    interval = f"${shown.interval}$" if shown.interval else ""
    interval += f"$^{{{shown.stars}}}$" if shown.stars else ""
    behind = " ".join(part for part in (interval, shown.seeds) if part)
    if not is_pair or (is_step and table.columns[j].kind != "delta"):
        text = f"{mean} {behind}".strip()
        return [_over(2, text) if is_pair else text]
    if is_step:
        return [mean, behind]
    after = f"{shown.spread}{tie} {behind}".strip()
    if shown.spread:
        return [mean, after]
    # what has no spread, as one seed: the mean keeps its place and the sign is left out
    return [f"\\multicolumn{{1}}{{r@{{\\hphantom{{{PLUS_MINUS}}}}}}}{{{mean}}}", after]
