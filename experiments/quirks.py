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


def quirks(seeds: Sequence[int] = (0, 1, 2)) -> Study:
    """Each quirk of the authors' code that streets can show alone, and all of them, on a shortened streets."""
    short = {"warm_up.plan.steps": 300, "self_training.plan.steps": 240, "name": "diga/streets quirks"}
    clean = override(streets(), short)
    shown = {label: changes for label, changes in QUIRKS.items() if label not in NOT_ON_STREETS}
    rows: dict[str, Mapping[str, Any]] = {"clean": {}, **shown, "official": OFFICIAL}
    return Study(
        name="quirks",
        title="Quirks of the authors' code on streets, each alone",
        rows=tuple(
            Row(
                label=label,
                parent="" if label == "clean" else "clean",
                recipe=named(clean, label, changes),
            )
            for label, changes in rows.items()
        ),
        seeds=tuple(seeds),
        metric=METRIC,
        tables=("quirks", "label_free", "test_set", "costs"),
    )
