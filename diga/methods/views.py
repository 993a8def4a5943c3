"""The second view of a source image, which warm-up and self-training learn from: CrDoMix (DiGA, eq. 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from diga import ops
from diga.settings import Mask, Strong
from diga.stage import Ref, Stage, Training, must_paint

if TYPE_CHECKING:
    from torch import Tensor

    from diga.engine.run import Run
    from diga.stage import Painter
    from diga.types import Batch

# what a draw is for: each has its own stream of chance, so that a switch moves no other draw
VIEW, MASK, PAINT, TARGET_VIEW, MIX = range(5)


class Views(Training):
    """A stage that trains on x_s and a second view of it."""

    translator: Ref | None = Field(None, description="without one the second view is the strong view alone")
    mask: Mask = Field(Mask(), description="M of eq. 6: where the strong view stands in front of the painted image")
    strong: Strong = Strong()

    def paints(self) -> str | None:
        """The translator."""
        return self.translator

    def fits(self, earlier: Mapping[str, Stage], name: str) -> None:
        """The translator must be one."""
        must_paint(earlier, self.translator, f"{name}.translator")

    def view(self, run: Run, source: Batch, paint: Painter | None, t: int) -> Tensor:
        """x_cdm = M * x~_s + (1 - M) * G(x_s) (eq. 6); x~_s alone without a translator."""
        strong = ops.augment.strong(source.image, self.strong, run.chance(t, VIEW))
        if paint is None:
            return strong
        M = drawn(run, self.mask, source.label, t, MASK)
        return ops.mixing.blend(M, strong, paint(source, run.chance(t, PAINT)))

    def painter(self, run: Run) -> Painter | None:
        """G, or None."""
        return painter_of(run, self.translator)


def painter_of(run: Run, ref: str | None) -> Painter | None:
    """What the translator of that name paints with; None without one."""
    if ref is None:
        return None
    painter: Painter = run.stage_of(ref).painter(run, ref)
    return painter


def drawn(run: Run, how: Mask, label: Tensor, t: int, purpose: int) -> Tensor:
    """M (B, 1, H, W): pixels of the front image, drawn for step t."""
    M: Tensor = getattr(ops.masks, how.kind)(label, run.chance(t, purpose), how)
    return M
