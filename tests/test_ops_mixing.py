"""Eq. 6, pixel by pixel."""

from __future__ import annotations

import itertools

import torch

from diga.ops.mixing import blend

torch.set_num_threads(1)


def test_blend_takes_each_pixel_from_its_image():
    front, back = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    y_front, y_back = torch.randint(0, 9, (2, 4, 5)), torch.randint(9, 19, (2, 4, 5))
    mask = torch.rand(2, 1, 4, 5) < 0.5
    image, label = blend(mask, front, back), blend(mask, y_front, y_back)
    for b, i, j in itertools.product(range(2), range(4), range(5)):
        x, y = (front, y_front) if mask[b, 0, i, j] else (back, y_back)
        assert torch.equal(image[b, :, i, j], x[b, :, i, j])
        assert label[b, i, j] == y[b, i, j]
