"""The page that leads to all reports of a folder: a link each, how far its study is, and where MLflow shows it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from diga.report import index
from diga.report.index import ICON, POLICY, said
from diga.report.style import SHEET


class Shelved(NamedTuple):
    """A report: its folder's name, its study, how far that was, and when it was written (seconds)."""

    slug: str
    study: str
    so_far: str
    written: float


def shelved(folder: Path) -> Iterator[Shelved]:
    """Reports in `folder`, the latest first."""
    found = [_about(page.parent, page) for page in folder.glob(f"*/{index.NAME}")]
    yield from sorted(found, key=lambda report: (-report.written, report.slug))


def _about(folder: Path, page: Path) -> Shelved:
    try:
        lock = json.loads((folder / "runs.lock.json").read_text("utf8"))
        study, so_far = str(lock["study"]), str(lock.get("so_far", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # of an older layout
        study, so_far = folder.name, ""
    return Shelved(folder.name, study, so_far or "how far it was is not recorded", page.stat().st_mtime)


def text(folder: Path, runs: Mapping[str, str]) -> str:
    """The page; `runs` says where MLflow shows a study."""
    found = list(shelved(folder))
    lines = "\n".join(_line(report, runs.get(report.study, "")) for report in found)
    body = (
        f'<ul class="shelf">{lines}</ul>'
        if found
        else "<p>No report yet: <code>diga report STUDY</code> writes one.</p>"
    )
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<title>Reports</title>\n<link rel="icon" href="{ICON}">\n<style>{SHEET}</style>\n</head>\n<body>',
            f'<header><p class="kicker">{said(str(folder))}</p><h1>Reports</h1></header>\n<main>{body}</main>',
            "</body>\n</html>\n",
        ]
    )


def _line(report: Shelved, runs: str) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(report.written))
    beside = f' · <a href="{said(runs)}">runs in MLflow</a>' if runs else ""
    return (
        f'<li><a href="{said(report.slug)}/{index.NAME}"><b>{said(report.study)}</b></a>'
        f"<p>{said(report.so_far)} · written {when}{beside}</p></li>"
    )
