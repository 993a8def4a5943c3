"""Losses as equations: tensors in, one scalar out, no state and no modules.

H(q, p) = -sum_k q_k log p_k is the cross-entropy of one pixel.  Everything is taken in float32 at
least, whatever precision the network worked in.  Sources: DiGA (Shen et al., CVPR 2023), whose
equation numbers are given; LSGAN (Mao et al., ICCV 2017); online hard example mining as in the
authors' SYNTHIA scripts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from diga.ops.precision import full, no_autocast
from diga.types import IGNORE


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


def counted(label: Tensor, normalise: Literal["all", "valid"]) -> Tensor:
    """How many pixels of `label` (B, H, W) a cross-entropy is divided by: a scalar.

    "valid" counts those that are not IGNORE; "all" counts IGNORE too, as DiGA's authors do, which
    weakens the loss of a sparse label by its sparsity.
    """
    if normalise == "all":
        return torch.full((), label.numel(), device=label.device)
    return (label != IGNORE).sum()


def cross_entropy(logits: Tensor, label: Tensor, pixels: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
    """Eq. 1: sum of -w_y log p_y over pixels that are not IGNORE, divided by `pixels`.

    logits (B, K, H, W), label (B, H, W), weight (K,), pixels a scalar: `counted(label, "valid")`
    unless given, so that several workers can divide by the count of the whole batch.  A label that
    is IGNORE everywhere gives zero with zero gradient.
    """
    per_pixel = F.cross_entropy(full(logits), label, weight, ignore_index=IGNORE, reduction="none")
    pixels = counted(label, "valid") if pixels is None else pixels
    return per_pixel.sum() / pixels.clamp(min=1e-6)  # a mean over workers may lie below one pixel


def hard_cross_entropy(logits: Tensor, label: Tensor, threshold: float = 0.7, keep: int = 100_000) -> Tensor:
    """Mean of -log p_y over hard pixels: those with p_y < max(threshold, the (keep + 1)-th smallest p_y).

    logits (B, K, H, W), label (B, H, W).  With no more than `keep` labelled pixels all of them are
    hard; with none the loss is zero.
    """
    per_pixel = F.cross_entropy(full(logits), label, ignore_index=IGNORE, reduction="none").flatten()
    p_y = (-per_pixel.detach()).exp().masked_fill(label.flatten() == IGNORE, torch.inf)
    few = p_y.numel() <= keep
    limit = torch.inf if few else p_y.kthvalue(keep + 1).values.clamp(min=threshold)
    hard = p_y < limit
    return per_pixel.where(hard, 0).sum() / hard.sum().clamp(min=1)


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
