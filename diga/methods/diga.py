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

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from diga import ops
from diga.errors import ConfigError, expected_one_of
from diga.methods.looks import doubts, label_free, mixing, shown
from diga.methods.targets import Centroids, PseudoLabels, cells, load_prototypes, must_be_centroids, thresholds
from diga.methods.views import MIX, TARGET_VIEW, Views, drawn
from diga.registry import function_of
from diga.settings import Count, Mask, Normalise, Share, Statistics, Strong, Trust, Weight
from diga.stage import Kept, Ref, Stage, must_train

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diga.engine.run import Run
    from diga.ops.prototypes import Prototypes
    from diga.ops.rules import Chosen, Opinions
    from diga.types import Losses, Pair, Prediction, Updates

# what a rule for target labels reads beside the labels and the teacher
KEEPS: dict[str, Kept] = {"bdl": "confidence", "proda": "probabilities"}
CENTROIDS = frozenset({"consensus", "feature", "proda"})


class Distillation(Views):
    """What warm-up and self-training share: two views of the source, a teacher, and eq. 1 to 6."""

    distil: Weight = Field(0.5, description="lambda_distil")
    alpha: Weight = Field(0.5, description="of the strong-to-weak term of eq. 4")
    ema: Share = Field(0.999, description="xi, the cap of the teacher's rate in eq. 5")
    instructor: Literal["teacher", "labels"] = Field(
        "teacher", description="what instructs each view: the mean teacher on the other view, or, as a control, y_s"
    )
    aux: Weight = Field(0.1, description="of the same losses of an auxiliary head, where the network has one")
    normalise: Normalise = Field("valid", description="pixels a cross-entropy divides by")
    distil_at: Literal["pixels", "cells"] = Field("pixels", description="resolution of the distillation loss")
    statistics: Statistics = Statistics()

    def follow(self, T: nn.Module, S: nn.Module, t: int) -> None:
        """Eq. 5: the teacher moves towards the student; parameters only, unless buffers are copied."""
        ops.ema.ema_(T, S, ops.ema.ema_rate(t, self.ema))
        if self.statistics.teacher == "copied":
            ops.ema.copy_buffers_(T, S)
        if T.training != (on_batches := self.statistics.teacher == "batch"):
            T.train(on_batches)

    def source_losses(self, run: Run, y_s: Tensor, p: Prediction, q: Prediction | None) -> Losses:
        """CE(p(x_s), y_s) + lambda [H(q(x_s), p(x_cdm)) + alpha H(q(x_cdm), p(x_s))] (eq. 1 and 4).

        p, q: what student and teacher make of [x_s; x_cdm], 2B images; without q the labels instruct.
        An auxiliary head, where there is one, has the same losses times `aux`.
        """
        losses = self.two_views(run, y_s, p.logits, None if q is None else q.logits)
        if p.aux is not None and self.aux:
            more = self.two_views(run, y_s, p.aux, None if q is None else q.aux)
            losses |= {f"{name}_aux": self.aux * loss for name, loss in more.items()}
        return losses

    def two_views(self, run: Run, y_s: Tensor, p: Tensor, q: Tensor | None) -> Losses:
        """The same of one pair of logits (2B, K, h, w)."""
        if self.distil and (q is None or self.distil_at == "pixels"):
            p, q = run.upsample(p, y_s), None if q is None else run.upsample(q, y_s)
        p_s, p_cdm = p.chunk(2)
        losses = {"source": run.cross_entropy(p_s, y_s, self.normalise)}
        if self.distil and q is None:
            hard = run.cross_entropy(p_cdm, y_s, self.normalise) + self.alpha * losses["source"]
            losses["views"] = self.distil * hard
        elif self.distil and q is not None:
            q_s, q_cdm = q.chunk(2)
            losses["distil"] = self.distil * ops.losses.symmetric_distillation(q_s, q_cdm, p_s, p_cdm, self.alpha)
        return losses


class WarmUp(Distillation):
    """Symmetric distillation between x_s and a second view of it (eq. 1 to 6).

    With a translator the view is CrDoMix; without one it is a strong view of x_s, and no target
    image is read at all: domain generalization.
    """

    def reads(self) -> frozenset[Literal["source", "target"]]:
        """The source; the target only where its images are let move the statistics."""
        return self.statistics.reads

    def __call__(self, run: Run) -> None:
        """Leaves `student` and, unless labels instruct, `teacher`."""
        import torch

        S = run.segmenter()
        T = ops.ema.teacher_of(S) if self.instructor == "teacher" else None
        run.normalise(S, self.statistics)
        paint = self.painter(run)

        def step(pair: Pair, t: int) -> Updates:
            if T is not None:
                self.follow(T, S, t)
            with torch.no_grad():
                x_cdm = self.view(run, pair.source, paint, t)
                views = torch.cat([pair.source.image, x_cdm])
                q = None if T is None else T(views)
            p = run.forward(S, views, "views" in self.statistics.update)
            run.leak(S, pair.target, self.statistics)
            run.picture(t, "warm-up", lambda: shown(pair.source, x_cdm, p))
            run.watch(t, lambda: doubts(p))
            yield "student", self.source_losses(run, pair.source.label, p, q)

        run.fit({"student": S} if T is None else {"student": S, "teacher": T}, step, self.plan)


class SelfTraining(Distillation):
    """Warm-up goes on, and target images are learnt by labels that a rule makes of opinions (eq. 7 to 11)."""

    warm_up: Ref
    labels: Ref = Field(description="the stage that stored y_warm")
    centroids: Ref | None = Field(None, description="the stage that left rho, for rules that go by features")
    rule: function_of("diga.ops.rules") = Field("consensus", description="what target labels are")  # type: ignore[valid-type]
    trust: Trust = Trust()
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
    mix: Mask = Field(
        Mask(), description="which source pixels stand in front of the target: class mix; none: x~_t itself, as eq. 9"
    )

    def stream(self) -> int:
        """Each round its own."""
        return self.round

    def guesses(self) -> str:
        """y_warm travels with the target images."""
        return self.labels

    def asks(self) -> frozenset[Kept]:
        """What the rule reads beside them."""
        return frozenset({KEEPS[self.rule]} if self.rule in KEEPS else ())

    def fits(self, earlier: Mapping[str, Stage], name: str) -> None:
        """The rule's stages must be there, and keep what it reads."""
        super().fits(earlier, name)
        must_train(earlier, self.warm_up, f"{name}.warm_up")
        if self.centroids is not None:
            must_be_centroids(earlier, self.centroids, f"{name}.centroids")
        if self.rule in CENTROIDS and self.centroids is None:
            answer = expected_one_of("", (k for k, stage in earlier.items() if isinstance(stage, Centroids)))
            raise ConfigError(f"{name}.centroids", f"none, and the rule {self.rule!r} goes by centroids", answer)
        labels = earlier[self.labels]
        if not isinstance(labels, PseudoLabels):
            what = f"{self.labels!r} is a {type(labels).__name__}"
            raise ConfigError(f"{name}.labels", what, "a stage that stores target labels: PseudoLabels")
        if lacking := self.asks() - set(labels.keep):
            what = f"the rule {self.rule!r} reads what {self.labels!r} does not keep"
            raise ConfigError(f"{name}.rule", what, f"{self.labels}.keep with {', '.join(map(repr, lacking))}")

    def __call__(self, run: Run) -> None:
        """Leaves `student`, `teacher` and the moved `prototypes`, if it has any."""
        import torch

        S = run.segmenter(self.warm_up)
        run.normalise(S, self.statistics)
        T = run.segmenter(self.warm_up, "teacher").requires_grad_(False)
        rho = None if self.centroids is None else load_prototypes(run, self.centroids)
        limits = thresholds(run, self.labels, self.trust) if "confidence" in self.asks() else None
        paint = self.painter(run)

        def step(pair: Pair, t: int) -> Updates:
            self.follow(T, S, t)
            x_s, y_s = pair.source[:2]
            with torch.no_grad():
                x_cdm = self.view(run, pair.source, paint, t)
                views = torch.cat([x_s, x_cdm])
                seen_s, seen_t = T(views), T(pair.target)
                heard = self.opinions(run, pair, seen_t, rho, limits)
                chosen: Chosen = getattr(ops.rules, self.rule)(heard)
                x_mix, y_mix, trust = self.mixed(run, pair, chosen, t)
                self.move(run, rho, (second_half(seen_s), y_s), (seen_t, chosen.label))
            p = run.forward(S, views, "views" in self.statistics.update)
            p_mix = run.forward(S, x_mix, "mixed" in self.statistics.update)
            run.picture(t, "self-training", lambda: shown(pair.source, x_cdm, p) | mixing(pair, chosen, x_mix, y_mix))
            run.watch(t, lambda: doubts(p) | label_free(heard, chosen, rho is not None))
            losses = self.source_losses(run, y_s, p, seen_s if self.instructor == "teacher" else None)
            yield "student", losses | run.supervised(p_mix, y_mix, self.normalise, self.aux, "target", trust)

        nets: dict[str, nn.Module] = {"student": S, "teacher": T}
        run.fit(nets if rho is None else nets | {"prototypes": rho}, step, self.plan)

    def opinions(
        self, run: Run, pair: Pair, seen: Prediction, rho: Prototypes | None, limits: Tensor | None
    ) -> Opinions:
        """What is known of the target: stored labels, what the teacher sees, and how far its features are from rho."""
        assert pair.guess is not None
        return ops.rules.Opinions(
            warm=pair.guess.label,
            seen=seen,
            distances=None if rho is None else rho.distances(seen.features, self.unseen),
            confidence=pair.guess.confidence,
            probabilities=pair.guess.probabilities,
            thresholds=limits,
            trust=self.trust,
            align_corners=run.recipe.align_corners,
        )

    def mixed(self, run: Run, pair: Pair, chosen: Chosen, t: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """M' * x_s + (1 - M') * x~_t, with labels and their weights alike: ClassMix."""
        x_t = ops.augment.strong(pair.target, self.strong, run.chance(t, TARGET_VIEW))
        x_s, y_s = pair.source[:2]
        M = drawn(run, self.mix, y_s, t, MIX)
        x_mix, y_mix = ops.mixing.blend(M, x_s, x_t), ops.mixing.blend(M, y_s, chosen.label)
        trust = None if chosen.weight is None else chosen.weight.masked_fill(M[:, 0], 1.0)
        return x_mix, y_mix, trust

    def move(self, run: Run, rho: Prototypes | None, *opinions: tuple[Prediction, Tensor]) -> None:
        """rho <- delta rho + (1 - delta) v, v the mean feature of class k in an image (eq. 10).

        `opinions`: what the teacher saw and the label, of the source and of the target.
        """
        if rho is None:
            return
        for seen, label in opinions if self.order == "source_first" else reversed(opinions):
            predicted = ops.pseudo.argmax(seen.logits) if self.agreed else None
            means, valid = ops.prototypes.class_means(
                seen.features, cells(run, label, seen.features), run.classes, self.least, predicted
            )
            rho.ema_(run.gather(means), run.gather(valid), self.delta)


def second_half(seen: Prediction) -> Prediction:
    """Of a forward on [x_s; x_cdm], what belongs to x_cdm."""
    aux = None if seen.aux is None else seen.aux.chunk(2)[1]
    return type(seen)(seen.logits.chunk(2)[1], seen.features.chunk(2)[1], aux)
