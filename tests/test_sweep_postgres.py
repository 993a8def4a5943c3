"""Two drivers of one sweep in a real PostgreSQL server, which is restarted under them."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from diga.launch.ledger import Ledger
from diga.launch.storage import folder_of, storage_at
from diga.launch.tried import Tried
from diga.pipeline import Place
from diga.sweep import Sweep
from tests import searching, tiny
from tests.postgres import Server
from tests.searching import carried_out, source_only

N = 40
FORK = multiprocessing.get_context("fork")


def rate(trial: Any) -> None:
    """What the pretended score goes by."""
    trial.suggest_float("warm_up.plan.lr", 1e-4, 1e-1, log=True)


ASKED = searching.sweep(N, rate, source_only(), rungs=2)
IN_TURN = searching.sweep(N, rate, source_only(), rungs=2, in_turn=True)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("postgres")) as found:
        yield found


def driver(place: Place, url: str, asked: Sweep = ASKED) -> Any:
    """A process that carries the sweep out, and notes which trials it took."""

    def work() -> None:
        os.setsid()
        _, seen = carried_out(asked, place, function=rate, url=url)
        (place.home / f"took-{os.getpid()}").write_text(" ".join(str(number) for number, _ in seen.began_))

    process = FORK.Process(target=work)
    process.start()
    return process


def tried(place: Place, url: str) -> list[Tried]:
    folder = folder_of(place.home, "s")
    return Ledger(ASKED, rate, storage_at(url, folder), folder, url).tried()


@pytest.mark.slow
@pytest.mark.parametrize("asked", [ASKED, IN_TURN], ids=["so far", "in turn"])
def test_two_drivers_share_a_sweep_and_its_server_is_restarted(asked: Sweep, server: Server, tmp_path: Path) -> None:
    place = tiny.place(tmp_path)
    drivers = [driver(place, server.url, asked) for _ in range(2)]  # both make the tables
    assert tiny.until(lambda: len(tiny.manifests(place.home)) >= 16 or not any(d.is_alive() for d in drivers))
    server.control("-m", "fast", "restart")
    for one in drivers:
        one.join(tiny.LONG)
    assert [one.exitcode for one in drivers] == [0, 0]
    took = [list(map(int, path.read_text().split())) for path in place.home.glob("took-*")]
    assert len(took) == 2
    both = Counter(took[0] + took[1])
    assert sorted(both) == list(range(N)), "exactly so many"
    again = {number for number, times in both.items() if times > 1}
    whole = {one.number for one in tried(place, server.url) if one.done}
    assert again <= (whole if asked is IN_TURN else set()), "none twice, but who waited and went on"
    assert max(both.values()) <= 2
    assert min(map(len, took)) > 0, "both had a part"
    found = tried(place, server.url)
    assert [one.number for one in found] == list(range(N))
    assert {one.outcome.status for one in found} == {"done", "pruned"}
    study = optuna.load_study(study_name="s", storage=storage_at(server.url, folder_of(place.home, "s")))
    assert len(study.trials) == N
    runs = tiny.runs(tiny.client(place), "diga/s", "trial")
    told = {int(run.data.tags["trial"]): run.data.tags["status"] for run in runs}
    assert len(runs) == N
    assert told == {one.number: one.outcome.status for one in found}


@pytest.mark.slow
def test_a_driver_that_dies_is_followed_by_the_other(server: Server, tmp_path: Path) -> None:
    """Killed with a trial in its hands; typed again there are exactly so many."""
    place = tiny.place(tmp_path)
    first = driver(place, server.url)
    assert tiny.until(lambda: len(tiny.manifests(place.home)) >= 6, pause=0.01)
    first.kill()
    first.join()
    before = tried(place, server.url)
    heir = driver(place, server.url)
    heir.join(tiny.LONG)
    assert heir.exitcode == 0
    found = tried(place, server.url)
    assert [one.number for one in found] == list(range(N))
    over = [one for one in before if one.outcome.status != "running"]
    assert len(over) >= 1
    assert [found[one.number] for one in over] == over
