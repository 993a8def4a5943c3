"""What a stage costs in floating-point operations: forwards of its networks, counted from its fields.

A backward is two forwards and a multiplication with its addition two operations, so an update of a
network on N images is 3 N forwards.  Counted are segmentation networks and adversarial painters;
augmentation, losses, optimizers, judges' own weights, pseudo-labels and scoring are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from diga.plan import StageRun, distinct
from diga.recipe import Recipe

EXA = 1e18
NETWORKS = {  # multiplications with addition of one forward, by pixel of the image, 19 classes
    "streetnet": 7_941.0,
    "streetnet_aux": 8_017.0,
    "deeplab_resnet101": 1_048_928.0,
    "deeplab_resnet101_official": 1_048_928.0,
    "deeplab_v2_adapter": 763_940.0,
    "hrnet_w48_ocr": 617_670.0,
}
UPDATE = 3  # forwards of an image that a network learns from
CYCLES = 5 * UPDATE  # forwards of the painter for a source and a target image: 4 encodings and 6 decodings, and back


class Forwards(NamedTuple):
    """Of one image each, in one step."""

    network: float = 0.0
    painter: float = 0.0


def painter(width: int, blocks: int) -> float:
    """Multiplications with addition by pixel of the adversarial translator's way from one domain to the other."""
    return (36 * blocks + 116) * width**2 + 294 * width


def _leaks(stage: Any) -> int:
    return 1 if "target" in stage.statistics.update else 0


def _painted(stage: Any) -> int:
    return 1 if stage.translator else 0


# forwards of one source image and one target image in a step, by class of stage
STEPS: dict[str, Callable[[Any], Forwards]] = {
    "Translator": lambda s: Forwards(0, CYCLES),
    "SourceOnly": lambda s: Forwards(UPDATE + _leaks(s)),
    "WarmUp": lambda s: Forwards(2 * UPDATE + (2 if s.instructor == "teacher" else 0) + _leaks(s), _painted(s)),
    "SelfTraining": lambda s: Forwards(3 * UPDATE + 3, _painted(s)),
    "AdversarialWarmUp": lambda s: Forwards((2 + _painted(s)) * UPDATE, _painted(s)),
    "Centroids": lambda s: Forwards(1, _painted(s)),
    "Bridge": lambda s: Forwards(2 * UPDATE + 1 + _leaks(s)),
    "CrossPath": lambda s: Forwards(2 * UPDATE + len(s.teachers) + _leaks(s)),
}


def operations(run: StageRun) -> float | None:
    """Floating-point operations of a stage run; 0 for one that is not counted, None where a network is not known."""
    stage: Any = run.stage
    steps = run.steps or getattr(stage, "steps", 0)
    if run.kind not in STEPS or getattr(stage, "images", "") == "target_pred":
        return None if run.steps else 0.0
    each, recipe = STEPS[run.kind](stage), run.recipe
    if each.network and recipe.model not in NETWORKS:
        return None
    images = stage.draws(recipe).batch * steps
    by_pixel = each.network * NETWORKS.get(recipe.model, 0.0) + each.painter * _painting(stage, recipe)
    return float(2.0 * by_pixel * recipe.crop[0] * recipe.crop[1] * images)


def exaflop(chain: Iterable[StageRun]) -> float | None:
    """What a chain costs from its start, in 1e18 operations of its networks; None where one is not known."""
    costs = [operations(run) for run in chain]
    return None if None in costs else sum(cost for cost in costs if cost) / EXA


def _painting(stage: Any, recipe: Recipe) -> float:
    """What a forward of the painter costs by pixel; nothing for one in closed form, or for stored paintings."""
    painting: Any = recipe.stages[stage.translator] if getattr(stage, "translator", None) else stage
    return painter(painting.width, painting.blocks) if type(painting).__name__ == "Translator" else 0.0


def compared(
    cells: Iterable[Sequence[StageRun]], cost: Callable[[StageRun], float | None] = operations
) -> tuple[float, float] | None:
    """What cells cost each for itself, and with every distinct stage run once; None where one is unknown."""
    runs = [run for chain in cells for run in chain]
    prices = {run.fingerprint: cost(run) for run in distinct(runs).values()}
    known = {fingerprint: price for fingerprint, price in prices.items() if price is not None}
    if len(known) < len(prices):
        return None
    return sum(known[run.fingerprint] for run in runs), sum(known.values())
