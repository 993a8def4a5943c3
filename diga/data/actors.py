"""Paints what else stands or moves on the street: people, riders, poles, signs and signals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from diga.data import canvas as c
from diga.data.canvas import Array, Canvas, Coat, Part, Patch, blank, cut, disc, limb
from diga.data.painting import paint_palm, paint_tree
from diga.data.palette import Palette
from diga.data.scenes import Thing
from diga.data.vehicles import paint_vehicle


def paint_thing(canvas: Canvas, thing: Thing, palette: Palette) -> None:
    """Paint one object of the street, whatever it is."""
    _PAINTERS[thing.kind](canvas, thing, palette)


def _person(canvas: Canvas, thing: Thing, palette: Palette) -> None:
    """Somebody who walks or stands."""
    patch, h = _figure(canvas, thing, 0.55), thing.height
    coat = Coat(*(Part(palette.paint(name), c.PERSON) for name in ("skin", "hair", "cloth", "denim")))
    stride, swing, w = 0.20 * thing.variant, 0.12 * thing.variant, thing.width
    parts = blank(patch)
    for side in (-1, 1):
        cut(parts, 4, limb(patch, (side * 0.07, 0.48 * h), (side * (0.08 + stride), 0.03), 0.095))
    cut(parts, 3, limb(patch, (0, 0.56 * h), (0, 0.75 * h), w))
    for side in (-1, 1):
        cut(parts, 3, limb(patch, (side * w, 0.79 * h), (side * (w + 0.04 + swing), 0.50 * h), 0.07))
    cut(parts, 1, disc(patch, 0, 0.92 * h, 0.135, 0.85))
    brow = 0.945 if thing.heading < 0 else 0.91  # more hair is seen from behind
    cut(parts, 2, disc(patch, 0, 0.94 * h, 0.135, 0.85), patch.up > brow * h)
    canvas.lay(patch, parts, coat, palette.on(0))


def _figure(canvas: Canvas, thing: Thing, reach: float) -> Patch:
    """A patch about a person or a two-wheeler; `along` counts from its middle, towards where it heads."""
    patch = canvas.view.facing((thing.x - reach, thing.x + reach), (0, thing.height + 0.15), thing.z)
    return patch._replace(along=(patch.along - thing.x) * np.float32(thing.heading))


def _two_wheeler(canvas: Canvas, thing: Thing, palette: Palette) -> None:
    """A bicycle or a motorcycle, with or without its rider, turned by `width` from full profile (1)."""
    motor, ridden = thing.kind.startswith("motorc"), thing.kind.endswith("cyclist")
    patch = _figure(canvas, thing, 1.1 * thing.width)
    patch = patch._replace(along=patch.along / np.float32(thing.width))
    parts = blank(patch)
    label = c.MOTORCYCLE if motor else c.BICYCLE
    (_motorcycle if motor else _bicycle)(parts, patch)
    if ridden:
        _rider(parts, patch, thing, upright=motor)
    machine = palette.paint("body", 0.9)
    names = "skin", "helmet", "cloth", "denim"
    spokes = Part(palette.paint("trim"), label, cover=0.45)
    coat = Coat(
        *(Part(palette.paint("tyre"), label), Part(machine, label), spokes),
        *(Part(palette.paint(name), c.RIDER) for name in names),
        Part(palette.lamp((1.0, 0.95, 0.80)), label),
    )
    canvas.lay(patch, parts, coat, palette.on(0))


def _bicycle(parts: Array, patch: Patch) -> None:
    """Rings with see-through spokes, which are bicycle too, and a frame."""
    for x in (-0.54, 0.54):
        cut(parts, 3, disc(patch, x, 0.36, 0.38))
        cut(parts, 1, disc(patch, x, 0.36, 0.38), ~disc(patch, x, 0.36, 0.27))
    pedals, head = (0.0, 0.36), (0.40, 0.82)
    tubes = ((-0.54, 0.36), pedals), (pedals, (-0.18, 0.88)), (pedals, head)
    for start, end in (*tubes, ((-0.16, 0.78), head), ((0.54, 0.36), (0.38, 1.02))):
        cut(parts, 2, limb(patch, start, end, 0.055))
    for start, end in (((-0.28, 0.92), (-0.08, 0.92)), ((0.30, 1.02), (0.46, 1.02))):  # saddle and bars
        cut(parts, 1, limb(patch, start, end, 0.05))


def _motorcycle(parts: Array, patch: Patch) -> None:
    """Fat tyres close to a heavy body, a tank, a seat and a lamp."""
    for x in (-0.66, 0.66):
        cut(parts, 1, disc(patch, x, 0.33, 0.33))
        cut(parts, 3, disc(patch, x, 0.33, 0.12))
    cut(parts, 1, limb(patch, (-0.35, 0.42), (0.30, 0.42), 0.20))
    cut(parts, 2, limb(patch, (-0.72, 0.76), (0.0, 0.70), 0.11))
    cut(parts, 2, limb(patch, (0.05, 0.78), (0.42, 0.80), 0.18))
    cut(parts, 1, limb(patch, (0.66, 0.33), (0.46, 1.02), 0.06))
    cut(parts, 1, limb(patch, (-0.45, 0.86), (-0.02, 0.84), 0.06))
    cut(parts, 8, disc(patch, 0.58, 0.86, 0.13))


def _rider(parts: Array, patch: Patch, thing: Thing, upright: bool) -> None:
    """Legs to the pedals, a back that leans forward, arms to the bars, and a helmet."""
    h = thing.height
    if upright:
        hip, shoulder, knee, foot = (-0.20, 0.92), (0.0, 0.83 * h), (0.22, 0.74), (0.02, 0.34)
    else:
        hip, shoulder, knee = (-0.20, 0.98), (0.14, 0.82 * h), (0.16, 0.68)
        foot = (0.02, 0.24 + 0.2 * thing.variant)
    cut(parts, 7, limb(patch, hip, knee, 0.12) | limb(patch, knee, foot, 0.09))
    cut(parts, 6, limb(patch, hip, shoulder, 0.20))
    cut(parts, 6, limb(patch, shoulder, (0.42, 1.04), 0.075))
    x, up = shoulder[0] + 0.10, 0.94 * h
    cut(parts, 4, disc(patch, x, up, 0.15))
    cut(parts, 5, disc(patch, x - 0.01, up + 0.04, 0.17), patch.up > (up - 0.12 if upright else up + 0.01))


def _thickness(canvas: Canvas, thing: Thing, wanted: float) -> float:
    """Half the width of a pole in metres: `wanted`, or what keeps it visible at its distance."""
    return max(wanted, 1.1 * thing.z / canvas.view.focal)


def _inwards(thing: Thing) -> int:
    """The direction from a pavement to the road."""
    return -1 if thing.x > 0 else 1


def _lamp(canvas: Canvas, thing: Thing, palette: Palette) -> None:
    """A lamp post; its arm hangs over the road."""
    half, top = _thickness(canvas, thing, thing.width), thing.height
    arm = _inwards(thing) * (0.6 + 1.2 * thing.variant)
    patch = canvas.view.facing((thing.x - 2.2, thing.x + 2.2), (0, top + 0.2), thing.z)
    x, y, parts = patch.along - thing.x, patch.up, blank(patch)
    cut(parts, 1, abs(x) < half, y < top)
    cut(parts, 1, abs(x) < 1.6 * half, y < 0.9)
    cut(parts, 1, x * arm > 0, abs(x) < abs(arm), abs(y - top) < half)
    cut(parts, 2, abs(x - arm) < 0.38, abs(y - top + 0.08) < 0.16)
    metal = palette.paint("metal")
    head = palette.lamp((1.0, 0.88, 0.62))
    canvas.lay(patch, parts, Coat(Part(metal, c.POLE), Part(head, c.POLE)), palette.on(0))


def _sign(canvas: Canvas, thing: Thing, palette: Palette) -> None:
    """A plate on a pole: a disc, a triangle, a diamond, a square or a board."""
    half, top, r = _thickness(canvas, thing, 0.05), thing.height, thing.width
    patch = canvas.view.facing((thing.x - 1.8 * r, thing.x + 1.8 * r), (0, top + 0.02), thing.z)
    x, y, parts = patch.along - thing.x, patch.up, blank(patch)
    dy = y - (top - r)
    shape = _PLATES[int(5 * thing.variant)]
    cut(parts, 1, abs(x) < half, y < top - r)
    cut(parts, 2, shape(x, dy, r))
    cut(parts, 3, shape(x, dy, 0.55 * r), abs(dy) < 0.35 * r)
    emblem, white, metal = (palette.paint(name) for name in ("emblem", "plate", "metal"))
    canvas.lay(patch, parts, Coat(Part(metal, c.POLE), Part(emblem, c.SIGN), Part(white, c.SIGN)))


def _signal(canvas: Canvas, thing: Thing, palette: Palette) -> None:
    """A traffic light, on its pole or on an arm (`length`) over the road."""
    half, top, w = _thickness(canvas, thing, 0.07), thing.height, thing.width
    arm = _inwards(thing) * thing.length
    patch = canvas.view.facing((thing.x - 4.6, thing.x + 4.6), (0, top + 0.1), thing.z)
    x, y, parts = patch.along - thing.x, patch.up, blank(patch)
    cut(parts, 1, abs(x) < half, y < top - (0 if arm else 3.6 * w))
    cut(parts, 1, x * arm > 0, abs(x) < abs(arm), abs(y - top + half) < half)
    cut(parts, 2, abs(x - arm) < w, y < top, y > top - 4.2 * w)
    on = int(3 * thing.variant)
    for k in range(3):
        cut(parts, 3 if k == on else 4, disc(patch, thing.x + arm, top - (0.8 + 1.3 * k) * w, 0.62 * w))
    lens = ((1.0, 0.15, 0.10), (1.0, 0.72, 0.10), (0.20, 1.0, 0.45))[on]
    burning = palette.lamp(lens, off=0.95)
    boxed = palette.paint("trim", 0.7), burning, palette.paint("tyre")
    coat = Coat(Part(palette.paint("metal"), c.POLE), *(Part(paint, c.LIGHT) for paint in boxed))
    canvas.lay(patch, parts, coat, palette.on(0))


_PLATES: tuple[Callable[[Array, Array, float], Array], ...] = (
    lambda x, y, r: x * x + y * y < r * r,
    lambda x, y, r: (abs(x) < 0.62 * (r - y)) & (y > -r),
    lambda x, y, r: abs(x) + abs(y) < 1.1 * r,
    lambda x, y, r: (abs(x) < 0.9 * r) & (abs(y) < 0.9 * r),
    lambda x, y, r: (abs(x) < 1.7 * r) & (abs(y) < 0.75 * r),
)
_PAINTERS = {
    **dict.fromkeys(("car", "truck", "bus"), paint_vehicle),
    **dict.fromkeys(("bicycle", "motorcycle", "cyclist", "motorcyclist"), _two_wheeler),
    "tree": paint_tree,
    "palm": paint_palm,
    "person": _person,
    "lamp": _lamp,
    "sign": _sign,
    "signal": _signal,
}
