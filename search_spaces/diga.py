"""What may vary in DiGA.  A parameter's name is its path in the recipe; the stages are those of `experiments.diga`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diga.space import Trial

MASKS = ("classes", "cut", "grid", "noise", "none", "everything")


def warm_up(trial: Trial) -> None:
    """Symmetric distillation: how much, back and forth, how slow a teacher, how strong a view, which mask."""
    trial.suggest_float("warm_up.distil", 0.05, 2.0, log=True)
    trial.suggest_float("warm_up.alpha", 0.0, 1.0)
    trial.suggest_float("warm_up.ema", 0.9, 0.999)
    trial.suggest_float("warm_up.strong.blend", 0.2, 1.0)
    mask(trial, "warm_up.mask")
    trial.suggest_float("warm_up.plan.lr", 5e-4, 1e-2, log=True)


def self_training(trial: Trial) -> None:
    """Self-training: distillation, teacher, centroids, the target's view, which source pixels stand in front of it."""
    trial.suggest_float("self_training.distil", 0.05, 2.0, log=True)
    trial.suggest_float("self_training.ema", 0.9, 0.999)
    trial.suggest_float("self_training.delta", 0.9, 0.9999)
    trial.suggest_float("self_training.strong.blend", 0.2, 1.0)
    mask(trial, "self_training.mix")
    trial.suggest_float("self_training.plan.lr", 2.5e-4, 8e-3, log=True)


def mask(trial: Trial, path: str) -> None:
    """The mixing-mask strategy: its kind, and what that kind alone has."""
    kind = trial.suggest_categorical(f"{path}.kind", MASKS)
    if kind in ("classes", "cut", "grid", "noise"):
        trial.suggest_float(f"{path}.fraction", 0.2, 0.8)
    if kind in ("grid", "noise"):
        trial.suggest_int(f"{path}.side", 4, 16, log=True)
