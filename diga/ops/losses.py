"""Losses as equations: tensors in, one scalar out, no state and no modules.

H(q, p) = -sum_k q_k log p_k is the cross-entropy of one pixel.  Everything is taken in float32 at
least, whatever precision the network worked in.  Sources: DiGA (Shen et al., CVPR 2023), whose
equation numbers are given; LSGAN (Mao et al., ICCV 2017); AdaptSegNet (Tsai et al., CVPR 2018) for
`binary`; ADVENT (Vu et al., CVPR 2019) for `entropy`; online hard example mining as in the authors'
SYNTHIA scripts, edges as in their translator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from diga.ops.precision import full, no_autocast
from diga.types import IGNORE

DEPTHS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1)  # weights of feature maps in the perceptual distance


def upsample(x: Tensor, like: Tensor, align_corners: bool = False) -> Tensor:
    """`x` (B, C, h, w) resized bilinearly to the height and width of `like` (..., H, W).

    As R x C^T with the taps of rows and of columns: on a CPU its slope takes a tenth of the time of
    `interpolate`'s, and what reads the result finds it contiguous.
    """
    x, (H, W) = full(x), like.shape[-2:]
    if x.shape[-2:] == (H, W):
        return x
    R, C = (taps(n, N, align_corners, x.dtype, x.device) for n, N in zip(x.shape[-2:], (H, W), strict=True))
    with no_autocast(x):
        resized: Tensor = R @ (x @ C.mT)
    return resized


@lru_cache(maxsize=64)
def taps(n: int, N: int, align_corners: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(N, n): how much each of n cells gives to each of N pixels in a bilinear resize."""
    cells = torch.eye(n, dtype=dtype, device=device)[None]
    return F.interpolate(cells, N, None, "linear", align_corners)[0].mT.contiguous()


def rows_of(x: Tensor, H: int, top: int, end: int, align_corners: bool = False) -> Tensor:
    """Rows `top` to `end` of `x` (..., h, W) resized bilinearly along rows alone to H: (..., rows, W).

    Of the product with their taps only what is not zero: a strip of rows reads few of `x`.
    """
    R, read = taps(x.shape[-2], H, align_corners, x.dtype, x.device), reach(x.shape[-2], H, align_corners, top, end)
    return R[top:end, read] @ x[..., read, :]


@lru_cache(maxsize=1024)
def reach(n: int, N: int, align_corners: bool, top: int, end: int) -> slice:
    """Which of n cells the pixels `top` to `end` of N take something of."""
    taken = taps(n, N, align_corners, torch.float64, torch.device("cpu"))[top:end].any(0).nonzero()
    return slice(int(taken[0]), int(taken[-1]) + 1)


def counted(label: Tensor, normalise: Literal["all", "valid"]) -> Tensor:
    """How many pixels of `label` (B, H, W) a cross-entropy is divided by: a scalar.

    "valid" counts those that are not IGNORE; "all" counts IGNORE too, as DiGA's authors do, which
    weakens the loss of a sparse label by its sparsity.
    """
    if normalise == "all":
        return torch.full((), label.numel(), device=label.device)
    return (label != IGNORE).sum()


def cross_entropy(
    logits: Tensor,
    label: Tensor,
    pixels: Tensor | None = None,
    weight: Tensor | None = None,
    trust: Tensor | None = None,
) -> Tensor:
    """Eq. 1: sum of -w_y log p_y over pixels that are not IGNORE, divided by `pixels`.

    logits (B, K, H, W), label (B, H, W), weight (K,), pixels a scalar: `counted(label, "valid")`
    unless given, so that several workers can divide by the count of the whole batch.  A label that
    is IGNORE everywhere gives zero with zero gradient.  With `trust` (B, H, W) a pixel's loss counts
    that many times; the divisor stays.
    """
    per_pixel = F.cross_entropy(full(logits), label, weight, ignore_index=IGNORE, reduction="none")
    if trust is not None:
        per_pixel = per_pixel * trust
    pixels = counted(label, "valid") if pixels is None else pixels
    return per_pixel.sum() / pixels.clamp(min=1e-6)  # a mean over workers may lie below one pixel


def hard_cross_entropy(
    logits: Tensor,
    label: Tensor,
    threshold: float = 0.7,
    keep: int = 100_000,
    trust: Tensor | None = None,
    gather: Callable[[Tensor], Tensor] = lambda mine: mine,
) -> Tensor:
    """Mean of -log p_y over hard pixels: those with p_y < max(threshold, the (keep + 1)-th smallest p_y).

    logits (B, K, H, W), label (B, H, W).  With no more than `keep` labelled pixels all of them are
    hard; with none the loss is zero.  With `trust` (B, H, W) a pixel's loss counts that many times; which
    pixels are hard, and the divisor, stay.  `gather` gives the rows of all workers: hard pixels are the
    whole batch's, and the mean of the workers' losses is its loss.
    """
    per_pixel = F.cross_entropy(full(logits), label, ignore_index=IGNORE, reduction="none")
    p_y = (-per_pixel.detach()).exp().masked_fill(label == IGNORE, torch.inf)
    whole = gather(p_y).flatten()
    few = whole.numel() <= keep
    limit = torch.inf if few else whole.kthvalue(keep + 1).values.clamp(min=threshold)
    if trust is not None:
        per_pixel = per_pixel * trust
    workers = whole.numel() / p_y.numel()
    return per_pixel.where(p_y < limit, 0).sum() * workers / (whole < limit).sum().clamp(min=1)


def soft_cross_entropy(teacher: Tensor, student: Tensor, mask: Tensor | None = None) -> Tensor:
    """H(softmax(teacher), softmax(student)), mean over pixels, or over those of `mask`.

    teacher, student (B, K, H, W) logits, mask (B, H, W) bool.  No gradient reaches the teacher; an
    empty mask gives zero.
    """
    cross_entropy_of: Callable[[Tensor, Tensor], Tensor] = _CrossEntropyOfLogits.apply
    per_pixel = cross_entropy_of(full(teacher.detach()), full(student))
    if mask is None:
        return per_pixel.mean()
    return per_pixel.where(mask, 0).sum() / mask.sum().clamp(min=1)


def symmetric_distillation(
    teacher: Tensor,
    teacher_view: Tensor,
    student: Tensor,
    student_view: Tensor,
    alpha: float = 0.5,
    mask: Tensor | None = None,
) -> Tensor:
    """Eq. 4: H(T(x), S(x')) + alpha H(T(x'), S(x)): the teacher of each view instructs the other.

    All logits (B, K, H, W); `_view` marks those of the second view x'; mask (B, H, W) bool.
    """
    forth = soft_cross_entropy(teacher, student_view, mask)
    return forth + alpha * soft_cross_entropy(teacher_view, student, mask) if alpha else forth


def lsgan(score: Tensor, real: bool) -> Tensor:
    """(D(x) - 1)^2 where `real`, else D(x)^2: mean over the scores (...)."""
    return (full(score) - float(real)).square().mean()


def binary(score: Tensor, real: bool) -> Tensor:
    """-log sigmoid(D(x)) where `real`, else -log(1 - sigmoid(D(x))): mean over the scores (...)."""
    return F.softplus(-full(score) if real else full(score)).mean()


def entropy(logits: Tensor, relative: bool = False) -> Tensor:
    """-sum_k p_k log p_k of every pixel in nats, or of log K: logits (B, K, H, W) -> (B, H, W)."""
    log_p = full(logits).log_softmax(1)
    nats = -(log_p.exp() * log_p).sum(1)
    return nats / math.log(logits.shape[1]) if relative else nats


def edge_mask(label: Tensor) -> Tensor:
    """Where a label changes: |L * y| > 0.1, L a 5 x 5 Laplacian; label (B, H, W) -> (B, 1, H, W) bool.

    L takes the sum of the window less 25 times its centre, over 48, the sum of its absolute taps; edges
    are mirrored.  Ids are values, IGNORE too: neighbours whose ids are close have thinner edges.  Needs
    three pixels or more either way.
    """
    y = F.pad(label[:, None].float(), (2, 2, 2, 2), "reflect")  # whole numbers below 2^24: all sums are exact
    window = F.avg_pool2d(y, 5, 1, divisor_override=1)
    return (window - 25 * label[:, None]).abs_() > 0.1 * 48


def edge(image: Tensor, painted: Tensor, mask: Tensor) -> Tensor:
    """|x - x'| under a mask (B, 1, H, W), mean over all pixels and channels of (B, 3, H, W), masked or not."""
    return ((full(image) - full(painted)) * mask).abs().mean()


def perceptual(maps_a: Sequence[Tensor], maps_b: Sequence[Tensor]) -> Tensor:
    """sum_i w_i mean|a_i - b_i| over five feature maps, from shallow to deep, w = 1/32, 1/16, 1/8, 1/4, 1.

    The distance of Johnson et al. (ECCV 2016), weighted as by Wang et al. (CVPR 2018).
    """
    terms = [w * (full(a) - full(b)).abs().mean() for w, a, b in zip(DEPTHS, maps_a, maps_b, strict=True)]
    return torch.stack(terms).sum()


class _CrossEntropyOfLogits(torch.autograd.Function):
    """-sum_k q_k log p_k per pixel with q = softmax(teacher), p = softmax(student): (B, H, W).

    Its gradient by the student's logits is p - q.  Keeping just that takes half the memory, and
    less time, than what the chain rule would keep.
    """

    @staticmethod
    def forward(ctx: Any, teacher: Tensor, student: Tensor) -> Tensor:
        q, log_p = teacher.softmax(1), student.log_softmax(1)
        loss = (q * log_p).sum(1).neg_()
        ctx.save_for_backward(log_p.exp_().sub_(q))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        (slope,) = ctx.saved_tensors
        return None, slope * gradient[:, None]
