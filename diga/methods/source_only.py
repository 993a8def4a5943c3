"""The floor every method must beat: cross-entropy on the labelled source.

Departures from the official rows: none known; whether their source-only rows had seen target
statistics is not, so `statistics.update` can say "target" here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from diga.settings import Normalise, Statistics, Weight
from diga.stage import Training

if TYPE_CHECKING:
    from diga.engine.run import Run
    from diga.types import Pair, Updates


class SourceOnly(Training):
    """CE(S(x_s), y_s), and nothing else."""

    aux: Weight = Field(0.1, description="of the same loss of an auxiliary head, where the network has one")
    normalise: Normalise = "valid"
    statistics: Statistics = Statistics(update=("views",))

    def reads(self) -> frozenset[Literal["source", "target"]]:
        """The source; the target only where its images are let move the statistics."""
        return self.statistics.reads

    def __call__(self, run: Run) -> None:
        """Leaves `student`."""
        S = run.segmenter()
        run.normalise(S, self.statistics)

        def step(pair: Pair, t: int) -> Updates:
            (x_s, y_s, _), x_t, _ = pair
            seen = run.forward(S, x_s, "views" in self.statistics.update)
            run.leak(S, x_t, self.statistics)
            run.picture(t, "source", lambda: {"source": x_s, "label": y_s, "student": seen.logits.argmax(1)})
            yield "student", run.supervised(seen, y_s, self.normalise, self.aux)

        run.fit({"student": S}, step, self.plan)
