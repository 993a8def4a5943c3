"""What a sweep would take, against a slow count; what room a trial needs, from what such stages used."""

from __future__ import annotations

import random
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from diga.errors import ConfigError
from diga.launch.packing import packed
from diga.launch.sweeps import shared
from diga.past import Kept, Past
from diga.plan import StageRun, digests, stage_runs
from diga.prospect import prospect, reaching
from diga.space import explored
from diga.sweep import Sweep
from tests import searching, tiny
from tests.searching import carried_out, rate


def updates(run: StageRun) -> float:
    return float(run.steps)


def planned(asked: Sweep, function: Any, tmp_path: Path) -> Any:
    digest = digests(tiny.data(), tmp_path / "manifests")
    chain = stage_runs(asked.base, digest)
    return prospect(asked, chain, shared(chain, explored(function, asked.base, "s"), digest), updates)


def counted(asked: Sweep, tmp_path: Path, function: Any = rate) -> int:
    """Updates of a sweep that was carried out."""
    tried, _ = carried_out(asked, tiny.place(tmp_path), function=function)
    assert len({str(one.changes) for one in tried}) == asked.trials
    return sum(one.outcome.steps for one in tried)


@pytest.mark.parametrize("rungs", [0, 2, 3])
def test_it_is_what_a_sweep_takes(rungs: int, tmp_path: Path) -> None:
    """All rungs of every trial are watched, so that nothing is left to chance."""
    asked = searching.sweep(5, rate, rungs=rungs, ends=False)
    found = planned(asked, rate, tmp_path)
    assert found.naive == 5 * (32 + 16) == asked.naive_steps
    assert found.reuse == 32 + 5 * 16
    assert found.pruned == {0: None, 2: 32 + 5 * (8 + 16), 3: 32 + 5 * (4 + 8 + 16)}[rungs]
    assert found.planned == (found.pruned or found.reuse) == counted(asked, tmp_path)


def test_what_a_trial_trains_before_its_rungs_it_trains_once(tmp_path: Path) -> None:
    def early(trial: Any) -> None:
        trial.suggest_float("warm_up.distil", 0.1, 1.0)

    asked = searching.sweep(4, early, rungs=2, ends=False)
    found = planned(asked, early, tmp_path)
    assert found.reuse == 4 * (32 + 16)
    assert found.pruned == 4 * (32 + 8 + 16) == counted(asked, tmp_path, early)


@pytest.mark.parametrize(("trials", "eta"), [(24, 4), (24, 3), (40, 2), (3, 4)])
def test_how_many_come_to_each_rung(trials: int, eta: int) -> None:
    """Against trials in random order, each of which goes on if it is among the best eta-th so far, or the best."""
    asked = searching.sweep(trials, rate, rungs=3)
    assert asked.halving
    asked = asked.model_copy(update={"halving": asked.halving.model_copy(update={"eta": eta})})
    chance, counts = random.Random(0), []
    for _ in range(3000):
        seen: tuple[list[float], list[float]] = [], []
        count = [trials, 0, 0]
        for _ in range(trials):
            for rung in (0, 1):
                value = chance.random()
                seen[rung].append(value)
                if sum(other > value for other in seen[rung]) >= max(1, len(seen[rung]) // eta):
                    break
                count[rung + 1] += 1
        counts.append(count)
    simulated = [mean(count[rung] for count in counts) for rung in range(3)]
    assert reaching(asked) == pytest.approx(simulated, rel=0.04)


@pytest.mark.parametrize(("trials", "reached"), [(24, [24, 6, 2]), (16, [16, 4, 1]), (3, [3, 1, 1])])
def test_in_turn_it_is_known_how_many_come_to_each_rung(trials: int, reached: list[float]) -> None:
    asked = searching.sweep(trials, rate, rungs=3, in_turn=True)
    assert asked.halving
    assert reaching(asked.model_copy(update={"halving": asked.halving.model_copy(update={"eta": 4})})) == reached


def test_watched_rungs_are_reached_by_all() -> None:
    assert reaching(searching.sweep(7, rate, rungs=3, ends=False)) == [7.0, 7.0, 7.0]


# --- room ------------------------------------------------------------------------------------------


@pytest.fixture
def chain(tmp_path: Path) -> list[StageRun]:
    return stage_runs(searching.base(), digests(tiny.data(), tmp_path / "manifests"))


def used(chain: list[StageRun], **by_stage: dict[str, float]) -> Past:
    """A store with the stage runs of another seed; each used of its machine what is said, or one CPU for a second."""
    one = {"cpu_seconds": 1.0, "wall_seconds": 1.0}
    kept = [Kept(run.fingerprint, run.facts, 1.0, 1, "cpu", one | by_stage.get(run.name, {})) for run in chain]
    return Past({one.fingerprint: one for one in kept})


def test_a_trial_takes_what_its_hungriest_stage_took(chain: list[StageRun]) -> None:
    assert packed(chain, used(chain)).each() == {"CPU": 1.0}
    assert packed(chain, used(chain, warm_up={"cpu_seconds": 0.3})).cpus == 1.0, "a core at least"
    busy = used(chain, self_training={"cpu_seconds": 36.2, "wall_seconds": 20.0}, warm_up={"cpu_seconds": 1.2})
    assert packed(chain, busy).cpus == 1.8
    assert packed(chain, used(chain, warm_up={"cpu_seconds": 2.0})).cpus == 2.0


@pytest.mark.parametrize(
    ("share", "gpus"), [(0.05, 1 / 17), (0.2, 0.25), (0.28, 1 / 3), (0.4, 0.5), (0.45, 1.0), (0.99, 1.0)]
)
def test_so_many_share_a_gpu_as_fit_with_some_room(chain: list[StageRun], share: float, gpus: float) -> None:
    found = packed(chain, used(chain, self_training={"gpu_peak_bytes": share * 80e9, "gpu_bytes": 80e9}))
    assert found.gpus == pytest.approx(gpus, abs=1e-4)
    at_once = int(1 // found.gpus)
    assert at_once == round(1 / gpus)
    assert at_once == 1 or at_once * share * 1.15 <= 1


def test_what_was_never_measured_is_asked_for(chain: list[StageRun]) -> None:
    with pytest.raises(ConfigError, match="'warm_up'"):
        packed(chain, Past({}))
    unsaid = Past({run.fingerprint: Kept(run.fingerprint, run.facts, 1.0, 1, "cpu") for run in chain})
    with pytest.raises(ConfigError, match="a first trial without --pack"):
        packed(chain, unsaid)
