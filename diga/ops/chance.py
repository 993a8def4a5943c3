"""Chance that is a function of seed and step, and does not depend on how many workers share a batch."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor


class Chance:
    """Uniform draws for this worker's rows of a global batch.

    Every worker draws for the whole batch from one generator seeded with `key`, say (seed, step,
    purpose), and keeps its `rows` of `total`: what W workers draw together is what one would draw.
    The draws are made on the CPU, so that they are the same on every device.

    Raises ValueError if `rows` is no contiguous part of `total` rows.
    """

    def __init__(self, key: tuple[int, ...], rows: range, total: int, device: torch.device | str = "cpu") -> None:
        if rows.step != 1 or not 0 <= rows.start <= rows.stop <= total:
            raise ValueError(f"Chance: found {rows} (expected consecutive rows of the {total} of the batch)")
        self.rows, self.total, self.device = rows, total, torch.device(device)
        # Hashed, because a seed sequence reads (1,) and (1, 0) as one key.
        digest = blake2b(repr(key).encode(), digest_size=16).digest()
        self._draws = np.random.default_rng(int.from_bytes(digest, "big"))

    def uniform(self, *shape: int) -> Tensor:
        """(b, *shape) float32 in [0, 1), for the b rows of this worker; the next call draws anew."""
        u = self.host(*shape)
        if self.device.type == "cuda":  # from pinned memory, or the host would wait for all that the device has to do
            return u.pin_memory().to(self.device, non_blocking=True)
        return u.to(self.device)

    def host(self, *shape: int) -> Tensor:
        """The same draws as numbers to decide by: they stay on the CPU, and no device is waited for."""
        u = self._draws.random((self.total, *shape), dtype=np.float32)
        return torch.from_numpy(u[self.rows.start : self.rows.stop])
