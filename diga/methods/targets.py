"""What a trained network knows of the target: pseudo-labels and class centroids.

Departures: pseudo-labels are streamed to disk one image at a time; the authors keep all in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from diga import ops
from diga.errors import DataError
from diga.methods.views import painter_of
from diga.registry import function_of
from diga.settings import Count, Trust
from diga.stage import Kept, Ref, Stage, must_paint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from diga.engine.run import Run
    from diga.ops.prototypes import Prototypes
    from diga.types import Prediction

Protocol = function_of("diga.engine.protocols")
MEASURING = 1_000_000  # a stream of chance far from those of rounds


class PseudoLabels(Stage):
    """y_warm: the winning class of every pixel of every target training image, stored; no threshold."""

    of: Ref
    part: Literal["student", "teacher"] = "student"
    keep: tuple[Kept, ...] = Field((), description="what some rules for target labels read beside the labels")
    protocol: Protocol = Field("two_scale_max", description="how the network is run, as in scoring")  # type: ignore[valid-type]

    def reads(self) -> frozenset[Literal["source", "target"]]:
        """Target images alone."""
        return frozenset({"target"})

    def __call__(self, run: Run) -> None:
        """Leaves `labels/<stem>.png`, 8-bit train ids, and what else is kept of them in folders beside."""
        run.store_labels(run.segmenter(self.of, self.part), self.protocol, self.keep)


class Centroids(Stage):
    """rho: a mean feature of each class (eq. 7).

    The defaults are the equation: source features of x_cdm, over all cells labelled k together.  The
    authors' code averages target features by predicted class, image by image; its own source version
    takes weak pixels, where the network agrees with the label.
    """

    of: Ref
    images: Literal["source_crdomix", "target_pred"] = "source_crdomix"
    translator: Ref | None = Field(None, description="what paints x_cdm; none: strong views of the source")
    average: Literal["cells", "images"] = Field("cells", description="one mean over all cells, or of each image's mean")
    agreed: bool = Field(False, description="whether only cells count where the network predicts their label")
    least: Count = Field(1, description="cells a class needs in an image to count there")
    cap: Count = Field(3000, description="images after which a mean over images becomes a moving average")
    steps: Count = Field(1000, description="batches read for source_crdomix")
    normalise: Literal["running", "batch"] = Field("running", description="batch norm while features are read")

    def reads(self) -> frozenset[Literal["source", "target"]]:
        """Source or target, whichever is averaged."""
        return frozenset({"target"} if self.images == "target_pred" else {"source"})

    def paints(self) -> str | None:
        """The translator."""
        return self.translator

    def fits(self, earlier: Mapping[str, Stage], name: str) -> None:
        """The translator must be one."""
        must_paint(earlier, self.translator, f"{name}.translator")

    def stream(self) -> int:
        """Not that of the training whose network is looked at."""
        return MEASURING

    def __call__(self, run: Run) -> None:
        """Leaves `prototypes`."""
        import torch

        net = run.segmenter(self.of).train(self.normalise == "batch")
        rho = None
        with torch.no_grad():
            for image, label in self.of_target(run) if self.images == "target_pred" else self.of_source(run):
                out = run.forward(net, image, moves=False)
                rho = rho or ops.prototypes.Prototypes(run.classes, out.features.shape[1]).to(run.device)
                self.take(run, rho, out, label)
        run.save({"prototypes": rho})  # type: ignore[dict-item]  # a domain without images is refused earlier

    def of_target(self, run: Run) -> Iterator[tuple[Tensor, None]]:
        """Target images, without labels."""
        for domain in run.recipe.targets:
            yield from ((image, None) for _, image in run.images(domain, "train"))

    def of_source(self, run: Run) -> Iterator[tuple[Tensor, Tensor]]:
        """x_cdm as the stage `of` makes it, and y_s."""
        paint = painter_of(run, self.translator)
        for t, (source, _, _) in enumerate(run.pairs(0, self.steps)):
            yield run.stage_of(self.of).view(run, source, paint, t), source.label

    def take(self, run: Run, rho: Prototypes, out: Prediction, label: Tensor | None) -> None:
        """Let the features of some images count, by label or, without one, by prediction."""
        predicted = ops.pseudo.argmax(out.logits)
        y = predicted if label is None else cells(run, label, out.features)
        sums = ops.prototypes.class_sums(out.features, y, len(rho.seen), predicted if self.agreed else None)
        if self.average == "images":
            rho.mean_(*ops.prototypes.means_of(*sums, self.least), self.cap)
        else:
            rho.pool_(*sums, self.least)


def load_prototypes(run: Run, ref: str) -> Prototypes:
    """The centroids an earlier stage left.  Raises DataError if no class has one."""
    state = run.read(ref)["prototypes"]
    prototypes = ops.prototypes.Prototypes(*state["vectors"].shape).to(run.device)
    prototypes.load_state_dict(state)
    if not prototypes.seen.any():
        raise DataError(ref, "found no class with a centroid", "features of one class at least")
    return prototypes


def thresholds(run: Run, ref: str, trust: Trust) -> Tensor:
    """(K,) confidence a pixel needs by its class, from all that stage `ref` stored; see `ops.rules`."""
    histogram = run.read(ref, "confidences.pt")["histogram"]
    return ops.pseudo.class_thresholds(histogram, trust)


def cells(run: Run, label: Tensor, like: Tensor) -> Tensor:
    """Labels (B, H, W) at the cells of `like` (B, D, h, w): the pixel nearest to each cell's centre.

    With the authors' corner rule it is the authors' pixel, the first of each cell.
    """
    from torch.nn.functional import interpolate

    nearest = "nearest" if run.recipe.align_corners else "nearest-exact"
    return interpolate(label[:, None].float(), like.shape[-2:], mode=nearest)[:, 0].long()
