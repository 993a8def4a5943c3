"""`diga gc`: what no recorded cell refers to is listed, deleted when asked, and never under anybody's hands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from diga import lease
from diga.errors import TemporaryError
from diga.launch.references import referred
from diga.lease import Lease
from diga.pipeline import Place
from diga.waste import DAMAGED, FINISHED, GONE, LEFT, idle, remove, waste
from tests import tiny


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A home where a study was launched, its second row changed, and launched again: two stages are nobody's."""
    place = tiny.place(tmp_path_factory.mktemp("gc"))
    for lr in (1e-3, 2e-3):
        rows = (("base", tiny.recipe()), ("other", tiny.recipe(train__plan__lr=lr, train__aux=0.2)))
        tiny.launch(tiny.study(*rows), place)
    return place


@pytest.fixture
def place(launched: Place, tmp_path: Path) -> Place:
    """A copy that a test may spoil."""
    shutil.copytree(launched.home, tmp_path / "home")
    return Place(tmp_path / "home", launched.data)


def nobodys(place: Place) -> set[str]:
    kept, _ = referred(tiny.uri(place))
    return set(tiny.manifests(place.home)) - kept


def said(place: Place, *words: str) -> str:
    code, told, errors = tiny.typed(place.home, "gc", *words)
    assert (code, errors) == (0, ""), errors
    return told


def test_cells_refer_to_their_stages_and_replaced_ones_do_not(place: Place) -> None:
    kept, cells = referred(tiny.uri(place))
    assert cells == 2
    assert len(kept) == 4
    assert len(tiny.manifests(place.home)) == 6
    assert len(nobodys(place)) == 2


def test_without_yes_nothing_is_touched(place: Place) -> None:
    before = tiny.marks(place.home)
    told = said(place, "--all")
    assert "nothing was deleted; --yes deletes" in told
    assert "2 recorded cells refer to 4 stage runs, which stay" in told
    for fingerprint in nobodys(place):
        assert f"{fingerprint[:2]}/{fingerprint}" in told
    assert tiny.marks(place.home) == before


def test_with_yes_what_is_listed_goes_and_the_rest_is_whole(place: Place) -> None:
    gone = nobodys(place)
    before = tiny.digests(place.home)
    assert "deleted 2 folders" in said(place, "--yes")
    assert tiny.digests(place.home) == {f: d for f, d in before.items() if f not in gone}
    assert "0 B" in said(place)
    left = {p.name for p in (place.home / "stages").glob("??/*")}
    assert left == set(before) - gone, "no claim, no grave"
    _, states, seen = tiny.launch(tiny.study(("base", tiny.recipe())), place)
    assert (states["done"], seen.there) == (1, 2)


def test_what_was_cut_short_stays_if_a_cell_wants_it(place: Place) -> None:
    kept, _ = referred(tiny.uri(place))
    wanted, unwanted = next(iter(kept)), "0123456789abcdef"
    names = {f"{wanted}.work-1a": None, f"{unwanted}.work-1a": LEFT, f"{unwanted}.copy-2b": LEFT}
    names |= {f"{wanted}.damaged-17": DAMAGED, f"{wanted}.gone-3c": GONE}
    root = place.home / "stages"
    for name in names:
        (root / name[:2] / name).mkdir(parents=True)
        (root / name[:2] / name / "file").write_bytes(b"12345")
    (root / "no").mkdir()
    (root / "no" / "notes.txt").write_text("somebody's own")
    (root / "01" / "0123456789abcdef.other-1").mkdir()
    found = {item.path.name: (item.why, item.bytes) for item in waste(root, kept)}
    assert {n: found.get(n, (None, 5)) for n in names} == {n: (why, 5) for n, why in names.items()}
    assert {n for n, (why, _) in found.items() if why == FINISHED} == nobodys(place)
    said(place, "--yes")
    assert (root / wanted[:2] / f"{wanted}.work-1a/file").exists()
    assert (root / "no/notes.txt").exists()
    assert (root / "01/0123456789abcdef.other-1").exists()


def test_where_no_cell_is_recorded_nothing_is_deleted(place: Place, tmp_path: Path) -> None:
    before = tiny.marks(place.home)
    uri = f"sqlite:///{tmp_path / 'none.db'}"
    code, _, errors = tiny.typed(place.home, "gc", "--yes", "--tracking", uri)
    assert (code, len(errors.splitlines())) == (2, 1)
    assert "no cell is recorded at" in errors
    assert not (tmp_path / "none.db").exists(), "looking makes no database"
    assert tiny.marks(place.home) == before


# --- somebody works there ----------------------------------------------------------------------------


def test_while_a_lease_is_alive_nothing_is_deleted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diga.waste.PATIENCE", 1.0)
    claim = Lease(place.home / "stages/ab/abcdefabcdefabcd.lease")
    assert claim.try_take()
    before = tiny.marks(place.home)
    with claim.beating():
        code, _, errors = tiny.typed(place.home, "gc", "--yes")
    assert (code, len(errors.splitlines())) == (75, 1)
    assert f"process {os.getpid()} on" in errors
    assert "computes abcdefabcdefabcd" in errors
    assert tiny.marks(place.home) == before
    assert "deleted 2 folders" in said(place, "--yes")


def test_the_lease_of_a_killed_process_stops_nobody(place: Place) -> None:
    base = place.home / "stages/ab/abcdefabcdefabcd.lease"
    code = "import sys; from pathlib import Path; from diga.lease import Lease; "
    code += "print(Lease(Path(sys.argv[1])).try_take(), flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(base)], text=True, **pipes) as owner:  # type: ignore[call-overload]
        assert owner.stdout is not None
        assert owner.stdout.readline() == "True\n"
        owner.kill()
    begun = time.monotonic()
    idle(place.home / "stages")
    assert time.monotonic() - begun < lease.PATIENCE


@pytest.mark.slow
def test_a_silent_owner_elsewhere_is_waited_for_as_long_as_a_waiter_would(place: Place) -> None:
    base = place.home / "stages/ab/abcdefabcdefabcd.lease"
    base.parent.mkdir(exist_ok=True)
    base.with_name(f"{base.name}.1").write_text('{"host": "elsewhere", "where": "elsewhere", "pid": 1, "id": "x"}')
    begun = time.monotonic()
    idle(place.home / "stages")
    assert lease.PATIENCE <= time.monotonic() - begun < lease.PATIENCE + 5


def test_a_living_owner_elsewhere_is_known_by_its_touch(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("diga.waste", "diga.lease"):
        monkeypatch.setattr(f"{module}.PATIENCE", 2.0)
    base = place.home / "stages/ab/abcdefabcdefabcd.lease"
    base.parent.mkdir(exist_ok=True)
    claim = base.with_name(f"{base.name}.1")
    claim.write_text('{"host": "elsewhere", "where": "elsewhere", "pid": 7, "id": "x"}')
    done = threading.Event()

    def beat() -> None:
        while not done.wait(0.3):
            os.utime(claim)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(TemporaryError, match="process 7 on elsewhere computes abcdefabcdefabcd"):
            idle(place.home / "stages")
    finally:
        done.set()
        thread.join()


def test_a_stage_that_somebody_has_claimed_meanwhile_stays(place: Place) -> None:
    kept, _ = referred(tiny.uri(place))
    items = [item for item in waste(place.home / "stages", kept) if item.why == FINISHED]
    claim = Lease(items[0].path.parent / f"{items[0].fingerprint}.lease")
    assert claim.try_take()
    with claim.beating():
        assert [remove(item) for item in items] == [False, True]
    assert items[0].path.exists()
    assert not items[1].path.exists()
    assert remove(items[0])
