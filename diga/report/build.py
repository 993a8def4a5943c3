"""A study's report as a folder: tables, figures, claims, pages, and how to get it all again.

Written beside its place and put there in one step when it is whole (`diga.report.replacing`), so that a reader never
meets half a report or none, and an interrupted build leaves the one before.  `write` takes records wherever they come
from, a store or a report that has kept them; tables are written by `diga.report.writers`.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from diga.errors import ConfigError, StorageError, expected_one_of
from diga.files import slug
from diga.report import evidence, facts, figures, index, page, snapshot, unchanged, writers
from diga.report.cells import shown_domain
from diga.report.facts import Told
from diga.report.figures.canvas import done_rows, subject
from diga.report.records import Records, records
from diga.report.replacing import replacing
from diga.report.studio import Studio

MOST_ROWS = 6  # predictions side by side in one figure
DEFAULT_TABLES = ("table3",)


def build(study: str, tracking_uri: str, out: Path) -> Path:
    """Make the report of `study` and return its folder, `<out>/<slug of the study>`.

    Raises ConfigError for an unknown study or table, or a table that refuses what it is given, and
    StorageError when the disk does.
    """
    return write(records(tracking_uri, study), Path(out))


def write(known: Records, out: Path, studio: Studio | None = None) -> Path:
    """`build` for records already read; a `studio` draws meanwhile."""
    modules = {name: module_of(name) for name in known.study.get("tables") or DEFAULT_TABLES}
    final = place(known.name, out)
    try:
        with replacing(final, is_report) as folder:
            runs = snapshot.keep_runs(known, folder)
            drawn = _draw(known, folder, final / figures.FOLDER, studio)
            tables = {name: module.table(known) for name, module in modules.items()}
            verdicts = [line for m in modules.values() if hasattr(m, "verdicts") for line in m.verdicts(known)]
            writers.write(tables, folder / "tables", known.name)
            _write_pages(Told(known, tables, *drawn(), verdicts), folder)
            snapshot.keep(known, runs, folder, facts.so_far(known))
    except OSError as failure:
        raise StorageError(out, f"report not written: {failure.strerror or failure}") from failure
    return final


def place(study: str, out: Path) -> Path:
    """The folder of a study's report."""
    return out / slug(study)


def is_report(folder: Path) -> bool:
    """Whether a folder is one that may be replaced."""
    return (folder / page.NAME).is_file()


def _write_pages(told: Told, folder: Path) -> None:
    for name, text in (
        ("claims.md", page.claims(told)),
        (page.NAME, page.text(told)),
        (index.NAME, index.text(told, folder)),
    ):
        (folder / name).write_text(text, "utf8", "replace", "\n")


def _draw(known: Records, folder: Path, before: Path, studio: Studio | None) -> Callable[[], unchanged.Drawn]:
    """Begin with the figures that the records allow, from evidence that the report keeps; what is returned ends it.

    Figures of `before` stay where they would be the same.
    """
    best, _ = subject(known) or ("", "")
    rows = spread(done_rows(known), MOST_ROWS, best)
    evidence.gather(known, shown_domain(known), rows, folder / evidence.NAME, best)
    own, source = folder / figures.FOLDER, unchanged.source(folder)
    if same := unchanged.taken(before, own, source):
        return lambda: same
    work = replace(known, runs=None), evidence.load(folder / evidence.NAME), own
    if studio:
        studio.draw(*work)

    def end() -> unchanged.Drawn:
        drawn = studio.drawn() if studio else figures.draw(*work)
        unchanged.note(own, source, drawn)
        return drawn

    return end


def spread(rows: Sequence[str], most: int, best: str = "") -> list[str]:
    """At most `most` (three or more) of the rows in their order, evenly: the first, the last and `best` among them."""
    if len(rows) <= most:
        return list(rows)
    places = [round(i * (len(rows) - 1) / (most - 1)) for i in range(most)]
    if best in rows and (own := rows.index(best)) not in places:
        places[min(range(1, most - 1), key=lambda i: abs(places[i] - own))] = own
    return [rows[place] for place in places]


# --- which tables ------------------------------------------------------------------------


def names_of_tables() -> list[str]:
    """Tables that can be asked for: the modules of `reports`."""
    spec = importlib.util.find_spec("reports")
    folders = (spec.submodule_search_locations or []) if spec else []
    return sorted(p.stem for folder in folders for p in Path(folder).glob("[!_]*.py"))


def module_of(name: str) -> ModuleType:
    """The module of `reports` with this name; nothing else is ever imported."""
    known = names_of_tables()
    if name not in known:
        raise ConfigError("study.tables", f"no table {name!r}", expected_one_of(str(name), known))
    return importlib.import_module(f"reports.{name}")
