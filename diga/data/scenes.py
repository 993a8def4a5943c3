"""Which things stand where: a street laid out in metres from the priors of a town, before any paint.

Everything is measured from the camera's foot: x to the right, z ahead.  The camera drives on the right
half of the carriageway, houses stand in lots along both pavements, traffic keeps to its lanes.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np

from diga.data.canvas import View
from diga.data.palette import Range

FAR = 90.0  # metres: where the street ends
NEAR = 6.0  # metres: nothing stands closer
LOT_KINDS = ("building", "wall", "fence", "hedge", "park")


class Town(NamedTuple):
    """Priors of a domain's streets: metres, shares and mean counts per image."""

    focal: Range  # in picture widths
    eye: Range
    horizon: Range  # in picture heights
    heading: Range  # sideways shift of the vanishing point, in picture widths
    carriageway: Range  # half its width
    pavement: Range
    verge: float  # share of pavements with a strip of grass
    lots: tuple[float, float, float, float, float]  # shares of LOT_KINDS
    frontage: Range
    storeys: Range
    pitched: float  # share of pitched roofs
    junction: float  # share of streets with a crossing street
    traffic: float  # how full the lanes are, in [0, 1]
    parked: float  # how full the kerbs are, in [0, 1]
    trucks: float  # share of vehicles
    buses: float  # share of vehicles
    people: float
    riders: float
    two_wheelers: float  # parked ones
    trees: float
    palms: float  # share of trees
    lamps: float
    signs: float
    signals: float
    arms: float  # share of signals that hang over the road


BOULEVARD = Town(
    focal=(0.78, 1.02), eye=(1.6, 2.3), horizon=(0.38, 0.47), heading=(-0.08, 0.08),
    carriageway=(3.8, 5.8), pavement=(3.0, 5.0), verge=0.45,
    lots=(0.44, 0.15, 0.15, 0.10, 0.16), frontage=(7.0, 15.0), storeys=(1.0, 6.0), pitched=0.15,
    junction=0.4, traffic=0.55, parked=0.35, trucks=0.20, buses=0.18,
    people=2.6, riders=0.9, two_wheelers=0.5, trees=2.6, palms=0.4,
    lamps=1.5, signs=1.5, signals=1.3, arms=0.55,
)  # fmt: skip

OLD_TOWN = Town(
    focal=(0.92, 1.20), eye=(1.3, 1.7), horizon=(0.42, 0.50), heading=(-0.05, 0.05),
    carriageway=(3.0, 4.2), pavement=(3.2, 5.6), verge=0.2,
    lots=(0.62, 0.11, 0.12, 0.07, 0.08), frontage=(6.0, 12.0), storeys=(2.0, 5.0), pitched=0.6,
    junction=0.3, traffic=0.65, parked=0.75, trucks=0.12, buses=0.14,
    people=5.4, riders=1.8, two_wheelers=1.4, trees=2.8, palms=0.0,
    lamps=1.4, signs=2.4, signals=1.6, arms=0.1,
)  # fmt: skip

OUTSKIRTS = Town(
    focal=(0.80, 1.10), eye=(1.5, 2.4), horizon=(0.40, 0.50), heading=(-0.08, 0.08),
    carriageway=(3.6, 5.2), pavement=(2.6, 4.4), verge=0.6,
    lots=(0.32, 0.20, 0.20, 0.12, 0.16), frontage=(8.0, 16.0), storeys=(1.0, 4.0), pitched=0.5,
    junction=0.35, traffic=0.55, parked=0.4, trucks=0.28, buses=0.18,
    people=2.4, riders=1.1, two_wheelers=0.7, trees=3.0, palms=0.05,
    lamps=2.6, signs=1.6, signals=1.6, arms=0.35,
)  # fmt: skip


class Lot(NamedTuple):
    """What lines one stretch of a pavement; its front stands at x from z[0] to z[1]."""

    kind: str
    side: int  # -1 left, 1 right
    x: float
    z: Range
    height: float
    pitched: bool


class Thing(NamedTuple):
    """An object on the street; z is its near end."""

    kind: str
    x: float
    z: float
    height: float
    width: float = 0.0
    length: float = 0.0
    heading: int = 1  # 1 seen from behind, -1 coming towards us, 0 seen from its side
    variant: float = 0.0  # in [0, 1): which of its shapes


class Scene(NamedTuple):
    """A street before paint."""

    view: View
    kerbs: Range  # x of the left and the right kerb
    pavements: Range  # their widths
    verges: Range  # grass beside the kerb, 0 for none
    junction: Range | None  # z of a crossing street
    lots: list[Lot]  # far to near
    things: list[Thing]  # far to near


def lay_out(town: Town, height: int, width: int, rng: np.random.Generator) -> Scene:
    """Draw a scene for a canvas of height x width pixels from the priors of `town`."""
    u = rng.uniform
    centre = width * (0.5 + u(*town.heading))
    view = View(height, width, width * u(*town.focal), u(*town.eye), height * u(*town.horizon), centre)
    half = u(*town.carriageway)
    middle = -half * u(0.38, 0.52)  # we drive on the right half
    kerbs = middle - half, middle + half
    pavements = u(*town.pavement), u(*town.pavement)
    verges = tuple(u(0.8, 2.0) * (u() < town.verge) for _ in pavements)
    junction = _junction(town, rng)
    scene = Scene(view, kerbs, pavements, (verges[0], verges[1]), junction, [], [])
    lots = [lot for side in (-1, 1) for lot in _lots(scene, town, side, rng)]
    things = [*_traffic(scene, town, rng), *_furniture(scene, town, rng), *_people(scene, town, rng)]
    lots.sort(key=lambda lot: -lot.z[0])
    things.sort(key=lambda thing: -thing.z)
    return scene._replace(lots=lots, things=things)


def _junction(town: Town, rng: np.random.Generator) -> Range | None:
    start, width = rng.uniform(16, 30), rng.uniform(7, 11)
    return (start, start + width) if rng.uniform() < town.junction else None


def _front(scene: Scene, side: int) -> float:
    """x of the line where pavement ends and lots begin."""
    return scene.kerbs[side > 0] + side * (scene.pavements[side > 0] + scene.verges[side > 0])


def _lots(scene: Scene, town: Town, side: int, rng: np.random.Generator) -> list[Lot]:
    u, lots = rng.uniform, []
    front, z, gap = _front(scene, side), NEAR, scene.junction or (2 * FAR, 2 * FAR)
    shares = np.cumsum(town.lots) / sum(town.lots)
    while z < FAR:
        end = z + u(*town.frontage) * (1 + z / 80)
        kind = LOT_KINDS[int(np.searchsorted(shares, u()))]
        height = {
            "building": 1.0 + 3.1 * ceil(u(*town.storeys)),
            "wall": u(1.9, 3.0),
            "fence": u(1.3, 2.0),
            "hedge": u(1.0, 2.2),
            "park": 0.0,
        }[kind]
        setback = u(0, 1.2) if kind == "building" else 0.0
        pitched = bool(u() < town.pitched)
        crossed = z < gap[1] and end > gap[0]
        end = gap[0] - 1 if crossed else end  # leave the crossing street free: stop before it
        if end - z > 3:
            lots.append(Lot(kind, side, front + side * setback, (z, end), height, pitched))
        z = gap[1] + 1 if crossed else end
    return lots


def _vehicle(town: Town, rng: np.random.Generator) -> tuple[str, float, float, float]:
    """Kind, height, width and length: trucks and buses are boxes of nearly the same size."""
    u, draw = rng.uniform, rng.uniform()
    if draw < town.trucks:
        return "truck", u(2.7, 3.4), u(2.2, 2.5), u(6.0, 8.5)
    if draw < town.trucks + town.buses:
        return "bus", u(2.8, 3.2), u(2.3, 2.5), u(8.0, 11.0)
    return "car", u(1.4, 1.75), u(1.7, 1.9), u(3.8, 4.7)


def _lane(scene: Scene, town: Town, x: float, heading: int, full: float, rng: np.random.Generator) -> list[Thing]:
    """Vehicles one behind the other along x, until the lane runs out of luck."""
    u, queue = rng.uniform, []
    z = max(9.0, 0.9 * scene.view.nearest(x)) + u(0, 8)
    while z < 45 and u() < full:
        kind, height, width, length = _vehicle(town, rng)
        z += 3.0 * (kind != "car")
        queue.append(Thing(kind, x + u(-0.3, 0.3), z, height, width, length, heading, u()))
        z += length + u(2, 12)
    return queue


def _traffic(scene: Scene, town: Town, rng: np.random.Generator) -> list[Thing]:
    left, right = scene.kerbs
    lanes = [
        _lane(scene, town, rng.uniform(-0.4, 0.4), 1, town.traffic, rng),
        _lane(scene, town, left + 0.45 * (0 - left), -1, town.traffic, rng),
        _lane(scene, town, left + 1.1, -1, town.parked, rng),
        _lane(scene, town, right - 1.1, 1, town.parked, rng),
    ]
    return [thing for lane in lanes for thing in lane] + _crossing_traffic(scene, town, rng)


def _crossing_traffic(scene: Scene, town: Town, rng: np.random.Generator) -> list[Thing]:
    """At most one vehicle that crosses at the junction and shows its side."""
    u = rng.uniform
    kind, height, width, length = _vehicle(town, rng)
    x, offset, variant, here = u(-9, 5), u(0.2, 0.5), u(), u() < town.traffic
    if scene.junction is None or not here:
        return []
    z = scene.junction[0] + offset * (scene.junction[1] - scene.junction[0])
    return [Thing(kind, x, z, height, width, length, 0, variant)]


def _beside(scene: Scene, rng: np.random.Generator, across: Range, reach: float = 2.2) -> tuple[float, float]:
    """A place on a pavement, `across` it from the kerb (0) to the lots (1), close enough to be seen well."""
    side = int(rng.integers(2))
    width = scene.pavements[side] + scene.verges[side]
    x = scene.kerbs[side] + (2 * side - 1) * width * rng.uniform(*across)
    start = max(7.0, 1.06 * scene.view.nearest(x))
    z = start * rng.uniform(1.0, reach)
    if scene.junction and scene.junction[0] < z < scene.junction[1]:
        z = scene.junction[1] + 0.5  # nobody waits in the middle of a junction
    return x, z


def _furniture(scene: Scene, town: Town, rng: np.random.Generator) -> list[Thing]:
    u, things = rng.uniform, []
    for _ in range(rng.poisson(town.trees)):
        x, z = _beside(scene, rng, (0.15, 1.2), 4.0)
        kind, height = ("palm", u(6.5, 9.5)) if u() < town.palms else ("tree", u(4.5, 7.5))
        things.append(Thing(kind, x, z, height, u(1.5, 2.6), variant=u()))
    for _ in range(rng.poisson(town.lamps)):
        x, z = _beside(scene, rng, (0.03, 0.15), 3.5)
        things.append(Thing("lamp", x, z, u(4.5, 7.5), u(0.09, 0.14), variant=u()))
    for _ in range(rng.poisson(town.signs)):
        x, z = _beside(scene, rng, (0.03, 0.25), 1.9)
        things.append(Thing("sign", x, z, u(2.4, 3.3), u(0.40, 0.58), variant=u()))
    for _ in range(rng.poisson(town.signals)):
        x, z = _beside(scene, rng, (0.03, 0.15), 1.9)
        hangs = u() < town.arms
        height, arm = (u(5.0, 5.8), u(2.5, 4.0)) if hangs else (u(3.0, 3.8), 0.0)
        things.append(Thing("signal", x, z, height, u(0.26, 0.34), arm, variant=u()))
    return things


def _people(scene: Scene, town: Town, rng: np.random.Generator) -> list[Thing]:
    u, things = rng.uniform, []
    for _ in range(rng.poisson(town.people)):
        x, z = _beside(scene, rng, (0.1, 0.9), 1.9)
        if u() < 0.15:  # some cross the road
            x, z = u(scene.kerbs[0], scene.kerbs[1]), u(9, 18)
        things.append(Thing("person", x, z, u(1.55, 1.92), u(0.20, 0.27), 0.0, _way(rng), u()))
    for _ in range(rng.poisson(town.riders)):
        kind = "motorcyclist" if u() < 0.4 else "cyclist"
        x = scene.kerbs[1] - u(0.5, 2.0) if u() < 0.5 else u(scene.kerbs[0] + 0.5, -0.5)
        z = max(u(8, 15), 1.1 * scene.view.nearest(x))
        things.append(Thing(kind, x, z, u(1.62, 1.85), u(0.6, 1.0), 0.0, _way(rng), u()))
    for _ in range(rng.poisson(town.two_wheelers)):
        kind = "motorcycle" if u() < 0.45 else "bicycle"
        x, z = _beside(scene, rng, (0.1, 0.3), 1.6)
        things.append(Thing(kind, x, z, 1.2, u(0.6, 1.0), 0.0, _way(rng), u()))
    return things


def _way(rng: np.random.Generator) -> int:
    return 2 * int(rng.integers(2)) - 1
