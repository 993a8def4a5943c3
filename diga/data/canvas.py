"""A canvas in metres: a pinhole view, and surfaces that give every pixel back its place in the world.

x points right, z forwards, `up` is the height above the ground, all in metres from the camera's foot.
Three surfaces are enough for a street: one that faces the camera, one that recedes along the street,
and one that lies on the ground.  A painter says in metres which part of a thing is where; the canvas
turns parts into colours, labels and depth.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Light = float | Array

# Train ids by name, in the order of diga.data.labels.CLASSES.
ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, LIGHT, SIGN, VEGETATION, TERRAIN = range(10)
SKY, PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE = range(10, 19)
KEEP = 255  # a part that changes colours but no label, such as a shadow

# Which label survives when two share a block: thin things first, so that a pole is not lost in the sky.
_RANK = (POLE, LIGHT, SIGN, RIDER, BICYCLE, MOTORCYCLE, PERSON, TRAIN, BUS, TRUCK, CAR, FENCE, WALL)
_ORDER = np.array([c for c in range(19) if c not in _RANK] + list(reversed(_RANK)), np.uint8)
_PLACE = np.argsort(_ORDER).astype(np.uint8)


class View(NamedTuple):
    """A pinhole camera above the ground; lengths on the image plane are in canvas pixels."""

    height: int
    width: int
    focal: float
    eye: float  # metres above the ground
    horizon: float  # row
    centre: float  # column that looks straight ahead

    def facing(self, x: tuple[float, float], up: tuple[float, float], z: float) -> Patch:
        """The rectangle x by up that stands at depth z and looks at the camera."""
        scale = self.focal / z
        cols = _span(self.centre + scale * x[0], self.centre + scale * x[1], self.width)
        top, foot = (self.horizon - scale * (level - self.eye) for level in (up[1], up[0]))
        rows = _span(top, foot, self.height)
        along = (_pixels(cols)[None] - self.centre) / scale
        level = self.eye - (_pixels(rows)[:, None] - self.horizon) / scale
        return Patch(rows, cols, along, level, np.float32(z))

    def receding(self, x: float, z: tuple[float, float], top: float) -> Patch:
        """The wall from the ground to `top` that runs along the street at x; `along` is its depth."""
        ends = sorted(self.centre + self.focal * x / d for d in z)
        cols = _span(ends[0], ends[1], self.width)
        scale = self.focal / z[0]
        foot = self.horizon + scale * self.eye
        rows = _span(self.horizon - scale * max(top - self.eye, 0), foot, self.height)
        offset = _pixels(cols)[None] - self.centre
        offset = np.maximum(offset, 0.1) if x > 0 else np.minimum(offset, -0.1)
        depth = np.clip(self.focal * x / offset, *z)
        up = self.eye - (_pixels(rows)[:, None] - self.horizon) * (depth / self.focal)
        return Patch(rows, cols, depth, up, depth)

    def lying(self, x: tuple[float, float], z: tuple[float, float]) -> Patch:
        """The rectangle x by z of the ground; `along` is x and `up` is z."""
        fall = self.focal * self.eye
        rows = _span(self.horizon + fall / z[1], self.horizon + fall / max(z[0], 0.1), self.height)
        edges = [self.centre + self.focal * side / depth for side in x for depth in (max(z[0], 0.1), z[1])]
        cols = _span(min(edges), max(edges), self.width)
        depth = (fall / np.maximum(_pixels(rows) - self.horizon, 0.2))[:, None]
        return Patch(rows, cols, (_pixels(cols)[None] - self.centre) * (depth / self.focal), depth, depth)

    def nearest(self, x: float) -> float:
        """The depth in metres at which something at x enters the picture."""
        edge = self.width - self.centre if x > 0 else self.centre
        return self.focal * abs(x) / edge


class Patch(NamedTuple):
    """The pixels of one surface and where they are on it: arrays broadcast to (rows, cols)."""

    rows: slice
    cols: slice
    along: Array
    up: Array
    depth: Any

    @property
    def at(self) -> tuple[slice, slice]:
        return self.rows, self.cols


class Paint(NamedTuple):
    """A colour under the light of its scene, RGB about [0, 1], and how much grain roughens it."""

    rgb: tuple[float, float, float]
    rough: float = 0.0

    def times(self, tone: float) -> Paint:
        """The same paint, lighter (above 1) or darker."""
        r, g, b = self.rgb
        return Paint((tone * r, tone * g, tone * b), self.rough)


class Part(NamedTuple):
    """One part of a thing: its paint, its train id or KEEP, and how much it covers what is behind."""

    paint: Paint
    label: int
    cover: float = 1.0


class Coat:
    """The parts of a thing as look-up tables; part 0 is what the thing leaves free."""

    def __init__(self, *parts: Part) -> None:
        self.colour = np.array([(0, 0, 0), *(p.paint.rgb for p in parts)], np.float32).T.copy()
        self.rough = np.array([0, *(p.paint.rough for p in parts)], np.float32)
        self.cover = np.array([0, *(p.cover for p in parts)], np.float32)
        self.label = np.array([KEEP, *(p.label for p in parts)], np.uint8)
        self.opaque = all(p.cover == 1 for p in parts)


class Canvas:
    """What has been painted so far; later paint covers earlier paint, so paint from far to near."""

    def __init__(self, view: View, grain: dict[str, Array]) -> None:
        size = view.height, view.width
        self.view, self.grain = view, grain
        self.rgb = np.zeros((3, *size), np.float32)  # planes: three times faster to paint on
        self.label = np.full(size, SKY, np.uint8)
        self.depth = np.full(size, 1000.0, np.float32)

    def lay(self, patch: Patch, parts: Array, coat: Coat, light: Light = 1.0, grain: str = "fine") -> None:
        """Paint `parts` (rows, cols) of indices into `coat`, under `light`, on the pixels of `patch`."""
        if not parts.size:
            return
        tone = light * (1 + coat.rough.take(parts) * self.grain[grain][patch.at])
        label = coat.label.take(parts)
        solid = label != KEEP
        colour, rgb = coat.colour.take(parts, 1) * tone, self.rgb[:, *patch.at]
        if coat.opaque:
            np.copyto(rgb, colour, where=solid)
        else:
            rgb += coat.cover.take(parts) * (colour - rgb)
        np.copyto(self.label[patch.at], label, where=solid)
        np.copyto(self.depth[patch.at], patch.depth, where=solid)

    def halved(self) -> tuple[Array, Array, Array]:
        """Colours (h, w, 3), labels (h, w) and depth (h, w) at half the size, thin labels kept.

        A label that holds two of a block's four pixels wins against a commoner one.
        """
        h, w = self.view.height // 2, self.view.width // 2
        pairs = self.rgb[:, ::2] + self.rgb[:, 1::2]
        rgb = np.moveaxis((pairs[..., ::2] + pairs[..., 1::2]) / 4, 0, -1)
        block = _PLACE[self.label].reshape(h, 2, w, 2).transpose(0, 2, 1, 3).reshape(h, w, 4)
        label = _ORDER[np.sort(block, -1)[..., 2]]
        return rgb, label, self.depth[::2, ::2]


def cut(parts: Array, value: int, *conditions: Array) -> None:
    """Give `value` to the pixels of `parts` where every condition holds."""
    where = conditions[0]
    for condition in conditions[1:]:
        where = where & condition
    np.copyto(parts, np.uint8(value), where=where)


def blank(patch: Patch) -> Array:
    """(rows, cols) of part 0."""
    return np.zeros((patch.rows.stop - patch.rows.start, patch.cols.stop - patch.cols.start), np.uint8)


def limb(patch: Patch, start: tuple[float, float], end: tuple[float, float], radius: float) -> Array:
    """Where a stick with round ends covers the surface."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    x, y = patch.along - start[0], patch.up - start[1]
    t = np.clip((x * dx + y * dy) / (dx * dx + dy * dy + 1e-6), 0, 1)
    return (x - t * dx) ** 2 + (y - t * dy) ** 2 < radius * radius


def disc(patch: Patch, x: float, up: float, radius: float, squash: float = 1.0) -> Array:
    """Where a disc, squashed sideways, covers the surface."""
    return ((patch.along - x) / squash) ** 2 + (patch.up - up) ** 2 < radius * radius


def box(patch: Patch, x: tuple[float, float], up: tuple[float, float]) -> Array:
    """Where a rectangle covers the surface."""
    return (patch.along >= x[0]) & (patch.along < x[1]) & (patch.up >= up[0]) & (patch.up < up[1])


@lru_cache(maxsize=4)
def grain_bank(height: int, width: int, seed: tuple[int, ...]) -> dict[str, Array]:
    """Fields of value noise (2 height, 2 width), zero mean and unit variance, from fine to cloud-sized."""
    rng = np.random.default_rng(seed)
    unit = height / 128  # lengths of grain follow the picture's size
    octaves = {"fine": (1, 2), "leaf": (3, 7), "cloud": (12, 30)}
    sizes = {name: [max(1, round(octave * unit)) for octave in group] for name, group in octaves.items()}
    return {name: _noise(rng, 2 * height, 2 * width, group) for name, group in sizes.items()}


def _noise(rng: np.random.Generator, height: int, width: int, sizes: list[int]) -> Array:
    """Sum of bilinearly interpolated noise; scaled by its expected spread, since a measured one rounds
    differently from one processor to the next and would move the ragged edges of leaves."""
    field, variance = np.zeros((height, width), np.float32), 0.0
    for size in sizes:
        knots = rng.standard_normal((height // size + 2, width // size + 2), dtype=np.float32)
        y, x = np.arange(height, dtype=np.float32) / size, np.arange(width, dtype=np.float32) / size
        i, j = y.astype(int), x.astype(int)
        fy, fx = (y - i)[:, None], (x - j)[None]
        rows = knots[i] * (1 - fy) + knots[i + 1] * fy
        field += rows[:, j] * (1 - fx) + rows[:, j + 1] * fx
        variance += (sum((k / size) ** 2 + (1 - k / size) ** 2 for k in range(size)) / size) ** 2
    return field / np.float32(variance**0.5)


def _span(start: float, stop: float, limit: int) -> slice:
    first = int(min(max(np.ceil(start - 0.5), 0), limit))
    return slice(first, max(first, int(min(max(np.ceil(stop - 0.5), 0), limit))))


def _pixels(span: slice) -> Array:
    return np.arange(span.start, span.stop, dtype=np.float32) + 0.5
