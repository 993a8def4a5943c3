"""How much of a training step is network: the loop as it runs, beside the same forwards and backward and nothing else.

The real `fit` runs the real stage.  Between two of its steps the networks alone are driven, on copies:
the same images through student and teacher, and a fixed slope sent back.  Whatever else a step does is
in the ratio: mean teacher, strong view, masks, consensus, centroids, losses, optimizer, reports.  The
65 M weights run the authors' step at an eighth of their crop, where the networks' arithmetic is a
64th of theirs while optimizer and mean teacher, which go through all weights, cost what they cost there:
with the trained translator, and in warm-up with the forward of target images.  Images are read beforehand.

A machine's pace may vary by more than what is sought between two turns of ten seconds.  Of larger networks a second
ratio is seen from within the step: how much of its own time passes in its networks (`benchmarks.inside`).  At a quarter
of the crop, where a step of 65 M weights takes half a minute, it is the only one; those are five minutes of some
fifteen.

One thread: python -m benchmarks.step [--quick] [--turns N] [--large]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from benchmarks.inside import Inside
from benchmarks.networks import PaperSize
from diga.engine import feed
from diga.engine.fit import Plans, Step
from diga.engine.run import CPU, Pace, Run
from diga.methods.diga import SelfTraining, WarmUp
from diga.methods.translation import Translator
from diga.models.streetnet import Residual, conv, streetnet
from diga.models.translator import Generator
from diga.recipe import Recipe, override
from diga.settings import Plan
from diga.types import IGNORE, Batch, Guess, Pair, Prediction
from experiments.diga import streets

K = 19
QUIET = Pace(save=10**9)
Net = Callable[[], nn.Module]


class StandIn(nn.Module):
    """Stride 8 and 256 features as the networks of the paper have, a fourteenth of their work: 35 GMAC at 512 x 896."""

    def __init__(self, width: int = 256, blocks: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 32, 2), conv(32, 64, 2), conv(64, width, 2))
        self.body = nn.Sequential(*(Residual(width, 2) for _ in range(blocks)))
        self.classifier = nn.Conv2d(width, K, 1)

    def forward(self, image: Tensor) -> Prediction:
        """(B, 3, H, W) in [0, 1] -> logits (B, K, H/8, W/8), features (B, 256, H/8, W/8)."""
        features = self.body(self.stem(4 * image - 2))
        return Prediction(self.classifier(features), features)


@dataclass
class Measured(Run):
    """A run of ready images that times each step of its loop, and the networks alone in between."""

    net: Net = lambda: streetnet(K)
    ready: list[Pair] = field(default_factory=list)
    left: dict[str, Any] = field(default_factory=dict)
    step_ms: list[float] = field(default_factory=list)
    networks_ms: list[float] = field(default_factory=list)
    alone: Callable[[Pair], None] = lambda pair: None
    beside: bool = True  # whether the networks alone have their turns
    inside: Inside | None = None
    inside_ms: list[float] = field(default_factory=list)  # of the steps, what passed in networks

    def segmenter(self, ref: str | None = None, part: str = "student") -> nn.Module:
        """The network measured, always the same weights."""
        torch.manual_seed(0)
        return self.net().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def read(self, ref: str, file: str = "") -> dict[str, Any]:
        """What earlier stages would have left."""
        return self.left

    def fit(
        self, nets: Mapping[str, nn.Module], step: Step, plan: Plan, keep: str = "student", plans: Plans = None
    ) -> None:
        """The loop, after copies of the networks are made."""
        S, T = deepcopy(nets["student"]), deepcopy(nets["teacher"]).train()
        painter, mixed = self.stage_of("translator"), "prototypes" in nets
        G = painter.generator(self).requires_grad_(False).eval() if isinstance(painter, Translator) else None
        leak = "target" in self.stage_of(self.stage).statistics.update
        self.alone = lambda pair: self.under_precision(lambda: networks_alone(S, T, G, pair, mixed, leak))
        with self.inside.counted(nets["student"]) if self.inside else nullcontext():
            super().fit(nets, step, plan, keep, plans)

    def pairs(self, start: int, stop: int) -> Iterator[Pair]:
        """Asked for the next pair, the loop has done with the last."""
        for t in range(start, stop):
            pair = self.ready[t % len(self.ready)]
            here = feed.placed(pair, self.device)
            if self.beside:
                self.networks_ms.append(milliseconds(lambda here=here: self.alone(here), self.device))  # type: ignore[misc]
            begun, before = now(self.device), self.inside.seconds if self.inside else 0.0
            yield feed.placed(pair, self.device)
            self.step_ms.append(1e3 * (now(self.device) - begun))
            if self.inside:
                self.inside_ms.append(1e3 * (self.inside.seconds - before))


def networks_alone(S: nn.Module, T: nn.Module, G: nn.Module | None, pair: Pair, mixed: bool, leak: bool) -> None:
    """The forwards of a step, and a backward from a slope of ones."""
    if G is not None:
        G(pair.source.image)
    views = torch.cat([pair.source.image, pair.source.image])
    S.zero_grad(set_to_none=True)
    with torch.no_grad():
        T(views)
        if mixed:
            T(pair.target)
        if leak:
            S(pair.target)
    logits = [S(views).logits] + ([S(pair.target).logits] if mixed else [])
    torch.autograd.backward(logits, [torch.ones_like(p) for p in logits])


def now(device: torch.device) -> float:
    """Seconds: of this process's processor time, or of the clock once a GPU has done all it was given."""
    if device.type != "cuda":
        return time.process_time()  # one thread that waits for nothing: other work on the machine does not count
    torch.cuda.synchronize(device)
    return time.perf_counter()


def milliseconds(work: Callable[[], object], device: torch.device = CPU) -> float:
    """How long a call takes."""
    begun = now(device)
    work()
    return 1e3 * (now(device) - begun)


# --- what is run -------------------------------------------------------------------------


def pair(B: int, H: int, W: int, seed: int) -> Pair:
    """Smooth images and labels in blocks, some void."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, K + 1, (2 * B, 1, 8, 14), generator=g).float()
    label = F.interpolate(coarse, (H, W), mode="nearest")[:, 0].long()
    label[label == K] = IGNORE
    rgb = F.interpolate(torch.rand(2 * B, 3, H // 8, W // 8, generator=g), (H, W), mode="bilinear")
    return Pair(Batch(rgb[:B].clone(), label[:B]), rgb[B:].clone(), Guess(label[B:].where(label[B:] != IGNORE, 0)))


def prepared(recipe: Recipe, stage: str, net: Net, turns: int, folder: Path, device: torch.device = CPU) -> Measured:
    """The stage, about to take `turns` steps."""
    B, (H, W) = recipe.batch, recipe.crop
    ready = [pair(B, H, W, seed) for seed in range(4)]
    colours = {"mean": torch.rand(300, 3), "covariance": 0.05 * torch.eye(3).expand(300, 3, 3)}
    with torch.no_grad():
        features = net()(ready[0].target[:, :, :64, :64]).features
    rho = {"vectors": torch.randn(K, features.shape[1]), "seen": torch.ones(K)}
    left: dict[str, Any] = {
        "colours": {k: x.to(device) for k, x in colours.items()},
        "prototypes": {k: x.to(device) for k, x in rho.items()},
    }
    short = override(recipe, {f"{stage}.plan.steps": turns, f"{stage}.plan.snapshots": 1, "balance": "none"})
    run = Measured(short, stage, folder, device=device, pace=QUIET, net=net, ready=ready, left=left)
    if isinstance(translator := short.stages.get("translator"), Translator):
        left["generator"] = translator.generator(run).state_dict()
    return run


class Shape(NamedTuple):
    """What is measured: a recipe with a network, in how many turns, and which of the two ratios."""

    name: str
    recipe: Recipe
    net: Net
    turns: int
    beside: bool = True
    within: tuple[type[nn.Module], ...] = ()  # kinds of networks that the second is of


def shapes(large: bool, quick: bool, turns: int) -> Iterator[Shape]:
    """Those that are wanted."""
    yield Shape("streets", streets(), lambda: streetnet(K), turns)
    at = {"warm_up.distil_at": "pixels", "self_training.distil_at": "pixels", "batch": 2 if quick else 3}
    sgd = {f"{stage}.plan.optimizer": "sgd" for stage in ("warm_up", "self_training")}
    whole = {"translator": Translator(), "warm_up.statistics.update": ("views", "target")}
    paper = override(streets(), at | sgd | whole | {"crop": (64, 112)})
    authors = PaperSize, Generator
    if not quick:
        yield Shape("65 M weights", paper, PaperSize, 8, within=authors)
        yield Shape("65 M weights", override(paper, {"crop": (128, 224)}), PaperSize, 4, beside=False, within=authors)
    size = (64, 112) if quick else (256, 448)
    for name, crop, wanted in (("stand-in", size, True), ("stand-in, paper's crop", (512, 896), large)):
        if wanted:
            steps = 4 if quick or crop == (512, 896) else 10
            yield Shape(name, override(streets(), at | {"crop": crop}), StandIn, steps, within=(StandIn,))


def measured(shape: Shape, stage: str, folder: Path) -> Measured:
    """The stage after its steps."""
    run = prepared(shape.recipe, stage, shape.net, shape.turns, folder / stage)
    run.beside, run.inside = shape.beside, Inside(*shape.within) if shape.within else None
    run.own(run)
    return run


def warm(ms: list[float]) -> list[float]:
    """Without the first turns: they find cold caches."""
    return ms[min(len(ms) // 4, 10) :]


def settled(ms: list[float]) -> float:
    """The median of the others."""
    return statistics.median(warm(ms))


def line(shape: Shape, stage: str, run: Measured) -> list[str]:
    """What is shown of a stage."""
    size, step = f"{shape.recipe.batch} x {shape.recipe.crop[0]} x {shape.recipe.crop[1]}", settled(run.step_ms)
    beside, within = ("", ""), ""
    if shape.beside:
        alone = settled(run.networks_ms)
        beside = f"{alone:.1f}", f"{alone / step:.3f}"
    if shape.within:
        shares = [inside / whole for inside, whole in zip(run.inside_ms, run.step_ms, strict=True)]
        within = f"{settled(shares):.3f}"
    return [shape.name, stage, size, beside[0], f"{step:.1f}", beside[1], within, f"{len(warm(run.step_ms))}"]


def loss_block(B: int, H: int, W: int, turns: int) -> list[float]:
    """Milliseconds of every loss of a self-training step from logits at stride 8, forward and backward."""
    recipe = override(streets(), {"batch": B, "crop": (H, W), "balance": "none"})
    stage = recipe.stages["self_training"].model_copy(update={"distil_at": "pixels"})
    assert isinstance(stage, SelfTraining)
    p, q, p_mix = (torch.randn(n, K, H // 8, W // 8, requires_grad=True) for n in (2 * B, 2 * B, B))
    source, _, guess = pair(B, H, W, 0)
    assert guess is not None
    seen, taught = Prediction(p, p), Prediction(q.detach(), q)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(recipe, "self_training", Path(folder))

        def block() -> None:
            losses = [*stage.source_losses(run, source.label, seen, taught).values()]
            losses.append(run.cross_entropy(p_mix, guess.label, stage.normalise))
            torch.autograd.backward(torch.stack(losses).sum())

        return [milliseconds(block) for _ in range(turns)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few steps, small shapes: does it run at all")
    parser.add_argument("--turns", type=int, default=0, help="steps on streets (default 300)")
    parser.add_argument("--large", action="store_true", help="the stand-in at 512 x 896, too: minutes")
    parser.add_argument("--only", default="", help="networks whose name begins so: streets, 65 M, stand-in")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    title = "medians of turns, one thread"
    table = Table("network", "stage", "batch", "networks ms", "step ms", "ratio", "within", "steps", title=title)
    known = shapes(chosen.large, chosen.quick, chosen.turns or (12 if chosen.quick else 300))
    wanted = [(s, stage) for s in known if s.name.startswith(chosen.only) for stage in ("warm_up", "self_training")]
    for shape, stage in track(wanted, "stages", console=Console(stderr=True)):
        assert isinstance(shape.recipe.stages[stage], WarmUp | SelfTraining)
        with tempfile.TemporaryDirectory() as folder:
            table.add_row(*line(shape, stage, measured(shape, stage, Path(folder))))
    console = Console(width=110)
    console.print(table)
    if chosen.only:
        return
    B, H, W = (1, 64, 112) if chosen.quick else (3, 512, 896)
    block = statistics.median(loss_block(B, H, W, 3 if chosen.quick else 7))
    console.print(f"all losses of a self-training step at {B} x {K} x {H} x {W}, with backward: {block:.0f} ms")
    print(f"torch {torch.__version__}, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}")


if __name__ == "__main__":
    main()
