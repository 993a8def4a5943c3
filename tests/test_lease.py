"""Leases: one owner at a time, and a dead one is followed at once or soon."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from diga import lease
from diga.lease import Lease, look

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same lease, eight times as hasty."""
    monkeypatch.setattr(lease, "BEAT", 0.1)
    monkeypatch.setattr(lease, "PATIENCE", 1.0)
    monkeypatch.setattr(lease, "POLL", 0.02)


@pytest.fixture
def started() -> Iterator[Callable[..., multiprocessing.process.BaseProcess]]:
    """Starts a forked process; what is left of them is killed in the end."""
    all_of_them = []

    def start(work: Callable[..., None], *args: object) -> multiprocessing.process.BaseProcess:
        process = FORK.Process(target=work, args=args)
        process.start()
        all_of_them.append(process)
        return process

    yield start
    for process in all_of_them:
        process.kill()
        process.join()


def until(true: Callable[[], object], seconds: float = 600) -> float:
    """Wait until something is true; how long that took."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds, "it did not become true"
        time.sleep(0.005)
    return time.monotonic() - begun


def hold(base: Path) -> None:
    """Take a lease and keep it."""
    claim = Lease(base)
    until(claim.try_take)
    with claim.beating():
        time.sleep(60)


def other_host(base: Path, number: int = 1) -> Path:
    """A claim by a process of another host, as it would stand in the folder."""
    base.parent.mkdir(parents=True, exist_ok=True)
    path = base.with_name(f"{base.name}.{number}")
    path.write_text(json.dumps({"host": "elsewhere", "where": "elsewhere", "pid": os.getpid(), "id": "x"}))
    return path


def test_one_of_two_takes_it(tmp_path: Path) -> None:
    base = tmp_path / "deep" / "ab.lease"
    one, two = Lease(base), Lease(base)
    assert one.try_take()
    assert not two.try_take()
    assert not two.held()
    assert two.owner() == f"process {os.getpid()} on {socket.gethostname()}"
    with one.beating():
        assert one.held()
    assert not list(base.parent.iterdir())
    assert two.try_take()
    assert two.held()


def test_it_is_given_back_when_the_work_fails(tmp_path: Path) -> None:
    claim = Lease(tmp_path / "ab.lease")
    assert claim.try_take()
    with pytest.raises(ZeroDivisionError), claim.beating():
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_killed_owner_of_this_host_is_followed_at_once(tmp_path: Path, started, monkeypatch) -> None:
    monkeypatch.setattr(lease, "PATIENCE", 1000.0)
    base = tmp_path / "ab.lease"
    owner, mine = started(hold, base), Lease(base)
    until(lambda: look(base).text)  # a claim that was not written yet says not whose it is
    assert not mine.try_take()
    owner.kill()
    owner.join()
    assert until(mine.try_take) < 5
    assert not mine.silent
    assert [p.name for p in tmp_path.iterdir()] == ["ab.lease.2"]


def test_a_dead_owner_of_another_host_is_followed_within_patience(tmp_path: Path) -> None:
    base = tmp_path / "ab.lease"
    other_host(base)
    mine = Lease(base)
    assert 1.0 <= until(mine.try_take) < 6
    assert mine.silent
    assert mine.owner() == f"process {os.getpid()} on elsewhere"


@pytest.mark.parametrize("text", ["", "{", "5", "[]", '{"pid": "x"}', '{"where": null, "pid": null}'])
def test_a_claim_nobody_can_read_is_followed_within_patience(tmp_path: Path, text: str) -> None:
    base = tmp_path / "ab.lease"
    (tmp_path / "ab.lease.3").write_text(text)
    mine = Lease(base)
    assert not mine.try_take()
    assert mine.owner() == "another process"
    assert 0.9 <= until(mine.try_take) < 6
    assert [p.name for p in tmp_path.iterdir()] == ["ab.lease.4"]


def test_a_process_number_of_another_container_proves_nothing(tmp_path: Path) -> None:
    """Two containers may share a host name; their process numbers have nothing to do with each other."""
    base = tmp_path / "ab.lease"
    finished = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    claim = {"host": socket.gethostname(), "where": f"{socket.gethostname()} b pid:[1]", "pid": int(finished.stdout)}
    (tmp_path / "ab.lease.1").write_text(json.dumps(claim))
    assert not Lease(base).try_take()


def test_a_live_owner_is_never_robbed(tmp_path: Path, started) -> None:
    base = tmp_path / "ab.lease"
    owner = started(hold, base)
    until(lambda: look(base).text)
    waiters = [Lease(base) for _ in range(4)]
    begun = time.monotonic()
    while time.monotonic() - begun < 2.5:  # two and a half patiences
        assert not any(waiter.try_take() for waiter in waiters)
        time.sleep(lease.POLL)
    assert owner.is_alive()
    assert look(base).number == 1


def test_beats_of_another_host_count_too(tmp_path: Path) -> None:
    base = tmp_path / "ab.lease"
    path, mine = other_host(base), Lease(base)
    for _ in range(8):
        os.utime(path)
        assert not mine.try_take()
        time.sleep(0.25)
    assert 0.7 <= until(mine.try_take) < 6


def test_a_waiter_that_was_frozen_itself_does_not_rob(tmp_path: Path) -> None:
    """Long silence was the waiter's own: the claim was touched meanwhile."""
    base = tmp_path / "ab.lease"
    path, mine = other_host(base), Lease(base)
    assert not mine.try_take()
    time.sleep(1.2)
    os.utime(path)
    assert not mine.try_take()


def test_a_frozen_owner_learns_that_it_was_followed(tmp_path: Path, started) -> None:
    base = tmp_path / "ab.lease"
    owner, mine = started(hold, base), Lease(base)
    until(lambda: look(base).text)
    os.kill(owner.pid, signal.SIGSTOP)
    assert 0.8 <= until(mine.try_take) < 6
    assert mine.silent
    with mine.beating():
        os.kill(owner.pid, signal.SIGCONT)
        time.sleep(0.5)
        owner.terminate()
        owner.join()
        assert mine.held(), "an owner that woke up took nothing back"


def test_a_look_long_ago_gives_no_claim(tmp_path: Path) -> None:
    """A process that saw claim 1 dead, and slept while others followed each other, must not come between."""
    base = tmp_path / "ab.lease"
    late = Lease(base)
    other_host(base, 3)
    assert not late._claim(2)
    assert not late.held()
    assert [p.name for p in tmp_path.iterdir()] == ["ab.lease.3"]
    assert not late._claim(3), "an existing claim is never replaced"


def test_other_names_in_the_folder_are_no_claims(tmp_path: Path) -> None:
    for name in ("ab.lease", "ab.lease.x", "ab.lease.-1", "ab.lease.1.tmp", "abc.lease.7", "ab.work-1"):
        (tmp_path / name).touch()
    assert look(tmp_path / "ab.lease") == lease.NOBODY
    assert Lease(tmp_path / "ab.lease").try_take()


def count_owners(base: Path, diary: Path, times: int) -> None:
    """Own the lease some times, and write down each beginning and end."""
    for _ in range(times):
        claim = Lease(base)
        until(claim.try_take)
        with claim.beating(), diary.open("ab", buffering=0) as file:
            file.write(b"(")
            time.sleep(0.002)
            file.write(b")")


def test_eight_processes_own_it_one_after_the_other(tmp_path: Path, started) -> None:
    base, diary = tmp_path / "ab.lease", tmp_path / "diary"
    crowd = [started(count_owners, base, diary, 12) for _ in range(8)]
    for process in crowd:
        process.join()
        assert process.exitcode == 0
    assert diary.read_bytes() == b"()" * 96


def test_eight_waiters_follow_a_dead_owner_one_at_a_time(tmp_path: Path, started) -> None:
    base, diary = tmp_path / "ab.lease", tmp_path / "diary"
    other_host(base)
    crowd = [started(count_owners, base, diary, 1) for _ in range(8)]
    for process in crowd:
        process.join()
        assert process.exitcode == 0
    assert diary.read_bytes() == b"()" * 8


def take_on_a_full_disk(base: Path) -> None:
    """Exit with 0 if the claim is refused by the disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    with pytest.raises(OSError, match="too large"):
        Lease(base).try_take()


def test_a_disk_that_refuses_leaves_no_claim(tmp_path: Path, started) -> None:
    process = started(take_on_a_full_disk, tmp_path / "ab.lease")
    process.join()
    assert process.exitcode == 0
    assert not list(tmp_path.iterdir())
