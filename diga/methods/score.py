"""How good a network is: per-image confusion matrices on labelled validation images.

The only stage that opens labels of a target, and no stage can read what it leaves: it leaves no
network, no label and no painting, and a recipe refuses a reference to it.  Reports read it alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from diga.errors import ConfigError
from diga.registry import function_of
from diga.settings import Count
from diga.stage import Ref, Stage, must_train

if TYPE_CHECKING:
    from diga.engine.run import Run

Protocol = function_of("diga.engine.protocols")


class Score(Stage):
    """Scores of one trained stage, in named columns.

    Statistics: `plain`, the student as it is; `teacher`, its mean teacher; `adabn`, the student with
    batch-norm statistics re-estimated on unlabelled target images.  Selection: `last`, the final
    weights; `best`, the snapshot with the highest plain mIoU on the first domain: it looked at
    target labels, and its column says so.  Of several domains there is a `mean`, too.

    Beside the columns: numbers that need no label (`label_free`), by which a sweep may select; alarms;
    features of a few cells; and, if asked, the quality of the labels that a self-training learnt from.
    """

    version: ClassVar[int] = 2

    of: Ref
    domains: Annotated[tuple[str, ...], Field(min_length=1)]
    protocol: Protocol = "single_scale"  # type: ignore[valid-type]
    statistics: tuple[Literal["plain", "teacher", "adabn"], ...] = ("plain", "teacher", "adabn")
    samples: int = Field(4, ge=0, le=1000, description="images whose predictions, and judged labels, are kept")
    features: int = Field(20, ge=0, le=100, description="cells of each class and domain whose features are kept")
    label_free: bool = Field(True, description="whether unlabelled target training images are looked at")
    looked_at: Count = Field(100, description="of them, evenly spread; a quarter of that at every snapshot")
    labels: Ref | None = Field(None, description="the stage that stored the target labels which `of` learnt from")
    quality: bool = Field(False, description="whether they are judged: it opens labels of target training images")
    judged: Count = Field(200, description="target training images whose labels are opened, evenly spread")

    def reads(self) -> frozenset[Literal["source", "target"]]:
        """Target images, for re-estimated statistics and whatever needs no label; the source, for its features."""
        wanted: dict[Literal["source", "target"], bool] = {
            "source": self.features > 0,
            "target": "adabn" in self.statistics or self.label_free or self.quality,
        }
        return frozenset(role for role, read in wanted.items() if read)

    def scores(self) -> tuple[str, ...]:
        """The domains whose validation labels are read."""
        return self.domains

    def judges(self) -> bool:
        """Whether labels of target training images are opened."""
        return self.quality

    def fits(self, earlier: Mapping[str, Stage], name: str) -> None:
        """A network to score, and labels to judge, those that the scored stage learnt from."""
        must_train(earlier, self.of, f"{name}.of")
        learnt = earlier[self.of].guesses()
        if self.quality and self.labels is None:
            answer = f"{name}.labels: the stage that stored them" + (f", {learnt!r}" if learnt else "")
            raise ConfigError(f"{name}.quality", "true, with no labels to judge", answer)
        if self.labels and learnt and self.labels != learnt:
            raise ConfigError(f"{name}.labels", f"found {self.labels!r}", f"{learnt!r}, of which {self.of!r} learnt")

    def __call__(self, run: Run) -> None:
        """Leaves `scores.json`, the Parquet files `confusion`, `features` and `labels`, `samples/`, `pictures/`, …"""
        run.score(self.of, self.domains, self.protocol, self.statistics, self.samples)
