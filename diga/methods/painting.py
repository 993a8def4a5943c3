"""Source images painted once and stored, so that no training that reads them paints them again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal
from zlib import crc32

from diga import ops
from diga.errors import ConfigError, expected_one_of
from diga.stage import Painting, Ref, Stage

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from diga.engine.run import Run
    from diga.ops.chance import Chance
    from diga.stage import Painter
    from diga.types import Batch

FOLDER = "paintings"


class Painted(Painting):
    """Every source training image as stage `of` paints it, whole: a translator in its place that costs no more.

    Not the same as painting crops in training: instance normalisation, amplitudes and colours are of the
    whole image, not of what a crop shows of it; colours are rounded to 8 bits; and a painter that leaves
    something to chance has one draw an image, not one a step.
    """

    stored: ClassVar[bool] = True  # a stage that is painted for finds the paintings in its batches
    of: Ref

    def reads(self) -> frozenset[Literal["source", "target"]]:
        """Source images alone."""
        return frozenset({"source"})

    def files(self, recipe: object) -> tuple[str, ...]:
        """None: no segmenter is made."""
        return ()

    def fits(self, earlier: Mapping[str, Stage], name: str) -> None:
        """The stage must paint, and not give back what it has stored."""
        painters = [k for k, stage in earlier.items() if isinstance(stage, Painting) and not stage.stored]
        if self.of not in painters:
            what = f"{self.of!r} is a {type(earlier[self.of]).__name__}, which paints nothing anew"
            raise ConfigError(f"{name}.of", what, expected_one_of(self.of, painters))

    def __call__(self, run: Run) -> None:
        """Leaves `paintings/<stem>.png`, RGB of the image's size.  Raises ConfigError where two domains share stems."""
        from diga.data.shelf import check_stems

        domains = [run.domain(name) for name in run.recipe.sources]
        check_stems(domains, "source")
        (run.folder / FOLDER).mkdir(exist_ok=True)
        paint: Painter = run.stage_of(self.of).painter(run, self.of)
        progress = run.track(sum(len(domain.samples("train", labelled=False)) for domain in domains))
        for _, (stem, image) in zip(progress, one_by_one(run), strict=True):
            path = run.folder / FOLDER / f"{stem}.png"
            if not path.exists():  # files are there whole or not at all: a run that was cut short goes on
                keep(path, painted(paint, image, draw_of(run, stem)))

    def painter(self, run: Run, ref: str) -> Painter:
        """What has been stored, as it travels with the batch."""
        return stored


def stored(source: Batch, chance: Chance) -> Tensor:
    """The batch's own paintings (B, 3, H, W)."""
    assert source.painted is not None, "paintings travel with the batches of a stage whose `paints` names theirs"
    return source.painted


def one_by_one(run: Run) -> Iterator[tuple[str, Tensor]]:
    """Stem and image (1, 3, H, W) of every source training image, in order."""
    for name in run.recipe.sources:
        for stems, images in run.images(name, "train"):
            yield from zip(stems, images[:, None], strict=True)


def draw_of(run: Run, stem: str) -> Chance:
    """The one draw of an image: a function of the seed and its name, whatever else is painted."""
    return ops.chance.Chance((run.entropy, crc32(stem.encode())), range(1), 1, run.device)


def painted(paint: Painter, image: Tensor, chance: Chance) -> Tensor:
    """One image (1, 3, H, W), painted; painters read no labels, and find none."""
    import torch

    from diga.types import IGNORE, Batch

    with torch.no_grad():
        return paint(Batch(image, image.new_full((1, *image.shape[2:]), IGNORE, dtype=torch.int64)), chance)


def keep(path: Path, image: Tensor) -> None:
    """One image (1, 3, H, W) in [0, 1] as an 8-bit RGB PNG, whole or not at all."""
    from io import BytesIO

    from PIL import Image

    from diga.files import write_whole

    rgb = (255 * image[0].float().clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy()
    content = BytesIO()
    Image.fromarray(rgb).save(content, "PNG")
    write_whole(path, content.getvalue())
