"""Domain generalization: no target image anywhere in training: `diga ablate generalization:table6`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diga.methods.diga import WarmUp
from diga.methods.score import Score
from diga.methods.source_only import SourceOnly
from diga.recipe import Recipe
from diga.study import Row, Study
from experiments.diga import STRONG, TARGET, WARM_UP, named

UNSEEN = (TARGET, "streets/dusk/cityscapes")


def streets() -> Recipe:
    """Warm-up by distillation between a source image and its strong view, scored on two unseen domains."""
    return Recipe(
        name="generalization/streets",
        sources=("streets/gta5",),
        crop=(56, 112),
        batch=4,
        balance="sqrt_inverse",
        stages={
            "warm_up": WarmUp(ema=0.99, strong=STRONG, distil_at="cells", plan=WARM_UP),
            "score": Score(of="warm_up", domains=UNSEEN, protocol="two_scale_max"),
        },
    )


def table6(seeds: Sequence[int] = (0, 1, 2)) -> Study:
    """Table 6: distillation beside source-only, on domains that training never saw, and their mean."""
    whole = streets()
    rows: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("source-only", "", {"warm_up": SourceOnly(plan=WARM_UP)}),
        ("source-only, strong views", "source-only", {"warm_up.instructor": "labels"}),
        ("DiGA distillation", "source-only, strong views", {}),
    )
    return Study(
        name="table6",
        title="Domain generalization on streets",
        rows=tuple(
            Row(label=label, parent=parent, recipe=named(whole, f"table6 {label}", changes))
            for label, parent, changes in rows
        ),
        seeds=tuple(seeds),
        metric="mean/plain/last/miou",
        reference="diga_table6_domain_generalization.csv",
        tables=("table6", "costs"),
    )
