"""What the authors' code of DiGA does where the equations say otherwise, each quirk a set of fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# by what it is about: fields of a DiGA recipe and their official values (docs/quirks.md tells the story of each)
QUIRKS: Mapping[str, Mapping[str, Any]] = {
    "cross-entropy over all pixels": {"warm_up.normalise": "all", "self_training.normalise": "all"},
    "target moves batch norm": {"warm_up.statistics.update": ["views", "target"]},
    "void is counted": {
        "warm_up.mask.void": "counted",
        "self_training.mask.void": "counted",
        "self_training.mix.void": "counted",
    },
    "legacy augmentation": {"warm_up.strong.ranges": "legacy", "self_training.strong.ranges": "legacy"},
    "crops of three classes": {"source_frames.gate": True},
    "backbone thrice as fast": {"warm_up.plan.backbone": 3.0, "self_training.plan.backbone": 3.0},
    "distillation at pixels": {"warm_up.distil_at": "pixels", "self_training.distil_at": "pixels"},
    "corners aligned": {"align_corners": True},
    "centroids of target predictions": {"centroids.images": "target_pred"},
    "centroids average images": {"centroids.average": "images"},
    "five cells a class": {"centroids.least": 5, "self_training.least": 5},
    "unseen classes at the origin": {"self_training.unseen": "origin"},
    "centroids of agreed cells": {"self_training.agreed": True},
    "target centroids first": {"self_training.order": "target_first"},
}
OFFICIAL: dict[str, Any] = {path: value for changes in QUIRKS.values() for path, value in changes.items()}
