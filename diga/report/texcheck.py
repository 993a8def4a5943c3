"""What is wrong with a LaTeX table, told without TeX: structure, spans, raw characters, foreign commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

TOKEN = re.compile(r"\\(?:begin|end)\{[A-Za-z]+\*?\}|\\[A-Za-z]+|\\.|[{}&$#%_^]|[^\\{}&$#%_^]+", re.DOTALL)
CMIDRULE = re.compile(r"\\cmidrule\(lr\)\{(\d+)-(\d+)\}")
RULE = re.compile(r"\\(?:toprule|midrule|bottomrule)|" + CMIDRULE.pattern)
ROW = re.compile(r"\\\\|[{}]|\\[{}]|&|\\&|[^\\{}&]+|\\", re.DOTALL)
SPAN = re.compile(r"\\multicolumn\{(\d+)\}")
KNOWN = frozenset(
    re.findall(
        r"\w+",
        """
        centering caption label parbox protect linewidth
        footnotesize scriptsize tiny shortstack setlength tabcolsep toprule midrule
        bottomrule cmidrule par
        smallskip medskip multicolumn hphantom rlap textbf underline checkmark pm to leftarrow
        leftrightarrow times leq geq approx
        infty cdot dag S ldots ss o O ae AE oe l u r H v c textasciitilde textasciicircum textbackslash
        textless textgreater textbar textasciigrave
        alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon
        phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega
        """,
    )
)
SYMBOLS = frozenset("&%$#_{}\\, `'^~=.\"")


def problems(tex: str) -> list[str]:
    """Everything found wrong, in words; an empty list for a table that compiles.

    Checked: ASCII; braces and environments nest; `$` closes within its group; `#`, `%`, `_`, `^`, `&`
    stand only where they mean something; only known commands; spans of each row add up to the columns;
    `\\cmidrule` stays inside; no row starts with `[` or `*`.
    """
    body = "\n".join(line for line in tex.split("\n") if not line.startswith("%"))
    foreign = sorted({c for c in body if not c.isascii()})
    found = [f"not ASCII: {c!r}" for c in foreign]
    found += [f"a line break takes {after.lstrip()[0]} for its argument" for after in _breaks(body)]
    return found + list(_nesting(body)) + [p for t in _tabulars(body) for p in _tabular(*t)]


def _breaks(body: str) -> Iterator[str]:
    """Texts behind a line break that TeX would read as its argument."""
    for token, after in pairwise(TOKEN.findall(body)):
        if token == r"\\" and after.lstrip()[:1] in ("[", "*"):
            yield after


def _nesting(body: str) -> Iterator[str]:
    stack: list[str] = []
    for token in TOKEN.findall(body):
        top = stack[-1] if stack else ""
        if token == "$":
            stack.pop() if top == "$" else stack.append("$")
        elif token.startswith(r"\begin{"):
            stack.append(token[7:-1])
        elif token == "{":
            stack.append("{")
        elif token == "}" or token.startswith(r"\end{"):
            wanted = "{" if token == "}" else token[5:-1]
            if top != wanted:
                yield f"{token} closes {top or 'nothing'}"
                return
            stack.pop()
        else:
            yield from _lone(token, stack)
    yield from (f"{open_} is never closed" for open_ in stack)


def _lone(token: str, stack: list[str]) -> Iterator[str]:
    """A token that neither opens nor closes, where it may not stand."""
    if token in ("#", "%"):
        yield f"raw {token}"
    if token in ("_", "^") and "$" not in stack:
        yield f"raw {token} outside mathematics"
    if token == "&" and (not stack or stack[-1] != "tabular"):
        yield f"raw & within {stack[-1] if stack else 'no table'}"
    if token.startswith("\\"):
        name = token[1:]
        if not (name in KNOWN if name.isalpha() else name in SYMBOLS):
            yield f"unknown command {token}"


def _tabulars(body: str) -> Iterator[tuple[int, str]]:
    """Number of columns and body of every tabular."""
    for piece in body.split(r"\begin{tabular}")[1:]:
        end = _closing(piece)
        spec = piece[1:end]
        while "@{" in spec:
            at = spec.index("@{") + 1
            spec = spec[: at - 1] + spec[at + _closing(spec[at:]) + 1 :]
        yield sum(c in "lcr" for c in spec), piece[end + 1 :].partition(r"\end{tabular}")[0]


def _closing(text: str) -> int:
    """Position of the brace that closes the first one; the last position where none does."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c == "{") - (c == "}")
        if depth == 0:
            return i
    return len(text) - 1


def _tabular(columns: int, body: str) -> Iterator[str]:
    for first, last in CMIDRULE.findall(body):
        if not 1 <= int(first) <= int(last) <= columns:
            yield f"cmidrule {first}-{last} in a table of {columns} columns"
    for cells in _rows(body):
        start = RULE.sub("", cells[0]).strip()
        if len(cells) == 1 and not start:
            continue  # what follows the last line break
        if start[:1] in ("[", "*"):
            yield f"a row starts with {start[0]}: {start[:40]}"
        spans = [int(found[1]) if (found := SPAN.search(cell)) else 1 for cell in cells]
        if sum(spans) != columns:
            yield f"a row of {sum(spans)} in a table of {columns} columns: {start[:40]}"


def _rows(body: str) -> list[list[str]]:
    """Cells of every row: split at line breaks and ampersands that no brace encloses."""
    rows, depth = [[""]], 0
    for token in ROW.findall(body):
        depth += (token == "{") - (token == "}")
        if token == r"\\" and depth == 0:
            rows.append([""])
        elif token == "&" and depth == 0:
            rows[-1].append("")
        else:
            rows[-1][-1] += token
    return rows
