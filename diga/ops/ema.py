"""The mean teacher (Tarvainen and Valpola, 2017; DiGA eq. 5)."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

import torch
from torch import nn

Net = TypeVar("Net", bound=nn.Module)


def teacher_of(student: Net) -> Net:
    """A frozen copy of `student`: same weights, buffers and mode, no gradients."""
    teacher = deepcopy(student).requires_grad_(False)
    teacher.zero_grad(set_to_none=True)
    return teacher


def ema_rate(t: int, cap: float = 0.999) -> float:
    """xi_t = min(1 - 1/(t + 1), cap) of 0-based step t: a running mean first, then one that forgets."""
    return min(1 - 1 / (t + 1), cap)


@torch.no_grad()
def ema_(teacher: nn.Module, student: nn.Module, rate: float) -> None:
    """Eq. 5: theta_T <- xi theta_T + (1 - xi) theta_S, with xi = `rate`; parameters only."""
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - rate)


@torch.no_grad()
def copy_buffers_(teacher: nn.Module, student: nn.Module) -> None:
    """Give the teacher the student's buffers, say the running statistics of its batch norms."""
    for b_T, b_S in zip(teacher.buffers(), student.buffers(), strict=True):
        b_T.copy_(b_S)
