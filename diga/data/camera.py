"""What the camera does to light: reflections, haze, bloom, exposure, colour, optics, noise and its bonnet."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from diga.data import canvas as c
from diga.data.canvas import Array, Canvas
from diga.data.palette import Palette, Range

HOOD = 255  # the label of the ego vehicle: void


class Lens(NamedTuple):
    """A domain's camera; each range is drawn from once per image."""

    haze: Range  # share of skyline colour at 50 m
    bloom: Range  # light that spills from what is brighter than white
    exposure: Range
    contrast: Range
    saturation: Range
    red: Range  # white balance
    blue: Range
    gamma: Range
    vignette: Range  # loss of light in the corners
    blur: Range  # share of a pixel's light that its neighbours get
    sharpen: Range
    noise: Range  # standard deviation at mid grey
    grain: Range  # how much of the noise follows the brightness


RENDERER = Lens(
    haze=(0.0, 0.10), bloom=(0.0, 0.3), exposure=(0.78, 1.18), contrast=(0.84, 1.18),
    saturation=(0.70, 1.30), red=(0.95, 1.08), blue=(0.88, 1.04), gamma=(0.85, 1.15),
    vignette=(0.0, 0.08), blur=(0.0, 0.04), sharpen=(0.05, 0.40), noise=(0.003, 0.012), grain=(0.0, 0.0),
)  # fmt: skip

WINDSCREEN = Lens(
    haze=(0.15, 0.55), bloom=(0.2, 0.5), exposure=(0.80, 1.14), contrast=(0.70, 0.98),
    saturation=(0.45, 0.85), red=(0.86, 0.98), blue=(0.90, 1.05), gamma=(0.85, 1.25),
    vignette=(0.15, 0.45), blur=(0.20, 0.55), sharpen=(0.0, 0.0), noise=(0.012, 0.038), grain=(1.0, 1.0),
)  # fmt: skip

NIGHT_EYE = Lens(
    haze=(0.05, 0.30), bloom=(0.8, 1.4), exposure=(0.95, 1.35), contrast=(0.85, 1.10),
    saturation=(0.70, 1.10), red=(0.92, 1.10), blue=(0.95, 1.15), gamma=(0.85, 1.10),
    vignette=(0.10, 0.35), blur=(0.10, 0.40), sharpen=(0.0, 0.1), noise=(0.010, 0.030), grain=(0.6, 0.6),
)  # fmt: skip


def mirror(canvas: Canvas, wet: float) -> None:
    """A wet ground shows the scene upside down: mixes in each row's reflection about the horizon."""
    top = int(canvas.view.horizon) + 1
    rows = np.arange(top, canvas.view.height)
    across = np.clip(2 * top + 3 - rows, 0, canvas.view.height - 1)
    ground = canvas.label[top:] <= c.SIDEWALK
    ripples = np.clip(1 + 0.35 * canvas.grain["fine"][top : canvas.view.height], 0, 1.3)
    share = np.float32(wet) * ripples * ground
    canvas.rgb[:, top:] += share * (0.9 * canvas.rgb[:, across] - 0.75 * canvas.rgb[:, top:])


def expose(canvas: Canvas, lens: Lens, palette: Palette, hood: bool, rng: np.random.Generator) -> tuple[Array, Array]:
    """Develop a canvas: an image (h, w, 3) and its train ids (h, w), uint8, half the canvas in size."""
    draw = {name: rng.uniform(*bounds) for name, bounds in lens._asdict().items()}
    rgb, label, depth = canvas.halved()
    rgb = _haze(rgb, label, depth, palette.sky("skyline"), draw["haze"])
    rgb = _bloom(rgb, draw["bloom"])
    rgb = _grade(rgb, draw)
    rgb = _optics(rgb, draw)
    noise = rng.standard_normal(rgb.shape, dtype=np.float32) * np.float32(draw["noise"])
    rgb = rgb + noise * (1 + np.float32(draw["grain"]) * (np.sqrt(0.3 + np.clip(rgb, 0, 1)) - 1))
    curve, start, sheen = rng.uniform(0.15, 0.35), rng.uniform(0.91, 0.96), rng.uniform(0.05, 0.12)
    if hood:
        _hood(rgb, label, (curve, start, sheen))
    return (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8), label


def _haze(rgb: Array, label: Array, depth: Array, air: Array, haze: float) -> Array:
    """Far things fade into the colour of the skyline; the sky keeps most of its own."""
    share = np.float32(haze) * np.where(label == c.SKY, 0.3, 1.3 * depth / (depth + 25.0)).astype(np.float32)
    return np.asarray(rgb + share[..., None] * (air - rgb))


def _bloom(rgb: Array, bloom: float) -> Array:
    """Lamps are brighter than white; their excess spills over the pixels around them."""
    spill = np.maximum(rgb - 0.95, 0)
    for _ in range(2):
        spill = _soften(spill, 0.66)
    return rgb + np.float32(bloom) * spill


def _grade(rgb: Array, draw: dict[str, float]) -> Array:
    """White balance, saturation, exposure, contrast about middle grey, and gamma."""
    rgb = rgb * np.array((draw["red"], 1.0, draw["blue"]), np.float32)
    grey = (0.299 * rgb[..., :1] + 0.587 * rgb[..., 1:2] + 0.114 * rgb[..., 2:]).astype(np.float32)
    rgb = grey + (rgb - grey) * np.float32(draw["saturation"])
    rgb = (rgb * np.float32(draw["exposure"]) - 0.45) * np.float32(draw["contrast"]) + 0.45
    return np.asarray(np.clip(rgb, 0, 1) ** np.float32(draw["gamma"]))


def _optics(rgb: Array, draw: dict[str, float]) -> Array:
    """A renderer sharpens, a lens softens and loses light in its corners."""
    height, width = rgb.shape[:2]
    soft = _soften(rgb, 0.66)
    rgb = rgb + np.float32(draw["blur"] - draw["sharpen"]) * (soft - rgb)
    y, x = np.ogrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j]
    corners = (1 - 2 * draw["vignette"] * (x * x + y * y)).astype(np.float32)
    return np.asarray(rgb * corners[..., None])


def _soften(rgb: Array, share: float) -> Array:
    """Every pixel gives `share` of its light to its neighbours, along both axes."""
    side, here = np.float32(share / 2), np.float32(1 - share)
    padded = np.pad(rgb, ((1, 1), (1, 1), (0, 0)), "edge")
    rows = side * (padded[:-2] + padded[2:]) + here * padded[1:-1]
    return np.asarray(side * (rows[:, :-2] + rows[:, 2:]) + here * rows[:, 1:-1])


def _hood(rgb: Array, label: Array, shape: tuple[float, float, float]) -> None:
    """The bonnet of the car that carries the camera: dark, curved, and void."""
    curve, start, sheen = shape
    height, width = label.shape
    y, x = np.arange(height)[:, None] / height, np.arange(width)[None] / width - 0.5
    below = y - start - curve * x * x
    shade = (0.06 + sheen * np.clip(1 - 18 * below, 0, 1)).astype(np.float32)
    rgb[below > 0] = shade[below > 0][:, None]
    label[below > 0] = HOOD
