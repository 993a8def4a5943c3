"""Processes of a pool: what a failing block has not begun is not begun, and nothing is under way behind it."""

from __future__ import annotations

import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from diga.processes import pool


def leave(folder: Path, number: int) -> int:
    """A file, after a moment."""
    time.sleep(0.05)
    (folder / str(number)).touch()
    return number


def failing(folder: Path, sent: list[Future[int]]) -> None:
    """A block that fails when the first of forty is done."""
    with pool(2) as crew:
        sent += [crew.submit(leave, folder, i) for i in range(40)]
        sent[0].result()
        raise ValueError("the block's")


def test_a_block_that_fails_begins_nothing_more_and_leaves_nothing_under_way(tmp_path):
    sent: list[Future[int]] = []
    with pytest.raises(ValueError, match="the block's"):
        failing(tmp_path, sent)
    left = len(list(tmp_path.iterdir()))
    assert 1 <= left < 20
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) == left
    assert sum(one.cancelled() for one in sent) == 40 - left


@pytest.mark.parametrize("copies", [False, True])
def test_a_block_that_ends_has_waited_for_all(tmp_path, copies):
    with pool(2, copies) as crew:
        sent = [crew.submit(leave, tmp_path, i) for i in range(6)]
    assert [one.result() for one in sent] == list(range(6))
    assert len(list(tmp_path.iterdir())) == 6


def had() -> str:
    return HAD


HAD = "at first"


def test_copies_have_what_this_process_had_when_they_were_made(monkeypatch):
    monkeypatch.setitem(globals(), "HAD", "then")
    with pool(1, copies=True) as crew:
        monkeypatch.setitem(globals(), "HAD", "later")
        assert crew.submit(had).result() == "then"
    with pool(1) as crew:
        assert crew.submit(had).result() == "at first"
