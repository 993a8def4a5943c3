"""What scoring costs after the network: two logit maps to a confusion matrix, the authors' way and ours, in one run.

The slow way is written from a description of the authors' code.  Both are first compared, then timed in
turns, of which the best counts.  Each is given labels as it has them: theirs in 64 bits, ours in 8, as files have them.

python -m benchmarks.evaluation [--quick]
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.ops import best
from diga.ops.pseudo import winners
from diga.ops.scores import confusion
from diga.types import IGNORE

K = 19


def official(native: Tensor, half: Tensor, label: Tensor) -> NDArray[np.int64]:
    """Both maps resized, the larger taken, on to numpy with classes last, argmax, masked bincount."""
    size = label.shape[-2:]
    both = [F.interpolate(x, size, mode="bilinear", align_corners=True) for x in (native, half)]
    scores = torch.max(both[0], both[1]).numpy()[0].transpose(1, 2, 0)
    return matrix(np.asarray(scores.argmax(2), np.int64), label[0].numpy())


def matrix(guess: NDArray[np.int64], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts by truth and guess, over pixels whose truth is a class."""
    known = (truth >= 0) & (truth < K)
    return np.bincount(K * truth[known] + guess[known], minlength=K * K).reshape(K, K)


def ours(native: Tensor, half: Tensor, label: Tensor) -> Tensor:
    """`two_scale_max` after the networks, and `confusion`."""
    return confusion(winners([native, half], label, True), label, K)[0]


def main() -> None:
    """Compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small shapes: does it run at all")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    torch.manual_seed(0)
    H, W, turns = (128, 256, 2) if quick else (1024, 2048, 15)
    native, half = torch.randn(1, K, H // 8 + 1, W // 8 + 1), torch.randn(1, K, H // 16 + 1, W // 16 + 1)
    label = torch.randint(0, K + 1, (1, H, W)).clamp(max=K)
    label[label == K] = IGNORE
    stored = label.byte()
    assert np.array_equal(official(native, half, label), ours(native, half, stored).numpy()), "the counts differ"
    found = winners([native], label, True)
    theirs, truth = found[0].long().numpy(), label[0].numpy()
    ways = {
        "logits to matrix": (lambda: official(native, half, label), lambda: ours(native, half, stored)),
        "matrix alone": (lambda: matrix(theirs, truth), lambda: confusion(found, stored, K)),
    }
    table = Table("piece", "official ms", "ours ms", "times faster", title=f"{H} x {W}, {K} classes, one thread")
    for name, pair in ways.items():
        slow, fast = best(list(pair), turns)
        table.add_row(name, f"{slow:.1f}", f"{fast:.1f}", f"{slow / fast:.1f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
