"""Object-contextual representations: each pixel adds what it shares with the mean of every class.

Yuan, Chen and Wang, "Object-Contextual Representations for Semantic Segmentation", ECCV 2020.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diga.models.resnet import unit
from diga.ops.precision import full
from diga.types import Prediction


def objects(regions: Tensor, pixels: Tensor) -> Tensor:
    """A vector of each class: the mean of features (B, D, h, w), weighed over cells by softmax of logits (B, K, h, w).

    Returns (B, D, K, 1): an image whose cells are the classes.
    """
    weights = F.softmax(full(regions).flatten(2), 2).to(pixels.dtype)
    return torch.einsum("bkn,bdn->bdk", weights, pixels.flatten(2))[..., None]


class Attention(nn.Module):
    """What a cell gathers of the classes: sum_k softmax_k(q . k_k / sqrt(key)) v_k."""

    def __init__(self, width: int, key: int) -> None:
        super().__init__()
        self.query = nn.Sequential(unit(width, key, 1), unit(key, key, 1))
        self.key = nn.Sequential(unit(width, key, 1), unit(key, key, 1))
        self.value = unit(width, key, 1)
        self.out = unit(key, width, 1)

    def forward(self, pixels: Tensor, classes: Tensor) -> Tensor:
        """(B, D, h, w), (B, D, K, 1) -> (B, D, h, w)."""
        q, k, v = (f(x).flatten(2) for f, x in ((self.query, pixels), (self.key, classes), (self.value, classes)))
        alike = full(torch.einsum("bdn,bdk->bnk", q, k)) * q.shape[1] ** -0.5
        context = torch.einsum("bnk,bdk->bdn", F.softmax(alike, 2).to(v.dtype), v)
        gathered: Tensor = self.out(context.reshape(pixels.shape[0], -1, *pixels.shape[-2:]))
        return gathered


class ObjectContext(nn.Module):
    """(B, c_in, h, w) -> logits and soft-region logits (B, K, h, w), features (B, width, h, w)."""

    def __init__(self, c_in: int, classes: int, width: int = 512, key: int = 256) -> None:
        super().__init__()
        self.regions = nn.Sequential(unit(c_in, c_in, 1), nn.Conv2d(c_in, classes, 1))
        self.pixels = unit(c_in, width)
        self.attention = Attention(width, key)
        self.fuse = nn.Sequential(unit(2 * width, width, 1), nn.Dropout2d(0.05))
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Prediction:
        regions, pixels = self.regions(x), self.pixels(x)
        context = self.attention(pixels, objects(regions, pixels))
        features = self.fuse(torch.cat([context, pixels], 1))
        return Prediction(self.classifier(features), features, regions)
