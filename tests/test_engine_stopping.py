"""What asks a training to stop: signals that wait for its step, but not for ever, and a file that workers look at."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from diga.engine import parallel, stopping
from diga.engine.fit import fit
from diga.engine.run import Pace, Run
from diga.engine.stopping import Stop, Told, never, signalled
from diga.errors import Stopped
from diga.files import PRIVATE
from diga.settings import Plan
from diga.types import Batch, Pair, Updates
from tests.conftest import differing, left_by, small, told_by

STEPS, AT = 12, 5
BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def handlers() -> Iterator[list[object]]:
    """What stands for the signals before and, if all is well, after."""
    before = [signal.getsignal(n) for n in (*BOTH, signal.SIGALRM)]
    yield before
    assert [signal.getsignal(n) for n in (*BOTH, signal.SIGALRM)] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


Act = Callable[[Callable[[], bool]], object]


def carry_out(*acts: Act, stop: Stop = signalled) -> None:
    """Do things one after the other in a block that can be asked to stop; each is given the question."""
    with stop() as asked:
        for act in acts:
            act(asked)


def send(number: int) -> Act:
    return lambda asked: signal.raise_signal(number)


# --- signals -----------------------------------------------------------------------------


def test_a_signal_waits_for_the_end_of_the_block(handlers):
    said: list[bool] = []
    meanwhile: list[object] = []
    note: Act = lambda asked: said.append(asked())  # noqa: E731
    look: Act = lambda asked: meanwhile.extend(signal.getsignal(n) for n in BOTH)  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        carry_out(note, send(signal.SIGINT), note, look)
    assert said == [False, True]
    assert meanwhile == [signal.SIG_DFL] * 2, "a second one ends the process"


def test_what_a_signal_did_before_it_does_after(handlers):
    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        with pytest.raises(SystemExit) as ending:
            carry_out(send(signal.SIGTERM))
        assert ending.value.code == 143
        assert signal.getsignal(signal.SIGTERM) is leave
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_step_that_does_not_end_is_not_waited_for(handlers, monkeypatch):
    monkeypatch.setattr(stopping, "PATIENCE", 0.2)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        carry_out(send(signal.SIGINT), lambda asked: time.sleep(30))
    assert time.monotonic() - begun < 10


def test_nothing_is_raised_where_nothing_was_asked(handlers):
    said: list[bool] = []
    for stop in (signalled, never):
        carry_out(lambda asked: said.append(asked()), stop=stop)
    assert said == [False, False]


def test_an_error_in_the_block_passes(handlers):
    with pytest.raises(ZeroDivisionError):
        carry_out(lambda asked: 1 // 0)


def test_another_thread_leaves_signals_alone(handlers):
    seen: list[object] = []
    look: Act = lambda asked: seen.extend([asked(), signal.getsignal(signal.SIGINT)])  # noqa: E731
    thread = threading.Thread(target=carry_out, args=(look,))
    thread.start()
    thread.join()
    assert seen == [False, handlers[0]]


# --- a file ------------------------------------------------------------------------------


def launch(told: Told, wait: Callable[[], object], failure: BaseException | None = None) -> None:
    with told.asked_on_the_way_out(wait):
        if failure:
            raise failure


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), SystemExit(143), ValueError()])
def test_whatever_ends_a_launch_asks_its_workers_and_waits(tmp_path, failure):
    told, said = Told.anew(tmp_path), list[bool]()
    with told() as asked:
        assert not asked()
        with pytest.raises(type(failure)):
            launch(told, lambda: said.append(asked()), failure)
    assert said == [True]
    assert list(tmp_path.iterdir()) == []


def test_a_launch_that_ends_by_itself_asks_nobody(tmp_path):
    launch(Told.anew(tmp_path), lambda: pytest.fail("nobody was to be waited for"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_changes_no_error(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        launch(Told.anew(tmp_path / "gone"), lambda: None, KeyboardInterrupt())


# --- several workers ---------------------------------------------------------------------


class Toy(Run):
    """Random images, other ones for each worker."""

    def pairs(self, start: int, stop: int) -> Iterator[Pair]:
        for t in range(start, stop):
            image = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(2 * t + self.rank))
            yield Pair(Batch(image, image[:, 0].long()), image[:0])


def train(folder: Path, told: Told, asks: int = -1) -> list[int]:
    """Descend; worker `asks` asks for a stop at step AT.  The steps this worker made."""
    torch.manual_seed(0)
    net, made = nn.Conv2d(3, 1, 1), list[int]()

    def step(pair: Pair, t: int) -> Updates:
        made.append(t)
        if t == AT and parallel.rank() == asks:
            told.path.touch()
        yield "student", {"fit": (net(pair.source.image) - 1).square().mean()}

    run = Toy(small(), "warm_up", folder, pace=Pace(log=4, save=100), stop=told)
    with suppress(Stopped):
        fit(run, nn.ModuleDict({"student": net}), step, Plan(steps=STEPS, lr=0.1, schedule="constant", snapshots=1))
    return made


def worker(rank: int, folder: Path) -> None:
    """One of two: an undisturbed training, then one that this and one that the other worker is asked to stop."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {"calm": train(folder / "calm", Told(folder / "never"))}
    for asks in (0, 1):
        own = Told(folder / f"stop-{asks}-{rank}")  # a file that the other does not look at
        found[f"asked {asks}"] = train(folder / f"asked-{asks}", own, asks)
        found[f"again {asks}"] = train(folder / f"asked-{asks}", Told(folder / "never"))
    torch.save(found, folder / f"found-{rank}.pt")
    dist.barrier()  # who leaves first takes the connection of a slower one away
    dist.destroy_process_group()


@pytest.mark.slow
def test_all_workers_stop_at_one_step_whoever_was_asked(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(worker, (tmp_path,), nprocs=2)  # type: ignore[no-untyped-call]
    found, other = (torch.load(tmp_path / f"found-{rank}.pt") for rank in (0, 1))
    assert found == other
    assert found["calm"] == list(range(STEPS))
    for asks in (0, 1):
        assert found[f"asked {asks}"] == list(range(AT + 2)), "known one step later"
        assert found[f"again {asks}"] == list(range(AT + 2, STEPS))
        assert differing(left_by(tmp_path / "calm"), left_by(tmp_path / f"asked-{asks}")) == []
        assert told_by(tmp_path / "calm") == told_by(tmp_path / f"asked-{asks}")
        (kept,) = (tmp_path / f"asked-{asks}" / PRIVATE).glob("*.pt")
        assert int(kept.name[:8]) == AT + 2
