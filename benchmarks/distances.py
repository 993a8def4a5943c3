"""Distances of pixels to prototypes: DDB's way, features resized and one class after the other, and ours.

python -m benchmarks.distances [--quick] prints times, peak memory and how far apart the results are.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diga.engine.run import CPU
from diga.ops.ensemble import distances
from diga.ops.prototypes import Prototypes

SHAPE = (4, 256, 64, 512)  # images, channels, cells and pixels a side
SMALL = (2, 32, 8, 64)
CLASSES = 19
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Ways(NamedTuple):
    """The same distances (B, K, N, N), computed in two ways."""

    slow: Callable[[], Tensor]
    ours: Callable[[], Tensor]


def ways(shape: tuple[int, int, int, int] = SHAPE, device: torch.device = CPU) -> Ways:
    """Features of a network's size and prototypes among them."""
    B, D, n, N = shape
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(B, D, n, n, generator=generator).relu_().to(device)
    rho, like = Prototypes(CLASSES, D).to(device), torch.empty(N, N)
    rho.vectors.copy_(torch.randn(CLASSES, D, generator=generator).relu_())
    rho.seen.fill_(1)
    return Ways(lambda: slow_distances(features, rho.vectors, N), lambda: distances(features, rho, like))


def slow_distances(features: Tensor, vectors: Tensor, side: int) -> Tensor:
    """Class by class: the difference from every pixel's feature, then its length."""
    wide = F.interpolate(features, (side, side), mode="bilinear", align_corners=False)
    return torch.stack([torch.norm(wide - v.view(1, -1, 1, 1), 2, dim=1) for v in vectors], 1)


def peak(way: Callable[[], Tensor]) -> float:
    """MB of memory that a call needs beyond what is there before it (Linux)."""
    CLEAR.write_text("5")  # the peak is what is there now
    before = resident("VmRSS")
    way()
    return (resident("VmHWM") - before) / 1024


def resident(name: str) -> int:
    """kB, as the kernel counts them."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def seconds(way: Callable[[], Tensor], turns: int) -> float:
    """The best of some turns."""
    found = []
    for _ in range(turns):
        start = time.perf_counter()
        way()
        found.append(time.perf_counter() - start)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small shapes: does it run at all")
    shape = SMALL if parser.parse_args().quick else SHAPE
    torch.set_num_threads(1)
    both = ways(shape)
    memory = [peak(way) for way in reversed(both)][::-1]  # ours first: memory once asked for may be kept
    far = (both.slow() - both.ours()).abs().max().item()
    times = [seconds(way, 2) for way in both]
    B, D, n, N = shape
    print(f"{B} x {D} x {n} x {n} to {N} x {N}, {CLASSES} classes, one thread; furthest apart {far:.1e}")
    for what, (slow, ours), unit in (("time", times, "s"), ("peak memory", memory, "MB")):
        print(f"{what}: {slow:.3f} {unit}, ours {ours:.3f} {unit}, {slow / max(ours, 1e-3):.1f} times less")


if __name__ == "__main__":
    main()
