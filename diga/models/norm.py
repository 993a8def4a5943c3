"""Batch normalisation whose statistics obey: synchronised over workers, and moved only when told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from diga.ops.precision import full


class BatchNorm2d(nn.BatchNorm2d):
    """As torch's, with two switches, and over the batches of all workers (torch's own needs a GPU for that).

    `updating`: whether a training forward moves the running statistics.
    `frozen`: whether a training forward normalises by the running statistics.
    """

    updating: bool = True
    frozen: bool = False

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if not self.training or self.frozen:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        if dist.is_initialized() and dist.get_world_size() > 1:
            return self._over_workers(x)
        running = (self.running_mean, self.running_var) if self.updating else (None, None)
        return F.batch_norm(x, *running, self.weight, self.bias, True, self.momentum or 0.0, self.eps)

    def _over_workers(self, x: Tensor) -> Tensor:
        """The same with mean and variance of the global batch.  Every worker has as many images."""
        mean = over_workers(full(x).mean((0, 2, 3)))
        centred = full(x) - mean[:, None, None]
        var = over_workers(centred.square().mean((0, 2, 3)))
        if self.updating:
            self._move(mean.detach(), var.detach(), x.numel() // x.shape[1] * dist.get_world_size())
        scale = self.weight * (var + self.eps).rsqrt()
        normalised: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return normalised.to(x.dtype)

    @torch.no_grad()
    def _move(self, mean: Tensor, var: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        self.running_mean.lerp_(mean, self.momentum or 0.0)
        self.running_var.lerp_(var * count / max(count - 1, 1), self.momentum or 0.0)


def over_workers(x: Tensor) -> Tensor:
    """Mean over the workers, with gradient."""
    total: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return total / dist.get_world_size()


class _Sum(torch.autograd.Function):
    """Sum over the workers.  What one worker adds, all have: its slope is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def norms(net: nn.Module) -> Iterator[BatchNorm2d]:
    """Every batch normalisation of a network."""
    return (m for m in net.modules() if isinstance(m, BatchNorm2d))


def freeze(net: nn.Module, frozen: bool = True) -> None:
    """Normalise by running statistics in training too."""
    for norm in norms(net):
        norm.frozen = frozen


@contextmanager
def statistics(net: nn.Module, update: bool) -> Iterator[None]:
    """Whether forwards inside the block move the running statistics of `net`."""
    before = [(norm, norm.updating) for norm in norms(net)]
    for norm, _ in before:
        norm.updating = update
    try:
        yield
    finally:
        for norm, updating in before:
            norm.updating = updating
