"""Paints vehicles: boxes with an end and a side, told apart by windows, cabs and doors."""

from __future__ import annotations

import numpy as np

from diga.data import canvas as c
from diga.data.canvas import Array, Canvas, Coat, Part, Patch, blank, box, cut, disc
from diga.data.palette import Palette
from diga.data.scenes import Thing

PAINT, GLASS, DARK, LAMP, PLATE, DIM, CAB = range(1, 8)  # parts of every vehicle
KINDS = {"car": c.CAR, "truck": c.TRUCK, "bus": c.BUS}


def paint_vehicle(canvas: Canvas, thing: Thing, palette: Palette) -> None:
    """The side that can be seen, then the end that looks at us; or the side alone, of crossing traffic."""
    _shadow(canvas, thing, palette)
    coat = _bodywork(thing, palette)
    x, z, half = thing.x, thing.z, thing.width / 2
    ends, sides = _ENDS[thing.kind], _SIDES[thing.kind]
    if thing.heading == 0:
        patch = canvas.view.facing((x, x + thing.length), (0, thing.height), z)
        along = patch.along - x if thing.variant < 0.5 else x + thing.length - patch.along
        canvas.lay(patch, sides(patch._replace(along=along), thing), coat, palette.on(0))
        return
    inner = x - half if x > 0 else x + half
    if inner * x > 0:
        patch = canvas.view.receding(inner, (z, z + thing.length), thing.height)
        along = patch.along - z if thing.heading > 0 else z + thing.length - patch.along
        light = 0.8 * palette.on(1 if x > 0 else -1)
        canvas.lay(patch, sides(patch._replace(along=along), thing), coat, light)
    patch = canvas.view.facing((x - half, x + half), (0, thing.height), z)
    canvas.lay(patch, ends(patch._replace(along=patch.along - x), thing), coat, palette.on(0))


def _bodywork(thing: Thing, palette: Palette) -> Coat:
    label = KINDS[thing.kind]
    body = palette.paint("body" if thing.kind == "car" else "fleet")
    lamp = (1.0, 0.16, 0.10) if thing.heading > 0 else (1.0, 0.95, 0.80)
    glass, dark, plate = palette.paint("glass", 0.8), palette.paint("tyre"), palette.paint("plate")
    dim, cab = body.times(0.72), palette.paint("fleet")
    paints = body, glass, dark, palette.lamp(lamp), plate, dim, cab  # in the order of PAINT .. CAB
    return Coat(*(Part(paint, label) for paint in paints))


def _car_end(patch: Patch, car: Thing) -> Array:
    h, w, a, y = car.height, car.width / 2, abs(patch.along), patch.up
    waist, parts = 0.60 * h, blank(patch)
    lean = np.maximum(y - waist, 0)
    cut(parts, PAINT, a < w - 0.03 - 0.45 * lean, y > 0.25)
    cut(parts, GLASS, a < w - 0.16 - 0.45 * lean, y > waist + 0.05, y < 0.93 * h)
    cut(parts, DIM, a < w, y > 0.25, y < 0.30 * h)
    cut(parts, DARK, a > w - 0.34, a < w - 0.04, y < 0.34)
    cut(parts, LAMP, a > w - 0.40, a < w - 0.04, y > 0.43 * h, y < 0.56 * h)
    cut(parts, PLATE, a < 0.28, y > 0.32 * h, y < 0.42 * h)
    return parts


def _car_side(patch: Patch, car: Thing) -> Array:
    length, h, s, y = car.length, car.height, patch.along, patch.up
    waist, parts = 0.60 * h, blank(patch)
    lean = np.maximum(y - waist, 0)
    cabin = (s > 0.06 * length + 0.45 * lean) & (s < 0.72 * length - 0.9 * lean) & (y < h)
    cut(parts, PAINT, s > 0, s < length, y > 0.25, y < waist + 0.04)
    cut(parts, PAINT, cabin, y > waist)
    panes = (s > 0.12 * length) & (s < 0.66 * length - lean) & (abs(s - 0.40 * length) > 0.08)
    cut(parts, GLASS, cabin, panes, y > waist + 0.06, y < 0.92 * h)
    cut(parts, DIM, s > 0, s < length, y > 0.22, y < 0.28 * h)
    cut(parts, DARK, disc(patch, 0.19 * length, 0.33, 0.34) | disc(patch, 0.80 * length, 0.33, 0.34))
    return parts


def _truck_end(patch: Patch, truck: Thing) -> Array:
    """From behind: plain doors with a seam. From the front: a cab with the box above it."""
    h, w, a, y = truck.height, truck.width / 2, abs(patch.along), patch.up
    parts = blank(patch)
    cut(parts, DARK, a < 0.9 * w, y > 0.35, y < 0.9)
    cut(parts, DARK, a > w - 0.55, a < w - 0.05, y < 0.9)
    cut(parts, PAINT, a < w, y > 0.85, y < h)
    if truck.heading > 0:
        cut(parts, DIM, (a < 0.05) | (a > w - 0.09) | (abs(a - 0.5 * w) < 0.04), y > 0.95, y < h - 0.1)
        cut(parts, LAMP, a > w - 0.42, a < w - 0.08, y > 0.58, y < 0.80)
        cut(parts, PLATE, a < 0.25, y > 0.55, y < 0.75)
        return parts
    cut(parts, CAB, a < w - 0.08, y > 0.35, y < 0.80 * h)
    cut(parts, GLASS, a < w - 0.20, y > 0.50 * h, y < 0.72 * h)
    cut(parts, DARK, a < 0.55 * w, y > 0.25 * h, y < 0.42 * h)
    cut(parts, LAMP, a > w - 0.48, a < w - 0.14, y > 0.24 * h, y < 0.32 * h)
    return parts


def _truck_side(patch: Patch, truck: Thing) -> Array:
    """A windowless box, a gap, and a lower cab with one window."""
    length, h, s, y = truck.length, truck.height, patch.along, patch.up
    back, parts = length - 2.1, blank(patch)
    cut(parts, DARK, s > 0.1, s < length - 0.3, y > 0.5, y < 0.9)
    cut(parts, PAINT, s > 0, s < back, y > 0.85, y < h)
    cut(parts, DIM, s > 0, s < back, (y < 1.05) | (s % 1.6 < 0.12), y > 0.85, y < h)
    cut(parts, CAB, s > back + 0.2, s < length, y > 0.4, y < 0.80 * h)
    cut(parts, GLASS, s > back + 0.7, s < length - 0.25, y > 0.50 * h, y < 0.70 * h)
    for axle in (1.0, 2.0, length - 1.1):
        cut(parts, DARK, disc(patch, axle, 0.45, 0.46))
    return parts


def _bus_end(patch: Patch, bus: Thing) -> Array:
    """One body: a wide windscreen under a lit destination in front, a window above the engine behind."""
    h, w, a, y = bus.height, bus.width / 2, abs(patch.along), patch.up
    parts = blank(patch)
    cut(parts, DARK, a > w - 0.45, a < w - 0.08, y < 0.5)
    cut(parts, PAINT, a < w, y > 0.32, y < h)
    cut(parts, DIM, a < w, y > 0.32, y < 0.20 * h)
    if bus.heading > 0:
        cut(parts, GLASS, a < w - 0.16, y > 0.52 * h, y < 0.86 * h)
        cut(parts, DARK, a < 0.6 * w, y > 0.24 * h, y < 0.38 * h)
        cut(parts, LAMP, a > w - 0.28, a < w - 0.05, y > 0.24 * h, y < 0.46 * h)
        return parts
    cut(parts, GLASS, a < w - 0.10, y > 0.36 * h, y < 0.82 * h)
    cut(parts, PLATE, a < 0.62 * w, y > 0.86 * h, y < 0.96 * h)
    cut(parts, LAMP, a > w - 0.52, a < w - 0.14, y > 0.20 * h, y < 0.29 * h)
    return parts


def _bus_side(patch: Patch, bus: Thing) -> Array:
    length, h, s, y = bus.length, bus.height, patch.along, patch.up
    parts = blank(patch)
    cut(parts, PAINT, s > 0, s < length, y > 0.32, y < h)
    cut(parts, DIM, s > 0, s < length, y > 0.32, y < 0.24 * h)
    cut(parts, GLASS, s > 0.3, s < length - 0.2, y > 0.46 * h, y < 0.84 * h, s % 1.5 > 0.14)
    cut(parts, GLASS, abs(s - length + 1.0) < 0.5, y > 0.2 * h, y < 0.84 * h)
    cut(parts, DARK, disc(patch, 0.24 * length, 0.45, 0.46) | disc(patch, 0.78 * length, 0.45, 0.46))
    return parts


def _shadow(canvas: Canvas, thing: Thing, palette: Palette) -> None:
    """The dark patch under a vehicle."""
    if thing.heading == 0:
        x, deep = (thing.x, thing.x + thing.length), thing.width
    else:
        x, deep = (thing.x - thing.width / 2, thing.x + thing.width / 2), thing.length
    z = thing.z - 0.35, thing.z + deep
    patch = canvas.view.lying(x, z)
    coat = Coat(Part(palette.paint("tyre"), c.KEEP, cover=0.55))
    canvas.lay(patch, np.uint8(1) * box(patch, x, z), coat)


_ENDS = {"car": _car_end, "truck": _truck_end, "bus": _bus_end}
_SIDES = {"car": _car_side, "truck": _truck_side, "bus": _bus_side}
