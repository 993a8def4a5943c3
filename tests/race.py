"""Two launches of one study at a time, in two processes, again and again: `python -m tests.race HOME REPEATS`."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from diga.launch.crew import Alone
from diga.plan import StageRun
from tests import tiny

LONGEST = tiny.LONG  # seconds one launch may let the other wait
OFFSETS = (0, 0.005, 0.05)  # seconds between the two starts


def trivial(run: StageRun, work: Path, inputs: Any, place: Any, progress: Any) -> dict[str, Any]:
    """A stage of three milliseconds that notes in a diary that it was carried out."""
    with (place.home / "diary").open("ab", buffering=0) as diary:
        diary.write(f"{run.fingerprint}\n".encode())
    time.sleep(0.003)
    (work / "artifact.pt").write_bytes(run.fingerprint.encode())
    (work / "scores.json").write_text('{"streets/cityscapes/plain/last/miou": 0.5}')
    return {}


def take_part(homes: list[tuple[Path, float]], both: Any) -> None:
    """Launch the study in each home, so much after the other one."""
    study = tiny.study(("a", tiny.recipe()), ("b", tiny.recipe(train__plan__lr=2e-3)))
    for home, delay in homes:
        place = tiny.Place(home, tiny.data())
        both.wait()
        time.sleep(delay)
        _, states, _ = tiny.launch(study, place, lambda place=place: nullcontext(Alone(place, trivial)))
        assert states == {"done": 2}, states


def race(root: Path, repeats: int) -> list[tuple[Path, float]]:
    """The homes, each with the offset, after both launches in all of them."""
    spawn = multiprocessing.get_context("spawn")
    both, homes = spawn.Barrier(2, timeout=LONGEST), []
    for offset in OFFSETS:
        for repeat in range(repeats):
            (folder := root / f"{offset}-{repeat}").mkdir()
            homes.append((tiny.place(folder).home, offset))
    data = tiny.data()
    parts = [[(h, 0.0) for h, _ in homes], homes]
    crowd = [spawn.Process(target=on_data, args=(data, part, both)) for part in parts]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join(LONGEST * len(homes))
        assert process.exitcode == 0
    return homes


def on_data(data: Path, homes: list[tuple[Path, float]], both: Any) -> None:
    """Take part, on the town of the process that started this one."""
    tiny.data = lambda: data  # type: ignore[assignment]
    take_part(homes, both)


def executions(home: Path) -> Counter[str]:
    """How often each stage was carried out."""
    return Counter((home / "diary").read_text().split())


def check(home: Path) -> None:
    """Four distinct stages, each carried out once; one run of MLflow each, and one a cell."""
    found = executions(home)
    assert set(found) == set(tiny.manifests(home))
    assert set(found.values()) == {1}, found
    assert len(found) == 4
    where = tiny.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    assert len(tiny.runs(where, tiny.STAGES)) == 4
    assert len(tiny.runs(where, "diga/tiny", "cell")) == 2
    assert {c.data.tags["status"] for c in tiny.runs(where, "diga/tiny", "cell")} == {"done"}


if __name__ == "__main__":
    begun = time.monotonic()
    raced = race(Path(sys.argv[1]), int(sys.argv[2]))
    for place_, _ in raced:
        check(place_)
    total = sum(executions(home).total() for home, _ in raced)
    distinct = sum(len(executions(home)) for home, _ in raced)
    print(f"{len(raced)} races: {total} executions, {distinct} distinct stages, {time.monotonic() - begun:.0f} s")
