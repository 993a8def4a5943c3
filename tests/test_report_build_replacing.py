"""A report is replaced in one step: whoever looks, at whatever moment, finds a whole one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from diga.errors import ConfigError
from diga.report.build import is_report, write
from diga.report.page import NAME
from diga.report.replacing import VERSIONS, replacing
from tests import make_records as make


def put(final: Path, text: str) -> None:
    with replacing(final, is_report) as folder:
        for name in (NAME, "other.md"):
            (folder / name).write_text(text)


def versions(final: Path) -> list[Path]:
    return [p for p in (final.parent / VERSIONS / final.name).iterdir() if p.is_dir()]


def test_a_reader_never_finds_nothing(tmp_path: Path) -> None:
    """Two files, opened by name as fast as can be while forty reports replace each other: always there.

    A look meets one replacement and never two: a process may be put to sleep within one for longer than two take.
    """
    final, over, looks = tmp_path / "demo", threading.Event(), 0
    put(final, "0")

    def writes() -> None:
        try:
            for i in range(1, 41):
                put(final, str(i))
                before = looks
                while looks == before and not over.is_set():
                    time.sleep(1e-4)
        finally:
            over.set()

    writer = threading.Thread(target=writes)
    writer.start()
    try:
        while not over.is_set():
            assert int((final / NAME).read_text()) <= int((final / "other.md").read_text())
            looks += 1
    finally:
        over.set()  # nobody waits for a reader that has failed
        writer.join()
    assert (final / NAME).read_text() == "40"


def test_the_one_before_stays_for_who_is_in_it(tmp_path: Path) -> None:
    final = tmp_path / "demo"
    put(final, "1")
    inside = final.resolve()
    put(final, "2")
    assert (inside / NAME).read_text() == "1"
    assert (final / NAME).read_text() == "2"
    put(final, "3")
    assert not inside.exists()
    assert len(versions(final)) == 2


def test_many_writers_leave_one_whole_report(tmp_path: Path) -> None:
    final = tmp_path / "demo"
    writers = [threading.Thread(target=put, args=(final, str(i))) for i in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (final / NAME).read_text() == (final / "other.md").read_text()
    assert len(versions(final)) == 2
    assert not [p for p in (tmp_path / VERSIONS / "demo").iterdir() if p.name.startswith((".new", ".link"))]


def test_a_folder_of_an_older_layout_is_taken_in(tmp_path: Path) -> None:
    final = tmp_path / "demo"
    final.mkdir()
    (final / NAME).write_text("old")
    put(final, "new")
    assert final.is_symlink()
    assert sorted((p / NAME).read_text() for p in versions(final)) == ["new", "old"]


def test_a_reports_folder_can_be_moved(tmp_path: Path) -> None:
    put(tmp_path / "a" / "demo", "1")
    (tmp_path / "a").rename(tmp_path / "b")
    assert (tmp_path / "b" / "demo" / NAME).read_text() == "1"
    put(tmp_path / "b" / "demo", "2")
    assert (tmp_path / "b" / "demo" / NAME).read_text() == "2"


def test_an_interrupted_report_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> Iterator[None]:
        with replacing(tmp_path / "demo", is_report) as folder:
            (folder / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(interrupted() or [])
    assert list(tmp_path.iterdir()) == []


def test_a_new_report_replaces_all_of_the_old(tmp_path: Path) -> None:
    folder = write(make.in_memory(make.ladder()), tmp_path)
    (folder / "stale.txt").write_text("from an earlier version")
    write(make.in_memory(make.ladder()), tmp_path)
    assert not (folder / "stale.txt").exists()


def test_what_is_no_report_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="is no report"):
        write(make.in_memory(make.ladder()), tmp_path)
    assert (tmp_path / "demo" / "thesis.tex").read_text() == "years of work"
    (tmp_path / "other").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="is no report"):
        put(tmp_path / "other", "1")
