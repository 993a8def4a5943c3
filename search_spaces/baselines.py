"""What may vary in what methods are compared with: training on the source alone, and adversarial warm-up.

Both stand in the place of DiGA's warm-up, under its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diga.space import Trial


def source_only(trial: Trial) -> None:
    """How fast it descends, by which optimizer, how strongly weights decay."""
    trial.suggest_float("warm_up.plan.lr", 1e-4, 1e-1, log=True)
    trial.suggest_categorical("warm_up.plan.optimizer", ("sgd", "adamw"))
    trial.suggest_float("warm_up.plan.weight_decay", 1e-5, 1e-2, log=True)


def adversarial(trial: Trial) -> None:
    """What the judge counts, how fast it learns, how fast the student does."""
    trial.suggest_float("warm_up.adversarial", 1e-4, 1e-1, log=True)
    trial.suggest_float("warm_up.judge_plan.lr", 1e-5, 1e-3, log=True)
    trial.suggest_float("warm_up.plan.lr", 1e-4, 1e-2, log=True)
