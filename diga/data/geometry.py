"""Weak geometric augmentation: one flip, scaling and crop for an image and all that is known of its pixels.

The law is that of DiGA's loaders: flip; resize some rows of a batch to a size of their own; scale height and
width by independent factors; cut a window at a uniform place, or, when a side is now shorter than the window's,
stretch the whole to the window's size; where asked, draw a source window of few classes again.
Images are resampled bicubically with Pillow's antialiasing, from their own size to the scaled one at once; ids
by nearest neighbour.

The window is found first and only its pixels are resampled: the cost is the crop's, not the image's.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diga.data.labels import IGNORE, Bytes
from diga.errors import ConfigError
from diga.settings import Frames

DRAWS = 5  # of a window that has to show several classes, the first included


class View(NamedTuple):
    """A window of an image that was first scaled to `height` x `width`; all in pixels."""

    height: int
    width: int
    top: int
    left: int
    crop: tuple[int, int]  # of the result
    flip: bool

    @property
    def stretched(self) -> bool:
        """Whether the scaled image is too small to cut from."""
        return self.height < self.crop[0] or self.width < self.crop[1]

    def image(self, image: Bytes) -> Bytes:
        """(H, W, 3) to (crop, 3), bicubic."""
        if self.stretched:
            return self._flipped(_resized(image, (self.height, self.width), self.crop))
        return self._flipped(self._window(image))

    def label(self, label: Bytes) -> Bytes:
        """(H, W) ids to (crop), nearest neighbour."""
        rows, columns = _nearest(label.shape[0], self.height), _nearest(label.shape[1], self.width)
        if self.stretched:
            rows, columns = (
                rows[_nearest(self.height, self.crop[0])],
                columns[_nearest(self.width, self.crop[1])],
            )
        else:
            rows = rows[self.top : self.top + self.crop[0]]
            columns = columns[self.left : self.left + self.crop[1]]
        return self._flipped(_at(_at(label, rows, 0), columns, 1))

    def cells(self, field: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
        """Values (K, h, w) on a grid over a whole image of `size` (H, W), at the cells of the crop (K, h', w').

        A cell has as many pixels a side as the grid has on the image, to the next integer, so the crop has
        h' = round(crop height / round(H / h)) rows; each takes the value of the cell of the whole image that
        holds its centre.
        """
        rows = self._cells(0, field.shape[1], size[0], self.height, self.top)
        columns = self._cells(1, field.shape[2], size[1], self.width, self.left)
        return field[:, rows[:, None], columns[::-1] if self.flip else columns]

    def _cells(self, axis: int, cells: int, side: int, scaled: int, start: int) -> NDArray[np.intp]:
        crop = self.crop[axis]
        n = max(1, round(crop / max(1, round(side / cells))))
        if self.stretched:
            return _nearest(cells, n)  # the crop is the whole image
        twice = 2 * n * start + (2 * np.arange(n) + 1) * crop  # 2 n times the centres, in scaled pixels
        return (twice * cells // (2 * n * scaled)).astype(np.intp)

    def _flipped(self, x: Bytes) -> Bytes:
        return x[:, ::-1] if self.flip else x

    def _window(self, image: Bytes) -> Bytes:
        """The crop of the scaled image, from the few source pixels it depends on."""
        (h, w), (height, width) = self.crop, image.shape[:2]
        if (self.height, self.width) == (height, width):
            return image[self.top : self.top + h, self.left : self.left + w]
        down, across = height / self.height, width / self.width  # source pixels a scaled pixel
        top, bottom, y0, y1 = _reach(self.top, h, down, height)
        left, right, x0, x1 = _reach(self.left, w, across, width)
        part = Image.fromarray(np.ascontiguousarray(image[top:bottom, left:right]))
        box = (x0 - left, y0 - top, x1 - left, y1 - top)
        return np.asarray(part.resize((w, h), Image.Resampling.BICUBIC, box))


def _reach(start: int, length: int, factor: float, size: int) -> tuple[int, int, float, float]:
    """Source pixels [first, last) that `length` scaled ones from `start` depend on, and their extent."""
    low, high = start * factor, min((start + length) * factor, float(size))
    margin = 2 * max(1.0, factor) + 1  # half the bicubic kernel's support, and a pixel for rounding
    return max(0, math.floor(low - margin)), min(size, math.ceil(high + margin)), low, high


def _resized(image: Bytes, *sizes: tuple[int, int]) -> Bytes:
    """Resampled to one size after the other; Pillow copies where the size is already right."""
    picture = Image.fromarray(image)
    for height, width in sizes:
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def _nearest(source: int, target: int) -> NDArray[np.intp]:
    """(target,) index of the source pixel whose area holds each target pixel's centre."""
    return ((2 * np.arange(target) + 1) * source // (2 * target)).astype(np.intp)


def _at(x: Bytes, index: NDArray[np.intp], axis: int) -> Bytes:
    """x at `index` along `axis`; a plain slice where the index is one."""
    if index[-1] - index[0] == len(index) - 1 and (index[1:] > index[:-1]).all():
        span = slice(index[0], index[-1] + 1)
        return x[span] if axis == 0 else x[:, span]
    return np.take(x, index, axis)


def draw(
    size: tuple[int, int],
    crop: tuple[int, int],
    scale: tuple[float, float],
    flip: float,
    chance: np.random.Generator,
) -> View:
    """The view of an image of `size` (H, W) that `chance` decides: always five uniform draws.

    `scale` bounds the independent factors of height and width; `flip` is a probability.
    """
    u = chance.random(5)
    low, high = scale
    height, width = (max(1, round(side * (low + (high - low) * x))) for side, x in zip(size, u[:2], strict=True))
    top, left = (int(x * (max(0, a - b) + 1)) for x, a, b in zip(u[2:4], (height, width), crop, strict=True))
    return View(height, width, top, left, crop, bool(u[4] < flip))


class Law(NamedTuple):
    """How the views of a role's images are drawn."""

    crop: tuple[int, int]
    flip: float
    scale: tuple[float, float]
    sizes: tuple[tuple[int, int], ...]  # (H, W) of each row of a batch; none: every image's own
    gate: bool

    @classmethod
    def of(cls, role: str, frames: Frames, crop: tuple[int, int], flip: float, batch: int) -> Self:
        """The law of a role's frames, or a ConfigError that names the argument out of bounds."""
        sizes = tuple((size.height, size.width) for size in frames.sizes for _ in range(size.images))
        if len(crop) != 2 or min(crop) < 1:
            raise ConfigError("crop", f"found {crop}", "height and width of at least 1 pixel")
        if not 0 <= flip <= 1:
            raise ConfigError("flip", f"found {flip}", "a probability")
        if sizes and len(sizes) != batch:
            raise ConfigError(
                f"{role}_frames.sizes", f"{len(sizes)} images in the sizes, {batch} in a batch", "as many"
            )
        if frames.gate and role != "source":
            raise ConfigError(
                f"{role}_frames.gate", "found true", "false: only a source crop has labels to judge it by"
            )
        return cls((crop[0], crop[1]), float(flip), frames.scale, sizes, frames.gate)

    def view(self, size: tuple[int, int], row: int, chance: np.random.Generator, label: Bytes | None = None) -> View:
        """The view of an image of `size` (H, W) in `row` of a global batch; the gate looks at its label (H, W)."""
        size = self.sizes[row] if self.sizes else size
        view = draw(size, self.crop, self.scale, self.flip, chance)
        if self.gate and label is not None:
            for _ in range(DRAWS - 1):
                if rich(view.label(label)):
                    break
                view = draw(size, self.crop, self.scale, self.flip, chance)
        return view


def rich(label: Bytes) -> bool:
    """Whether three ids of a crop (H, W), void as one, cover more than 2 % of it each, or two that are not void."""
    seen = np.flatnonzero(50 * np.bincount(label.ravel()) > label.size)
    return len(seen) > 2 or (len(seen) == 2 and IGNORE not in seen)
