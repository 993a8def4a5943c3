"""How a network does on the target, asked without a single label: what a sweep may select by.

All of it is counted at the cells of the network's grid, of which each stands for its pixels, with the
image as it is and running statistics.  A network that has collapsed is sure of itself and agrees with
itself: entropy and agreement say something only beside the classes that have vanished.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from diga.data import streams
from diga.data.domain import Domain
from diga.ops.losses import entropy
from diga.ops.prototypes import Prototypes, class_sums
from diga.ops.pseudo import argmax
from diga.types import Prediction

if TYPE_CHECKING:
    from diga.engine.quality import Labels
    from diga.engine.run import Run

Stems = tuple[str, ...]
Batches = Iterator[tuple[Stems, Tensor]]  # stems and images (b, 3, H, W)
Beside = Callable[[Stems, Tensor, Tensor], Mapping[str, Tensor]]  # stems, images, the winners (b, h, w)


class Look(NamedTuple):
    """What target images say of a network: shares by name, and which classes win a cell, (K,) bool."""

    shares: dict[str, float]
    won: Tensor


# --- which images ------------------------------------------------------------------------


def spread(n: int, wanted: int) -> list[int]:
    """Places of `wanted` of `n` things, evenly spaced; of all, if there are no more."""
    return [i * n // wanted for i in range(wanted)] if n > wanted else list(range(n))


def some(run: Run, wanted: int) -> list[Domain]:
    """The target domains, with `wanted` training images in all; none, if the recipe has no target."""
    domains = [run.domain(name) for name in run.recipe.targets]
    stems = [(i, s.stem) for i, domain in enumerate(domains) for s in domain.samples("train", labelled=False)]
    kept = {stems[place] for place in spread(len(stems), wanted)}
    lists = [
        domain.without(stem for k, stem in stems if k == i and (k, stem) not in kept)
        for i, domain in enumerate(domains)
    ]
    return [domain for i, domain in enumerate(lists) if any(k == i for k, _ in kept)]


def images(run: Run, domains: Sequence[Domain]) -> Batches:
    """Their training images, in order; labels stay closed."""
    for domain in domains:
        for stems, image in streams.images(domain, "train", run.at_once):
            yield stems, image.to(run.device)


# --- what is asked -----------------------------------------------------------------------


def look(run: Run, net: nn.Module, domains: Sequence[Domain], beside: Beside | None = None) -> Look:
    """Entropy (of log K), confidence and agreement with the network's own class centroids; no shares of no images.

    Two passes: the first makes the centroids, mean features of what it predicts.  `beside` measures
    more at the cells of the first.
    """
    own: Prototypes | None = None

    def first(stems: Stems, image: Tensor) -> dict[str, Tensor]:
        nonlocal own
        seen = forward(net, image)
        classes = argmax(seen.logits)
        own = own or Prototypes(run.classes, seen.features.shape[1]).to(run.device)
        own.pool_(*class_sums(seen.features, classes, run.classes))
        return sureness(seen.logits) | dict(beside(stems, image, classes) if beside else {})

    def second(stems: Stems, image: Tensor) -> dict[str, Tensor]:
        assert own is not None
        seen = forward(net, image)
        nearest = own.distances(seen.features, "ignored").min(1).indices
        return {"agreement": nearest == argmax(seen.logits)}

    shares = means(images(run, domains), first) | means(images(run, domains), second)
    return Look(shares, torch.zeros(run.classes, dtype=torch.bool) if own is None else (own.seen > 0).cpu())


@torch.no_grad()
def forward(net: nn.Module, image: Tensor) -> Prediction:
    """The network on whole images, in evaluation mode."""
    seen: Prediction = net.eval()(image.contiguous(memory_format=torch.channels_last))
    return seen


def sureness(logits: Tensor) -> dict[str, Tensor]:
    """Entropy as a share of log K, and the winner's probability, of logits (b, K, h, w): (b, h, w) each."""
    return {"entropy": entropy(logits, relative=True), "confidence": logits.float().softmax(1).amax(1)}


def means(batches: Batches, measure: Callable[[Stems, Tensor], Mapping[str, Tensor]]) -> dict[str, float]:
    """The mean over all cells of all batches of what is measured at each cell."""
    total: defaultdict[str, float] = defaultdict(float)
    cells: defaultdict[str, int] = defaultdict(int)
    for stems, image in batches:
        for name, x in measure(stems, image).items():
            total[name] += float(x.double().sum())
            cells[name] += x.numel()
    return {name: total[name] / cells[name] for name in total}


# --- a scored stage ----------------------------------------------------------------------


def judge(
    run: Run, of: str, labels: Labels | None, wanted: int, known: Tensor
) -> tuple[dict[str, float], Tensor | None]:
    """`label_free/<name>` of a stage's student on `wanted` target images, and which classes have vanished, (K,) bool.

    `known` (K,) bool are classes it has predicted before; those of its teacher and those with a centroid
    are known, too.  `stability` needs a teacher, `consensus` also centroids and stored `labels`.  Nothing
    is told where the recipe has no target.
    """
    left, domains = run.read(of), some(run, wanted)
    if not domains:
        return {}, None
    teacher = run.segmenter(of, "teacher") if "teacher" in left else None
    told = torch.zeros(run.classes, dtype=torch.bool, device=run.device)

    def beside(stems: Stems, image: Tensor, classes: Tensor) -> dict[str, Tensor]:
        if teacher is None:
            return {}
        seen = forward(teacher, image)
        winners = argmax(seen.logits)
        told[winners.flatten()] = True
        found = {"stability": winners == classes}
        if labels and labels.centroids:
            found["consensus"] = labels.agreed(stems, image, seen)
        return found

    seen = look(run, run.segmenter(of), domains, beside)
    vanished = (known | told.cpu() | with_centroid(left, run.classes)) & ~seen.won
    shares = seen.shares | {"vanished": float(vanished.sum())}
    return {f"label_free/{name}": value for name, value in shares.items()}, vanished


def with_centroid(left: Mapping[str, Any], classes: int) -> Tensor:
    """(K,) bool: the classes that have a centroid among what a stage left."""
    if "prototypes" not in left:
        return torch.zeros(classes, dtype=torch.bool)
    seen: Tensor = left["prototypes"]["seen"]
    return (seen > 0).cpu()
