"""Where half precision stops: losses, distances and colour statistics are taken in float32 at least."""

from __future__ import annotations

import torch
from torch import Tensor


def full(x: Tensor) -> Tensor:
    """`x` in float32 if it came in half precision, else as it is."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def no_autocast(x: Tensor) -> torch.autocast:
    """A context in which matrix products on the device of `x` keep the precision of their inputs."""
    return torch.autocast(x.device.type, enabled=False)
