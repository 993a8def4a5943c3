"""Geometry: the window alone, resampled, is the window of the resampled whole; labels go where pixels go."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diga.data import geometry
from diga.data.geometry import Law
from diga.data.labels import IGNORE
from diga.errors import ConfigError
from diga.settings import Frames, Size
from tests.test_data_reading import picture, raw_ids


def views(size: tuple[int, int], n: int = 200, **how: Any) -> list[geometry.View]:
    law: dict[str, Any] = {"crop": (8, 12), "scale": (0.7, 1.3), "flip": 0.5} | how
    return [geometry.draw(size, chance=np.random.default_rng(i), **law) for i in range(n)]


def slow_image(image: np.ndarray, view: geometry.View) -> np.ndarray:
    """Scale all of the image, then cut or stretch, then flip: as the paper's loaders do it."""
    whole = Image.fromarray(image).resize((view.width, view.height), Image.Resampling.BICUBIC)
    if view.height < view.crop[0] or view.width < view.crop[1]:
        out = whole.resize(view.crop[::-1], Image.Resampling.BICUBIC)
    else:
        out = whole.crop((view.left, view.top, view.left + view.crop[1], view.top + view.crop[0]))
    return np.array(out)[:, ::-1] if view.flip else np.array(out)


@pytest.mark.parametrize("size", [(20, 30), (12, 20), (9, 14)])
def test_resampling_the_window_alone_is_resampling_the_whole(size: tuple[int, int]) -> None:
    """Up to the last bit: Pillow picks the order of its two passes by size, and rounds in between."""
    image = 96 + picture(size) // 4  # no overshoot that would be clipped in between
    off = []
    for view in (found := views(size)):
        difference = np.abs(view.image(image).astype(int) - slow_image(image, view))
        assert difference.max() <= 1
        for one in (view._replace(height=size[0], top=1), view._replace(width=size[1], left=2)):
            if not one.stretched:
                off.append(one.image(image) != slow_image(image, one))
    assert np.mean(off) < 2e-3  # one pass alone: only exact halves may round otherwise
    assert size != (9, 14) or any(v.stretched for v in found)


def slow_nearest(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixel below the centre of each new pixel, in exact fractions; a centre on an edge goes right."""
    down, across = Fraction(x.shape[0], height), Fraction(x.shape[1], width)
    rows = [floor((i + Fraction(1, 2)) * down) for i in range(height)]
    columns = [floor((j + Fraction(1, 2)) * across) for j in range(width)]
    return np.array([[x[i, j] for j in columns] for i in rows])


def test_labels_are_nearest_neighbours() -> None:
    label = raw_ids((20, 30))
    for view in views((20, 30), n=100):
        slow = slow_nearest(label, view.height, view.width)
        if view.stretched:
            slow = slow_nearest(slow, *view.crop)
        else:
            slow = slow[view.top : view.top + 8, view.left : view.left + 12]
        assert (view.label(label) == (slow[:, ::-1] if view.flip else slow)).all()
    pillow = Image.fromarray(label).resize((38, 24), Image.Resampling.NEAREST)  # no centre is on an edge
    assert (np.array(pillow) == slow_nearest(label, 24, 38)).all()


def test_image_and_label_stay_together() -> None:
    """Paint the label into the image, in fields that survive resampling, and look where it went."""
    label = np.kron(np.arange(1, 13, dtype=np.uint8).reshape(3, 4), np.ones((40, 40), np.uint8))
    image = np.repeat(label[..., None] * 20, 3, -1)
    for view in views(label.shape, n=60, crop=(60, 90), scale=(0.4, 1.3)):
        seen = np.abs(view.image(image)[..., 0].astype(int) - 20 * view.label(label).astype(int)) < 8
        assert seen.mean() > 0.85


def test_an_unscaled_crop_is_a_slice_and_a_small_image_is_stretched() -> None:
    image, label = picture((16, 24)), raw_ids((16, 24))
    for view in views((16, 24), scale=(1.0, 1.0)):
        top, left = view.top, view.left
        here = (slice(top, top + 8), slice(left, left + 12))
        flip = slice(None, None, -1 if view.flip else 1)
        assert (view.image(image) == image[here][:, flip]).all()
        assert (view.label(label) == label[here][:, flip]).all()
    (small,) = views((5, 24), n=1, scale=(1.0, 1.0), flip=0)
    assert small.stretched
    assert small.image(picture((5, 24))).shape == (8, 12, 3)
    assert small.label(raw_ids((5, 24))).shape == (8, 12)


def test_the_law_of_views() -> None:
    found = views((16, 24), n=4000, scale=(1.0, 1.0))
    assert abs(np.mean([v.flip for v in found]) - 0.5) < 0.03
    tops, lefts = Counter(v.top for v in found), Counter(v.left for v in found)
    assert set(tops) == set(range(9))
    assert set(lefts) == set(range(13))
    assert max(tops.values()) < 1.3 * 4000 / 9
    assert min(lefts.values()) > 0.7 * 4000 / 13
    scaled = views((100, 100), n=4000, scale=(0.7, 1.0))
    sides = np.array([[v.height, v.width] for v in scaled])
    assert sides.min() == 70
    assert sides.max() == 100
    assert abs(np.corrcoef(sides.T)[0, 1]) < 0.05
    assert not any(v.flip for v in views((16, 24), flip=0.0))
    assert all(v.flip for v in views((16, 24), flip=1.0))


# --- frames ------------------------------------------------------------------------------

LOW_AND_HIGH = Frames(
    sizes=(Size(images=1, height=18, width=30), Size(images=2, height=24, width=44)), scale=(0.7, 1.2)
)


def law(frames: Frames, role: str = "source", batch: int = 3) -> Law:
    return Law.of(role, frames, (8, 12), 0.5, batch)


def test_a_row_comes_at_the_size_of_its_place_in_the_batch() -> None:
    """As the view of an image that has that size: everything downstream sees only the scaled size."""
    image, label = 96 + picture((20, 36)) // 4, raw_ids((20, 36))
    for row, size in enumerate([(18, 30), (24, 44), (24, 44)]):
        for seed in range(30):
            found = law(LOW_AND_HIGH).view((20, 36), row, np.random.default_rng(seed))
            u = np.random.default_rng(seed).random(5)
            assert (found.height, found.width) == tuple(
                round(s * (0.7 + 0.5 * x)) for s, x in zip(size, u, strict=False)
            )
            assert found == law(Frames(scale=(0.7, 1.2))).view(size, row, np.random.default_rng(seed))
            assert np.abs(found.image(image).astype(int) - slow_image(image, found)).max() <= 1
            slow = slow_nearest(label, found.height, found.width)[found.top :, found.left :][:8, :12]
            assert (found.label(label) == (slow[:, ::-1] if found.flip else slow)).all()


def test_a_size_smaller_than_the_crop_is_stretched() -> None:
    small = Frames(sizes=(Size(images=3, height=6, width=40),))
    for seed in range(10):
        found = law(small).view((20, 36), 2, np.random.default_rng(seed))
        assert found.stretched
        assert (found.image(picture((20, 36))) == slow_image(picture((20, 36)), found)).all()


@pytest.mark.parametrize(
    ("frames", "role", "says"),
    [
        (LOW_AND_HIGH, "target", r"target_frames\.sizes: 3 images in the sizes, 4 in a batch"),
        (Frames(gate=True), "target", r"target_frames\.gate: found true"),
    ],
)
def test_frames_that_do_not_fit_are_refused(frames: Frames, role: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        law(frames, role, batch=4)


# --- the gate ----------------------------------------------------------------------------


def slow_rich(label: np.ndarray) -> bool:
    seen = {int(v) for v, n in Counter(label.ravel().tolist()).items() if Fraction(n, label.size) > Fraction(2, 100)}
    return len(seen) >= 3 or (len(seen) == 2 and 255 not in seen)


def test_which_crops_are_rich() -> None:
    def crop(*shares: tuple[int, int]) -> np.ndarray:
        """100 pixels: so many of each id, the rest road."""
        return np.array([i for i, n in shares for _ in range(n)] + [0] * (100 - sum(n for _, n in shares))).reshape(
            10, 10
        )

    cases = [
        (crop(), False),
        (crop((5, 50)), True),
        (crop((IGNORE, 50)), False),
        (crop((IGNORE, 3), (5, 3)), True),
        (crop((IGNORE, 3), (5, 2)), False),  # 2 % is not more than 2 %
        (crop((5, 2)), False),
        (crop((5, 2), (6, 3)), True),
        (crop((IGNORE, 100)), False),
    ]
    for label, expected in cases:
        assert geometry.rich(label.astype(np.uint8)) == slow_rich(label) == expected
    chance = np.random.default_rng(0)
    for _ in range(300):
        label = chance.choice(np.array([0, 1, 2, 255], np.uint8), (8, 12), p=chance.dirichlet([0.3] * 4))
        assert geometry.rich(label) == slow_rich(label)


def test_the_gate_takes_the_first_rich_crop_of_five_or_the_last() -> None:
    label = np.zeros((24, 60), np.uint8)
    label[:, 40:] = np.arange(20) // 7
    tried = []
    for seed in range(200):
        found = law(Frames(gate=True)).view(label.shape, 0, np.random.default_rng(seed), label)
        chance = np.random.default_rng(seed)
        drawn = [geometry.draw(label.shape, (8, 12), (1.0, 1.0), 0.5, chance) for _ in range(5)]
        good = [slow_rich(view.label(label)) for view in drawn]
        n = good.index(True) if any(good) else 4
        assert found == drawn[n]
        tried.append((n, any(good)))
        open_gate = law(Frames()).view(label.shape, 0, np.random.default_rng(seed), label)
        assert open_gate == geometry.draw(label.shape, (8, 12), (1.0, 1.0), 0.5, np.random.default_rng(seed))
    assert set(tried) == {(n, True) for n in range(5)} | {(4, False)}


# --- cells -------------------------------------------------------------------------------


def slow_cells(field: np.ndarray, size: tuple[int, int], view: geometry.View) -> np.ndarray:
    """Follow the centre of each cell of the crop back to the image, in exact fractions."""
    (h, w), crop, scaled = field.shape[1:], view.crop, (view.height, view.width)
    grid = [max(1, round(c / max(1, round(s / n)))) for c, s, n in zip(crop, size, (h, w), strict=True)]
    out = np.zeros((len(field), *grid), field.dtype)
    for i in range(grid[0]):
        for j in range(grid[1]):
            y, x = ((k + Fraction(1, 2)) * c / n for k, c, n in zip((i, j), crop, grid, strict=True))
            if view.flip:
                x = crop[1] - x
            if view.stretched:
                y, x = y * Fraction(scaled[0], crop[0]), x * Fraction(scaled[1], crop[1])
            else:
                y, x = y + view.top, x + view.left
            y, x = y * Fraction(size[0], scaled[0]), x * Fraction(size[1], scaled[1])  # pixels of the image
            row, column = floor(y * Fraction(h, size[0])), floor(x * Fraction(w, size[1]))
            out[:, i, j] = field[:, row, column]
    return out


@pytest.mark.parametrize("size", [(20, 30), (21, 31), (9, 14)])
@pytest.mark.parametrize("grid", [(5, 8), (3, 4), (6, 10)])
def test_cells_of_a_crop_are_those_below_their_centres(size: tuple[int, int], grid: tuple[int, int]) -> None:
    field = np.random.default_rng(0).random((3, *grid)).astype(np.float16)
    for view in views(size, n=150):
        found = view.cells(field, size)
        assert found.shape[1:] == (round(8 / round(size[0] / grid[0])), round(12 / round(size[1] / grid[1])))
        assert (found == slow_cells(field, size, view)).all()


def test_a_cell_a_pixel_is_the_label() -> None:
    label = raw_ids((20, 30))
    for view in views((20, 30), n=60):
        assert (view.cells(label[None], (20, 30))[0] == view.label(label)).mean() == 1
