"""A look at a stage that costs seconds: its first steps and its last ones, on a few real images, on the CPU.

Everything else is as in a full run, rates and schedules too: a stage is not told that it is looked at.
What it leaves is worth nothing but to be compared, or timed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diga.data.domain import Domain, Sample
from diga.data.streams import images
from diga.engine import checkpoint, protocols
from diga.engine.label_free import spread
from diga.engine.labelling import highest
from diga.engine.run import Pace, Run
from diga.errors import ConfigError, DataError
from diga.files import PRIVATE, SPOOL
from diga.plan import StageRun
from diga.recipe import Recipe, override, plain
from diga.stage import ref_fields
from diga.types import Pair

SMALL = 128 * 256  # pixels of a crop above which it is cut down to a quarter a side, then again
GRID = 32  # sides stay multiples of this
STEPS, IMAGES = 2, 4


@dataclass
class Glimpse(Run):
    """A run that stops after `steps` steps from where it starts, and sees `few` images of each domain and split."""

    steps: int = STEPS
    few: int = IMAGES
    clock: list[float] = field(default_factory=list)

    def domain(self, name: str) -> Domain:
        """The dataset, with evenly spread images of each split."""
        whole = super().domain(name)
        stems = [[sample.stem for sample in listed(whole, split)] for split in ("train", "val")]
        kept = {some[place] for some in stems for place in spread(len(some), self.few)}
        return whole.without(stem for some in stems for stem in some if stem not in kept)

    def pairs(self, start: int, stop: int) -> Iterator[Pair]:
        """The first few of the batches that were asked for."""
        for pair in super().pairs(start, min(stop, start + self.steps)):
            self.clock.append(time.perf_counter())
            yield pair

    def picture(self, t: int, name: str, make: Callable[[], Mapping[str, Tensor]]) -> None:
        """None."""

    def watch(self, t: int, make: Callable[[], Mapping[str, Tensor]]) -> None:
        """Losses are enough."""


def listed(domain: Domain, split: str) -> tuple[Sample, ...]:
    """The samples of a split, or none where it has none."""
    try:
        return domain.samples(split, labelled=False)
    except DataError:
        return ()


def shrunk(recipe: Recipe) -> Recipe:
    """The recipe with crops a CPU can bear, where its stages take them."""
    height, width = recipe.crop
    while height * width > SMALL:
        height, width = (max(GRID, side // 2 // GRID * GRID) for side in (height, width))
    try:
        return override(recipe, {"crop": [height, width]}) if (height, width) != recipe.crop else recipe
    except ConfigError:
        return recipe


def look(
    run: StageRun, folder: Path, inputs: Mapping[str, Path], data: Path, steps: int = STEPS, few: int = IMAGES
) -> str:
    """Carry a stage out as far as a look goes; what it came to, as hexadecimal digits.

    A stage that trains is looked at where it starts and, from there on, where its schedule ends.
    """
    if threads := os.environ.get("DIGA_THREADS"):
        torch.set_num_threads(int(threads))
    pace = Pace(log=1, save=steps)

    def go() -> Glimpse:
        own = Glimpse(run.recipe, run.name, folder, inputs, data, None, pace=pace, steps=steps, few=few)
        run.stage(own)
        return own

    if run.stage.scores():
        return tested(Glimpse(run.recipe, run.name, folder, inputs, data, None, steps=steps, few=few))
    go()
    state = checkpoint.latest(folder / PRIVATE, torch.device("cpu"))
    if state is not None and run.steps > 2 * steps:
        late = run.steps - steps
        checkpoint.save(folder / PRIVATE, late, state | {"step": late})
        go()
    shutil.rmtree(folder / PRIVATE, ignore_errors=True)
    return left(folder)


def tested(run: Glimpse) -> str:
    """What a scoring stage makes of the network it scores: its soft decision on validation images, and its fields."""
    stage: Any = run.own
    net = run.segmenter(stage.of).eval()
    protocol, found = getattr(protocols, stage.protocol), hashlib.sha256()
    with torch.no_grad():
        for name in stage.scores():
            for _, image in images(run.domain(name), "val", 1):
                maps = protocol(net, image, run.recipe.align_corners)
                found.update(highest(maps, image, run.recipe.align_corners).numpy().tobytes())
    rest = {k: v for k, v in plain(stage).items() if k not in ("protocol", *ref_fields(type(run.own)))}
    found.update(json.dumps(rest, sort_keys=True).encode())
    return found.hexdigest()


def left(folder: Path) -> str:
    """Digest of what a stage left: losses, weights, labels, paintings; not of times and rates."""
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        found.update(str(path.relative_to(folder)).encode())
        if path.name == SPOOL:
            rows = [json.loads(line)["values"] for line in path.read_text().splitlines()]
            found.update(json.dumps([{k: v for k, v in row.items() if k != "lr"} for row in rows]).encode())
        elif path.suffix == ".pt":
            for name, x in tensors(checkpoint.read_weights(path)):
                found.update(name.encode() + x.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        else:
            found.update(path.read_bytes())
    return found.hexdigest()


def tensors(state: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a nested document by its path."""
    for name, value in state.items():
        if isinstance(value, Mapping):
            yield from tensors(value, f"{prefix}{name}.")
        elif isinstance(value, Tensor):
            yield f"{prefix}{name}", value
