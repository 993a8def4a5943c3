"""A step of a method as a value: its hyper-parameters, what it reads, and that it can be called."""

from __future__ import annotations

import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import Field

from diga.errors import ConfigError, expected_one_of
from diga.settings import Count, Frames, Frozen, Plan

if TYPE_CHECKING:
    from torch import Tensor

    from diga.engine.run import Run
    from diga.ops.chance import Chance
    from diga.recipe import Recipe
    from diga.types import Batch

    Painter = Callable[[Batch, Chance], Tensor]  # source images, and chance, to painted ones (B, 3, H, W)

STAGE = "stage"
Ref = Annotated[str, STAGE]  # the name of an earlier stage whose artifact this stage reads
Kept = Literal["confidence", "probabilities"]  # what stored labels may keep of the network that gave them


class Draws(NamedTuple):
    """How the images of a stage are drawn: how many a step of either role, and how each role's come."""

    batch: int
    source: Frames
    target: Frames


class Stage(Frozen, ABC):
    """Hyper-parameters that can be called with a run.  Raise `version` when the code means something else."""

    version: ClassVar[int] = 1
    shared: ClassVar[bool] = False  # whether several workers can carry it out together

    @abstractmethod
    def __call__(self, run: Run) -> None:
        """Carry the stage out and leave its artifact in the run's folder."""

    def reads(self) -> frozenset[Literal["source", "target"]]:
        """Which training data can change the result: labelled source, unlabelled target."""
        return frozenset({"source", "target"})

    def stream(self) -> int:
        """Which stream of chance and of data the stage draws from: stages that follow each other use different ones."""
        return 0

    def view(self, run: Run, source: Batch, paint: Any, t: int) -> Tensor:
        """The second view of source images (B, 3, H, W) the stage trains on; the images, if it has none."""
        return source.image

    def scores(self) -> tuple[str, ...]:
        """Domains whose labelled validation images the stage reads: none, unless it scores."""
        return ()

    def judges(self) -> bool:
        """Whether it opens labels of target training images: scoring may, training never."""
        return False

    def guesses(self) -> str | None:
        """Name of the stage whose stored target labels travel with the target images, if any."""
        return None

    def asks(self) -> frozenset[Kept]:
        """What must travel with those labels."""
        return frozenset()

    def paints(self) -> str | None:
        """Name of the stage that paints the source images, if any; one that has stored them sends them along."""
        return None

    def files(self, recipe: Recipe) -> tuple[str, ...]:
        """Files under the data root, beside the domains', that can change the result."""
        return (recipe.pretrained,) if recipe.pretrained else ()

    def draws(self, recipe: Recipe) -> Draws:
        """How this stage's images are drawn: as the recipe says."""
        return Draws(recipe.batch, recipe.source_frames, recipe.target_frames)

    def fits(self, earlier: Mapping[str, Stage], name: str) -> None:
        """Raises ConfigError, naming the field, where this stage, called `name`, cannot work with the earlier ones."""


class Training(Stage):
    """A stage that descends, by all workers together; what it does not choose otherwise is its recipe's."""

    shared: ClassVar[bool] = True
    batch: Count | None = Field(None, description="source images a step, as many of the target; none: the recipe's")
    source_frames: Frames | None = Field(None, description="none: the recipe's")
    target_frames: Frames | None = Field(None, description="none: the recipe's")
    plan: Plan = Plan()

    def draws(self, recipe: Recipe) -> Draws:
        """As this stage says; where it is silent, as the recipe does."""
        return Draws(
            self.batch or recipe.batch,
            self.source_frames or recipe.source_frames,
            self.target_frames or recipe.target_frames,
        )


class Painting(Stage):
    """A stage that leaves a painter of source images."""

    stored: ClassVar[bool] = False  # whether it has stored every painting, so that they travel with the images

    @abstractmethod
    def painter(self, run: Run, ref: str) -> Painter:
        """What paints, of the stage of this class that is named `ref`."""


def must_paint(earlier: Mapping[str, Stage], ref: str | None, where: str) -> None:
    """Raises ConfigError where `ref` names a stage that leaves no painter."""
    if ref is not None and not isinstance(earlier[ref], Painting):
        painters = [name for name, stage in earlier.items() if isinstance(stage, Painting)]
        raise ConfigError(
            where, f"{ref!r} is a {type(earlier[ref]).__name__}, which paints nothing", expected_one_of(ref, painters)
        )


def must_train(earlier: Mapping[str, Stage], ref: str, where: str) -> None:
    """Raises ConfigError where `ref` names a stage that leaves no student."""

    def trains(stage: Stage) -> bool:
        return isinstance(stage, Training) and not isinstance(stage, Painting)

    if not trains(earlier[ref]):
        what = f"{ref!r} is a {type(earlier[ref]).__name__}, which leaves no student"
        raise ConfigError(where, what, expected_one_of(ref, (k for k, stage in earlier.items() if trains(stage))))


# --- references --------------------------------------------------------------------------


def _is_ref(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        return STAGE in hint.__metadata__
    if get_origin(hint) in (Union, types.UnionType, tuple):
        return any(_is_ref(a) for a in get_args(hint))
    return False


@cache
def ref_fields(kind: type[Stage]) -> tuple[str, ...]:
    """Fields of a stage class that hold names of earlier stages."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(n for n in kind.model_fields if _is_ref(hints[n]))


def refs(stage: Stage) -> list[str]:
    """Names of the earlier stages that `stage` reads: its fields annotated `Ref`."""
    values = [getattr(stage, n) for n in ref_fields(type(stage))]
    return [r for v in values if v is not None for r in ((v,) if isinstance(v, str) else v)]
