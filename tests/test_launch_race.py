"""Two launches of one study that race: every distinct stage is carried out once, and recorded once."""

from __future__ import annotations

import os
from contextlib import nullcontext

import pytest

from diga import lease
from diga.data.streets import make
from diga.launch.crew import Alone
from experiments.paper import tables_3_to_6
from tests import race, tiny

REPEATS = int(os.environ.get("REPEATS", "2"))  # of each offset; `python -m tests.race FOLDER 50` says what it saw


@pytest.mark.slow
def test_two_launches_that_race_carry_out_each_stage_once(tmp_path):
    homes = race.race(tmp_path, REPEATS)
    assert len(homes) == 3 * REPEATS
    for home, _ in homes:
        race.check(home)


@pytest.mark.slow
def test_four_tables_carry_out_what_they_share_once(tmp_path):
    """The sixteen rows of Tables 3 to 6 with three seeds: 177 stage runs end to end, 87 in all."""
    make(tmp_path / "data/streets", tiny.KNOBS.model_copy(update={"third_val": 1}))
    place = tiny.Place(tiny.place(tmp_path).home, tmp_path / "data")
    launched, states, _ = tiny.launch(tables_3_to_6(), place, lambda: nullcontext(Alone(place, race.trivial)))
    assert states == {"done": 39}
    diary = (place.home / "diary").read_text().splitlines()
    assert len(diary) == 87
    assert set(diary) == set(launched.stages)


@pytest.mark.slow
def test_a_dead_owner_of_another_host_is_followed_within_ten_seconds(tmp_path):
    """With the figures of a real launch: what is hasty in other tests is not here."""
    from tests.test_lease import other_host, until

    base = tmp_path / "ab.lease"
    other_host(base)
    mine = lease.Lease(base)

    def taken() -> bool:
        return mine.try_take()

    assert lease.PATIENCE <= until(taken) <= 10
