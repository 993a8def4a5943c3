"""What may vary in DiGA.  A parameter's name is its path in the recipe; the stages are those of `experiments.diga`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diga.space import Trial

MASKS = ("classes", "cut", "grid", "noise", "cow", "fourier", "none", "everything")


def warm_up(trial: Trial) -> None:
    """Symmetric distillation: how much, back and forth, how slow a teacher, how strong a view, which mask."""
    trial.suggest_float("warm_up.distil", 0.05, 2.0, log=True)
    trial.suggest_float("warm_up.alpha", 0.0, 1.0)
    trial.suggest_float("warm_up.ema", 0.9, 0.999)
    trial.suggest_float("warm_up.strong.blend", 0.2, 1.0)
    mask(trial, "warm_up.mask")
    trial.suggest_float("warm_up.plan.lr", 1e-4, 1e-2, log=True)


def self_training(trial: Trial) -> None:
    """Self-training: distillation, teacher, centroids, the target's view, which source pixels stand in front of it."""
    trial.suggest_float("self_training.distil", 0.05, 2.0, log=True)
    trial.suggest_float("self_training.alpha", 0.0, 1.0)
    trial.suggest_float("self_training.ema", 0.9, 0.999)
    trial.suggest_float("self_training.delta", 0.9, 0.9999)
    trial.suggest_float("self_training.strong.blend", 0.2, 1.0)
    mask(trial, "self_training.mix")
    trial.suggest_float("self_training.plan.lr", 1e-4, 8e-3, log=True)


def labels(trial: Trial) -> Mapping[str, Any]:
    """The rule that makes target labels, what that rule alone weighs, and how slow centroids are."""
    rule = trial.suggest_categorical(
        "self_training.rule", ("consensus", "warm_up", "feature", "bdl", "proda", "fraction")
    )
    trial.suggest_float("self_training.delta", 0.9, 0.9999)
    if rule == "bdl":
        trial.suggest_float("self_training.trust.quantile", 0.1, 0.9)
        trial.suggest_float("self_training.trust.cap", 0.7, 0.99)
    if rule == "proda":
        trial.suggest_float("self_training.trust.temperature", 0.25, 4.0, log=True)
    if rule == "fraction":
        trial.suggest_float("self_training.trust.threshold", 0.5, 0.99)
    kept = {"bdl": ("confidence",), "proda": ("probabilities",)}
    return {"labels.keep": kept[rule]} if rule in kept else {}


def length(trial: Trial) -> None:
    """How long both trainings are: `--objective target --objective compute` has what a point of mIoU costs."""
    trial.suggest_int("warm_up.plan.steps", 100, 1000, log=True)
    trial.suggest_int("self_training.plan.steps", 100, 800, log=True)


def mask(trial: Trial, path: str) -> None:
    """The mixing-mask strategy: its kind, and what that kind alone has."""
    kind = trial.suggest_categorical(f"{path}.kind", MASKS)
    if kind not in ("none", "everything"):
        trial.suggest_float(f"{path}.fraction", 0.2, 0.8)
    if kind in ("grid", "noise", "cow"):
        trial.suggest_int(f"{path}.side", 4, 16, log=True)
