"""How a stage can fail: each class in its own manner, noted for the next launch, and never by changing what it is."""

from __future__ import annotations

import errno
from contextlib import nullcontext

import pytest

from diga.errors import ConfigError, DataError, DigaError, Diverged, StorageError
from diga.launch import failures
from diga.launch.crew import Alone, attempt
from diga.launch.failures import LASTING, MANNERS, Ended, OutOfMemory, WorkerDied, foreseen, forget, kind_of, noted
from diga.launch.order import ranks
from diga.launch.resources import Allotment, Resources, allotment, made
from diga.launch.studies import Launch
from diga.pipeline import inline
from tests import tiny

EXAMPLES = {
    "memory": OutOfMemory("worker", "killed"),
    "death": WorkerDied("worker", "killed"),
    "divergence": Diverged("train step 3", "loss/source is nan"),
    "data": DataError("a.png", "damaged"),
    "storage": StorageError("disk", "full"),
    "setting": ConfigError("batch", "found 0"),
    "other": Ended("stage", "ZeroDivisionError"),
}


@pytest.mark.parametrize("kind", MANNERS)
def test_every_class_has_an_example_that_comes_back_from_its_note(tmp_path, kind):
    store, example = tiny.place(tmp_path).store, EXAMPLES[kind]
    assert kind_of(example) == kind
    failures.note(store, "ab12cd34ab12cd34", example, 2)
    back = noted(store, "ab12cd34ab12cd34")
    assert back is not None
    assert (kind_of(back), str(back), back.code) == (kind, str(example), MANNERS[kind].error.code)
    forget(store, "ab12cd34ab12cd34", MANNERS.keys() - {kind})
    assert noted(store, "ab12cd34ab12cd34"), "another class is not meant"
    forget(store, "ab12cd34ab12cd34", {kind})
    assert noted(store, "ab12cd34ab12cd34") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"class": "unknown", "line": []}', '{"class": "data"}'])
def test_a_note_that_cannot_be_read_stops_nothing(tmp_path, text):
    store = tiny.place(tmp_path).store
    path = failures.noted_at(store, "ab12cd34ab12cd34")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert noted(store, "ab12cd34ab12cd34") is None
    forget(store, "ab12cd34ab12cd34", ())
    assert not path.exists()


def test_what_runs_out_of_memory_is_known():
    for failure in (
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: 8 bytes"),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory."),
    ):
        assert kind_of(foreseen(failure, "stage")) == "memory"
    assert kind_of(foreseen(RuntimeError("shape"), "stage")) == "other"


class Failing:
    """A launch that fails so often with an error, and then does what it should; it remembers what it was asked."""

    def __init__(self, times: int, failure: Exception) -> None:
        self.times, self.failure, self.facts = times, failure, []

    def __call__(self, run, work, inputs, place, progress):
        self.facts.append(run.facts)
        if len(self.facts) <= self.times:
            raise self.failure
        return inline(run, work, inputs, place, progress)


@pytest.mark.parametrize("kind", MANNERS)
def test_each_class_is_tried_as_often_as_the_table_says(tmp_path, kind):
    place, tries = tiny.place(tmp_path), MANNERS[kind].tries
    failing = Failing(10**6, EXAMPLES[kind])
    launched, states, seen = tiny.launch(tiny.study(), place, lambda: nullcontext(Alone(place, failing)))
    assert states == {"failed": 1}
    assert len(failing.facts) == tries
    assert [t for _, t in seen.tried] == list(range(1, tries))
    assert all(facts == failing.facts[0] for facts in failing.facts), "no try changes what a stage is"
    assert bool(launched.wider) == MANNERS[kind].wider
    (cell,) = tiny.runs(tiny.client(place), "diga/tiny", "cell")
    assert (cell.data.tags["failure"], cell.data.tags["status"]) == (kind, "failed")

    launched = Launch(tiny.study(), place)
    tracker, hands = tiny.Tracker(tiny.uri(place), place.home / "mlflow-artifacts"), tiny.Seen()
    crew = lambda: nullcontext(Alone(place))  # noqa: E731
    states = launched(tracker, crew, hands, retry=MANNERS.keys() - LASTING)
    assert states == ({"failed": 1} if kind in LASTING else {"done": 1}), "what lasts is not tried by typing it again"
    assert len(launched.errors()) == (kind in LASTING)
    if kind in LASTING:
        assert str(launched.errors()[0][1]) == str(EXAMPLES[kind])
        _, states, _ = tiny.launch(tiny.study(), place)
        assert states == {"done": 1}
    (cell,) = tiny.runs(tiny.client(place), "diga/tiny", "cell")
    assert (cell.data.tags["failure"], cell.data.tags["status"]) == ("", "done")
    assert not list(place.store.root.glob("*/*.failed"))


def test_a_stages_own_oserror_keeps_its_message_and_a_full_disk_is_the_disks(tmp_path):
    place = tiny.place(tmp_path)
    (run, *_) = place.stage_runs(tiny.recipe())
    own = attempt(run, place, Failing(1, FileNotFoundError(errno.ENOENT, "No such file or directory", "/weights.pt")))
    assert kind_of(own) == "other"
    assert "FileNotFoundError: [Errno 2] No such file or directory: '/weights.pt'" in str(own)
    for number in (errno.ENOSPC, errno.EROFS, errno.EDQUOT):
        disk = attempt(run, place, Failing(1, OSError(number, "the disk's answer")))
        assert kind_of(disk) == "storage"
        assert "the disk's answer" in str(disk)
        assert "bytes are free" in str(disk)


# --- diga retry ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_retry_tries_the_class_it_is_told_as_it_was_launched(tmp_path):
    place = tiny.place(tmp_path)
    tiny.launch(tiny.with_a_failure(), place)
    before = tiny.marks(place.home)
    typed = lambda *words: tiny.typed(place.home, "retry", *words)  # noqa: E731
    assert typed("tiny", "--class", "memory") == (
        0,
        "tiny: nothing failed of class memory; 1 of class divergence\n",
        "",
    )
    assert tiny.marks(place.home) == before
    code, said, errors = typed("tiny", "--class", "divergence", "--inline")
    assert code == 6, said
    assert "1 cells failed: divergence" in errors
    assert tiny.marks(place.home) == before
    assert said.count("failed:") == 1, "it was tried again"
    code, _, errors = typed("tiny", "--class", "divergense")
    assert (code, "did you mean 'divergence'?" in errors) == (2, True)
    code, _, errors = typed("tinny")
    assert (code, "did you mean 'tiny'?" in errors) == (2, True)


@pytest.mark.slow
def test_retry_finishes_what_can_be_finished(tmp_path):
    place = tiny.place(tmp_path)
    study = tiny.study(("a", tiny.recipe()), ("b", tiny.recipe(train__plan__lr=2e-3)), seeds=(0, 4))
    failing = Failing(1, OSError(errno.ENOSPC, "No space left on device"))
    _, states, _ = tiny.launch(study, place, lambda: nullcontext(Alone(place, failing)))
    assert states == {"done": 3, "failed": 1}
    before = tiny.marks(place.home)
    code, said, errors = tiny.typed(place.home, "retry", "tiny", "--inline")
    assert (code, errors) == (0, "")
    assert "6 of 8 stages were there" in said
    assert "4 of 4 cells done" in said
    assert before.items() <= tiny.marks(place.home).items()
    assert tiny.typed(place.home, "retry", "tiny")[1] == "tiny: nothing failed\n"


# --- resources and order ---------------------------------------------------------------------------


def test_resources_as_they_are_typed():
    given = allotment(made(2, 0), ["train:gpus=0.5,workers=2", "Score:cpus=0.25"])
    recipe = tiny.recipe()
    assert given.of("train", recipe.stages["train"]) == Resources(cpus=2, gpus=0.5, workers=2)
    assert given.of("score", recipe.stages["score"]) == Resources(cpus=0.25)
    assert given.of("train", recipe.stages["train"]).total() == {"CPU": 4, "GPU": 1}
    given.suits(tiny.study())
    everywhere = Allotment(default=Resources(workers=2))
    assert everywhere.of("score", recipe.stages["score"]).workers == 0, "it cannot be shared"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("train", "STAGE:KEY=VALUE"),
        (":gpus=1", "STAGE:KEY=VALUE"),
        ("train:gpu=1", "did you mean 'gpus'?"),
        ("train:gpus=x", "found 'x'"),
        ("train:gpus=1.5", "whole ones"),
        ("train:gpus=-1", "greater than or equal to 0"),
        ("train:gpus=nan", "gpus"),
        ("train:workers=1.5", "a whole number"),
        ("trian:gpus=1", "did you mean 'train'?"),
        ("train:workers=3", "a divisor of the batch of 2"),
    ],
)
def test_resources_that_cannot_be_meant(text, part):
    with pytest.raises(ConfigError) as caught:
        allotment(Resources(), [text]).suits(tiny.study())
    assert part in str(caught.value)


def test_resources_are_no_part_of_what_a_stage_is(tmp_path):
    place = tiny.place(tmp_path)
    assert not {"cpus", "gpus", "workers"} & set(str(place.stage_runs(tiny.recipe())[0].facts))
    assert all(name not in str(run.facts) for run in place.stage_runs(tiny.recipe()) for name in ("cpus", "gpus"))


def test_the_row_that_is_nearest_to_complete_comes_first(tmp_path):
    place = tiny.place(tmp_path)
    study = tiny.study(("a", tiny.recipe()), ("b", tiny.recipe(train__plan__lr=2e-3)), seeds=(0, 1))
    launched = Launch(study, place)
    (a0, b0, a1, b1) = [[run.fingerprint for run in runs] for _, runs in launched.cells]
    first = ranks(launched.cells, set(), "rows")
    assert sorted(first, key=lambda f: first[f]) == [*a0, *a1, *b0, *b1], "the first row, seed by seed"
    half = ranks(launched.cells, {*b0}, "rows")
    assert sorted(half, key=lambda f: half[f]) == [*b1, *a0, *a1], "b misses two, a four"
    seeds = ranks(launched.cells, {b1[0]}, "seeds")
    assert sorted(seeds, key=lambda f: seeds[f]) == [*a0, *b0, b1[1], *a1], "the first seed, then what is begun"


def test_a_stage_of_two_rows_is_as_urgent_as_the_nearer_one(tmp_path):
    place = tiny.place(tmp_path)
    study = tiny.study(("a", tiny.recipe()), ("b", tiny.recipe(score__samples=0)))
    launched = Launch(study, place)
    ((train, score_a), (_, score_b)) = [[run.fingerprint for run in runs] for _, runs in launched.cells]
    found = ranks(launched.cells, {score_b}, "rows")
    assert found[train] < found[score_a]
    assert isinstance(DigaError("a", "b"), MANNERS["other"].error)
