"""Bring the README's table and pictures up to date with the last report of the demo: `make docs`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from diga.data.streets import sheet
from diga.errors import DigaError, StorageError
from diga.home import data_root, home

DOCS = Path(__file__).parent
BEGIN, END = "<!-- demo:begin -->", "<!-- demo:end -->"
FIGURES = ("samples.png", "ladder.png")
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars")
OFFLINE = ("--disable-background-networking", "--disable-component-update", "--disable-sync")


def refresh() -> None:
    """Copy table and figures of the study `demo`, and the benchmark's contact sheet."""
    report = home() / "reports" / "demo"
    if not (report / "tables" / "table3.md").exists():
        raise StorageError(report, "no report there", "`make demo` writes it")
    for name in FIGURES:
        shutil.copyfile(report / "figures" / name, DOCS / f"demo_{name}")
    screenshot(report / "index.html", DOCS / "demo_page.png")
    sheet(data_root() / "streets", DOCS / "streets_sheet.png")
    table = (report / "tables" / "table3.md").read_text("utf8").strip()
    pictures = "![Validation images, truth, and what each row makes of them](docs/demo_samples.png)"
    if (DOCS / "demo_page.png").exists():
        pictures += "\n\n![The report's page in a browser](docs/demo_page.png)"
    readme = DOCS.parent / "README.md"
    head, rest = readme.read_text("utf8").split(BEGIN)
    _, tail = rest.split(END)
    readme.write_text(f"{head}{BEGIN}\n{table}\n\n{pictures}\n{END}{tail}", "utf8")


def screenshot(page: Path, to: Path) -> None:
    """The top of a page as a browser shows it; where there is none that is said, and the picture of before stays."""
    program = shutil.which("chromium")
    if program is None:
        print(f"no chromium here: {to.name} was not made anew", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as profile:
        own = (f"--user-data-dir={profile}", "--window-size=1280,1400", f"--screenshot={to.resolve()}")
        command = [program, *QUIET, *OFFLINE, *own, page.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


if __name__ == "__main__":
    try:
        refresh()
    except DigaError as failure:
        sys.exit(f"error: {failure}")
