"""How good a network is: per-image confusion matrices on labelled validation images.

The only stage that opens labels of a target, and no training stage can read what it leaves: a score
is never a reference of anything but reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from diga.recipe import Ref, Stage, function_of

if TYPE_CHECKING:
    from diga.engine.run import Run

Protocol = function_of("diga.engine.protocols")


class Score(Stage):
    """Scores of one trained stage, in named columns.

    Statistics: `plain`, the student as it is; `teacher`, its mean teacher; `adabn`, the student with
    batch-norm statistics re-estimated on unlabelled target images.  Selection: `last`, the final
    weights; `best`, the snapshot with the highest plain mIoU on the first domain: it looked at
    target labels, and its column says so.
    """

    of: Ref
    domains: Annotated[tuple[str, ...], Field(min_length=1)]
    protocol: Protocol = "single_scale"  # type: ignore[valid-type]
    statistics: tuple[Literal["plain", "teacher", "adabn"], ...] = ("plain", "teacher", "adabn")
    samples: int = Field(4, ge=0, le=1000, description="validation images whose predictions are kept as pictures")

    def reads(self) -> frozenset[Literal["source", "target"]]:
        """Target images, for re-estimated statistics."""
        return frozenset({"target"} if "adabn" in self.statistics else ())

    def scores(self) -> tuple[str, ...]:
        """The domains whose validation labels are read."""
        return self.domains

    def __call__(self, run: Run) -> None:
        """Leaves `scores.json`, `confusion.parquet` and `samples/`."""
        run.score(self.of, self.domains, self.protocol, self.statistics, self.samples)
