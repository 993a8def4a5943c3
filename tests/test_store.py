"""The store: a stage is computed once, seen whole or not at all, and believed only when it is undamaged."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diga import lease, store
from diga.errors import ConfigError, DigaError, StorageError
from diga.files import PRIVATE, described, write_whole
from diga.store import MANIFEST, Store, damaged, sealed

REPEATS = int(os.environ.get("REPEATS", "10"))  # of races
FORK = multiprocessing.get_context("fork")
KEY, FACTS = "ab12cd34ab12cd34", {"stage": {"is": "x"}}
FILES = {"artifact.pt": b"w" * 3000, "labels/00.png": b"p" * 500, "metrics.jsonl": b'{"step": 0}\n'}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases eight times as hasty."""
    monkeypatch.setattr(lease, "BEAT", 0.1)
    monkeypatch.setattr(lease, "PATIENCE", 1.0)
    monkeypatch.setattr(lease, "POLL", 0.01)


def make(work: Path) -> dict[str, Any]:
    """A stage that leaves a few files, and a checkpoint nobody needs afterwards."""
    for name, content in {**FILES, f"{PRIVATE}/1.pt": b"checkpoint"}.items():
        (work / name).parent.mkdir(exist_ok=True)
        write_whole(work / name, content)
    return {"workers": 1}


def never(work: Path) -> dict[str, Any]:
    """A stage that must not be computed."""
    raise AssertionError("computed again")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the manifest, by name."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {name: content for name, content in found.items() if name != MANIFEST}


def beside(root: Path) -> list[str]:
    """Everything under a store's root that is no finished stage."""
    return sorted(p.name for p in root.glob("*/*") if "." in p.name)


def in_fork(work: Callable[[], None]) -> int:
    """The exit code of a forked process that does the work; minus the signal that killed it."""
    process = FORK.Process(target=work)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


# --- one stage -------------------------------------------------------------------------------


def test_a_stage_is_computed_once_and_found_afterwards(tmp_path: Path) -> None:
    first = Store(tmp_path).obtain(KEY, make, FACTS)
    assert first.how == "computed"
    assert first.folder == tmp_path / "ab" / KEY
    assert contents(first.folder) == FILES
    assert beside(tmp_path) == []
    assert Store(tmp_path).obtain(KEY, never, FACTS) == (first.folder, "found")
    assert Store(tmp_path).found(KEY) == first.folder


def test_the_manifest_says_what_is_there(tmp_path: Path) -> None:
    kept = Store(tmp_path)
    folder = kept.obtain(KEY, make, FACTS).folder
    document = kept.manifest(KEY)
    assert document["fingerprint"] == KEY
    assert document["facts"] == FACTS
    assert document["files"] == {name: described(folder / name) for name in FILES}
    assert document["meta"]["workers"] == 1
    assert 0 <= document["meta"]["seconds"] < 5


def test_what_is_not_there_is_missing(tmp_path: Path) -> None:
    kept = Store(tmp_path / "nothing")
    assert not kept.has(KEY)
    assert kept.find(KEY) is None
    assert not kept.work(KEY).exists()
    with pytest.raises(StorageError, match=f"{MANIFEST}: No such file"):
        kept.found(KEY)
    assert not (tmp_path / "nothing").exists(), "looking writes nothing"


def test_a_stage_that_fails_leaves_its_work_for_the_next_try(tmp_path: Path) -> None:
    def fail(work: Path) -> dict[str, Any]:
        make(work)
        raise ConfigError("here", "no")

    with pytest.raises(ConfigError, match="here: no"):
        Store(tmp_path).obtain(KEY, fail, FACTS)
    assert Store(tmp_path).find(KEY) is None
    assert (Store(tmp_path).work(KEY) / PRIVATE / "1.pt").read_bytes() == b"checkpoint"

    def go_on(work: Path) -> dict[str, Any]:
        assert (work / PRIVATE / "1.pt").read_bytes() == b"checkpoint"
        return make(work)

    assert Store(tmp_path).obtain(KEY, go_on, FACTS).how == "computed"
    assert beside(tmp_path) == []


def test_what_a_kill_left_half_written_is_not_published(tmp_path: Path) -> None:
    def torn(work: Path) -> dict[str, Any]:
        (work / "artifact.pt.tmp").write_bytes(b"half")
        (work / MANIFEST).write_bytes(b"of an owner killed before the rename")
        return make(work)

    folder = Store(tmp_path).obtain(KEY, torn, FACTS).folder
    assert contents(folder) == FILES
    assert damaged(folder) == ""


def test_a_second_publisher_adopts_the_firsts(tmp_path: Path) -> None:
    def overtaken(work: Path) -> dict[str, Any]:
        make(work)
        other = Store(tmp_path / "other").obtain(KEY, make, {"first": True}).folder
        shutil.copytree(other, tmp_path / "ab" / KEY)
        return {}

    assert Store(tmp_path).obtain(KEY, overtaken, FACTS).folder == tmp_path / "ab" / KEY
    assert Store(tmp_path).manifest(KEY)["facts"] == {"first": True}
    assert damaged(tmp_path / "ab" / KEY) == ""
    assert beside(tmp_path) == []


# --- files -----------------------------------------------------------------------------------


def test_a_file_is_flushed_before_its_name_and_the_folder_after(tmp_path: Path, monkeypatch) -> None:
    told: list[str] = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(handle: int) -> None:
        told.append("fsync " + os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def spy_replace(old: Path, new: Path) -> None:
        told.append(f"rename {old.name} {new.name}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    write_whole(tmp_path / "a", b"content")
    assert told == ["fsync a.tmp", "rename a.tmp a", f"fsync {tmp_path.name}"]


def test_all_of_a_stage_is_flushed_before_its_name(tmp_path: Path, monkeypatch) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr(store, "sync", lambda path: flushed.append(path))
    rename = os.rename

    def spy(old: Path, new: Path) -> None:
        if new == tmp_path / "ab" / KEY:
            names = {str(p.relative_to(old)) for p in flushed if p != old}
            assert names == {*FILES, "labels"}
            assert old in flushed
            flushed.clear()
        rename(old, new)

    monkeypatch.setattr(os, "rename", spy)
    Store(tmp_path).obtain(KEY, make, FACTS)
    assert flushed == [tmp_path / "ab", tmp_path]


def test_an_interrupted_write_leaves_the_old_file_and_no_torso(tmp_path: Path, monkeypatch) -> None:
    write_whole(tmp_path / "a", b"old")
    for failure in (OSError(errno.ENOSPC, "full"), KeyboardInterrupt()):

        def refuse(handle: int, failure: BaseException = failure) -> None:
            raise failure

        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(type(failure)):
            write_whole(tmp_path / "a", b"new")
        assert contents(tmp_path) == {"a": b"old"}


# --- kills -----------------------------------------------------------------------------------

CALLS = ("open", "fsync", "replace", "rename", "mkdir", "unlink", "close", "rmdir")


def killed_at(root: Path, number: int) -> bool:
    """Compute the stage in a fork that is killed at its n-th call of the system; whether it was."""

    def work() -> None:
        left = [number]

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def wrapper(*args: Any, **named: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **named)

            return wrapper

        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))
        Store(root).obtain(KEY, make, FACTS)

    code = in_fork(work)
    assert code in (0, -signal.SIGKILL)
    return code != 0


@pytest.mark.slow
def test_a_reader_sees_all_or_nothing_wherever_the_writer_is_killed(tmp_path: Path) -> None:
    points = 0
    while killed_at(tmp_path / str(points), points):
        root = tmp_path / str(points)
        for _ in range(2):  # whole or nothing, and looking again changes nothing
            folder = Store(root).find(KEY)
            assert folder is None or contents(folder) == FILES
            assert Store(root).has(KEY) == (folder is not None)
        made = Store(root).obtain(KEY, make, FACTS)
        assert made.how == ("found" if folder else "computed")
        assert contents(made.folder) == FILES
        assert beside(root) in ([], [f"{KEY}.lease.1"] if folder else [])
        points += 1
    assert points >= 50


def test_repeated_kills_on_the_way_end_in_one_stage(tmp_path: Path) -> None:
    for number in range(0, 70, 5):
        killed_at(tmp_path, number)
    assert contents(Store(tmp_path).obtain(KEY, make, FACTS).folder) == FILES


# --- damage ----------------------------------------------------------------------------------


def test_a_hundred_of_a_hundred_damages_are_found_named_set_aside_and_mended(tmp_path: Path, capsys) -> None:
    chance = np.random.default_rng(0)
    folder = Store(tmp_path).obtain(KEY, make, FACTS).folder
    for number in range(100):
        victim = folder / [*FILES, MANIFEST][number % 4]
        whole = victim.read_bytes()
        at = int(chance.integers(len(whole)))
        flip = bytes([whole[at] ^ (1 << int(chance.integers(8)))])
        victim.write_bytes(whole[:at] + flip + whole[at + 1 :] if number % 8 < 4 else whole[:at])
        assert Store(tmp_path).find(KEY) is None, (number, victim, at)
        with pytest.raises(StorageError, match=str(victim)):
            Store(tmp_path).found(KEY)
        assert Store(tmp_path).obtain(KEY, make, FACTS).how == "computed"
        assert contents(folder) == FILES
        said = capsys.readouterr().out
        assert f"warning: {victim}: " in said
        (grave,) = tmp_path.glob("ab/*.damaged-*")
        assert grave.name in said
        assert str(victim) in (grave / "DAMAGE.txt").read_text()
        shutil.rmtree(grave)


def test_a_message_of_damage_names_the_digests(tmp_path: Path) -> None:
    folder = Store(tmp_path).obtain(KEY, make, FACTS).folder
    told = described(folder / "artifact.pt")["sha256"]
    (folder / "artifact.pt").write_bytes(b"x" * 3000)
    found = described(folder / "artifact.pt")["sha256"]
    assert damaged(folder) == f"{folder / 'artifact.pt'}: sha256 {found[:12]}, manifest says {told[:12]}"


@pytest.mark.parametrize("text", [None, "", "{}", "[]", "5", '{"files": 5}', '{"files": {}}', "\xff", "[" * 9999])
def test_a_damaged_manifest_has_the_stage_made_again(tmp_path: Path, text: str | None) -> None:
    folder = Store(tmp_path).obtain(KEY, make, FACTS).folder
    (folder / MANIFEST).unlink()
    if text is not None:
        (folder / MANIFEST).write_text(text, "latin1")
    assert Store(tmp_path).find(KEY) is None
    assert Store(tmp_path).obtain(KEY, make, FACTS).how == "computed"
    assert damaged(folder) == ""


def test_a_missing_file_and_an_empty_folder_have_the_stage_made_again(tmp_path: Path) -> None:
    folder = Store(tmp_path).obtain(KEY, make, FACTS).folder
    (folder / "labels/00.png").unlink()
    assert damaged(folder) == f"{folder / 'labels/00.png'}: missing"
    assert Store(tmp_path).obtain(KEY, make, FACTS).how == "computed"
    shutil.rmtree(folder)
    folder.mkdir()
    assert Store(tmp_path).obtain(KEY, make, FACTS).how == "computed"


def test_the_seal_is_over_every_byte(tmp_path: Path) -> None:
    text = sealed({"a": 1.5, "b": [None, "é"]})
    assert sealed(json.loads(text)) == text
    assert sealed({"a": 1.6}) != sealed({"a": 1.5})


def test_a_stage_is_read_once_a_process_not_once_a_question(tmp_path: Path, monkeypatch) -> None:
    kept = Store(tmp_path)
    folder = kept.obtain(KEY, make, FACTS).folder
    assert kept.find(KEY)
    monkeypatch.setattr(store, "damaged", never)
    assert kept.find(KEY) == folder


# --- several processes -----------------------------------------------------------------------


def diary_of(root: Path) -> list[str]:
    """Keys of the computations there were, one line each."""
    return (root / "diary").read_text().split() if (root / "diary").exists() else []


def compute_keys(root: Path, keys: list[str], seconds: float, delay: float = 0) -> None:
    """Obtain some stages, noting each computation in a diary."""
    time.sleep(delay)
    for key in keys:

        def note(work: Path, key: str = key) -> dict[str, Any]:
            with (root / "diary").open("ab", buffering=0) as diary:
                diary.write(f"{key}\n".encode())
            time.sleep(seconds)
            return make(work)

        assert contents(Store(root).obtain(key, note, FACTS).folder) == FILES


def crowd(*all_args: tuple[Any, ...]) -> None:
    """Several forked processes of `compute_keys`, at the same time."""
    processes = [FORK.Process(target=compute_keys, args=args) for args in all_args]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0


def test_eight_processes_compute_one_stage_once(tmp_path: Path) -> None:
    crowd(*[(tmp_path, [KEY], 0.3)] * 8)
    assert diary_of(tmp_path) == [KEY]
    assert beside(tmp_path) == []


@pytest.mark.parametrize("offset", [0, 0.005, 0.05])
def test_two_launches_that_race_compute_each_stage_once(tmp_path: Path, offset: float) -> None:
    for repeat in range(REPEATS):
        root = tmp_path / str(repeat)
        root.mkdir()
        keys = [f"{i}{i}{repeat:02d}" for i in range(3)]
        crowd((root, keys, 0.003), (root, keys, 0.003, offset))
        assert sorted(diary_of(root)) == keys
        assert beside(root) == []


def dawdle(root: Path, seconds: float = 60) -> None:
    """Begin a stage, leave a checkpoint, and take long over the rest, writing all the while."""

    def compute(work: Path) -> dict[str, Any]:
        (work / PRIVATE).mkdir(exist_ok=True)
        write_whole(work / PRIVATE / "5.pt", b"half way")
        with (work / "metrics.jsonl").open("ab", buffering=0) as spool:
            begun = time.monotonic()
            while time.monotonic() - begun < seconds:
                spool.write(b"late\n")
                time.sleep(0.01)
        return make(work)

    Store(root).obtain(KEY, compute, FACTS)


@pytest.fixture
def dawdler(tmp_path: Path) -> Iterator[multiprocessing.process.BaseProcess]:
    """A process half way through the stage."""
    process = FORK.Process(target=dawdle, args=(tmp_path,))
    process.start()
    while not (Store(tmp_path).work(KEY) / PRIVATE / "5.pt").exists():
        time.sleep(0.01)
    yield process
    process.kill()
    process.join()


def go_on(work: Path) -> dict[str, Any]:
    """The stage, from the checkpoint that must be there."""
    assert (work / PRIVATE / "5.pt").read_bytes() == b"half way"
    return make(work)


def test_a_killed_owner_is_followed_at_once_from_its_checkpoint(tmp_path: Path, dawdler, monkeypatch) -> None:
    monkeypatch.setattr(lease, "PATIENCE", 1000.0)
    dawdler.kill()
    dawdler.join()
    begun = time.monotonic()
    assert Store(tmp_path).obtain(KEY, go_on, FACTS).how == "computed"
    assert time.monotonic() - begun < 5
    assert beside(tmp_path) == []


def test_a_live_owner_is_waited_for_and_named(tmp_path: Path, dawdler) -> None:
    def stop(owner: str) -> None:
        heard.append(owner)
        if len(heard) > 150:
            dawdler.kill()
            dawdler.join()

    heard: list[str] = []
    begun = time.monotonic()
    assert Store(tmp_path).obtain(KEY, go_on, FACTS, stop).how == "computed"
    assert time.monotonic() - begun > lease.PATIENCE, "longer than a dead one is waited for"
    assert f"process {dawdler.pid} on " in heard[0]


def test_a_frozen_owner_that_wakes_late_changes_nothing(tmp_path: Path, dawdler) -> None:
    os.kill(dawdler.pid, signal.SIGSTOP)

    def slowly(work: Path) -> dict[str, Any]:
        os.kill(dawdler.pid, signal.SIGCONT)
        begun, made = (work / "metrics.jsonl").read_bytes(), go_on(work)
        time.sleep(0.3)
        assert begun.startswith(b"late")
        return made

    folder = Store(tmp_path).obtain(KEY, slowly, FACTS).folder
    assert contents(folder) == FILES
    time.sleep(0.3)
    assert dawdler.is_alive()
    assert damaged(folder) == "", "what it still writes to an open file is not ours"


def test_a_frozen_owner_that_wakes_to_finish_takes_what_is_there(tmp_path: Path) -> None:
    process = FORK.Process(target=dawdle, args=(tmp_path, 0.5))
    process.start()
    while not (Store(tmp_path).work(KEY) / PRIVATE / "5.pt").exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGSTOP)
    assert Store(tmp_path).obtain(KEY, go_on, {"second": True}).how == "computed"
    os.kill(process.pid, signal.SIGCONT)
    process.join()
    assert process.exitcode == 0
    assert Store(tmp_path).manifest(KEY)["facts"] == {"second": True}
    assert damaged(tmp_path / "ab" / KEY) == ""
    assert beside(tmp_path) == []


# --- disks that refuse -----------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True)
    if mount.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail(f"cannot mount a small disk: {mount.stderr!r}")
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def big(work: Path) -> dict[str, Any]:
    """A stage that needs more than two megabytes."""
    write_whole(work / "first.pt", b"1" * 1000)
    write_whole(work / "artifact.pt", b"w" * 3_000_000)
    return {}


def refused(root: Path, compute: Callable[[Path], dict[str, Any]]) -> StorageError:
    """The error with which the store gives up."""
    with pytest.raises(StorageError) as caught:
        Store(root).obtain(KEY, compute, FACTS)
    assert caught.value.code == 4
    assert str(caught.value).isprintable()
    return caught.value


def test_a_full_disk_is_named_and_leaves_no_torso(small_disk: Path) -> None:
    error = refused(small_disk, big)
    assert "No space left on device" in str(error)
    assert str(small_disk) in str(error)
    assert "bytes are free there" in str(error)
    work = Store(small_disk).work(KEY)
    assert contents(work) == {"first.pt": b"1" * 1000}
    assert beside(small_disk) == [work.name], "no claim, no torso"
    assert Store(small_disk).find(KEY) is None

    def go_on(work: Path) -> dict[str, Any]:
        assert (work / "first.pt").read_bytes() == b"1" * 1000
        return make(work)

    assert Store(small_disk).obtain(KEY, go_on, FACTS).how == "computed"
    assert contents(small_disk / "ab" / KEY) == FILES | {"first.pt": b"1" * 1000}


def test_a_disk_full_to_the_last_byte_is_named_too(small_disk: Path) -> None:
    with suppress(OSError), (small_disk / "fill").open("wb", buffering=0) as fill:
        while True:
            fill.write(b"0" * 4096)
    assert shutil.disk_usage(small_disk).free == 0
    refused(small_disk, never)
    (small_disk / "fill").unlink()
    assert Store(small_disk).obtain(KEY, make, FACTS).how == "computed"
    assert beside(small_disk) == []


def test_a_read_only_store_is_read_and_not_written(small_disk: Path) -> None:
    folder = Store(small_disk).obtain(KEY, make, FACTS).folder
    other = "cd" + KEY[2:]
    hurt = Store(small_disk).obtain(other, make, FACTS).folder
    (hurt / "artifact.pt").write_bytes(b"")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert Store(small_disk).obtain(KEY, never, FACTS) == (folder, "found")
    assert Store(small_disk).find(other) is None
    for key in (other, "ef" + KEY[2:]):
        with pytest.raises(StorageError, match="Read-only file system"):
            Store(small_disk).obtain(key, never, FACTS)


def test_a_file_too_large_for_its_limit_is_named(tmp_path: Path) -> None:
    """As a full disk, for those who cannot mount one."""

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        assert "File too large" in str(refused(tmp_path, big))

    assert in_fork(work) == 0
    assert contents(Store(tmp_path).work(KEY)) == {"first.pt": b"1" * 1000}
    assert Store(tmp_path).obtain(KEY, big, FACTS).how == "computed"


def test_a_root_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "root").touch()
    assert str(tmp_path / "root") in str(refused(tmp_path / "root", never))


def test_errors_of_a_stage_pass_as_they_are(tmp_path: Path) -> None:
    for failure in (DigaError("a", "b"), ZeroDivisionError("c")):

        def fail(work: Path, failure: Exception = failure) -> dict[str, Any]:
            raise failure

        with pytest.raises(type(failure)) as caught:
            Store(tmp_path).obtain(KEY, fail, FACTS)
        assert caught.value is failure
        assert [n for n in beside(tmp_path) if "lease" in n] == []
