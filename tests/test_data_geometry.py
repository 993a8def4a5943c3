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
