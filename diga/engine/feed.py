"""What a step is fed: pairs as the recipe and the stage draw them, with what earlier stages stored of their images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diga.data import streams
from diga.types import Batch, Guess, Pair

if TYPE_CHECKING:
    from diga.engine.run import Run


def pairs(run: Run, start: int, stop: int) -> Iterator[Pair]:
    """This worker's rows of the global batches of steps start … stop - 1, in main memory."""
    recipe, stage, read = run.recipe, run.own, run.own.reads()
    stream = streams.PairStream(
        [run.domain(d) for d in recipe.sources if "source" in read],
        [run.domain(d) for d in recipe.targets if "target" in read],
        crop=recipe.crop,
        source_frames=run.draws.source,
        target_frames=run.draws.target,
        flip=recipe.flip,
        batch=run.draws.batch,
        seed=run.entropy,
        classes=recipe.classes,
        rank=run.rank,
        world=run.world,
        guesses=left_by(run, stage.guesses()),
        asks=stage.asks(),
        paintings=paintings(run),
        read=read,
        sampling=recipe.sampling,
    )
    yield from streams.loader(stream, start, stop, run.pace.loaders, run.device.type == "cuda")


def left_by(run: Run, ref: str | None) -> Path | None:
    """The folder of an earlier stage."""
    return run.inputs[ref] if ref else None


def paintings(run: Run) -> Path | None:
    """Folder of the painted source images, where the stage that paints has stored them."""
    ref = run.own.paints()
    return run.inputs[ref] / "paintings" if ref and run.stage_of(ref).stored else None


def placed(pair: Pair, device: torch.device) -> Pair:
    """The pair on the device."""

    def place(x: Tensor | None) -> Any:
        return None if x is None else x.to(device, non_blocking=True)

    guess = None if pair.guess is None else Guess(*map(place, pair.guess))
    return Pair(Batch(*map(place, pair.source)), place(pair.target), guess)
