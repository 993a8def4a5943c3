"""What the domains look like: materials, light and the one rule that leads from one domain to another."""

from __future__ import annotations

from itertools import cycle
from typing import NamedTuple, TypeVar

import numpy as np

from diga.data.canvas import Array, Paint

Value = TypeVar("Value")
Materials = dict[str, tuple[tuple[float, ...], ...]]  # rows of red, green, blue, spread, grain
Range = tuple[float, float]
Colour = tuple[float, float, float]


def mix(own: Value, other: Value, share: float) -> Value:
    """`own + share * (other - own)` for every number inside: share 0 gives `own`, share 1 gives `other`."""
    if isinstance(own, dict):
        return {key: mix(value, other[key], share) for key, value in own.items()}  # type: ignore[index, return-value]
    if isinstance(own, tuple):
        parts = [mix(a, b, share) for a, b in zip(own, other, strict=True)]  # type: ignore[call-overload]
        return type(own)(*parts) if hasattr(own, "_fields") else type(own)(parts)
    return own + share * (other - own)  # type: ignore[operator, no-any-return]


class Daylight(NamedTuple):
    """The light of a domain; ranges are drawn from once per image."""

    ambient: Colour
    sun: Range  # how much lighter a sunlit face is than a shaded one
    shadow: Range  # how dark a cast shadow is
    cloud: Range  # threshold of cloud: low is overcast
    windows_lit: float  # share of windows with a lamp behind them
    lamps: float  # brightness of lamps and lenses beyond white
    wet: Range  # how much a wet ground mirrors


class Look(NamedTuple):
    """Appearance of a domain: the same materials everywhere, in other colours and another light."""

    materials: Materials
    light: Daylight


def _rows(spread: float, rough: float, *colours: Colour) -> tuple[tuple[float, ...], ...]:
    """A material of several colours: how far each may stray, and how rough it is."""
    return tuple((*rgb, spread, rough) for rgb in colours)


RENDER = Look(
    {
        "asphalt": _rows(0.035, 0.05, (0.42, 0.41, 0.42), (0.47, 0.43, 0.40)),
        "marking": _rows(0.02, 0.03, (0.95, 0.94, 0.88)),
        "paving": _rows(0.04, 0.05, (0.70, 0.62, 0.54), (0.62, 0.60, 0.58)),
        "kerb": _rows(0.03, 0.03, (0.80, 0.78, 0.74)),
        "lawn": _rows(0.04, 0.09, (0.42, 0.60, 0.20), (0.64, 0.58, 0.30)),
        "leaf": _rows(0.04, 0.1, (0.19, 0.44, 0.12), (0.27, 0.50, 0.14), (0.13, 0.38, 0.20)),
        "bark": _rows(0.03, 0.08, (0.36, 0.24, 0.15)),
        "masonry": _rows(
            *(0.04, 0.03),
            *((0.80, 0.64, 0.46), (0.72, 0.42, 0.30), (0.90, 0.84, 0.70)),
            *((0.62, 0.66, 0.72), (0.86, 0.72, 0.62), (0.56, 0.46, 0.40)),
        ),
        "roof": _rows(0.04, 0.06, (0.58, 0.28, 0.20), (0.38, 0.36, 0.38)),
        "glass": _rows(0.04, 0.05, (0.20, 0.30, 0.42), (0.32, 0.42, 0.52)),
        "awning": _rows(0.05, 0.02, (0.80, 0.18, 0.14), (0.14, 0.42, 0.66), (0.92, 0.72, 0.16)),
        "timber": _rows(0.04, 0.07, (0.58, 0.40, 0.24), (0.90, 0.88, 0.84), (0.24, 0.26, 0.27)),
        "metal": _rows(0.03, 0.02, (0.30, 0.31, 0.34), (0.62, 0.63, 0.64)),
        "cloth": _rows(
            *(0.06, 0.04),
            *((0.86, 0.16, 0.16), (0.14, 0.28, 0.74), (0.94, 0.90, 0.84)),
            *((0.94, 0.72, 0.16), (0.14, 0.15, 0.18), (0.16, 0.54, 0.36)),
        ),
        "denim": _rows(0.04, 0.04, (0.18, 0.24, 0.44), (0.14, 0.14, 0.16), (0.60, 0.52, 0.38)),
        "skin": _rows(0.04, 0.0, (0.92, 0.72, 0.58), (0.66, 0.46, 0.34), (0.42, 0.28, 0.20)),
        "hair": _rows(0.04, 0.0, (0.18, 0.12, 0.08), (0.50, 0.36, 0.18)),
        "helmet": _rows(0.04, 0.0, (0.90, 0.90, 0.90), (0.12, 0.12, 0.14), (0.84, 0.14, 0.12)),
        "body": _rows(
            *(0.04, 0.0),
            *((0.84, 0.10, 0.10), (0.10, 0.24, 0.76), (0.94, 0.80, 0.12)),
            *((0.94, 0.94, 0.94), (0.12, 0.12, 0.14), (0.14, 0.56, 0.32)),
        ),
        "fleet": _rows(
            *(0.03, 0.01),
            *((0.94, 0.92, 0.88), (0.94, 0.62, 0.10), (0.80, 0.14, 0.14)),
            *((0.16, 0.40, 0.78), (0.30, 0.58, 0.34)),
        ),
        "tyre": _rows(0.01, 0.0, (0.07, 0.07, 0.08)),
        "trim": _rows(0.03, 0.0, (0.26, 0.26, 0.28)),
        "plate": _rows(0.02, 0.0, (0.92, 0.92, 0.86)),
        "emblem": _rows(
            *(0.03, 0.0),
            *((0.88, 0.08, 0.10), (0.06, 0.26, 0.80), (0.98, 0.84, 0.10)),
            *((0.06, 0.48, 0.28),),
        ),
        "zenith": _rows(0.03, 0.0, (0.22, 0.48, 0.90), (0.30, 0.56, 0.92), (0.60, 0.68, 0.78)),
        "skyline": _rows(0.02, 0.0, (0.72, 0.84, 0.96), (0.90, 0.84, 0.76)),
        "vapour": _rows(0.01, 0.0, (0.97, 0.97, 0.98)),
    },
    Daylight(
        ambient=(1.0, 1.0, 0.98),
        sun=(0.15, 0.45),
        shadow=(0.25, 0.5),
        cloud=(0.2, 1.6),
        windows_lit=0.0,
        lamps=0.0,
        wet=(0.0, 0.0),
    ),
)

STREET = Look(
    {
        "asphalt": _rows(0.04, 0.09, (0.36, 0.37, 0.38), (0.40, 0.40, 0.40)),
        "marking": _rows(0.05, 0.08, (0.74, 0.74, 0.72)),
        "paving": _rows(0.04, 0.09, (0.48, 0.47, 0.46), (0.42, 0.41, 0.41)),
        "kerb": _rows(0.04, 0.06, (0.56, 0.56, 0.55)),
        "lawn": _rows(0.04, 0.15, (0.34, 0.39, 0.22), (0.40, 0.38, 0.24)),
        "leaf": _rows(0.04, 0.2, (0.19, 0.25, 0.13), (0.26, 0.30, 0.16), (0.30, 0.28, 0.15)),
        "bark": _rows(0.03, 0.12, (0.26, 0.23, 0.20)),
        "masonry": _rows(
            *(0.05, 0.07),
            *((0.58, 0.53, 0.45), (0.44, 0.31, 0.26), (0.66, 0.64, 0.58)),
            *((0.46, 0.46, 0.46), (0.54, 0.47, 0.41), (0.38, 0.35, 0.32)),
        ),
        "roof": _rows(0.04, 0.1, (0.42, 0.27, 0.22), (0.28, 0.28, 0.30)),
        "glass": _rows(0.06, 0.15, (0.22, 0.24, 0.25), (0.42, 0.45, 0.46)),
        "awning": _rows(0.06, 0.06, (0.46, 0.20, 0.19), (0.22, 0.30, 0.38), (0.56, 0.52, 0.40)),
        "timber": _rows(0.04, 0.12, (0.38, 0.31, 0.25), (0.54, 0.53, 0.50), (0.20, 0.24, 0.22)),
        "metal": _rows(0.05, 0.05, (0.34, 0.36, 0.36), (0.48, 0.49, 0.49)),
        "cloth": _rows(
            *(0.06, 0.08),
            *((0.42, 0.18, 0.19), (0.19, 0.23, 0.34), (0.62, 0.60, 0.56)),
            *((0.44, 0.38, 0.28), (0.12, 0.12, 0.13), (0.25, 0.29, 0.26)),
        ),
        "denim": _rows(0.04, 0.08, (0.19, 0.21, 0.27), (0.12, 0.12, 0.13), (0.32, 0.29, 0.25)),
        "skin": _rows(0.05, 0.0, (0.72, 0.56, 0.48), (0.56, 0.42, 0.34), (0.34, 0.25, 0.20)),
        "hair": _rows(0.04, 0.0, (0.16, 0.13, 0.11), (0.36, 0.29, 0.21)),
        "helmet": _rows(0.06, 0.0, (0.66, 0.66, 0.66), (0.14, 0.14, 0.15), (0.46, 0.20, 0.18)),
        "body": _rows(
            *(0.05, 0.0),
            *((0.40, 0.12, 0.13), (0.16, 0.20, 0.33), (0.54, 0.55, 0.57)),
            *((0.76, 0.77, 0.77), (0.11, 0.11, 0.12), (0.30, 0.32, 0.34)),
        ),
        "fleet": _rows(
            *(0.05, 0.04),
            *((0.72, 0.71, 0.67), (0.66, 0.52, 0.22), (0.50, 0.18, 0.17)),
            *((0.27, 0.35, 0.46), (0.36, 0.42, 0.38)),
        ),
        "tyre": _rows(0.01, 0.0, (0.08, 0.08, 0.08)),
        "trim": _rows(0.03, 0.0, (0.20, 0.20, 0.21)),
        "plate": _rows(0.04, 0.0, (0.74, 0.74, 0.72)),
        "emblem": _rows(
            *(0.04, 0.0),
            *((0.64, 0.16, 0.17), (0.14, 0.27, 0.56), (0.78, 0.68, 0.26)),
            *((0.16, 0.40, 0.30),),
        ),
        "zenith": _rows(0.05, 0.0, (0.74, 0.80, 0.86), (0.82, 0.84, 0.86), (0.66, 0.69, 0.72)),
        "skyline": _rows(0.03, 0.0, (0.90, 0.92, 0.93), (0.84, 0.85, 0.86)),
        "vapour": _rows(0.02, 0.0, (0.93, 0.94, 0.95)),
    },
    Daylight(
        ambient=(0.95, 0.98, 1.0),
        sun=(0.02, 0.18),
        shadow=(0.05, 0.25),
        cloud=(-1.0, 0.8),
        windows_lit=0.0,
        lamps=0.2,
        wet=(0.0, 0.0),
    ),
)

# Dusk is the street's materials, a little less worn, under a sky that has lost its sun.
DUSK = Look(
    mix(STREET.materials, RENDER.materials, 0.35)
    | {
        "zenith": _rows(0.03, 0.0, (0.13, 0.17, 0.34), (0.22, 0.20, 0.36), (0.20, 0.23, 0.32)),
        "skyline": _rows(0.05, 0.0, (0.92, 0.52, 0.32), (0.52, 0.42, 0.52)),
        "vapour": _rows(0.04, 0.0, (0.38, 0.34, 0.46)),
    },
    Daylight(
        ambient=(0.26, 0.28, 0.42),
        sun=(0.02, 0.12),
        shadow=(0.0, 0.1),
        cloud=(-0.4, 1.2),
        windows_lit=0.55,
        lamps=1.0,
        wet=(0.4, 0.8),
    ),
)


class Palette:
    """The paints of one image: what it draws by chance is the same number of draws whatever the look."""

    def __init__(self, look: Look, rng: np.random.Generator) -> None:
        self.look, self.rng = look, rng
        self.sun, self.shadow = rng.uniform(*look.light.sun), rng.uniform(*look.light.shadow)
        self.cloud, self.wet = rng.uniform(*look.light.cloud), rng.uniform(*look.light.wet)
        self.sunny_side = int(rng.integers(3)) - 1  # -1 left houses, 0 the far ones, 1 right houses
        self._strays = cycle(rng.standard_normal((512, 4)).tolist())  # one large draw is cheaper than many

    def paint(self, material: str, tone: float = 1.0) -> Paint:
        """One paint of a material, under the scene's ambient light."""
        (r, g, b), rough = self._draw(material)
        red, green, blue = self.look.light.ambient
        return Paint((tone * red * r, tone * green * g, tone * blue * b), rough)

    def sky(self, material: str) -> Array:
        """A colour of the sky (3,), which is itself the light."""
        return np.array(self._draw(material)[0], np.float32)

    def lamp(self, rgb: Colour, off: float = 0.75) -> Paint:
        """A lens or a lamp: coloured by day, brighter than anything else at dusk."""
        lamps, ambient = self.look.light.lamps, self.look.light.ambient
        r, g, b = (c * (off * a + lamps * (1.35 - off * a)) for c, a in zip(rgb, ambient, strict=True))
        return Paint((r, g, b))

    def on(self, side: int) -> float:
        """The light on a face that looks to the street from `side` (-1, 1) or to the camera (0)."""
        return 1 + self.sun * (0.35 if side == self.sunny_side else -0.5)

    def _draw(self, material: str) -> tuple[Colour, float]:
        """One row of a material, lighter or darker, a little redder or bluer, and its roughness."""
        rows = self.look.materials[material]
        r, g, b, spread, rough = rows[int(len(rows) * self.rng.random())]
        shade, red, green, blue = next(self._strays)
        strayed = (c + spread * (shade + 0.4 * hue) for c, hue in ((r, red), (g, green), (b, blue)))
        r, g, b = (min(max(value, 0.02), 1.0) for value in strayed)
        return (r, g, b), rough
