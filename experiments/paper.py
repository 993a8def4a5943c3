"""Four tables of DiGA's paper as one study, for their rows share stages: `diga plan paper:tables_3_to_6`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diga.design import union
from diga.recipe import override
from diga.study import Row, Study
from experiments.diga import METRIC, table3, table4, table5

NOT_PRINTED = ("Adv. (least squares)", "no judge", "no judge + CrDoMix", "(6) confident fraction")
KEPT = {"(3) BDL": ["confidence"], "(4) ProDA": ["probabilities"]}  # of its labels, what a row of Table 5 reads


def tables_3_to_6(seeds: Sequence[int] = (0, 1, 2)) -> Study:
    """Tables 3 to 6: the sixteen rows that the paper prints, and what sharing stages between them saves."""
    known = table3()
    unseen = override(known.rows[3].recipe, {"name": "table6 (ii)", "score.domains": ["streets/dusk/cityscapes"]})
    sixth = Row(label="(ii), unseen", recipe=override(unseen, {"score.protocol": "single_scale"}))
    return Study(
        name="tables_3_to_6",
        title="Tables 3 to 6 of DiGA on streets",
        rows=union(known.rows, printed(table4()), map(unmeasured, printed(table5())), (sixth,)),
        components=known.components,
        seeds=tuple(seeds),
        metric=METRIC,
        tables=("costs",),
    )


def printed(study: Study) -> list[Row]:
    """Its rows that the paper has."""
    return [row for row in study.rows if row.label not in NOT_PRINTED]


def unmeasured(row: Row) -> Row:
    """A row of Table 5 without the measures of its labels, so that it is the row of Table 3 where it can be."""
    plainer: dict[str, Any] = {"labels.keep": KEPT.get(row.label, []), "score.quality": False, "score.labels": None}
    return row.model_copy(update={"recipe": override(row.recipe, plainer)})
