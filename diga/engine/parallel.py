"""What the workers of one stage say to each other; alone, each of these is the identity."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """Number of this worker."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Number of workers."""
    return dist.get_world_size() if dist.is_initialized() else 1


def mean(x: Tensor) -> Tensor:
    """Mean of `x` over the workers, without gradient."""
    if world() == 1:
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return total / world()


def gather(x: Tensor) -> Tensor:
    """Rows (b, ...) of all workers as one (B, ...), in the order of the global batch; no gradient."""
    if world() == 1:
        return x
    mine = x.detach().to(torch.uint8 if x.dtype == torch.bool else x.dtype).contiguous()  # gloo has no booleans
    parts = [torch.empty_like(mine) for _ in range(world())]
    dist.all_gather(parts, mine)
    return torch.cat(parts).to(x.dtype)


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Every gradient becomes its mean over the workers, in one message."""
    if world() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= world()
    for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


class Vote:
    """Whether any worker says yes: asked at every step; of several workers known at the next, so that none waits."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cast: Tensor | None = None

    def __call__(self, mine: bool) -> bool:
        """The same answer for all workers."""
        if world() == 1:
            return mine
        known, self.cast = self.cast, torch.full((), float(mine), device=self.device)
        dist.all_reduce(self.cast)
        return known is not None and bool(known.item())


def barrier() -> None:
    """Wait for the others."""
    if world() > 1:
        dist.barrier()
