"""How long the equations take: the authors' way of computing each, and ours, in one run and on one thread.

The slow ways are written from a description of the authors' code: the same numbers, loop for loop
and copy for copy.  Each pair is first compared, then timed in turns, of which the best
counts: python -m benchmarks.ops [--quick] [--turns N]
"""

from __future__ import annotations

import argparse
import platform
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from diga.engine.run import CPU
from diga.ops.chance import Chance
from diga.ops.ema import ema_, teacher_of
from diga.ops.losses import counted, cross_entropy, symmetric_distillation
from diga.ops.masks import classes
from diga.ops.mixing import blend
from diga.ops.prototypes import Prototypes, class_means
from diga.ops.scores import confusion
from diga.settings import Mask
from diga.types import IGNORE

K, D, DELTA, XI = 19, 256, 0.9999, 0.999


class Scene(NamedTuple):
    """Everything one self-training step hands to its equations."""

    logits: Tensor  # (B, K, H, W), with gradient, as are `student` and `student_view`
    student: Tensor
    student_view: Tensor
    teacher: Tensor
    teacher_view: Tensor
    label: Tensor  # (B, H, W), blocks of classes, some void
    image: Tensor  # (B, 3, H, W), as is `other`
    other: Tensor
    features: Tensor  # (B, D, h, w)
    cells: Tensor  # (B, h, w) label of the cells
    guess: Tensor  # (B, h, w) prediction of the cells
    rho: Tensor  # (K, D)


class Pair(NamedTuple):
    """One equation, computed in two ways; `block` marks what the target of five times speaks of."""

    name: str
    official: Callable[[], Any]
    ours: Callable[[], Any]
    block: bool = True


def scene(B: int, H: int, W: int, h: int, w: int, device: torch.device = CPU) -> Scene:
    torch.manual_seed(0)
    random.seed(0)
    logits, student, student_view, teacher, teacher_view = (torch.randn(B, K, H, W) for _ in range(5))
    coarse = torch.randint(0, K + 1, (B, 1, 8, 14)).float()
    label = F.interpolate(coarse, (H, W), mode="nearest")[:, 0].long()
    label[label == K] = IGNORE
    cells = F.interpolate(label[:, None].float(), (h, w), mode="nearest")[:, 0].long()
    guess = torch.where(torch.rand(cells.shape) < 0.8, cells.clamp(max=K - 1), 0)
    made = Scene(
        logits=logits,
        student=student,
        student_view=student_view,
        teacher=teacher,
        teacher_view=teacher_view,
        label=label,
        image=torch.rand(B, 3, H, W),
        other=torch.rand(B, 3, H, W),
        features=torch.randn(B, D, h, w),
        cells=cells,
        guess=guess,
        rho=torch.randn(K, D),
    )
    s = Scene(*(x.to(device) for x in made))
    for x in (s.logits, s.student, s.student_view):
        x.requires_grad_()
    return s


# --- the authors' way --------------------------------------------------------------------


def slow_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Log-probabilities as a list of pixels, chosen by a mask as wide as the classes; void counts, too."""
    log_p = F.log_softmax(logits, dim=1).permute(0, 2, 3, 1).contiguous().view(-1, K)
    log_p = log_p[label.view(-1, 1).repeat(1, K) >= 0].view(-1, K)
    chosen = label[label >= 0]
    return F.nll_loss(log_p, chosen, ignore_index=IGNORE, reduction="sum") / (label >= 0).sum()


def slow_distillation(teacher: Tensor, student: Tensor) -> Tensor:
    """Both distributions in full, then the sum of their products."""
    return -(F.softmax(teacher, dim=1) * F.log_softmax(student, dim=1)).sum(dim=1).mean()


def slow_mix(s: Scene) -> tuple[Tensor, Tensor]:
    """Image by image: the classes present, half of them drawn, one comparison for each."""
    images, labels = [], []
    for x, back, y in zip(s.image, s.other, s.label, strict=True):
        present = torch.unique(y)
        drawn = random.sample(present.tolist(), len(present) // 2)
        kept = torch.tensor([*drawn, IGNORE], device=y.device)[:, None, None]
        M = (y[None] == kept).sum(0).clamp(max=1).float()
        images.append(M * x + (1 - M) * back)
        labels.append(M * y + (1 - M) * 0)
    return torch.stack(images), torch.stack(labels)


def slow_distances(features: Tensor, rho: Tensor) -> Tensor:
    """Class by class: the difference from every cell, then its length."""
    return torch.stack([torch.norm(features - v.view(1, -1, 1, 1), 2, dim=1) for v in rho], dim=1)


def slow_update(s: Scene, rho: Tensor) -> Tensor:
    """Image by image, class by class: a mask, a product over all cells, a mean, an average."""
    for f, y, p in zip(s.features, s.cells, s.guess, strict=True):
        for k in range(K):
            member = (y == k).float() * (p == k).float()
            if member.sum().item() < 5:
                continue
            v = (f * member).sum((1, 2)) / member.sum()
            rho[k] = DELTA * rho[k] + (1 - DELTA) * v
    return rho


def slow_ema(teacher: nn.Module, student: nn.Module) -> list[nn.Parameter]:
    """Parameter by parameter, with new storage for each."""
    for a, b in zip(teacher.parameters(), student.parameters(), strict=True):
        a.data = XI * a.data + (1 - XI) * b.data
    return list(teacher.parameters())


def slow_confusion(prediction: Tensor, label: Tensor) -> np.ndarray[Any, Any]:
    """numpy: choose the labelled pixels, then count pairs."""
    y, p = label.cpu().numpy().flatten(), prediction.cpu().numpy().flatten()
    kept = (y >= 0) & (y < K)
    return np.bincount(K * y[kept].astype(int) + p[kept], minlength=K**2).reshape(K, K)


# --- side by side ------------------------------------------------------------------------


def descent(loss: Callable[[], Tensor], *by: Tensor) -> tuple[Tensor, ...]:
    """The loss and its gradients: forward and backward."""
    value = loss()
    return value.detach(), *torch.autograd.grad(value, by)


def network(width: int) -> nn.Module:
    """As many parameters, in as many tensors, as a ResNet-101 with its head; `width` 800 makes 65 million."""
    return nn.ParameterList(nn.Parameter(torch.randn(n)) for n in [width * width, width] * 101)


def ours_ema(teacher: nn.Module, student: nn.Module) -> list[nn.Parameter]:
    ema_(teacher, student, XI)
    return list(teacher.parameters())


def ours_update(s: Scene, rho: Prototypes) -> Tensor:
    rho.to(s.rho.device).vectors.copy_(s.rho)
    rho.ema_(*class_means(s.features, s.cells, K, 5, s.guess), DELTA)
    return rho.vectors


def pairs(s: Scene, width: int) -> Iterator[Pair]:
    """Every equation of a step, the authors' way beside ours."""
    B = len(s.label)
    rho = Prototypes(K, D).to(device := s.label.device)
    rho.vectors.copy_(s.rho)
    student = network(width).to(device)
    teachers = teacher_of(student), teacher_of(student)
    front, back, prediction = s.label, torch.zeros_like(s.label), s.logits.detach().max(1).indices

    def mix() -> tuple[Tensor, Tensor]:
        M = classes(front, Chance((0,), range(B), B, device), Mask(void="counted"))
        return blend(M, s.image, s.other), blend(M, front, back)

    yield Pair(
        "cross-entropy, forward and backward",
        lambda: descent(lambda: slow_cross_entropy(s.logits, front), s.logits),
        lambda: descent(lambda: cross_entropy(s.logits, front, counted(front, "all")), s.logits),
    )
    yield Pair("class mask and mix", lambda: slow_mix(s), mix)
    yield Pair("centroid distances", lambda: slow_distances(s.features, s.rho), lambda: rho.distances(s.features))
    yield Pair(
        "class means and centroid EMA",
        lambda: slow_update(s, s.rho.clone()),
        lambda: ours_update(s, Prototypes(K, D)),
    )
    yield Pair("parameter EMA", lambda: slow_ema(teachers[0], student), lambda: ours_ema(teachers[1], student))
    yield Pair(
        "symmetric distillation, forward and backward",
        lambda: descent(
            lambda: slow_distillation(s.teacher, s.student_view) + 0.5 * slow_distillation(s.teacher_view, s.student),
            s.student,
            s.student_view,
        ),
        lambda: descent(
            lambda: symmetric_distillation(s.teacher, s.teacher_view, s.student, s.student_view, 0.5),
            s.student,
            s.student_view,
        ),
        block=False,
    )
    yield Pair(
        "confusion counts",
        lambda: torch.from_numpy(slow_confusion(prediction, front)),
        lambda: confusion(prediction, front, K).sum(0).cpu(),
        block=False,
    )


def agree(pair: Pair) -> str:
    """Assert that both ways give the same numbers; a mix draws its own classes and cannot."""
    a, b = pair.official(), pair.ours()
    if pair.name.startswith("class mask"):
        return "-"
    torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4)
    return "equal"


def best(ways: list[Callable[[], Any]], turns: int) -> list[float]:
    """Milliseconds of processor time each way takes: the best of several turns, taken alternately."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(turns):
        for way, spent in zip(ways, times, strict=True):
            start = time.process_time()
            way()
            spent.append(1e3 * (time.process_time() - start))
    return [min(spent) for spent in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small shapes, two turns: does it run at all")
    parser.add_argument("--turns", type=int, default=0, help="how often each way is timed (default 5; quick 2)")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    shape, width = ((2, 64, 112, 9, 15), 40) if chosen.quick else ((3, 512, 896, 65, 113), 800)
    turns = chosen.turns or (2 if chosen.quick else 5)
    B, H, W, h, w = shape
    title = f"{B} x {H} x {W}, {K} classes, features {D} x {h} x {w}; best of {turns}, one thread"
    table = Table("equation", "official ms", "ours ms", "times faster", "numbers", title=title)
    totals = {"block without distillation": [0.0, 0.0], "block with distillation": [0.0, 0.0]}
    for pair in pairs(scene(*shape), width):
        same = agree(pair)
        times = best([pair.official, pair.ours], turns)
        table.add_row(pair.name, *(f"{t:.1f}" for t in times), f"{times[0] / times[1]:.1f}", same)
        for name, total in totals.items():
            if pair.block or ("distillation" in pair.name and name.endswith("h distillation")):
                total[:] = total[0] + times[0], total[1] + times[1]
    table.add_section()
    for name, (official, ours) in totals.items():
        table.add_row(name, f"{official:.1f}", f"{ours:.1f}", f"{official / ours:.1f}", "")
    Console(width=110).print(table)
    print(f"torch {torch.__version__}, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}")


if __name__ == "__main__":
    main()
