"""One stage being carried out: its recipe, its folder, what it reads, where it reports."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from diga import models
from diga.data import streams
from diga.data.domain import Domain, domain
from diga.data.manifest import class_weights, manifest
from diga.engine import checkpoint, feed, labelling, parallel, pictures, scoring
from diga.engine.fit import Plans, Step, finite, fit
from diga.engine.spool import Spool
from diga.engine.stopping import Stop, never
from diga.errors import Diverged
from diga.models import pretrained
from diga.models.norm import freeze, statistics
from diga.ops.chance import Chance
from diga.ops.losses import counted, cross_entropy, hard_cross_entropy, upsample
from diga.recipe import Recipe
from diga.settings import Normalise, Plan, Statistics
from diga.stage import Draws, Kept, Stage
from diga.types import Losses, Pair, Prediction

ARTIFACT = "artifact.pt"
T = TypeVar("T")
CPU = torch.device("cpu")
Stems = tuple[str, ...]


@dataclass(frozen=True)
class Pace:
    """How often a run speaks and saves; none of it changes a result."""

    log: int = 25  # steps between two reports of losses
    save: int = 100  # steps between two checkpoints
    picture: int = 200  # steps between two pictures
    loaders: int = 0  # processes that read images ahead


@dataclass
class Run:
    """What a stage is called with.

    `inputs` holds the folders of finished stages by name, `data_root` the datasets, `cache` the data
    manifests.  `progress(done, total)` is called now and then; `stop` tells a training to save and end.
    """

    recipe: Recipe
    stage: str
    folder: Path
    inputs: Mapping[str, Path] = field(default_factory=dict)
    data_root: Path = Path()
    cache: Path | None = None
    device: torch.device = CPU
    pace: Pace = Pace()
    progress: Callable[[int, int], None] = lambda done, total: None
    stop: Stop = never
    watched: dict[int, dict[str, Tensor]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rank, self.world = parallel.rank(), parallel.world()
        self.spool = Spool(self.folder, write=self.rank == 0)

    # --- chance -------------------------------------------------------------------------

    @cached_property
    def entropy(self) -> int:
        """What all chance of this run starts from: the recipe's seed and the stage's stream."""
        sequence = np.random.SeedSequence([self.recipe.seed, self.own.stream()])
        return int(sequence.generate_state(1, np.uint64)[0])

    def seed(self, t: int) -> None:
        """Seed torch's own generators for step `t`, for dropout: another number for every worker."""
        number = int(np.random.SeedSequence([self.entropy, t, self.rank]).generate_state(1)[0])
        torch.default_generator.manual_seed(number)  # `torch.manual_seed` costs a stack trace where no GPU is in use
        if self.device.type == "cuda":
            torch.cuda.manual_seed(number)

    def chance(self, t: int, purpose: int = 0) -> Chance:
        """The random draws of step `t`: a function of seed and step, whatever the number of workers."""
        rows = streams.rows(self.rank, self.world, self.draws.batch)
        return Chance((self.entropy, t, purpose), rows, self.draws.batch, self.device)

    # --- networks -----------------------------------------------------------------------

    @cached_property
    def own(self) -> Stage:
        """The hyper-parameters of the stage that is carried out."""
        return self.recipe.stages[self.stage]

    @cached_property
    def draws(self) -> Draws:
        """How its images are drawn."""
        return self.own.draws(self.recipe)

    @property
    def classes(self) -> int:
        """K, the number of classes a network tells apart."""
        return self.recipe.classes

    def segmenter(self, ref: str | None = None, part: str = "student") -> nn.Module:
        """A fresh segmentation network, the same for one seed, or the one an earlier stage left.

        A stage without a teacher leaves its student in that part, too: a mean teacher begins as one.
        """
        torch.manual_seed(self.recipe.seed)
        net: nn.Module = getattr(models, self.recipe.model)(self.classes)
        if ref:
            left = self.read(ref)
            net.load_state_dict(left[part] if part in left else left["student"])
        elif self.recipe.pretrained:
            pretrained.load(net, self.data_root / self.recipe.pretrained)
        return net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def forward(self, net: nn.Module, image: Tensor, moves: bool) -> Prediction:
        """A training forward; `moves`: whether it moves the running batch-norm statistics."""
        with statistics(net, moves):
            seen: Prediction = net(image)
        return seen

    def normalise(self, net: nn.Module, policy: Statistics) -> None:
        """Let `net` train on batch or on running statistics, as the policy says."""
        freeze(net, policy.student == "running")

    def leak(self, net: nn.Module, x_t: Tensor, policy: Statistics) -> None:
        """Let target images move the running statistics, if the policy says so; nothing else comes of it."""
        if "target" in policy.update:
            with torch.no_grad():
                self.forward(net, x_t, moves=True)

    def stage_of(self, ref: str) -> Any:
        """The hyper-parameters of an earlier stage."""
        stage: Stage = self.recipe.stages[ref]
        return stage

    def read(self, ref: str, file: str = ARTIFACT) -> dict[str, Any]:
        """The tensors an earlier stage left."""
        return checkpoint.read_weights(self.inputs[ref] / file, self.device)

    def save(self, nets: Mapping[str, nn.Module]) -> None:
        """Leave the networks' weights as this run's artifact.  Raises Diverged if one is not finite."""
        self.check(nn.ModuleDict(dict(nets)))
        if self.rank == 0:
            state = {name: net.state_dict() for name, net in nets.items()}
            checkpoint.write_weights(self.folder / ARTIFACT, state)

    def check(self, nets: nn.Module) -> None:
        """Raises Diverged, naming the first weight that is not finite."""
        if bad := finite(nets):
            raise Diverged(f"{self.stage} {bad}", "weights are not finite", "try a lower plan.lr")

    def snapshot(self, done: int, net: nn.Module) -> None:
        """Keep the weights after `done` steps, so that a later stage can look for the best."""
        if self.rank == 0:
            checkpoint.write_weights(self.folder / "snapshots" / f"{done:08d}.pt", net.state_dict())

    def fit(
        self, nets: Mapping[str, nn.Module], step: Step, plan: Plan, keep: str = "student", plans: Plans = None
    ) -> None:
        """The training loop; see `diga.engine.fit.fit`."""
        fit(self, nn.ModuleDict(dict(nets)), step, plan, keep, plans)

    def under_precision(self, work: Callable[[], T]) -> T:
        """Call `work` in the recipe's precision."""
        on = self.recipe.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=on):
            return work()

    # --- data ---------------------------------------------------------------------------

    def domain(self, name: str) -> Domain:
        """A dataset under the data root."""
        return domain(name, self.data_root)

    def pairs(self, start: int, stop: int) -> Iterator[Pair]:
        """This worker's rows of the global batches of steps start … stop - 1."""
        for pair in feed.pairs(self, start, stop):
            yield feed.placed(pair, self.device)

    @property
    def at_once(self) -> int:
        """How many whole images are looked at together: fewer, the larger a crop is."""
        height, width = self.recipe.crop
        return max(1, min(8, (1 << 18) // (height * width)))

    def images(self, name: str, split: Literal["train", "val"]) -> Iterator[tuple[Stems, Tensor]]:
        """Stems and whole images (b, 3, H, W) of a domain, in order; labels stay closed."""
        for stems, image in streams.images(self.domain(name), split, self.at_once):
            yield stems, image.to(self.device)

    @cached_property
    def weights(self) -> Tensor | None:
        """(K,) class weights of every cross-entropy, from the source's label counts; None for equal ones."""
        if self.recipe.balance == "none":
            return None
        found = [manifest(self.domain(d), "train", True, self.cache) for d in self.recipe.sources]
        weights = class_weights(found, self.classes, self.recipe.balance)
        return torch.from_numpy(weights).to(self.device)

    # --- small questions a step asks ------------------------------------------------------

    def upsample(self, x: Tensor, like: Tensor) -> Tensor:
        """Resize (B, C, h, w) to the pixels of `like`, by the recipe's corner rule."""
        return upsample(x, like, self.recipe.align_corners)

    def cross_entropy(self, logits: Tensor, label: Tensor, normalise: Normalise, trust: Tensor | None = None) -> Tensor:
        """Eq. 1 at the label's resolution: logits (B, K, h, w), label (B, H, W), with the recipe's class weights.

        trust (B, H, W): what each pixel's loss is multiplied by.

        Workers divide by the mean of their pixel counts, so that together they take one mean.  The hard
        pixels of OHEM are those of the whole batch, and weigh all classes alike, as in the authors' code.
        """
        logits = self.upsample(logits, label)
        if normalise == "hard":
            return hard_cross_entropy(logits, label, trust=trust, gather=self.gather)
        pixels = parallel.mean(counted(label, normalise).float())
        return cross_entropy(logits, label, pixels, self.weights, trust)

    def supervised(
        self,
        seen: Prediction,
        label: Tensor,
        normalise: Normalise,
        aux: float,
        name: str = "source",
        trust: Tensor | None = None,
    ) -> Losses:
        """`cross_entropy` of the logits by `name`, and `aux` times that of an auxiliary head, where there is one."""
        losses = {name: self.cross_entropy(seen.logits, label, normalise, trust)}
        if seen.aux is not None and aux:
            losses[f"{name}_aux"] = aux * self.cross_entropy(seen.aux, label, normalise, trust)
        return losses

    def gather(self, x: Tensor) -> Tensor:
        """Rows of every worker, in the order of the global batch."""
        return parallel.gather(x)

    # --- looking back at a trained network --------------------------------------------------

    def store_labels(self, net: nn.Module, protocol: str, keep: Collection[Kept]) -> None:
        """Keep labels of all target training images, for the stages that read this one; see `labelling.store`."""
        labelling.store(self, net, protocol, keep)

    def score(self, of: str, domains: Sequence[str], protocol: str, statistics: Sequence[str], samples: int) -> None:
        """Numbers of an earlier stage; see `diga.methods.score.Score`."""
        scoring.score(self, of, domains, protocol, statistics, samples)

    # --- telling ------------------------------------------------------------------------

    def report(self, rows: Mapping[int, Mapping[str, float]]) -> None:
        """Values by step, into the run's spool."""
        self.spool.append(rows)

    def picture(self, t: int, name: str, make: Callable[[], Mapping[str, Tensor]]) -> None:
        """Now and then, a PNG of images (B, 3, H, W) and labels (B, H, W), a column each."""
        if self.rank == 0 and t % self.pace.picture == 0:
            with torch.no_grad():
                pictures.write(self.folder / "pictures" / f"{name}-{t:08d}.png", make(), self.classes)

    def watch(self, t: int, make: Callable[[], Mapping[str, Tensor]]) -> None:
        """Scalars to tell beside the losses of step `t`; computed on steps that end a report alone."""
        if (t + 1) % self.pace.log == 0:
            with torch.no_grad():
                self.watched[t] = self.watched.get(t, {}) | dict(make())

    def track(self, steps: int) -> Iterator[int]:
        """0 … steps - 1, with progress."""
        for done in count(1):
            if done > steps:
                return
            yield done - 1
            self.progress(done, steps)
