"""What benchmarks count, by a clock of the test's own."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.inside import Inside
from diga.types import Prediction

CLOCK = [0.0]


class Takes(torch.autograd.Function):
    """The identity, which takes so long forward and so long backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: float, back: float) -> Tensor:
        CLOCK[0] += there
        ctx.back = back
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        CLOCK[0] += ctx.back
        return slopes[0], None, None


def takes(x: Tensor, there: float, back: float) -> Tensor:
    y: Tensor = Takes.apply(x, there, back)  # type: ignore[no-untyped-call]
    return y


class Net(nn.Module):
    """5 seconds forward, 7 backward."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Prediction:
        y = takes(self.stem(x), 5.0, 7.0)
        return Prediction(y, y)


class Other(Net):
    pass


def test_of_a_step_what_passes_in_its_networks_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two forwards with a slope, a teacher's without, losses before, between and after."""
    monkeypatch.setattr(time, "process_time", lambda: CLOCK[0])
    S, T, other, x = Net(), Net(), Other(), torch.rand(1, 3, 2, 2)
    inside, begun = Inside(Net), CLOCK[0]
    with inside.counted(S):
        with torch.no_grad():
            T(x)
        first = takes(S(x).logits, 100.0, 200.0).sum()
        CLOCK[0] += 1000.0
        second = takes(S(x).logits, 100.0, 200.0).sum()
        torch.autograd.backward([first, second])
        CLOCK[0] += 2000.0  # an optimizer
    assert inside.seconds == 3 * 5 + 2 * 7
    assert CLOCK[0] - begun == inside.seconds + 2 * 300 + 3000
    S(x).logits.sum().backward()
    assert inside.seconds == 29, "afterwards nothing is counted"
    with Inside(Other).counted(other):
        S(x)
    assert inside.seconds == 29
