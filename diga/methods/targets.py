"""What a trained network knows of the target: pseudo-labels and class centroids (method spec 4.1, 4.2).

Departures: pseudo-labels are streamed to disk one image at a time; the authors keep all in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from diga import ops
from diga.recipe import Ref, Stage, function_of
from diga.settings import Count

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diga.engine.run import Run
    from diga.ops.prototypes import Prototypes

Protocol = function_of("diga.engine.protocols")


class PseudoLabels(Stage):
    """y_warm: the winning class of every pixel of every target training image, stored; no threshold."""

    of: Ref
    part: Literal["student", "teacher"] = "student"
    protocol: Protocol = Field("two_scale_max", description="how the network is run, as in scoring")  # type: ignore[valid-type]

    def reads(self) -> frozenset[Literal["source", "target"]]:
        """Target images alone."""
        return frozenset({"target"})

    def __call__(self, run: Run) -> None:
        """Leaves `labels/<stem>.png`, 8-bit train ids."""
        net = run.segmenter(self.of, self.part)
        for domain in run.recipe.targets:
            for stems, image in run.images(domain, "train"):
                run.store_labels(stems, run.predict(net, image, self.protocol))


class Centroids(Stage):
    """rho: a mean feature for each class (eq. 7).

    `target_pred`, the authors' default, averages target features over cells predicted to be k;
    `source_crdomix` is the paper's equation: source features over cells labelled k, here only where
    the network agrees, as the authors' own version of it.
    """

    of: Ref
    images: Literal["target_pred", "source_crdomix"] = "target_pred"
    translator: Ref | None = Field(None, description="for source_crdomix: what paints the other half")
    least: Count = Field(5, description="cells a class needs in an image to count there")
    cap: Count = Field(3000, description="images after which the running mean becomes a moving average")
    steps: Count = Field(1000, description="batches read for source_crdomix")
    normalise: Literal["running", "batch"] = Field("running", description="batch norm while features are read")

    def reads(self) -> frozenset[Literal["source", "target"]]:
        """Source or target, whichever is averaged."""
        return frozenset({"target"} if self.images == "target_pred" else {"source"})

    def __call__(self, run: Run) -> None:
        """Leaves `prototypes`."""
        import torch

        net = run.segmenter(self.of).train(self.normalise == "batch")
        with torch.no_grad():
            prototypes = self.of_target(run, net) if self.images == "target_pred" else self.of_source(run, net)
        run.save({"prototypes": prototypes})

    def of_target(self, run: Run, net: nn.Module) -> Prototypes:
        """Mean over images of per-image means, by predicted class."""
        found = None
        for domain in run.recipe.targets:
            for _, image in run.images(domain, "train"):
                out = run.forward(net, image, moves=False)
                found = self.taken(run, found, out.features, ops.pseudo.argmax(out.logits), None)
        assert found is not None
        return found

    def of_source(self, run: Run, net: nn.Module) -> Prototypes:
        """Eq. 7 on CrDoMix source images, where label and prediction agree."""
        found = None
        paint = run.stage_of(self.translator).painter(run, self.translator) if self.translator else None
        for t, ((x_s, y_s), _, _) in enumerate(run.pairs(0, self.steps)):
            view = x_s
            if paint is not None:
                mask = ops.masks.classes(y_s, run.chance(t))
                view = ops.mixing.blend(mask, x_s, paint(x_s, run.chance(t, 1)))
            out = run.forward(net, view, moves=False)
            label = cells(y_s, out.features)
            found = self.taken(run, found, out.features, label, ops.pseudo.argmax(out.logits))
        assert found is not None
        return found

    def taken(
        self, run: Run, found: Prototypes | None, features: Tensor, label: Tensor, predicted: Tensor | None
    ) -> Prototypes:
        """The prototypes after these images."""
        if found is None:
            found = ops.prototypes.Prototypes(run.classes, features.shape[1]).to(run.device)
        means = ops.prototypes.class_means(features, label, run.classes, self.least, predicted)
        found.mean_(*means, self.cap)
        return found


def load_prototypes(run: Run, ref: str) -> Prototypes:
    """The centroids an earlier stage left."""
    state = run.read(ref)["prototypes"]
    prototypes = ops.prototypes.Prototypes(*state["vectors"].shape).to(run.device)
    prototypes.load_state_dict(state)
    return prototypes


def cells(label: Tensor, like: Tensor) -> Tensor:
    """Labels (B, H, W) at the cells of `like` (B, D, h, w), by nearest pixel."""
    from torch.nn.functional import interpolate

    return interpolate(label[:, None].float(), like.shape[-2:], mode="nearest")[:, 0].long()
