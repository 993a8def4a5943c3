"""Paints what does not move: sky, ground, houses, walls, fences, hedges and trees."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from diga.data import canvas as c
from diga.data.canvas import Canvas, Coat, Part, Patch, blank, cut, disc, limb
from diga.data.palette import Palette
from diga.data.scenes import FAR, Lot, Scene, Thing

_ROOF = 3.2  # metres from eaves to ridge


def paint_sky(canvas: Canvas, palette: Palette) -> None:
    """A gradient from the skyline up, and clouds where the noise is high."""
    view = canvas.view
    zenith, skyline, vapour = (palette.sky(name)[:, None, None] for name in ("zenith", "skyline", "vapour"))
    rows = slice(0, int(view.horizon) + 2)
    rise = np.linspace(1, 0, rows.stop, dtype=np.float32)[:, None] ** 0.7
    cloud = np.clip(1.2 * (canvas.grain["cloud"][rows] - np.float32(palette.cloud)), 0, 1)
    sky = skyline + rise * (zenith - skyline)
    canvas.rgb[:, rows] = sky + np.float32(0.8) * cloud * (vapour - sky)


def paint_ground(canvas: Canvas, scene: Scene, palette: Palette) -> None:
    """Carriageway, kerbs, pavements, verges and the grass behind them."""
    patch = canvas.view.lying((-1e3, 1e3), (0.5, 400.0))
    x, z = patch.along, patch.up
    coat = Coat(
        Part(palette.paint("asphalt"), c.ROAD),
        Part(paving := palette.paint("paving"), c.SIDEWALK),
        Part(palette.paint("kerb"), c.SIDEWALK),
        Part(palette.paint("lawn"), c.TERRAIN),
        Part(palette.paint("marking"), c.ROAD),
        Part(paving.times(0.82), c.SIDEWALK),
    )
    parts = np.full(np.broadcast(x, z).shape, 4, np.uint8)
    slab = palette.rng.uniform(0.9, 1.6)
    for side in (0, 1):
        out = (x - scene.kerbs[side]) * (2 * side - 1)  # metres beyond the kerb
        edge = scene.verges[side]
        cut(parts, 2, out < edge + scene.pavements[side], out >= 0)
        cut(parts, 6, parts == 2, ((z / slab) % 1 < 0.1) | ((out / slab) % 1 < 0.08))
        cut(parts, 4, out >= 0.25, out < edge)
        cut(parts, 3, out >= 0, out < 0.25)
    cut(parts, 1, x > scene.kerbs[0], x < scene.kerbs[1])
    _mark(parts, scene, x, z, palette)
    lit = 1 - _shade(canvas, scene, palette, x, z)
    canvas.lay(patch, parts, coat, lit)


def _mark(parts: c.Array, scene: Scene, x: c.Array, z: c.Array, palette: Palette) -> None:
    """Lane markings, the crossing street and its zebra."""
    left, right = scene.kerbs
    middle, period = (left + right) / 2, palette.rng.uniform(5, 9)
    dashed, edged = palette.rng.uniform(size=2) < (0.75, 0.4)
    if dashed:
        cut(parts, 5, abs(x - middle) < 0.10 + 0.004 * z, (z / period) % 1 < 0.45, z < 60)
    if edged:
        cut(parts, 5, (abs(x - left - 2.3) < 0.08) | (abs(x - right + 2.3) < 0.08), z < 40)
    if scene.junction:
        start, end = scene.junction
        cut(parts, 1, z > start, z < end)
        cut(parts, 5, z > start - 3.5, z < start - 0.7, x > left + 0.3, x < right - 0.3, (x / 1.1) % 1 < 0.5)


def _shade(canvas: Canvas, scene: Scene, palette: Palette, x: c.Array, z: c.Array) -> c.Array:
    """Shadow that the houses of the sunless side throw on the street."""
    reach, sway = palette.rng.uniform(0.1, 0.6), palette.rng.uniform(6, 14)
    width = scene.kerbs[1] - scene.kerbs[0]
    side = palette.sunny_side
    if side == 0:
        return np.zeros((1, 1), np.float32)
    start = scene.kerbs[0] if side > 0 else scene.kerbs[1]  # opposite the sunny houses
    depth = (x - start) * side
    block = np.where((z / sway) % 1 < 0.7, 1.0, 0.45)
    return np.float32(palette.shadow) * (depth < width * reach * block)


def paint_backdrop(canvas: Canvas, palette: Palette) -> None:
    """Far houses and trees that close the street and fill what the lots leave open."""
    rng, view = palette.rng, canvas.view
    left, right = ((edge - view.centre) * FAR * 1.4 / view.focal for edge in (0, view.width))
    x = left
    while x < right:
        width, height, wood = rng.uniform(10, 28), rng.uniform(3, 12), rng.uniform() < 0.5
        patch = view.facing((x, x + width), (0, height), FAR * 1.4)
        if wood:
            ragged = height * 0.7 + 1.2 * canvas.grain["leaf"][patch.at]
            canvas.lay(patch, np.uint8(1) * (patch.up < ragged), _leaves(palette), 0.9, "leaf")
        else:
            house = _house(height, palette)
            canvas.lay(patch, _facade(patch, house), house.coat, 0.9)
        x += width * rng.uniform(0.8, 1.5)


def paint_lot(canvas: Canvas, lot: Lot, palette: Palette) -> None:
    """One lot: its end face, which looks at us, then its front along the pavement."""
    _LOTS[lot.kind](canvas, lot, palette)


class _House(NamedTuple):
    """What the faces of one house have in common."""

    coat: Coat
    height: float
    bay: float
    floor: float
    ground: float  # height of the ground floor
    panes: tuple[float, float]  # share of a bay and of a floor that is window
    shops: bool
    lamps: c.Array  # (64,) which windows are lit


def _house(height: float, palette: Palette) -> _House:
    u, wall = palette.rng.uniform, palette.paint("masonry")
    paints = (
        *(wall, palette.paint("glass"), wall.times(0.80)),
        *(palette.paint("roof"), palette.paint("awning"), palette.lamp((1.0, 0.80, 0.46), off=0.7)),
    )
    coat = Coat(*(Part(paint, c.BUILDING) for paint in paints))
    sizes = u(2.0, 3.2), u(2.8, 3.3), u(3.2, 4.0), (u(0.40, 0.66), u(0.45, 0.62))
    return _House(coat, height, *sizes, bool(u() < 0.55), u(size=64) < palette.look.light.windows_lit)


def _building(canvas: Canvas, lot: Lot, palette: Palette) -> None:
    house, roof = _house(lot.height, palette), _ROOF * lot.pitched
    deep = lot.x + lot.side * 12
    ends = min(lot.x, deep), max(lot.x, deep)
    for patch, side in (
        (canvas.view.facing(ends, (0, lot.height + roof), lot.z[0]), 0),
        (canvas.view.receding(lot.x, lot.z, lot.height + roof), lot.side),
    ):
        parts = _facade(patch, house)
        if side:
            cut(parts, 4, patch.up >= lot.height, patch.up < lot.height + roof)
        elif roof:
            slope = roof * (1 - abs(patch.along - sum(ends) / 2) / 6)
            cut(parts, 4, patch.up >= lot.height, patch.up < lot.height + slope)
            cut(parts, 1, patch.up >= lot.height, patch.up < lot.height + slope - 0.3)
        canvas.lay(patch, parts, house.coat, palette.on(side))


def _facade(patch: Patch, house: _House) -> c.Array:
    """Masonry with rows of windows, a shop floor or a plinth, and a cornice."""
    a, y = patch.along, patch.up
    parts = blank(patch)
    if not parts.size:
        return parts
    column, storey = a / house.bay, (y - house.ground) / house.floor
    cut(parts, 1, y < house.height)
    pane = (column % 1 < house.panes[0]) & ((storey - 0.25) % 1 < house.panes[1])
    cut(parts, 2, pane, y > house.ground, y < house.height - 0.5)
    if house.shops:
        cut(parts, 2, y > 0.5, y < 2.6, (column / 1.7) % 1 < 0.82)
        cut(parts, 5, y > 2.6, y < 3.25)
    else:
        cut(parts, 3, y < 0.8)
    cut(parts, 3, y > house.height - 0.35, y < house.height)
    if house.lamps.any():
        window = (np.floor(column).astype(int) * 7 + np.floor(storey).astype(int) * 3) % 64
        cut(parts, 6, parts == 2, house.lamps[window])
    return parts


def _wall(canvas: Canvas, lot: Lot, palette: Palette) -> None:
    """Bricks or plaster like a house's, but low, windowless and with a coping stone."""
    stone = palette.paint("masonry")
    coat = Coat(
        Part(stone, c.WALL),
        Part(stone.times(0.84), c.WALL),
        Part(palette.paint("kerb", 0.9), c.WALL),
    )
    course, panel = palette.rng.uniform(0.35, 0.6), palette.rng.uniform(2.5, 5.0)
    _greenery_behind(canvas, lot, palette)
    for patch in (_end(canvas, lot, 0.4), canvas.view.receding(lot.x, lot.z, lot.height)):
        parts = np.uint8(1) * (patch.up < lot.height) * (patch.along == patch.along)
        cut(parts, 2, parts == 1, ((patch.up / course) % 1 < 0.22) | ((patch.along / panel) % 1 < 0.08))
        cut(parts, 3, parts > 0, patch.up > lot.height - 0.25)
        canvas.lay(patch, parts, coat, palette.on(lot.side))


def _fence(canvas: Canvas, lot: Lot, palette: Palette) -> None:
    """Pickets, palings or rails; what shows through the gaps is fence too, as in Cityscapes."""
    wood = palette.paint("timber")
    coat = Coat(Part(wood, c.FENCE), Part(wood, c.FENCE, cover=0.15))
    u = palette.rng.uniform
    pitch, share, rails = u(0.35, 0.7), u(0.4, 0.7), u() < 0.25
    _greenery_behind(canvas, lot, palette)
    patch = canvas.view.receding(lot.x, lot.z, lot.height)
    a, y = patch.along, patch.up
    parts = np.uint8(2) * (y < lot.height) * (a == a)
    bars = (y / 0.5) % 1 < 0.5 if rails else (a / pitch) % 1 < share
    frame = (abs(y - lot.height + 0.15) < 0.12) | (abs(y - 0.4) < 0.1) | ((a / 2.5) % 1 < 0.1)
    cut(parts, 1, parts == 2, bars | frame)
    canvas.lay(patch, parts, coat, palette.on(lot.side))


def _hedge(canvas: Canvas, lot: Lot, palette: Palette) -> None:
    coat = _leaves(palette)
    for patch in (_end(canvas, lot, 1.5), canvas.view.receding(lot.x, lot.z, lot.height + 0.5)):
        noise = canvas.grain["leaf"][patch.at]
        parts = np.uint8(1) * (patch.up < lot.height + 0.15 * noise)
        cut(parts, 2, parts > 0, noise > 0.4)
        cut(parts, 3, parts > 0, noise + patch.up / lot.height < 0)
        canvas.lay(patch, parts, coat, palette.on(lot.side), "leaf")


def _park(canvas: Canvas, lot: Lot, palette: Palette) -> None:
    _greenery_behind(canvas, lot, palette, 0.9)


def _greenery_behind(canvas: Canvas, lot: Lot, palette: Palette, share: float = 0.55) -> None:
    """Up to two trees in the lot, behind its front."""
    u = palette.rng.uniform
    for depth in (0.8, 0.35):
        place, height, size, away, here = u(-0.1, 0.1), u(4.5, 8.0), u(1.6, 2.8), u(3.0, 7.0), u() < share
        if here:
            z = lot.z[0] + (depth + place) * (lot.z[1] - lot.z[0])
            paint_tree(canvas, Thing("tree", lot.x + lot.side * away, z, height, size), palette)


def _end(canvas: Canvas, lot: Lot, thick: float) -> Patch:
    far = lot.x + lot.side * thick
    return canvas.view.facing((min(lot.x, far), max(lot.x, far)), (0, lot.height), lot.z[0])


def _leaves(palette: Palette) -> Coat:
    """Leaf, leaf in the sun, leaf in the shade, bark."""
    leaf = palette.paint("leaf")
    tones = (leaf.times(tone) for tone in (1.0, 1.28, 0.66))
    return Coat(*(Part(tone, c.VEGETATION) for tone in tones), Part(palette.paint("bark"), c.VEGETATION))


def paint_tree(canvas: Canvas, tree: Thing, palette: Palette) -> None:
    """A trunk and a ragged crown, light above and dark below."""
    r, top = tree.width, tree.height
    patch = canvas.view.facing((tree.x - 1.5 * r, tree.x + 1.5 * r), (0, top + 0.5 * r), tree.z)
    x, y, noise = patch.along - tree.x, patch.up, canvas.grain["leaf"][patch.at]
    parts = blank(patch)
    cut(parts, 4, abs(x) < 0.09 * r, y < top - r)
    crown = x * x + (y - (top - r)) ** 2 / 1.2 + 0.32 * r * r * noise < r * r
    cut(parts, 1, crown)
    cut(parts, 2, crown, noise < 0.9 * (y - top + r) / r - 0.45)
    cut(parts, 3, crown, noise > 0.9 * (y - top + r) / r + 0.75)
    canvas.lay(patch, parts, _leaves(palette), palette.on(0), "leaf")


def paint_palm(canvas: Canvas, palm: Thing, palette: Palette) -> None:
    """A tall thin trunk and a star of hanging fronds."""
    x, top, r = palm.x, palm.height, 0.9 * palm.width
    patch = canvas.view.facing((x - 1.2 * r, x + 1.2 * r), (0, top + 0.8 * r), palm.z)
    parts = blank(patch)
    cut(parts, 4, abs(patch.along - x) < 0.16, patch.up < top)
    for part, dx, dy in ((3, 0.9, -0.75), (1, 1.0, -0.1), (2, 0.55, 0.5)):
        for side in (-r, r):
            cut(parts, part, limb(patch, (x, top), (x + side * dx, top + r * dy), 0.14 * r + 0.08))
    cut(parts, 1, disc(patch, x, top, 0.3 * r))
    canvas.lay(patch, parts, _leaves(palette), palette.on(0), "leaf")


_LOTS = {"building": _building, "wall": _wall, "fence": _fence, "hedge": _hedge, "park": _park}
