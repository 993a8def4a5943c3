"""What a trained network knows of the target: pseudo-labels and class centroids.

Departures: pseudo-labels are streamed to disk one image at a time; the authors keep all in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from diga import ops
from diga.errors import ConfigError, DataError, expected_one_of
from diga.methods.views import painter_of
from diga.registry import function_of
from diga.settings import Count, Trust
from diga.stage import Kept, Ref, Stage, must_paint, must_train

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

    def fits(self, earlier: Mapping[str, Stage], name: str) -> None:
        """A network must be there."""
        must_train(earlier, self.of, f"{name}.of")

    def __call__(self, run: Run) -> None:
        """Leaves `labels/<stem>.png`, 8-bit train ids, and what else is kept of them in folders beside."""
        run.store_labels(run.segmenter(self.of, self.part), self.protocol, self.keep)


class Centroids(Stage):
    """rho: a mean feature of each class (eq. 7).

    The defaults are the equation: source features of x_cdm, over all cells labelled k together.  The
    authors' code averages target features by predicted class, image by image; its own source version
    takes weak pixels, where the network agrees with the label.  DDB's prototypes are means of features
    resized to pixels, image by image, over some passes through random crops of the target.
    """

    of: Ref
    images: Literal["source_crdomix", "target_pred"] = "source_crdomix"
    translator: Ref | None = Field(None, description="what paints x_cdm; none: strong views of the source")
    average: Literal["cells", "images"] = Field("cells", description="one mean over all cells, or of each image's mean")
    agreed: bool = Field(False, description="whether only cells count where the network predicts their label")
    at: Literal["cells", "pixels"] = Field("cells", description="pixels: of features resized to the image")
    least: Count = Field(1, description="cells, or pixels, a class needs in an image to count there")
    cap: Count = Field(3000, description="images after which a mean over images becomes a moving average")
    steps: Count = Field(1000, description="batches read for source_crdomix")
    passes: Annotated[int, Field(ge=0, le=1000)] = Field(
        0, description="through crops of the target, drawn as training draws them; 0: whole images, once"
    )
    normalise: Literal["running", "batch"] = Field("running", description="batch norm while features are read")

    def reads(self) -> frozenset[Literal["source", "target"]]:
        """Source or target, whichever is averaged."""
        return frozenset({"target"} if self.images == "target_pred" else {"source"})

    def paints(self) -> str | None:
        """The translator."""
        return self.translator

    def fits(self, earlier: Mapping[str, Stage], name: str) -> None:
        """A network must be there, and the translator be one; only target images come in passes."""
        must_train(earlier, self.of, f"{name}.of")
        must_paint(earlier, self.translator, f"{name}.translator")
        if self.passes and self.images != "target_pred":
            what = f"{self.passes} passes through the target, and features of {self.images}"
            raise ConfigError(f"{name}.passes", what, f"0, or {name}.images='target_pred'")

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
                self.take(run, rho, out, label, image)
        run.save({"prototypes": rho})  # type: ignore[dict-item]  # a domain without images is refused earlier

    def of_target(self, run: Run) -> Iterator[tuple[Tensor, None]]:
        """Target images, without labels: whole, or crops."""
        if self.passes:
            left = self.passes * sum(len(run.domain(d).samples("train", False)) for d in run.recipe.targets)
            size = run.draws.batch
            for t, pair in enumerate(run.pairs(0, -(-left // size))):
                yield pair.target[: left - t * size], None
            return
        for domain in run.recipe.targets:
            yield from ((image, None) for _, image in run.images(domain, "train"))

    def of_source(self, run: Run) -> Iterator[tuple[Tensor, Tensor]]:
        """x_cdm as the stage `of` makes it, and y_s."""
        paint = painter_of(run, self.translator)
        for t, (source, _, _) in enumerate(run.pairs(0, self.steps)):
            yield run.stage_of(self.of).view(run, source, paint, t), source.label

    def take(self, run: Run, rho: Prototypes, out: Prediction, label: Tensor | None, image: Tensor) -> None:
        """Let the features of some images count, by label or, without one, by prediction."""
        if self.at == "pixels":
            sums = self.of_pixels(run, out, label, image)
        else:
            predicted = ops.pseudo.argmax(out.logits)
            y = predicted if label is None else cells(run, label, out.features)
            sums = ops.prototypes.class_sums(out.features, y, run.classes, predicted if self.agreed else None)
        if self.average == "images":
            rho.mean_(*ops.prototypes.means_of(*sums, self.least), self.cap)
        else:
            rho.pool_(*sums, self.least)

    def of_pixels(self, run: Run, out: Prediction, label: Tensor | None, image: Tensor) -> tuple[Tensor, Tensor]:
        """Sums and counts of the classes of pixels."""
        corners = run.recipe.align_corners
        predicted = ops.pseudo.winners([out.logits], image, corners).long()
        y = predicted if label is None else label
        y = ops.pseudo.consensus(y, predicted) if self.agreed else y
        return ops.prototypes.pixel_sums(out.features, y, run.classes, corners)


def must_be_centroids(earlier: Mapping[str, Stage], ref: str, where: str) -> Centroids:
    """The stage of that name, if it leaves centroids.  Raises ConfigError for any other."""
    stage = earlier[ref]
    if not isinstance(stage, Centroids):
        known = (k for k, other in earlier.items() if isinstance(other, Centroids))
        raise ConfigError(where, f"{ref!r} is a {type(stage).__name__}", expected_one_of(ref, known))
    return stage


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
    """Labels (B, H, W) at the cells of `like` (B, D, h, w), by the recipe's corner rule."""
    return ops.prototypes.at_cells(label, like, run.recipe.align_corners)
