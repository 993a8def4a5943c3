"""Class prototypes (the centroids rho_k of DiGA): one mean feature per class, tracked over training."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from diga.ops.losses import taps
from diga.ops.precision import full, no_autocast

STRIP = 64  # rows of pixels looked at together
Unseen = Literal["ignored", "origin"]  # what a class without centroid is: no class, or the zero vector


def at_cells(label: Tensor, like: Tensor, align_corners: bool = False) -> Tensor:
    """Labels (B, H, W) at the cells of `like` (B, D, h, w): the pixel nearest to each cell's centre.

    With the authors' corner rule it is the authors' pixel, the first of each cell.
    """
    nearest = "nearest" if align_corners else "nearest-exact"
    return interpolate(label[:, None].float(), like.shape[-2:], mode=nearest)[:, 0].long()


def class_means(
    features: Tensor, label: Tensor, classes: int, least: int = 5, predicted: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Eq. 7 for each image alone: v_bk = mean of f over the cells of class k, and which v_bk are valid.

    features (B, D, h, w), label (B, h, w) -> means (B, K, D), valid (B, K) bool.  With `predicted`
    (B, h, w) a cell speaks for its class only where the prediction agrees with the label.  A class
    of fewer than `least` cells in an image is not valid there.
    """
    return means_of(*class_sums(features, label, classes, predicted), least)


def class_sums(features: Tensor, label: Tensor, classes: int, predicted: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Sum of f over the cells of each class in each image (B, K, D), and how many cells those are (B, K)."""
    f, y = full(features).flatten(2), label.flatten(1)
    member = y[:, None] == torch.arange(classes, device=y.device)[:, None]  # (B, K, hw)
    if predicted is not None:
        member &= (predicted == label).flatten(1)[:, None]
    count = member.sum(2)
    with no_autocast(f):
        return member.to(f.dtype) @ f.mT, count


def pixel_sums(features: Tensor, label: Tensor, classes: int, align_corners: bool = False) -> tuple[Tensor, Tensor]:
    """Sum of up(f) over the pixels of each class in each image (B, K, D), and how many pixels those are (B, K).

    features (B, D, h, w), label (B, H, W).  As up'(1_k) . f with the adjoint up' of the bilinear resize, which
    brings the class's pixels to the cells they read: exact, and features are never resized.
    """
    f, (H, W) = full(features), label.shape[-2:]
    R, C = (taps(n, N, align_corners, f.dtype, f.device) for n, N in zip(f.shape[-2:], (H, W), strict=True))
    member = torch.zeros(len(f), classes, *f.shape[-2:], dtype=f.dtype, device=f.device)
    count = torch.zeros(len(f), classes, dtype=torch.long, device=f.device)
    kinds = torch.arange(classes, device=label.device).view(-1, 1, 1)
    with no_autocast(f):
        for top in range(0, H, STRIP):
            here = label[:, None, top : top + STRIP] == kinds  # (B, K, rows, W)
            member += R[top : top + STRIP].mT @ (here.to(f.dtype) @ C)
            count += here.sum((2, 3))
        return member.flatten(2) @ f.flatten(2).mT, count


def means_of(total: Tensor, count: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """Means (B, K, D) from sums (B, K, D) and counts (B, K), and which stand on `least` cells."""
    return total / count.clamp(min=1)[..., None], count >= least


class Prototypes(nn.Module):
    """K mean features of D channels, `vectors` (K, D), and from how many images each came, `seen` (K,)."""

    vectors: Tensor
    seen: Tensor

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(classes, channels))
        self.register_buffer("seen", torch.zeros(classes))

    @torch.no_grad()
    def mean_(self, means: Tensor, valid: Tensor, cap: int = 3000) -> None:
        """Eq. 7: running mean of the valid class means, rho <- rho + (v - rho) / (n + 1), image by image.

        means (B, K, D), valid (B, K).  The count n stops at `cap`: then the mean forgets, as the authors'.
        """
        after = self.seen + valid.cumsum(0)  # sums of truth values: the images of each class so far
        n = (after - valid.to(after)).clamp(max=cap)
        self._follow_(means, valid / (n + 1))
        self.seen.copy_(after[-1].clamp(max=cap))

    @torch.no_grad()
    def pool_(self, total: Tensor, count: Tensor, least: int = 1) -> None:
        """Eq. 7: the mean over all cells of all images; sums (B, K, D), counts (B, K); `seen` counts cells.

        A class of fewer than `least` cells in an image does not count there.
        """
        cells = count.where(count >= least, 0).to(self.vectors.dtype)
        after = self.seen + cells.sum(0)
        pooled = (total * (cells > 0)[..., None]).sum(0) - cells.sum(0)[:, None] * self.vectors
        self.vectors.add_(pooled / after.clamp(min=1)[:, None])
        self.seen.copy_(after)

    @torch.no_grad()
    def ema_(self, means: Tensor, valid: Tensor, delta: float) -> None:
        """Eq. 10: rho <- delta rho + (1 - delta) v, image by image; means (B, K, D), valid (B, K)."""
        self._follow_(means, (1 - delta) * valid)

    def _follow_(self, means: Tensor, rate: Tensor) -> None:
        """rho <- rho + r_b (v_b - rho) for b in order; rate (B, K).

        Unrolled: rho is left with what every image spares, v_b with r_b of what later ones spare.
        """
        spared = (1 - rate).flip(0).cumprod(0).flip(0)  # by images b, b + 1, ...
        share = rate * torch.cat([spared[1:], torch.ones_like(rate[:1])])
        self.vectors.mul_(spared[0, :, None]).add_((share[..., None] * means).sum(0))

    def distances(self, features: Tensor, unseen: Unseen = "origin") -> Tensor:
        """||f - rho_k||_2 of every cell: features (B, D, h, w) -> (B, K, h, w).

        As ||f||^2 - 2 f.rho + ||rho||^2, one matrix product.  A class no image has shown is the zero
        vector, as the authors' is, or with "ignored" infinitely far.
        """
        f = full(features).flatten(2)
        with no_autocast(f):
            rho = self.vectors.to(f.dtype)
            square = f.square().sum(1)[:, None] - 2 * (rho @ f) + rho.square().sum(1)[:, None]
        least = torch.finfo(f.dtype).tiny  # rounding can fall below zero, and the root has no slope there
        distances = square.clamp(min=least).sqrt().view(len(f), -1, *features.shape[2:])
        if unseen == "origin":
            return distances
        return distances.masked_fill((self.seen == 0)[:, None, None], torch.inf)

    def weights(self, features: Tensor, unseen: Unseen = "ignored") -> Tensor:
        """Eq. 8 made soft: softmax_k(-||f - rho_k||), features (B, D, h, w) -> (B, K, h, w).

        A class no image has shown gets weight zero; with "origin" it competes as the zero vector, as
        the authors' does.
        """
        return affinity(self.distances(features, unseen))


def affinity(distances: Tensor) -> Tensor:
    """softmax_k(-d_k) over the classes of finite distance, (B, K, h, w); where no class has one, all are zero."""
    nearness = (-distances).clamp(min=torch.finfo(distances.dtype).min)
    return nearness.softmax(1) * distances.isfinite()
