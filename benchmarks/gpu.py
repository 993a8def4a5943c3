"""What only a GPU can show: steps at the paper's size, their memory, and how often the host waits for the device.

Steps are taken of the recipes of the papers, in both precisions, on random images that wait in pinned memory:
the networks alone and the whole step in turns, each awaited (`benchmarks.step`), and, in a run of its own,
in flow, where the host may run ahead; there peak memory is read and every wait of the host is heard, as
torch's sync debug mode tells it.  Then the equations, the distances of pixels to prototypes and the strong
views, the authors' way beside ours.  About two minutes on a data-centre card with 40 GB or more:
python -m benchmarks.gpu [--steps N] [--only steps|pieces]

On a machine without a GPU, `--device cpu --small` says whether it runs at all.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks import distances, ops, views
from benchmarks.networks import PaperSize
from benchmarks.step import QUIET, K, Measured, Net, milliseconds, now, prepared
from diga.engine import feed
from diga.engine.fit import Plans, Step
from diga.engine.run import Run
from diga.models.deeplab_v2 import deeplab_v2_adapter
from diga.models.streetnet import streetnet
from diga.recipe import Recipe, override
from diga.settings import Plan
from diga.types import Pair
from experiments import ddb, gta5_cityscapes

WARM = 5  # steps that find cold caches, and kernels not yet chosen
PRECISIONS = ("fp32", "bf16")


class Case(NamedTuple):
    """A stage at its paper's size; `alone`: whether its networks alone can be driven, too."""

    recipe: Recipe
    stage: str
    net: Net
    alone: bool = False


@dataclass
class Flowing(Measured):
    """A run that nobody waits for; it hears when the host waits for the device."""

    heard: list[warnings.WarningMessage] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    flow_ms: float = 0.0

    def fit(
        self, nets: Mapping[str, nn.Module], step: Step, plan: Plan, keep: str = "student", plans: Plans = None
    ) -> None:
        """The loop as it is, without copies of its networks."""
        Run.fit(self, nets, step, plan, keep, plans)

    def pairs(self, start: int, stop: int) -> Iterator[Pair]:
        """The last step is not counted: it reports, and the first ones are not timed."""
        begun = 0.0
        for t in range(start, stop):
            if t == WARM:
                begun = now(self.device)
            if t == stop - 1:
                self.flow_ms = 1e3 * (now(self.device) - begun) / (t - WARM)
            self.marks.append(len(self.heard))
            yield feed.placed(self.ready[t % len(self.ready)], self.device)

    def waits(self) -> dict[str, float]:
        """Where the host waited in the steps timed, and how often a step."""
        places = (w for w in self.heard[self.marks[WARM] : self.marks[-1]] if "synchroniz" in str(w.message))
        found = Counter(f"{Path(w.filename).name}:{w.lineno}" for w in places)
        return {place: round(n / (len(self.marks) - 1 - WARM), 2) for place, n in found.most_common()}


def cases(small: bool) -> Iterator[Case]:
    """DiGA's stages with the 65 M network, the last of the others, and DDB's two."""
    diga, two_paths = gta5_cityscapes.diga(), ddb.gta5_cityscapes(1)
    net: Net = PaperSize
    v2: Net = lambda: deeplab_v2_adapter(K)  # noqa: E731
    if small:
        thin = {"translator.width": 4, "translator.blocks": 1, "translator.scales": 2, "crop": (32, 64)}
        diga, two_paths = override(diga, thin), override(two_paths, {"crop": (32, 64)})
        net = v2 = lambda: streetnet(K)
    for stage in ("warm_up", "self_training"):
        yield Case(diga, stage, net, alone=True)
    yield Case(diga, "translator", net)
    for stage in ("cut_1", "student_1"):
        yield Case(two_paths, stage, v2)


def run_of(case: Case, precision: str, steps: int, folder: Path, device: torch.device) -> Measured:
    """The case about to run, its images in pinned memory."""
    run = prepared(override(case.recipe, {"precision": precision}), case.stage, case.net, steps, folder, device)
    if device.type == "cuda":
        run.ready = [pinned(pair) for pair in run.ready]
    return run


def pinned(pair: Pair) -> Pair:
    """The same in memory a device reads by itself: as a loader pins it."""
    there: list[Pair] = list(DataLoader([pair], batch_size=None, pin_memory=True))  # type: ignore[arg-type]
    return there[0]


def flowing(case: Case, precision: str, steps: int, device: torch.device) -> tuple[Flowing, float]:
    """The case after its run in flow, and the most memory its tensors took, in GiB."""
    on_gpu = device.type == "cuda"
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        ready = run_of(case, precision, steps, Path(folder), device)
        run = Flowing(ready.recipe, ready.stage, ready.folder, device=device, pace=QUIET, net=ready.net)
        run.ready, run.left, run.heard = ready.ready, ready.left, heard
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
            torch.cuda.set_sync_debug_mode("warn")
        try:
            run.own(run)
        finally:
            if on_gpu:
                torch.cuda.set_sync_debug_mode("default")
    return run, torch.cuda.max_memory_allocated(device) / 2**30 if on_gpu else 0.0


def awaited(case: Case, precision: str, steps: int, device: torch.device) -> tuple[float, float, float]:
    """Median milliseconds of the networks alone and of a step, in turns; and of the networks alone in flow."""
    with tempfile.TemporaryDirectory() as folder:
        run = run_of(case, precision, steps, Path(folder), device)
        run.own(run)
    flow = milliseconds(lambda: over_pairs(run, steps - WARM), device) / (steps - WARM)
    return statistics.median(run.networks_ms[WARM:-1]), statistics.median(run.step_ms[WARM:-1]), flow


def over_pairs(run: Measured, steps: int) -> None:
    """The networks alone on as many pairs, each sent to the device as a step's are."""
    for t in range(steps):
        run.alone(feed.placed(run.ready[t % len(run.ready)], run.device))


def steps_table(steps: int, small: bool, device: torch.device) -> tuple[Table, dict[str, dict[str, float]]]:
    """A row a stage and precision; and where the host waits."""
    of_both = ("networks ms", "step ms", "ratio", "in flow: networks", "step", "ratio")
    table = Table("stage", "batch", "precision", *of_both, "peak GiB", "waits")
    where: dict[str, dict[str, float]] = {}
    for case in cases(small):
        for precision in PRECISIONS:
            run, peak = flowing(case, precision, steps, device)
            size = f"{run.draws.batch} x {case.recipe.crop[0]} x {case.recipe.crop[1]}"
            name, waits = f"{case.recipe.name} {case.stage}", run.waits()
            where[name] = waits
            told = ["", "", "", "", f"{run.flow_ms:.1f}", ""]
            if case.alone:
                alone, step, flow = awaited(case, precision, steps, device)
                told[:4] = [f"{alone:.1f}", f"{step:.1f}", f"{alone / step:.3f}", f"{flow:.1f}"]
                told[5] = f"{flow / run.flow_ms:.3f}"
            table.add_row(
                name.replace("/gta5_cityscapes", ""), size, precision, *told, f"{peak:.1f}", f"{sum(waits.values()):g}"
            )
    return table, where


# --- pieces ------------------------------------------------------------------------------


class Piece(NamedTuple):
    """One thing, computed in two ways."""

    name: str
    official: Callable[[], Any]
    ours: Callable[[], Any]


def pieces(small: bool, device: torch.device) -> Iterator[Piece]:
    """The equations, distances to prototypes, strong views."""
    shape, width = ((2, 64, 112, 9, 15), 40) if small else ((3, 512, 896, 65, 113), 800)
    for pair in ops.pairs(ops.scene(*shape, device), width):
        ops.agree(pair)
        yield Piece(pair.name, pair.official, pair.ours)
    both = distances.ways(distances.SMALL if small else distances.SHAPE, device)
    torch.testing.assert_close(both.ours(), both.slow(), rtol=1e-4, atol=1e-3)
    yield Piece("distances of pixels to prototypes", both.slow, both.ours)
    images = F.interpolate(torch.rand(3, 3, 32, 56), shape[1:3], mode="bilinear").to(device)
    legacy = partial(views.ours, views.LEGACY)
    for t in range(4):
        torch.testing.assert_close(legacy(images, t), views.slow(images, t), rtol=0, atol=1e-4)
    yield Piece("strong views", lambda: over(views.slow, images), lambda: over(legacy, images))


def over(view: views.View, images: Tensor, steps: int = 8) -> None:
    """Some steps' views, each by its own draws."""
    for t in range(steps):
        view(images, t)


def peak_of(way: Callable[[], Any], device: torch.device) -> float:
    """MiB that a call needs on the device beyond what is there before it."""
    if device.type != "cuda":
        return 0.0
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    way()
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20


def pieces_table(turns: int, small: bool, device: torch.device) -> Table:
    """A row a piece: medians of turns taken alternately."""
    table = Table("piece", "official ms", "ours ms", "times faster", "official MiB", "ours MiB")
    for piece in pieces(small, device):
        ways = (piece.official, piece.ours)
        memory = [peak_of(way, device) for way in ways]
        times = [[milliseconds(way, device) for way in ways] for _ in range(turns)]
        slow, fast = (statistics.median(spent) for spent in zip(*times, strict=True))
        row = (f"{slow:.2f}", f"{fast:.2f}", f"{slow / fast:.1f}", *(f"{m:.0f}" for m in memory))
        table.add_row(piece.name, *row)
    return table


# --- all of it ---------------------------------------------------------------------------


def machine(device: torch.device) -> str:
    """Card and versions: without them no number means anything."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    cuda, cudnn = torch.version.cuda, torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    tf32 = f"TF32 convolutions {torch.backends.cudnn.allow_tf32}, products {torch.backends.cuda.matmul.allow_tf32}"
    return f"{card}, torch {torch.__version__}, CUDA {cuda}, cuDNN {cudnn}, Python {platform.python_version()}; {tf32}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda (default), cuda:1, cpu")
    parser.add_argument("--small", action="store_true", help="a small network on small images: does it run at all")
    parser.add_argument("--steps", type=int, default=25, help="of each run (default 25)")
    parser.add_argument("--only", choices=("steps", "pieces"), help="one of the two tables")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "error: --device: found no GPU (expected one; or --device cpu --small, to see whether it runs)"
        )
    console = Console(width=140)
    console.print(machine(device))
    if chosen.only != "pieces":
        table, where = steps_table(max(chosen.steps, WARM + 3), chosen.small, device)
        console.print(table)
        for name, waits in where.items():
            for place, n in waits.items():
                console.print(f"{name}: the host waits in {place}, {n:g} times a step")
    if chosen.only != "steps":
        console.print(pieces_table(5 if chosen.small else 15, chosen.small, device))


if __name__ == "__main__":
    main()
