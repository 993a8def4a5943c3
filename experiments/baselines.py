"""What methods are compared with, as recipes to run or to search from: `diga run baselines:adversarial`."""

from __future__ import annotations

from diga.recipe import Recipe
from diga.study import Study
from experiments.diga import table3, table4


def source_only() -> Recipe:
    """Training on the labelled source alone, on the embedded benchmark, tested at one scale: Table 3's first row."""
    return of_row(table3(), "source-only", "baselines/source_only")


def adversarial() -> Recipe:
    """Warm-up against AdaptSegNet's judge of output maps, on the embedded benchmark: Table 4's first row."""
    return of_row(table4(), "Adv.", "baselines/adversarial")


def of_row(study: Study, label: str, name: str) -> Recipe:
    """The recipe of a study's row, with a name of its own."""
    (recipe,) = (row.recipe for row in study.rows if row.label == label)
    return recipe.model_copy(update={"name": name})
