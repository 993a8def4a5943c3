"""Semi-supervised segmentation: a part of one domain is labelled: `diga ablate semi_supervised:table7`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diga.methods.source_only import SourceOnly
from diga.methods.targets import Centroids
from diga.recipe import Recipe, override
from diga.study import Row, Study
from experiments.diga import METRIC, TARGET, WARM_UP
from experiments.diga import streets as adaptation

PARTS = ("1/16", "1/8", "1/4", "1/2")  # each holds the ones before


def streets(part: str = "1/16") -> Recipe:
    """DiGA without a translator, with an auxiliary head, on a labelled part of streets' Cityscapes tree."""
    return override(
        adaptation(),
        {
            "name": f"semi_supervised/streets {part}",
            "sources": [f"{TARGET}@{part}"],
            "targets": [f"{TARGET}@not-{part}"],
            "model": "streetnet_aux",
            "warm_up.translator": None,
            "centroids": Centroids(of="warm_up", images="target_pred"),
            "self_training.translator": None,
        },
    )


def table7(seeds: Sequence[int] = (0, 1, 2)) -> Study:
    """Table 7: how far each labelled part goes alone, with distillation, and with self-training on the rest."""
    methods: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("supervised", {"warm_up": SourceOnly(plan=WARM_UP), "score.of": "warm_up"}),
        ("warm-up", {"score.of": "warm_up"}),
        ("DiGA", {}),
    )
    rows = []
    for part in PARTS:
        whole, below = streets(part), ""
        for method, changes in methods:
            label = f"{method}, {part}"
            rows.append(
                Row(label=label, parent=below, recipe=override(whole, {"name": f"table7 {label}"} | dict(changes)))
            )
            below = label
    return Study(
        name="table7",
        title="Semi-supervised segmentation on streets",
        rows=tuple(rows),
        seeds=tuple(seeds),
        metric=METRIC,
        reference="diga_table7_semi_supervised.csv",
        tables=("table7", "per_class", "test_set", "costs"),
    )
