"""How good the labels were that a self-training learnt from: the truth of target training images is opened here.

Only a score asks for this, and what it leaves no stage reads.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from diga.data import streams
from diga.data.domain import Domain, same_size
from diga.data.labels import names
from diga.data.shelf import read_guess
from diga.engine import pictures
from diga.engine.evaluate import present
from diga.engine.label_free import forward, some, spread
from diga.ops import rules
from diga.ops.prototypes import Prototypes
from diga.ops.pseudo import winners
from diga.ops.scores import confusion, iou, mean_iou
from diga.settings import Trust
from diga.types import IGNORE, Prediction

if TYPE_CHECKING:
    from diga.engine.run import Run

Stems = tuple[str, ...]


class Labels:
    """Labels of target images that stage `of` could learn from: those that stage `stored` left, and others beside."""

    def __init__(self, run: Run, of: str, stored: str) -> None:
        self.run, self.folder = run, run.inputs[stored] / "labels"
        self.unseen: Any = getattr(run.stage_of(of), "unseen", "ignored")
        self.centroids = centroids_of(run, of)

    def warm(self, stems: Stems, image: Tensor) -> Tensor:
        """The stored labels (b, H, W) of images (b, 3, H, W).  Raises DataError where there is none of that size."""
        paths = [self.folder / f"{stem}.png" for stem in stems]
        found = [read_guess(path, self.run.classes) for path in paths]
        for stem, path, label in zip(stems, paths, found, strict=True):
            same_size(path, label, stem, np.empty(tuple(image.shape[-2:]), np.uint8))
        return torch.from_numpy(np.stack(found)).long().to(image.device)

    def opinions(self, stems: Stems, image: Tensor, told: Prediction) -> rules.Opinions:
        """What the rules for target labels go by, `told` being what the teacher sees in whole images."""
        assert self.centroids is not None
        return rules.Opinions(
            warm=self.warm(stems, image),
            seen=told,
            distances=self.centroids.distances(told.features, self.unseen),
            confidence=None,
            probabilities=None,
            thresholds=None,
            trust=Trust(),
            align_corners=self.run.recipe.align_corners,
        )

    def agreed(self, stems: Stems, image: Tensor, told: Prediction) -> Tensor:
        """(b, H, W): whether the stored label and that of the nearest centroid are one."""
        return rules.consensus(self.opinions(stems, image, told)).label != IGNORE

    def kinds(self, stems: Stems, image: Tensor, told: Prediction | None) -> dict[str, Tensor]:
        """Labels (b, H, W) of every kind there is: stored, of the teacher, of the centroids, and what two agree on."""
        if told is None:
            return {"warm": self.warm(stems, image)}
        own = {"teacher": winners([told.logits], image, self.run.recipe.align_corners)}
        if self.centroids is None:
            return {"warm": self.warm(stems, image)} | own
        heard = self.opinions(stems, image, told)
        return {
            "warm": heard.warm,
            "feature": rules.feature(heard).label,
            "consensus": rules.consensus(heard).label,
        } | own


def centroids_of(run: Run, of: str) -> Prototypes | None:
    """The centroids a stage left, as its training moved them, if it has any."""
    state = run.read(of).get("prototypes")
    if state is None:
        return None
    centroids = Prototypes(*state["vectors"].shape).to(run.device)
    centroids.load_state_dict(state)
    return centroids


# --- against the truth -------------------------------------------------------------------


def judged(run: Run, of: str, labels: Labels, wanted: int, samples: int) -> tuple[dict[str, float], pa.Table]:
    """`labels/<kind>/…` over `wanted` target training images, and their confusions one by one.

    `kept` is the share of pixels with a truth that a kind labels; of those, `accuracy` is the share it labels
    right and `miou` its mean IoU; `accuracy/<class>` is the share of a label's pixels that are of its class.
    Of `samples` of the images, evenly spread, the labels are left as pictures.
    """
    teacher = run.segmenter(of, "teacher") if "teacher" in run.read(of) else None
    counts: defaultdict[str, list[Tensor]] = defaultdict(list)
    seen: list[str] = []
    pixels: list[Tensor] = []
    domains = some(run, wanted)
    shown = _evenly(domains, samples)
    for domain in domains:
        for stems, batch in streams.labelled(domain, "train", run.classes, run.at_once):
            image, truth = batch.image.to(run.device), batch.label.to(run.device)
            seen += [f"{domain.name}/{stem}" for stem in stems]
            pixels.append((truth != IGNORE).sum((1, 2)).cpu())
            kinds = labels.kinds(stems, image, forward(teacher, image) if teacher else None)
            for kind, label in kinds.items():
                counts[kind].append(kept_confusion(label, truth, run.classes).cpu())
            keep_samples(run, shown, stems, image, {"truth": truth} | kinds)
    whole, total = {kind: torch.cat(c) for kind, c in counts.items()}, sum(int(p.sum()) for p in pixels)
    values = {k: v for kind, c in whole.items() for k, v in numbers(kind, c.sum(0), total, run.classes).items()}
    return values, table(seen, torch.cat(pixels) if pixels else torch.zeros(0), whole)


def _evenly(domains: list[Domain], wanted: int) -> set[str]:
    """Stems of `wanted` of the training images, evenly spread; those of two domains that store labels differ."""
    stems = [sample.stem for domain in domains for sample in domain.samples("train", labelled=True)]
    return {stems[place] for place in spread(len(stems), wanted)}


def keep_samples(run: Run, shown: set[str], stems: Stems, image: Tensor, kinds: dict[str, Tensor]) -> None:
    """Of the images that are shown `<stem>.input.png`, and a palette PNG a kind of label, in `samples/labels`."""
    folder = run.folder / "samples" / "labels"
    for i, stem in enumerate(stems):
        if stem in shown:
            folder.mkdir(parents=True, exist_ok=True)
            pictures.photo(folder / f"{stem}.input.png", image[i])
            for kind, label in kinds.items():
                pictures.label(folder / f"{stem}.{kind}.png", label[i], run.classes)


def kept_confusion(label: Tensor, truth: Tensor, classes: int) -> Tensor:
    """(b, K, K) pixel counts, row = truth, column = label, of the pixels (b, H, W) that have both."""
    none = label == IGNORE
    return confusion(label.masked_fill(none, 0), truth.masked_fill(none, IGNORE), classes)


def numbers(kind: str, counts: Tensor, pixels: int, classes: int) -> dict[str, float]:
    """The numbers of a kind of label from its (K, K) counts and the pixels with a truth; what has none is left out."""
    prefix, hit, given = f"labels/{kind}", counts.diagonal().double(), counts.sum(0)
    kept = int(given.sum())
    values = {
        f"{prefix}/kept": kept / pixels if pixels else math.nan,
        f"{prefix}/accuracy": float(hit.sum()) / kept if kept else math.nan,
        f"{prefix}/miou": mean_iou(iou(counts)),
    }
    right = (hit / given).tolist()
    values |= {f"{prefix}/accuracy/{name}": share for name, share in zip(names(classes), right, strict=True)}
    return present(values)


def table(stems: list[str], pixels: Tensor, counts: dict[str, Tensor]) -> pa.Table:
    """One row a kind and image: pixels with a truth, and K * K counts, row = truth, of those that are labelled."""
    rows = [
        {"kind": kind, "stem": stem, "pixels": int(p), "counts": c.flatten().tolist()}
        for kind, some in counts.items()
        for stem, p, c in zip(stems, pixels, some, strict=True)
    ]
    fields = [("kind", pa.string()), ("stem", pa.string()), ("pixels", pa.int64()), ("counts", pa.list_(pa.int64()))]
    return pa.Table.from_pylist(rows, pa.schema(fields))
