"""What need not be made again: figures, where all that they are drawn from is what the last report's were drawn from.

`figures/drawn.json` in a report says what its figures were made of: a digest of records, evidence, code and packages.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from diga.data import labels
from diga.report import snapshot
from diga.report.bootstrap import KEPT
from diga.report.figures import Figure

NAME = "drawn.json"
PACKAGES = ("diga.report", "reports")
Drawn = tuple[list[Figure], dict[str, str]]  # and of those that are not there, by title, what is missing


def code() -> str:
    """A digest of the text of all that makes a report."""
    found = hashlib.sha256()
    for path in sorted(_modules()):
        found.update(path.read_bytes())
    return found.hexdigest()


def _modules() -> Iterator[Path]:
    for name in PACKAGES:
        spec = find_spec(name)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            yield from Path(folder).rglob("*.py")
    yield Path(labels.__file__)  # colours and names of classes


def source(folder: Path) -> str:
    """A digest of all that the figures of a report are drawn from: the files in its `folder`."""
    evidence = (p for p in (folder / snapshot.EVIDENCE).rglob("*") if p.is_file() and not p.name.startswith(KEPT))
    tables = (folder / name for name in (snapshot.TABLE, snapshot.TRIALS))
    files = {p.relative_to(folder).as_posix(): snapshot.digest(p) for p in (*tables, *evidence)}
    about = {"code": code(), "made_with": snapshot.made_with(), "files": files}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def note(folder: Path, source: str, drawn: Drawn) -> None:
    """Leave with the figures in `folder` what they were drawn from."""
    figures, lacking = drawn
    files = {path.name: snapshot.digest(path) for path in sorted(folder.iterdir())}
    about = {"source": source, "figures": [f._asdict() for f in figures], "lacking": lacking, "files": files}
    (folder / NAME).write_text(json.dumps(about, indent=1) + "\n", "utf8", newline="\n")


def taken(before: Path, folder: Path, source: str) -> Drawn | None:
    """The figures of `before`, copied to `folder`; None where they are of something else, or not what was noted."""
    try:
        about = json.loads((before / NAME).read_text("utf8"))
        files: Mapping[str, str] = about["files"]
        if about["source"] != source or any(snapshot.digest(before / name) != d for name, d in files.items()):
            return None
        figures = [Figure(**figure) for figure in about["figures"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*files, NAME):
        shutil.copyfile(before / name, folder / name)
    return figures, dict(about["lacking"])
