"""SYNTHIA to Cityscapes at the paper's size, 16 classes, 13 beside: `diga run synthia_cityscapes:diga`.

Weights as for GTA5 to Cityscapes.  Published: 60.2 mIoU over 16 classes, 67.9 over 13 (Table 2), which is
`diga ablate synthia_cityscapes:table2`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diga.recipe import Recipe, override
from diga.settings import Frames, Size
from diga.study import Study
from experiments import gta5_cityscapes
from experiments.diga import refined
from experiments.official import OFFICIAL

LOW, HIGH = (760, 1280), (1140, 1920)


def frames(low: int, high: int, scale: tuple[float, float] = (1.0, 1.0)) -> Frames:
    """SYNTHIA images of a batch at two resolutions."""
    (h, w), (H, W) = LOW, HIGH
    return Frames(sizes=(Size(images=low, height=h, width=w), Size(images=high, height=H, width=W)), scale=scale)


def diga() -> Recipe:
    """DiGA as the equations say, with the authors' weights and step counts for SYNTHIA."""
    target = gta5_cityscapes.frames
    changes: dict[str, Any] = {
        "name": "diga/synthia_cityscapes",
        "sources": ["synthia"],
        "classes": 16,
        "source_frames": frames(1, 2, scale=(0.7, 1.0)),
        "translator.own": 0.025,
        "translator.source_frames": frames(1, 1),
        "warm_up.batch": 4,
        "warm_up.source_frames": frames(1, 3),
        "warm_up.target_frames": target("target", 1, 3),
        "warm_up.distil": 0.25,
        "warm_up.alpha": 0.25,
        "warm_up.strong.jitter": 0.7,
        "warm_up.strong.grey": 0.1,
        "warm_up.plan.steps": 60_000,
        "self_training.alpha": 0.25,
        "self_training.source_frames": frames(1, 2, scale=(0.7, 1.0)),
        "self_training.target_frames": target("target", 1, 2),
    }
    return override(gta5_cityscapes.diga(), changes)


def official() -> Recipe:
    """The same with the quirks of the authors' code: hard pixels, and a rate that rises to the end of warm-up."""
    changes = {
        "warm_up.source_frames.gate": True,
        "warm_up.normalise": "hard",
        "warm_up.plan.schedule": "linear_ramp",
        "self_training.normalise": "hard",
    }
    return refined(override(diga(), OFFICIAL | gta5_cityscapes.AUTHORS | changes), "diga/synthia_cityscapes official")


def table2(seeds: Sequence[int] = (0, 1, 2)) -> Study:
    """Table 2: source-only, warm-up and self-training, and the same by the authors' code, class by class."""
    return gta5_cityscapes.by_class(
        "table2",
        diga(),
        official(),
        seeds,
        reference="diga_table2_synthia_cityscapes.csv",
        title="SYNTHIA to Cityscapes",
    )
