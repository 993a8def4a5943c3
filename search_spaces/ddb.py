"""What may vary in DDB: its two paths, together or one alone, and the student of both.

The stages are those of one round of `experiments.ddb`: `cut_1`, `classes_1`, `student_1`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diga.space import Trial

KINDS = ("classes", "cut", "grid", "noise", "cow", "fourier")


def cut_path(trial: Trial) -> None:
    """The coarse path."""
    path(trial, "cut_1")


def class_path(trial: Trial) -> None:
    """The fine path."""
    path(trial, "classes_1")


def path(trial: Trial, stage: str) -> None:
    """A path: its mask, whom it trusts and how far, how slow its teacher is, how hard the mixed image is disturbed."""
    kind = trial.suggest_categorical(f"{stage}.mask.kind", KINDS)
    trial.suggest_float(f"{stage}.mask.fraction", 0.2, 0.8)
    if kind in ("grid", "noise", "cow"):
        trial.suggest_int(f"{stage}.mask.side", 4, 16, log=True)
    trust = trial.suggest_categorical(f"{stage}.trust", ("fraction", "pixel", "one"))
    if trust != "one":
        trial.suggest_float(f"{stage}.threshold", 0.5, 0.99)
    trial.suggest_float(f"{stage}.ema", 0.9, 0.999)
    trial.suggest_float(f"{stage}.photometric.strength", 0.0, 0.5)
    trial.suggest_float(f"{stage}.plan.lr", 5e-5, 8e-3, log=True)


def student(trial: Trial) -> None:
    """Cross-path distillation: hard or soft, rectified where, how sharply, how hard the image is disturbed."""
    if trial.suggest_categorical("student_1.target", ("hard", "soft")) == "soft":
        trial.suggest_float("student_1.soft_weight", 0.01, 1.0, log=True)
        trial.suggest_float("student_1.soft_temperature", 0.5, 4.0, log=True)
    trial.suggest_categorical("student_1.rectify", ("probabilities", "logits"))
    trial.suggest_float("student_1.temperature", 0.25, 4.0, log=True)
    trial.suggest_float("student_1.photometric.strength", 0.0, 0.5)
    trial.suggest_float("student_1.plan.lr", 5e-5, 8e-3, log=True)
