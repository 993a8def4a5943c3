"""What earned a gain, augmentation or distillation: rows no paper prints: `diga ablate controls:attribution`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diga.methods.source_only import SourceOnly
from diga.recipe import Recipe, override
from diga.study import Row, Study
from experiments.diga import METRIC, WARM_UP, named, streets

# Networks' work of a step in forwards of one image: a backward is two forwards, a mean teacher's is one.
WARM_UP_WORK = 2 * 3 + 2  # student forth and back, and teacher, on two views
SOURCE_WORK = 3
MATCHED = WARM_UP.model_copy(update={"steps": WARM_UP.steps * WARM_UP_WORK // SOURCE_WORK})


def attribution(seeds: Sequence[int] = (0, 1, 2)) -> Study:
    """Each step of the ladder beside the same views with hard labels, and source-only with as much computing."""
    whole = streets()
    warm_up = override(whole, {"score.of": "warm_up"})
    plain: dict[str, Any] = {"warm_up.translator": None}
    hard: dict[str, Any] = {"warm_up.instructor": "labels"}
    rows: tuple[tuple[str, str, Recipe, dict[str, Any]], ...] = (
        ("source-only", "", warm_up, {"warm_up": SourceOnly(plan=WARM_UP)}),
        ("source-only, matched compute", "source-only", warm_up, {"warm_up": SourceOnly(plan=MATCHED)}),
        ("strong views, hard labels", "source-only", warm_up, plain | hard),
        ("strong views, distillation", "strong views, hard labels", warm_up, plain),
        ("CrDoMix, hard labels", "strong views, hard labels", warm_up, hard),
        ("CrDoMix, distillation", "CrDoMix, hard labels", warm_up, {}),
        ("self-training, hard labels", "CrDoMix, distillation", whole, {"self_training.instructor": "labels"}),
        ("self-training", "self-training, hard labels", whole, {}),
    )
    return Study(
        name="attribution",
        title="What earned the gain on streets",
        rows=tuple(
            Row(label=label, parent=parent, recipe=named(base, label, changes)) for label, parent, base, changes in rows
        ),
        seeds=tuple(seeds),
        metric=METRIC,
        tables=("controls", "label_free", "test_set", "costs"),
    )
