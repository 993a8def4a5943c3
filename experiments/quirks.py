"""The quirks of the authors' code, one by one: `diga ablate quirks:quirks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diga.recipe import override
from diga.study import Row, Study
from experiments.diga import METRIC, named, streets
from experiments.official import OFFICIAL, QUIRKS

# what cannot show there: no image of its source has void, and no crop of the source has fewer than three classes
NOT_ON_STREETS = ("void is counted", "crops of three classes")
LEAK = "target moves batch norm"
ALONE = "warm-up alone, clean"


def quirks(seeds: Sequence[int] = (0, 1, 2)) -> Study:
    """Each quirk of the authors' code that streets can show alone, and all of them, on a shortened streets.

    Target images that move batch norm do so in warm-up, after which self-training's mixed images move it all the
    same: warm-up is scored by itself, too, with that quirk and without.
    """
    short = {"warm_up.plan.steps": 300, "self_training.plan.steps": 240, "name": "diga/streets quirks"}
    clean = override(streets(), short)
    shown = {label: changes for label, changes in QUIRKS.items() if label not in NOT_ON_STREETS}
    alone: dict[str, Any] = {"score.of": "warm_up"}
    rows: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
        ("clean", "", {}),
        *((label, "clean", changes) for label, changes in shown.items()),
        ("official", "clean", OFFICIAL),
        (ALONE, "", alone),
        (f"warm-up alone, {LEAK}", ALONE, alone | dict(QUIRKS[LEAK])),
    )
    return Study(
        name="quirks",
        title="Quirks of the authors' code on streets, each alone",
        rows=tuple(
            Row(label=label, parent=parent, recipe=named(clean, label, changes)) for label, parent, changes in rows
        ),
        seeds=tuple(seeds),
        metric=METRIC,
        tables=("quirks", "label_free", "test_set", "costs"),
    )
