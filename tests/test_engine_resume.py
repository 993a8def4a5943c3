"""A stage that is killed or stopped, at any step, ends bit for bit where an unbroken one does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from diga import files
from diga.engine.run import Pace, Run
from diga.engine.stopping import Told, signalled
from diga.errors import Stopped
from diga.files import PRIVATE
from diga.pipeline import Place
from diga.recipe import override
from diga.types import Pair
from tests.conftest import Chain, differing, left_by, small, stage_run, told_by
from tests.tiny import LONG

STEPS, SAVE = 8, 3
PACE = Pace(log=2, save=SAVE, picture=100)
RECIPE = override(small(), {"self_training.plan.steps": STEPS, "self_training.plan.ramp": 3})
KILLS = (1, SAVE - 1, SAVE, SAVE + 1, STEPS - 1)


@dataclass
class Doomed(Run):
    """A run that kills its own process when it is asked for a step."""

    at: int = -1

    def pairs(self, start: int, stop: int) -> Iterator[Pair]:
        for t, pair in enumerate(super().pairs(start, stop), start):
            if t == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            yield pair


def carry_out(chain: Chain, folder: Path, at: int = -1) -> None:
    run = stage_run(chain, RECIPE, "self_training", folder)
    doomed = Doomed(run.recipe, run.stage, folder, run.inputs, run.data_root, run.cache, pace=PACE, at=at)
    RECIPE.stages["self_training"](doomed)


def die(root: Path, chain: Chain) -> None:
    """One child of this process a kill; the last one dies while it writes its second checkpoint."""
    for at in (*KILLS, 0):
        if (child := os.fork()) == 0:
            if at == 0:
                die_in_a_checkpoint(2 * SAVE)
            carry_out(chain, root / str(at), at or -1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (at, status)


def die_in_a_checkpoint(step: int) -> None:
    """Replace the rename that would finish it."""
    rename = files.os.replace

    def replace(temporary: str, path: Path) -> None:
        if path.name.startswith(f"{step:08d}."):
            os.kill(os.getpid(), signal.SIGKILL)
        rename(temporary, path)

    files.os.replace = replace  # type: ignore[assignment]


@pytest.fixture(scope="module")
def unbroken(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    carry_out(chain, folder)
    return folder


@pytest.fixture(scope="module")
def dead(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs, each named by the step at which it was killed; 0: in the midst of a checkpoint."""
    root = tmp_path_factory.mktemp("dead")
    words = [root, chain.place.home, chain.place.data, *(f"{k}={v}" for k, v in chain.folders.items())]
    here = {"cwd": Path(__file__).parents[1], "capture_output": True, "text": True, "timeout": LONG}
    done = subprocess.run([sys.executable, "-m", "tests.test_engine_resume", *map(str, words)], **here)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return root


def same_end(unbroken: Path, folder: Path) -> None:
    a, b = left_by(unbroken), left_by(folder)
    assert {name.split(".")[0] for name in a} == {"student", "teacher", "prototypes"}
    assert differing(a, b) == []
    rows = told_by(folder)
    assert [step for step, _ in rows] == list(range(STEPS))
    assert rows == told_by(unbroken)
    names = [sorted(p.name for p in (f / "snapshots").iterdir()) for f in (unbroken, folder)]
    assert names[0] == names[1]
    for name in names[0]:
        x, y = (torch.load(f / "snapshots" / name) for f in (unbroken, folder))
        assert all(torch.equal(x[k], y[k]) for k in x)


@pytest.mark.slow
@pytest.mark.parametrize("at", KILLS)
def test_killed_and_resumed_is_unbroken(chain: Chain, unbroken: Path, dead: Path, at: int) -> None:
    folder = dead / str(at)
    assert not (folder / "artifact.pt").exists()
    kept = sorted(int(p.name[:8]) for p in (folder / PRIVATE).glob("*.pt")) if (folder / PRIVATE).exists() else []
    assert kept == [s for s in (SAVE, 2 * SAVE) if s <= at]
    carry_out(chain, folder)
    same_end(unbroken, folder)


@pytest.mark.slow
def test_killed_in_the_midst_of_a_checkpoint(chain: Chain, unbroken: Path, dead: Path) -> None:
    folder = dead / "0"
    names = sorted(p.name for p in (folder / PRIVATE).iterdir())
    assert [name.endswith(".tmp") for name in names] == [False, True]
    carry_out(chain, folder)
    same_end(unbroken, folder)


@pytest.mark.parametrize("damage", ["one bit", "half", "empty"])
def test_a_damaged_checkpoint_costs_steps_and_nothing_else(
    chain: Chain, unbroken: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stop(Exception):
        pass

    @dataclass
    class Stopped(Doomed):
        def pairs(self, start: int, stop: int) -> Iterator[Pair]:
            for t, pair in enumerate(Run.pairs(self, start, stop), start):
                if t == STEPS - 1:
                    raise Stop
                yield pair

    run = stage_run(chain, RECIPE, "self_training", tmp_path)
    with pytest.raises(Stop):
        RECIPE.stages["self_training"](
            Stopped(run.recipe, run.stage, tmp_path, run.inputs, run.data_root, run.cache, pace=PACE)
        )
    newest = max((tmp_path / PRIVATE).glob("*.pt"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 3] ^= 16
    newest.write_bytes({"one bit": bytes(content), "half": content[: len(content) // 2], "empty": b""}[damage])
    carry_out(chain, tmp_path)
    assert f"warning: {newest}" in capsys.readouterr().out
    same_end(unbroken, tmp_path)


# --- asked to stop ---------------------------------------------------------------------------


@dataclass
class Asked(Run):
    """A run that is asked to stop while it makes a step, and remembers where it began."""

    at: int = -1
    ask: Callable[[], None] = lambda: None
    began: list[int] = field(default_factory=list)

    def pairs(self, start: int, stop: int) -> Iterator[Pair]:
        self.began.append(start)
        for t, pair in enumerate(super().pairs(start, stop), start):
            if t == self.at:
                self.ask()
            yield pair


@pytest.mark.parametrize("at", [0, SAVE - 1, SAVE + 1, STEPS - 1])
@pytest.mark.parametrize("way", ["signal", "file"])
def test_stopped_it_saves_at_its_step_and_goes_on_there(
    chain: Chain, unbroken: Path, tmp_path: Path, way: str, at: int
) -> None:
    run, told = stage_run(chain, RECIPE, "self_training", tmp_path / "run"), Told(tmp_path / "stop")
    stop, ask, ending = {
        "signal": (signalled, lambda: signal.raise_signal(signal.SIGINT), KeyboardInterrupt),
        "file": (told, told.path.touch, Stopped),
    }[way]
    where = (run.recipe, run.stage, run.folder, run.inputs, run.data_root, run.cache)
    asked = Asked(*where, pace=PACE, stop=stop, at=at, ask=ask)
    with pytest.raises(ending):
        RECIPE.stages["self_training"](asked)
    assert not (run.folder / "artifact.pt").exists()
    assert max(int(p.name[:8]) for p in (run.folder / PRIVATE).glob("*.pt")) == at + 1
    assert [step for step, _ in told_by(run.folder)] == list(range(at + 1)), "no loss of a step is lost"
    again = Asked(*where, pace=PACE)
    RECIPE.stages["self_training"](again)
    assert again.began == [at + 1]
    same_end(unbroken, run.folder)


if __name__ == "__main__":
    torch.set_num_threads(1)
    root, home, data, *pairs = sys.argv[1:]
    folders = {name: Path(path) for name, _, path in (p.partition("=") for p in pairs)}
    die(Path(root), Chain(small(), Place(Path(home), Path(data)), folders))
