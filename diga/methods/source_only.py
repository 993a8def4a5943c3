"""The floor every method must beat: cross-entropy on the labelled source.

Departures from the official rows: none known; whether their source-only rows had seen target
statistics is not, so `statistics.update` can say "target" here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from diga.recipe import Stage
from diga.settings import Normalise, Plan, Statistics

if TYPE_CHECKING:
    from diga.engine.run import Run
    from diga.types import Pair, Updates


class SourceOnly(Stage):
    """CE(S(x_s), y_s), and nothing else."""

    shared: ClassVar[bool] = True
    normalise: Normalise = "valid"
    statistics: Statistics = Statistics(update=("views",))
    plan: Plan = Plan()

    def reads(self) -> frozenset[Literal["source", "target"]]:
        """The source; the target only where its images are let move the statistics."""
        return self.statistics.reads

    def __call__(self, run: Run) -> None:
        """Leaves `student`."""
        S = run.segmenter()
        run.normalise(S, self.statistics)

        def step(pair: Pair, t: int) -> Updates:
            (x_s, y_s), x_t, _ = pair
            p_s = run.forward(S, x_s, "views" in self.statistics.update).logits
            run.leak(S, x_t, self.statistics)
            run.picture(t, "source", lambda: {"source": x_s, "label": y_s, "student": p_s.argmax(1)})
            yield "student", {"source": run.cross_entropy(p_s, y_s, self.normalise)}

        run.fit({"student": S}, step, self.plan)
