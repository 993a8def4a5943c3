"""What several teachers together say of a pixel, weighed by how near it lies to their class prototypes.

Cross-path distillation of DDB (Chen et al., NeurIPS 2022).  For teacher m of M and class k of a pixel,

    d_mk = ||up(f_m) - rho_mk||,   w_mk = softmax_k(-d_mk / tau),   s_k = (1/M) sum_m w_mk softmax(up(z_m))_k

with features f, logits z, prototypes rho and `up` a bilinear resize.  s is not renormalised: a teacher in
doubt, or whose feature lies between prototypes, says little, and the others decide.  Everything is taken
strip by strip of rows, as logarithms, so that no product of small numbers is zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from diga.ops.losses import entropy, soft_cross_entropy, taps
from diga.ops.precision import full, no_autocast
from diga.ops.prototypes import Prototypes, Unseen
from diga.ops.pseudo import STRIP
from diga.types import Prediction

Rectify = Literal["probabilities", "logits", "none"]  # what the weights w multiply


class Voice(NamedTuple):
    """What one teacher makes of images, and the prototypes of its features; none where nothing is rectified."""

    logits: Tensor  # (B, K, h, w)
    features: Tensor  # (B, D, h', w')
    prototypes: Prototypes | None = None


class How(NamedTuple):
    """How voices become one."""

    rectify: Rectify = "probabilities"
    temperature: float = 1.0  # tau
    unseen: Unseen = "ignored"
    align_corners: bool = False


def voices(seen: Sequence[Prediction], rhos: Sequence[Prototypes]) -> list[Voice]:
    """What several teachers have seen, each with its prototypes, or all with none."""
    found: Sequence[Prototypes | None] = rhos or [None] * len(seen)
    return [Voice(out.logits, out.features, rho) for out, rho in zip(seen, found, strict=True)]


# --- distances at pixels -----------------------------------------------------------------


@torch.no_grad()
def distances(
    features: Tensor, rho: Prototypes, like: Tensor, unseen: Unseen = "ignored", align_corners: bool = False
) -> Tensor:
    """d_k = ||up(f) - rho_k|| of every pixel of `like` (..., H, W): features (B, D, h, w) -> (B, K, H, W).

    Exact without up(f): d^2 = ||rho_k||^2 - 2 up(rho_k . f) + ||up(f)||^2, since products commute with a
    resize, and ||up(f)||^2 is made of products of neighbouring cells.  A class no image has shown is
    infinitely far or, with "origin", the zero vector.
    """
    return Squares(features, rho, like, unseen, align_corners).root(slice(None))


class Squares:
    """d^2 of any rows of pixels, from maps that have been resized along columns already."""

    def __init__(
        self, features: Tensor, rho: Prototypes, like: Tensor, unseen: Unseen, align_corners: bool = False
    ) -> None:
        f = full(features)
        vectors = rho.vectors.to(f)
        R, C = _taps(f, like, align_corners)
        absent = (rho.seen == 0) & (unseen == "ignored")
        self.length = vectors.square().sum(1).masked_fill(absent, torch.inf)[:, None, None]  # ||rho_k||^2
        self.rows = R, R.square(), _neighbours(R)
        with no_autocast(f):
            products = (vectors @ f.flatten(2)).view(len(f), -1, *f.shape[2:])
            self.maps = products @ C.mT, *_across(f, C)

    def root(self, at: slice) -> Tensor:
        """d (B, K, rows, W) of the rows `at`."""
        (R, own, beside), (products, even, odd) = (tuple(r[at] for r in self.rows), self.maps)
        with no_autocast(products):
            square = (R @ products).mul_(-2).add_((own @ even + beside @ odd)[:, None])
        least = torch.finfo(square.dtype).tiny  # rounding can fall below zero
        root: Tensor = square.add_(self.length).clamp_(min=least).sqrt_()
        return root


def _across(f: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """||up(f)||^2 along columns: (B, h, W) that rows take by their squared taps, (B, h - 1, W) by products of two.

    A pixel takes two rows and two columns of cells at most, a_i c_j of cell (i, j): of the products
    <f_ij, f_i'j'> a square holds once each cell's own, and twice that of each pair of the four.
    """
    below, right = f[:, :, 1:], f[..., 1:]
    own, aside = _dot(f, f), _dot(f[..., :-1], right)
    down = _dot(f[:, :, :-1], below)
    corners = _dot(f[:, :, :-1, :-1], below[..., 1:]) + _dot(below[..., :-1], right[:, :, :-1])
    square, beside = C.square().mT, _neighbours(C).mT
    return own @ square + 2 * aside @ beside, 2 * (down @ square + corners @ beside)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(1)


def _neighbours(R: Tensor) -> Tensor:
    """(N, n - 1): products of the taps of neighbouring cells."""
    return R[:, :-1] * R[:, 1:]


def _taps(x: Tensor, like: Tensor, align_corners: bool) -> tuple[Tensor, Tensor]:
    """Of rows and of columns."""
    R, C = (taps(n, N, align_corners, x.dtype, x.device) for n, N in zip(x.shape[-2:], like.shape[-2:], strict=True))
    return R, C


# --- one voice, strip by strip -----------------------------------------------------------


class _Speaker:
    """A voice resized along columns, that tells of any rows."""

    def __init__(self, voice: Voice, like: Tensor, how: How) -> None:
        z = full(voice.logits)
        self.how = how
        self.R, C = _taps(z, like, how.align_corners)
        with no_autocast(z):
            self.wide = z @ C.mT
        self.squares: Squares | None = None
        if how.rectify != "none":
            assert voice.prototypes is not None
            self.squares = Squares(voice.features, voice.prototypes, like, how.unseen, how.align_corners)

    def logits(self, at: slice) -> Tensor:
        """up(z), times w where logits are rectified: (B, K, rows, W)."""
        with no_autocast(self.wide):
            z: Tensor = self.R[at] @ self.wide
        return z * self.log_weights(at).exp() if self.how.rectify == "logits" else z

    def log_weights(self, at: slice) -> Tensor:
        """log w = log softmax_k(-d / tau); minus infinity for a class that is infinitely far."""
        assert self.squares is not None
        return self.squares.root(at).div_(-self.how.temperature).log_softmax(1)

    def log_scores(self, at: slice) -> Tensor:
        """log of w softmax(up(z)), or of softmax(w up(z)), or of softmax(up(z))."""
        p = self.logits(at).log_softmax(1)
        return p.add_(self.log_weights(at)) if self.how.rectify == "probabilities" else p


def _strips(heard: Sequence[Voice], like: Tensor, how: How) -> Iterator[tuple[list[_Speaker], slice]]:
    speakers = [_Speaker(voice, like, how) for voice in heard]
    yield from ((speakers, slice(top, top + STRIP)) for top in range(0, like.shape[-2], STRIP))


def _blend(speakers: Sequence[_Speaker], at: slice) -> Tensor:
    """log s."""
    return reduce(torch.logaddexp, (s.log_scores(at) for s in speakers)) - math.log(len(speakers))


# --- all voices together -----------------------------------------------------------------


@torch.no_grad()
def hard(heard: Sequence[Voice], like: Tensor, how: How) -> tuple[Tensor, Tensor]:
    """argmax_k s_k and s of that class at every pixel of `like` (..., H, W): both (B, H, W)."""
    tops = [_blend(speakers, at).max(1) for speakers, at in _strips(heard, like, how)]
    return torch.cat([top.indices for top in tops], 1), torch.cat([top.values for top in tops], 1).exp_()


@torch.no_grad()
def soft(heard: Sequence[Voice], like: Tensor, how: How) -> Tensor:
    """Logits z' (B, K, H, W) of a soft target at every pixel of `like` (..., H, W).

    The mean over teachers of up(z), weighed by w where logits are rectified, as the authors' code has it;
    log s where probabilities are, so that softmax(z') is s, renormalised.
    """
    found = []
    for speakers, at in _strips(heard, like, how):
        if how.rectify == "probabilities":
            found.append(_blend(speakers, at))
        else:
            found.append(torch.stack([s.logits(at) for s in speakers]).mean(0))
    return torch.cat(found, 2)


def distillation(target: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 KL(softmax(z' / T) || softmax(z / T)), mean over pixels; both logits (B, K, H, W), no slope for the target.

    A class of logit minus infinity in the target has no part in it.
    """
    q = full(target) / temperature
    q = q.clamp(min=torch.finfo(q.dtype).min)  # minus infinity times no probability is zero, not undefined
    apart = soft_cross_entropy(q, full(student) / temperature) - entropy(q).mean()
    return temperature**2 * apart


# --- how much of it to trust -------------------------------------------------------------


def sure(confidence: Tensor, threshold: float) -> Tensor:
    """Share of each image's pixels whose confidence (B, H, W) is `threshold` or more: (B,)."""
    return (confidence >= threshold).to(full(confidence)).mean((1, 2))


def agreement(heard: Sequence[Voice]) -> Tensor:
    """Share of cells at which all voices have the same winner: a scalar."""
    first, *others = (voice.logits.max(1).indices for voice in heard)
    same = reduce(torch.logical_and, (label == first for label in others), torch.ones_like(first, dtype=torch.bool))
    return same.float().mean()
