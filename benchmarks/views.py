"""How long strong views take on one thread: operation by operation as the authors' library has them, and ours.

The slow way is written from a description, whole images and all; both give the same numbers, which is
asserted first.  Where kornia is installed its own operations are timed, too (0.5.8 is the authors'):
python -m benchmarks.views [--quick] [--turns N]
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from diga.ops.augment import strong
from diga.ops.chance import Chance
from diga.ops.photometry import Draws, drawn
from diga.settings import Strong

MEAN = torch.tensor([104.007, 116.669, 122.679]).view(3, 1, 1)  # of the authors' BGR images
RGB, LEGACY = Strong(), Strong(ranges="legacy")

View = Callable[[Tensor, int], Tensor]  # images (B, 3, H, W) and the number of a step


# --- the authors' way --------------------------------------------------------------------


def slow(images: Tensor, t: int) -> Tensor:
    return torch.stack(
        [slow_view(x, d, LEGACY.blend) for x, d in zip(images, drawn(LEGACY, chance(images, t)), strict=True)]
    )


def slow_view(image: Tensor, d: Draws, blend: float) -> Tensor:
    """Operation by operation on one whole image, hue and saturation each there and back, filters as convolutions."""
    mean = MEAN.to(image.device)
    z = (255 * image.flip(0) - mean) / 128
    A = z
    if d.jitter:
        A = (A + d.brightness).clamp(0, 1)
        A = (A * (1 + d.contrast)).clamp(0, 1)
        h, s, v = slow_hsv(A)
        h, s, v = slow_hsv(slow_rgb(h, (s * (1 + d.saturation)).clamp(0, 1), v))
        A = slow_rgb((h + 6 * d.hue) % 6, s, v)
    if d.grey:
        A = (0.299 * A[0] + 0.587 * A[1] + 0.114 * A[2]).expand(3, -1, -1)
    if d.blur:
        taps = torch.exp(-torch.tensor([1.0, 0.0, 1.0]) / 8)
        A = convolved(F.pad(A[None], (1, 1, 1, 1), "reflect"), torch.outer(taps, taps) / taps.sum() ** 2)
    if d.sharpen:
        soft = convolved(A[None], torch.tensor([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13).clamp(0, 1)
        inside = F.pad(torch.ones_like(soft), (1, 1, 1, 1)) == 1
        soft = torch.where(inside, F.pad(soft, (1, 1, 1, 1)), A)
        A = soft + 0.5 * d.sharpness * (A - soft)
    return ((128 * (blend * (2 * A - 1) + (1 - blend) * z) + mean) / 255).flip(0)


def convolved(image: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(image, kernel.to(image.device).expand(3, 1, 3, 3), groups=3)[0]


def slow_hsv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in sixths, saturation and value, the hue by the channel that is highest."""
    v, highest = x.max(0)
    chroma = v - x.min(0).values
    safe = torch.where(chroma == 0, 1, chroma)
    hues = torch.stack([(x[1] - x[2]) / safe, 2 + (x[2] - x[0]) / safe, 4 + (x[0] - x[1]) / safe])
    return hues.gather(0, highest[None])[0] % 6, chroma / (v + 1e-6), v


def slow_rgb(h: Tensor, s: Tensor, v: Tensor) -> Tensor:
    """Each channel by a table of the sixths."""
    sixth, f = h.floor().long() % 6, h % 1
    p, q, t = v * (1 - s), v * (1 - f * s), v * (1 - (1 - f) * s)
    table = torch.stack([v, q, p, p, t, v, t, v, v, q, p, p, p, p, t, v, v, q])
    return table.gather(0, torch.stack([sixth, sixth + 6, sixth + 12]))


def library() -> View | None:
    """The chain of kornia's own modules, which make their own draws; none, where it is not installed."""
    if importlib.util.find_spec("kornia") is None:
        return None
    warnings.simplefilter("ignore")
    K: Any = importlib.import_module("kornia.augmentation")
    chain = torch.nn.Sequential(
        K.ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.5),
        K.RandomGrayscale(p=0.3),
        K.RandomGaussianBlur((3, 3), (2.0, 2.0), p=0.8),
        K.RandomSharpness((0.0, 0.5), p=0.3),
    )

    def view(images: Tensor, t: int) -> Tensor:
        torch.manual_seed(t)
        z = [(255 * x.flip(0) - MEAN) / 128 for x in images]
        mixed = [0.4 * (2 * chain(x[None])[0] - 1) + 0.6 * x for x in z]
        return torch.stack([((128 * x + MEAN) / 255).flip(0) for x in mixed])

    return view


# --- side by side ------------------------------------------------------------------------


def chance(images: Tensor, t: int) -> Chance:
    return Chance((t,), range(len(images)), len(images), images.device)


def ours(how: Strong, images: Tensor, t: int) -> Tensor:
    return strong(images, how, chance(images, t))


def timed(ways: dict[str, View], images: Tensor, steps: int) -> dict[str, float]:
    """Milliseconds of processor time an image, mean over steps, the ways in turns: every step has its own draws."""
    spent = dict.fromkeys(ways, 0.0)
    for t in range(-1, steps):  # one step to warm up
        for name, view in ways.items():
            start = time.process_time()
            view(images, t + 1)
            spent[name] += (time.process_time() - start) * (t >= 0)
    return {name: 1e3 * total / (steps * len(images)) for name, total in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small images, few steps: does it run at all")
    parser.add_argument("--turns", type=int, default=0, help="steps, each with its own draws (default 60; quick 3)")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = F.interpolate(torch.rand(3, 3, 32, 56), (64, 112) if chosen.quick else (512, 896), mode="bilinear")
    ways: dict[str, View] = {"operation by operation": slow}
    if kornia := library():
        ways["kornia"] = kornia
    ways |= {"legacy": partial(ours, LEGACY), "rgb": partial(ours, RGB)}
    for t in range(4):
        torch.testing.assert_close(ways["legacy"](images, t), slow(images, t), rtol=0, atol=1e-4)
    times = timed(ways, images, chosen.turns or (3 if chosen.quick else 60))
    table = Table("way", "ms an image", *(f"times {way}" for way in ("rgb", "legacy")), title=f"{tuple(images.shape)}")
    for name, spent in times.items():
        table.add_row(name, f"{spent:.1f}", *(f"{spent / times[way]:.1f}" for way in ("rgb", "legacy")))
    Console(width=110).print(table)
    print(f"torch {torch.__version__}, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}")


if __name__ == "__main__":
    main()
