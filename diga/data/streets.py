"""Streets: an embedded benchmark, a procedural town in three domains, written as GTA5 and Cityscapes are.

*source* looks like a game's renderer on wide boulevards, *target* like a car's camera in an old town, and
*dusk* like a wet evening in the outskirts.  All three share one world; `gap` moves appearance and camera,
`shift` moves layout and class frequencies, both linearly from the source's to the domain's own.  The
generator is frozen: a file is a function of (VERSION, knobs, domain, split, index) and of nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from diga.data.actors import paint_thing
from diga.data.camera import HOOD, NIGHT_EYE, RENDERER, WINDSCREEN, Lens, expose, mirror
from diga.data.canvas import Array, Canvas, grain_bank
from diga.data.labels import COLOURS, RAW_IDS
from diga.data.painting import paint_backdrop, paint_ground, paint_lot, paint_sky
from diga.data.palette import DUSK, RENDER, STREET, Look, Palette, mix
from diga.data.scenes import BOULEVARD, OLD_TOWN, OUTSKIRTS, Town, lay_out
from diga.data.sheet import sheet
from diga.data.tree import grow
from diga.processes import pool

__all__ = ["DEFAULTS", "DOMAINS", "SPLITS", "VERSION", "Knobs", "Shot", "make", "render", "sheet", "shots"]

VERSION = 1  # of the generator: a change that moves one pixel of one file moves this number

Domain = Literal["source", "target", "dusk"]
Split = Literal["train", "val"]
Progress = Callable[[int, int], None]
DOMAINS: tuple[Domain, ...] = ("source", "target", "dusk")
SPLITS: tuple[Split, ...] = ("train", "val")
CITIES: dict[Split, tuple[str, ...]] = {"train": ("ringstadt", "kupferau", "moorhaven"), "val": ("altbruck",)}
EGO_VEHICLE = 1  # raw id of the bonnet
SUPERSAMPLING = 2
MANIFEST = "streets.json"


class Knobs(BaseModel):
    """What may be chosen about the benchmark; the defaults were fixed before any method was compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gap: float = Field(default=0.7, ge=0, le=1, description="distance in looks and camera; 0: the source's")
    shift: float = Field(default=0.5, ge=0, le=1, description="distance in layout and class shares; 0: the source's")
    height: int = Field(default=64, ge=32, le=1024, description="rows of an image, pixels")
    width: int = Field(default=128, ge=64, le=2048, description="columns of an image, pixels")
    seed: int = Field(default=0, ge=0, lt=2**32, description="another seed is another town")
    source_train: int = Field(default=300, ge=1, le=99_000, description="labelled source images to train on")
    source_val: int = Field(default=40, ge=0, le=900, description="source images held back, last of their tree")
    target_train: int = Field(default=300, ge=1, le=99_000, description="target images to train on")
    target_val: int = Field(default=100, ge=1, le=99_000, description="target images to score on")
    third_train: int = Field(default=100, ge=0, le=99_000, description="dusk images as a further source")
    third_val: int = Field(default=50, ge=0, le=99_000, description="dusk images to score on")


DEFAULTS = Knobs()


class Shot(NamedTuple):
    """One image of the benchmark and where its two files go, relative to the root."""

    domain: Domain
    split: Split
    number: int  # within its domain and split
    image: str
    label: str

    @property
    def tree(self) -> str:
        """The layout this image is written in."""
        return "gta5" if "gta5/" in self.image else "cityscapes"


def render(knobs: Knobs, domain: Domain, split: Split, index: int) -> tuple[Array, Array]:
    """The image (height, width, 3) and its train ids (height, width), 255 for the bonnet; both uint8."""
    key = (VERSION, knobs.seed, DOMAINS.index(domain), SPLITS.index(split), index)
    # Three streams, so that what the light and the camera draw can never move a thing: gap changes no label.
    streets, paints, optics = (np.random.default_rng((*key, stream)) for stream in range(3))
    town, look, lens = _domain(domain, knobs.gap, knobs.shift)
    height, width = SUPERSAMPLING * knobs.height, SUPERSAMPLING * knobs.width
    scene = lay_out(town, height, width, streets)
    canvas = Canvas(scene.view, _grain(knobs, height, width, paints))
    palette = Palette(look, paints)
    paint_sky(canvas, palette)
    paint_backdrop(canvas, palette)
    paint_ground(canvas, scene, palette)
    for lot in scene.lots:
        paint_lot(canvas, lot, palette)
    for thing in scene.things:
        paint_thing(canvas, thing, palette)
    mirror(canvas, palette.wet)
    return expose(canvas, lens, palette, hood=domain == "target", rng=optics)


@lru_cache(maxsize=16)
def _domain(domain: Domain, gap: float, shift: float) -> tuple[Town, Look, Lens]:
    """Layout, appearance and camera of a domain, on the way from the source's to its own."""
    town, look, lens = {
        "source": (BOULEVARD, RENDER, RENDERER),
        "target": (OLD_TOWN, STREET, WINDSCREEN),
        "dusk": (OUTSKIRTS, DUSK, NIGHT_EYE),
    }[domain]
    return mix(BOULEVARD, town, shift), mix(RENDER, look, gap), mix(RENDERER, lens, gap)


def _grain(knobs: Knobs, height: int, width: int, rng: np.random.Generator) -> dict[str, Array]:
    """A window of each noise field, elsewhere in every image."""
    bank = grain_bank(height, width, (VERSION, knobs.seed))
    corners = {name: rng.integers((height, width)) for name in bank}
    return {name: bank[name][y : y + height, x : x + width] for name, (y, x) in corners.items()}


def shots(knobs: Knobs) -> Iterator[Shot]:
    """Every image of the benchmark, in the order of its files."""
    yield from _gta5("source", "gta5", knobs.source_train, knobs.source_val)
    yield from _cityscapes("target", "cityscapes", "train", knobs.target_train)
    yield from _cityscapes("target", "cityscapes", "val", knobs.target_val)
    yield from _gta5("dusk", "dusk/gta5", knobs.third_train, 0)
    yield from _cityscapes("dusk", "dusk/cityscapes", "val", knobs.third_val)


def _gta5(domain: Domain, tree: str, train: int, val: int) -> Iterator[Shot]:
    """Numbered files; those to validate on are the last."""
    for n in range(train + val):
        split: Split = "train" if n < train else "val"
        number, name = n if n < train else n - train, f"{n + 1:05d}.png"
        yield Shot(domain, split, number, f"{tree}/images/{name}", f"{tree}/labels/{name}")


def _cityscapes(domain: Domain, tree: str, split: Split, count: int) -> Iterator[Shot]:
    """One folder a city, files named by city, sequence and frame."""
    cities = CITIES[split]
    for n in range(count):
        city = cities[n % len(cities)]
        stem = f"{split}/{city}/{city}_{n // len(cities):06d}_000019"
        image, label = f"leftImg8bit/{stem}_leftImg8bit.png", f"gtFine/{stem}_gtFine_labelIds.png"
        yield Shot(domain, split, n, f"{tree}/{image}", f"{tree}/{label}")


def make(root: Path, knobs: Knobs = DEFAULTS, progress: Progress | None = None, workers: int = 1) -> Path:
    """Write the benchmark under `root` and return it; at once where it is there already.

    All files appear together or not at all, and are the same however many `workers` write them.
    `progress(done, total)` is called after each image.  Raises ConfigError where `root` holds another
    version or other knobs, StorageError where it holds something else.
    """
    manifest = {"name": "streets", "version": VERSION, "knobs": knobs.model_dump()}
    return grow(root, MANIFEST, manifest, lambda folder: _write_all(folder, knobs, progress, workers))


def _write_all(root: Path, knobs: Knobs, progress: Progress | None, workers: int) -> None:
    todo = list(shots(knobs))
    for folder in {Path(name).parent for shot in todo for name in (shot.image, shot.label)}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    _write_lists(root, todo)
    for done in _written(root, knobs, todo, workers):
        if progress:
            progress(done, len(todo))


def _write_lists(root: Path, todo: list[Shot]) -> None:
    """GTA5 has no official split: plain lists of file names beside its images."""
    numbered = [(Path(shot.image), shot.split) for shot in todo if shot.tree == "gta5"]
    for folder in {image.parent.with_name("splits") for image, _ in numbered}:
        (root / folder).mkdir()
        for split in SPLITS:
            names = [i.name for i, s in numbered if s == split and i.parent.with_name("splits") == folder]
            if names:
                (root / folder / f"{split}.txt").write_text("\n".join(names) + "\n")


def _written(root: Path, knobs: Knobs, todo: list[Shot], workers: int) -> Iterator[int]:
    """Write every image, here or in processes of their own; yields how many are done."""
    if workers <= 1:
        for done, shot in enumerate(todo, 1):
            _write(root, knobs, shot)
            yield done
        return
    with pool(workers) as crew:
        for done, future in enumerate(as_completed([crew.submit(_write, root, knobs, s) for s in todo]), 1):
            future.result()
            yield done


def _write(root: Path, knobs: Knobs, shot: Shot) -> None:
    image, label = render(knobs, shot.domain, shot.split, shot.number)
    _save(Image.fromarray(image), root / shot.image)
    raw = Image.fromarray(_RAW[label])
    if shot.tree == "gta5":
        raw.putpalette(_RAW_COLOURS.tobytes())
    _save(raw, root / shot.label)


def _save(image: Image.Image, path: Path) -> None:
    image.save(path, "PNG", compress_level=4, optimize=False)


_RAW = np.zeros(256, np.uint8)  # raw id of a train id
_RAW[: len(RAW_IDS)] = RAW_IDS
_RAW[HOOD] = EGO_VEHICLE
_RAW_COLOURS = np.zeros((256, 3), np.uint8)
_RAW_COLOURS[list(RAW_IDS)] = COLOURS
