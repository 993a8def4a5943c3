"""DiGA: Distil to Generalize and then Adapt (Shen et al., CVPR 2023), stage by stage.

Symbols: x_s, y_s source image and label; x_t target image; x~ a strong view; x_cdm the second view
of x_s; S student, T its mean teacher, p their logits, G the translator, M a mask, rho the centroids.

Departures of the defaults ("clean") from the authors' code, each a field whose `official` value
`experiments.diga.OFFICIAL` lists: cross-entropy divides by labelled pixels, not by all; target
images do not move batch-norm statistics; void does not count among the classes of a mask; a class
never seen has no centroid, instead of one at the origin; strong views are made of RGB images in
[0, 1], where the authors' colour jitter meets BGR tensors around zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from diga import ops
from diga.methods.targets import cells, load_prototypes
from diga.recipe import Ref, Stage, function_of
from diga.settings import Count, Normalise, Plan, Share, Statistics, Strong, Weight

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diga.engine.run import Run
    from diga.methods.translation import Painter
    from diga.ops.prototypes import Prototypes
    from diga.types import Batch, Losses, Pair, Prediction, Updates

# what a draw is for: each has its own stream of chance, so that a switch moves no other draw
VIEW, MASK, PAINT, TARGET_VIEW, MIX = range(5)


class Distillation(Stage):
    """What warm-up and self-training share: two views of the source, a teacher, and eq. 1 to 6."""

    shared: ClassVar[bool] = True
    translator: Ref | None = Field(None, description="without one the second view is the strong view alone")
    distil: Weight = Field(0.5, description="lambda_distil")
    alpha: Weight = Field(0.5, description="of the strong-to-weak term of eq. 4")
    ema: Share = Field(0.999, description="xi, the cap of the teacher's rate in eq. 5")
    mask: function_of("diga.ops.masks") = Field("classes", description="M of eq. 6")  # type: ignore[valid-type]
    count_void: bool = Field(False, description="whether void is one of the classes a mask draws from")
    strong: Strong = Strong()
    normalise: Normalise = Field("valid", description="pixels a cross-entropy divides by")
    distil_at: Literal["pixels", "cells"] = Field("pixels", description="resolution of the distillation loss")
    statistics: Statistics = Statistics()
    plan: Plan = Plan()

    def view(self, run: Run, source: Batch, paint: Painter | None, t: int) -> Tensor:
        """x_cdm = M * x~_s + (1 - M) * G(x_s) (eq. 6); x~_s alone without a translator."""
        x_s, y_s = source
        strong = ops.augment.strong(x_s, self.strong, run.chance(t, VIEW))
        if paint is None:
            return strong
        M = self.draw(run, y_s, t, MASK)
        return ops.mixing.blend(M, strong, paint(x_s, run.chance(t, PAINT)))

    def draw(self, run: Run, label: Tensor, t: int, purpose: int) -> Tensor:
        """M (B, 1, H, W): pixels of the front image."""
        options: dict[str, Any] = {"count_void": self.count_void} if self.mask == "classes" else {}
        M: Tensor = getattr(ops.masks, self.mask)(label, run.chance(t, purpose), **options)
        return M

    def follow(self, T: nn.Module, S: nn.Module, t: int) -> None:
        """Eq. 5: the teacher moves towards the student; parameters only, unless buffers are copied."""
        ops.ema.ema_(T, S, ops.ema.ema_rate(t, self.ema))
        if self.statistics.teacher == "copied":
            ops.ema.copy_buffers_(T, S)
        if T.training != (on_batches := self.statistics.teacher == "batch"):
            T.train(on_batches)

    def source_losses(self, run: Run, source: Batch, p: Tensor, q: Tensor) -> Losses:
        """CE(p(x_s), y_s) + lambda [H(q(x_s), p(x_cdm)) + alpha H(q(x_cdm), p(x_s))] (eq. 1 and 4).

        p, q (2B, K, h, w): the student's and the teacher's logits of [x_s; x_cdm].
        """
        y_s = source.label
        if self.distil and self.distil_at == "pixels":
            p, q = run.upsample(p, y_s), run.upsample(q, y_s)
        (p_s, p_cdm), (q_s, q_cdm) = p.chunk(2), q.chunk(2)
        losses = {"source": run.cross_entropy(p_s, y_s, self.normalise)}
        if self.distil:
            losses["distil"] = self.distil * ops.losses.symmetric_distillation(q_s, q_cdm, p_s, p_cdm, self.alpha)
        return losses

    def teacher(self, run: Run, S: nn.Module) -> nn.Module:
        """A mean teacher that starts as S."""
        T: nn.Module = ops.ema.teacher_of(S)
        run.normalise(S, self.statistics)
        return T

    def painter(self, run: Run) -> Painter | None:
        """G, or None."""
        if self.translator is None:
            return None
        painter: Painter = run.stage_of(self.translator).painter(run, self.translator)
        return painter


class WarmUp(Distillation):
    """Symmetric distillation between x_s and a second view of it (eq. 1 to 6).

    With a translator the view is CrDoMix; without one it is a strong view of x_s, and no target
    image is read at all: domain generalization.
    """

    def reads(self) -> frozenset[Literal["source", "target"]]:
        """The source; the target only where its images are let move the statistics."""
        return self.statistics.reads

    def __call__(self, run: Run) -> None:
        """Leaves `student` and `teacher`."""
        import torch

        S = run.segmenter()
        T = self.teacher(run, S)
        paint = self.painter(run)

        def step(pair: Pair, t: int) -> Updates:
            self.follow(T, S, t)
            with torch.no_grad():
                x_cdm = self.view(run, pair.source, paint, t)
                views = torch.cat([pair.source.image, x_cdm])
                q = T(views).logits
            p = run.forward(S, views, "views" in self.statistics.update).logits
            run.leak(S, pair.target, self.statistics)
            run.picture(t, "warm-up", lambda: shown(pair.source, x_cdm, p))
            yield "student", self.source_losses(run, pair.source, p, q)

        run.fit({"student": S, "teacher": T}, step, self.plan)


class SelfTraining(Distillation):
    """Warm-up goes on, and target images are learnt by the labels that two opinions share (eq. 7 to 11)."""

    warm_up: Ref
    labels: Ref = Field(description="the stage that stored y_warm")
    centroids: Ref
    distil: Weight = 0.25
    strong: Strong = Strong(blend=0.3)
    delta: Share = Field(0.9999, description="of the centroids' moving average, eq. 10")
    least: Count = Field(1, description="cells a class needs in an image to move its centroid")
    unseen: Literal["ignored", "origin"] = Field(
        "ignored", description="a class without centroid: left out, or at the origin as in the authors' code"
    )
    agreed: bool = Field(False, description="whether only cells move a centroid where the teacher predicts their label")
    order: Literal["source_first", "target_first"] = Field("source_first", description="in which eq. 10 is applied")
    round: Count = Field(1, description="refined rounds have others: each draws its own crops, views and masks")
    mix: Literal["class_mix", "none"] = Field("class_mix", description="none: learn x~_t itself, as eq. 9 says")

    def stream(self) -> int:
        """Each round its own."""
        return self.round

    def guesses(self) -> str:
        """y_warm travels with the target images."""
        return self.labels

    def __call__(self, run: Run) -> None:
        """Leaves `student`, `teacher` and the moved `prototypes`."""
        import torch

        S = run.segmenter(self.warm_up)
        run.normalise(S, self.statistics)
        T = run.segmenter(self.warm_up, "teacher").requires_grad_(False)
        rho = load_prototypes(run, self.centroids)
        paint = self.painter(run)

        def step(pair: Pair, t: int) -> Updates:
            self.follow(T, S, t)
            (x_s, y_s), x_t, y_warm = pair
            assert y_warm is not None
            with torch.no_grad():
                x_cdm = self.view(run, pair.source, paint, t)
                views = torch.cat([x_s, x_cdm])
                seen_s, seen_t = T(views), T(x_t)
                y_t = bilateral_consensus(run, y_warm, rho, seen_t.features, self.unseen)
                x_mix, y_mix = self.mixed(run, pair, y_t, t)
                self.move(run, rho, (second_half(seen_s), y_s), (seen_t, y_t))
            p = run.forward(S, views, "views" in self.statistics.update).logits
            p_mix = run.forward(S, x_mix, "mixed" in self.statistics.update).logits
            run.picture(t, "self-training", lambda: shown(pair.source, x_cdm, p) | mixing(pair, y_t, x_mix, y_mix))
            losses = self.source_losses(run, pair.source, p, seen_s.logits)
            yield "student", losses | {"target": run.cross_entropy(p_mix, y_mix, self.normalise)}

        run.fit({"student": S, "teacher": T, "prototypes": rho}, step, self.plan)

    def mixed(self, run: Run, pair: Pair, y_t: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """M' * x_s + (1 - M') * x~_t, with labels alike: ClassMix."""
        x_t = ops.augment.strong(pair.target, self.strong, run.chance(t, TARGET_VIEW))
        if self.mix == "none":
            return x_t, y_t
        x_s, y_s = pair.source
        M = ops.masks.classes(y_s, run.chance(t, MIX), count_void=self.count_void)
        return ops.mixing.blend(M, x_s, x_t), ops.mixing.blend(M, y_s, y_t)

    def move(self, run: Run, rho: Prototypes, *opinions: tuple[Prediction, Tensor]) -> None:
        """rho <- delta rho + (1 - delta) v, v the mean feature of class k in an image (eq. 10).

        `opinions`: what the teacher saw and the label, of the source and of the target.
        """
        for seen, label in opinions if self.order == "source_first" else reversed(opinions):
            predicted = ops.pseudo.argmax(seen.logits) if self.agreed else None
            means, valid = ops.prototypes.class_means(
                seen.features, cells(run, label, seen.features), run.classes, self.least, predicted
            )
            rho.ema_(run.gather(means), run.gather(valid), self.delta)


def bilateral_consensus(run: Run, y_warm: Tensor, rho: Prototypes, features: Tensor, unseen: Any) -> Tensor:
    """y_t (B, H, W): y_warm where the nearest centroid says the same, void elsewhere (eq. 8)."""
    y_feat = ops.pseudo.nearest(rho.weights(features, unseen), y_warm, run.recipe.align_corners)
    return ops.pseudo.consensus(y_warm, y_feat)


def second_half(seen: Prediction) -> Prediction:
    """Of a forward on [x_s; x_cdm], what belongs to x_cdm."""
    return type(seen)(*(part.chunk(2)[1] for part in seen))


def shown(source: Batch, view: Tensor, p: Tensor) -> dict[str, Tensor]:
    """Columns of a picture: the two views and what the student makes of the first."""
    return {
        "source": source.image,
        "label": source.label,
        "second view": view,
        "student": p.chunk(2)[0].argmax(1),
    }


def mixing(pair: Pair, y_t: Tensor, x_mix: Tensor, y_mix: Tensor) -> dict[str, Tensor]:
    """Columns of a picture: the target, its labels before and after consensus, the mixed pair."""
    assert pair.guess is not None
    return {
        "target": pair.target,
        "y_warm": pair.guess,
        "consensus": y_t,
        "mixed": x_mix,
        "mixed label": y_mix,
    }
