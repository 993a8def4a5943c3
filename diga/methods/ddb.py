"""DDB: Deliberated Domain Bridging (Chen et al., NeurIPS 2022), stage by stage.

Two paths bridge the domains by different masks, each a self-training of its own; the prototypes of their
features (`Centroids`) rectify what they say of the target, and a new student learns it.  The student may
start the paths of another round.

Symbols: x_s, y_s source image and label; x_t target image; M a mask; S student, T its mean teacher; q the
share of target pixels T is sure of; rho a trained path's prototypes.

Departures of the defaults ("clean") from the authors' code, each a field whose `official` value
`experiments.ddb.OFFICIAL` lists: cross-entropy divides by labelled pixels, not by all; blur is of rows and
columns, where a misread axis leaves the authors' along rows alone; a class never predicted has no
prototype, instead of one at the origin.  q is of the batch of all workers, not of each one's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from diga import ops
from diga.data.labels import IGNORE
from diga.errors import ConfigError, expected_one_of
from diga.methods.looks import bridging, together, told
from diga.methods.targets import Centroids, cells, load_prototypes, must_be_centroids
from diga.methods.views import MASK, MIX, TARGET_VIEW, VIEW, drawn
from diga.settings import Count, Inside, Mask, Normalise, Photometric, Positive, Share, Statistics, Weight
from diga.stage import Ref, Stage, Training, must_train

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diga.engine.run import Run
    from diga.ops.ensemble import Voice
    from diga.ops.prototypes import Prototypes
    from diga.ops.rules import Chosen
    from diga.types import Losses, Pair, Prediction, Updates

CUT = Mask(kind="cut", fraction=0.4)  # the coarse, regional path
CLASSES = Mask(kind="classes", rounding="ceil", void="drawn")  # the fine, semantic one
Unseen = Literal["ignored", "origin"]


class Bridging(Training):
    """What a path and the student of several share: where they start, what befalls images, how losses are taken."""

    start: Ref | None = Field(None, description="whose student's weights and statistics it starts with; none: anew")
    series: Count = Field(1, description="which stream of crops, views and masks: another for what is to differ")
    photometric: Photometric = Field(Photometric(), description="of the mixed image, or of the student's x_t")
    distortion: Share = Field(0.0, description="probability of each of four changes of colour of x_s")
    unseen: Unseen = Field("ignored", description="a class without prototype: left out, or at the origin as theirs")
    threshold: Inside = Field(0.968, description="confidence from which a pixel is sure")
    aux: Weight = Field(0.1, description="of the same losses of an auxiliary head, where the network has one")
    normalise: Normalise = Field("valid", description="pixels a cross-entropy divides by")
    statistics: Statistics = Statistics()

    def stream(self) -> int:
        """Each series its own."""
        return self.series

    def fits(self, earlier: Mapping[str, Stage], name: str) -> None:
        """It can start from a stage that leaves a student."""
        if self.start is not None:
            must_train(earlier, self.start, f"{name}.start")

    def student(self, run: Run) -> nn.Module:
        """S as it starts."""
        S: nn.Module = run.segmenter(self.start)
        run.normalise(S, self.statistics)
        return S

    def source(self, run: Run, pair: Pair, t: int) -> Tensor:
        """x_s as S sees it."""
        x_s = pair.source.image
        return ops.distortion.distorted(x_s, self.distortion, run.chance(t, VIEW)) if self.distortion else x_s

    def disturbed(self, run: Run, image: Tensor, t: int) -> Tensor:
        """Jittered and blurred."""
        return ops.distortion.photometric(image, self.photometric, run.chance(t, TARGET_VIEW))


class Bridge(Bridging):
    """A path: source pixels under one kind of mask are pasted on the target, whose labels a mean teacher gives."""

    mask: Mask = Field(CLASSES, description="M: which source pixels stand in front of the target")
    beside: tuple[Mask, ...] = Field((), description="further masks: each image draws one of all, evenly")
    trust: Literal["fraction", "pixel", "one", "consensus"] = Field(
        "fraction",
        description="fraction: a target pixel counts q; pixel: sure ones alone; one: all alike; consensus: those alone "
        "whose nearest centroid says the same",
    )
    centroids: Ref | None = Field(None, description="the stage that left rho, for consensus")
    delta: Share = Field(0.9999, description="of their moving average, by x_t and its labels; 1: they stay")
    ema: Share = Field(0.99, description="cap of the teacher's rate")

    def fits(self, earlier: Mapping[str, Stage], name: str) -> None:
        """Consensus needs centroids, and nothing else reads them."""
        super().fits(earlier, name)
        if self.trust == "consensus" and self.centroids is None:
            answer = expected_one_of("", (k for k, stage in earlier.items() if isinstance(stage, Centroids)))
            raise ConfigError(f"{name}.centroids", "none, and the trust 'consensus' goes by centroids", answer)
        if self.trust != "consensus" and self.centroids is not None:
            raise ConfigError(
                f"{name}.centroids", f"{self.centroids!r}, and the trust {self.trust!r} reads none", "null"
            )
        if self.centroids is not None:
            must_be_centroids(earlier, self.centroids, f"{name}.centroids")

    def __call__(self, run: Run) -> None:
        """Leaves `student`, `teacher` and, for consensus, the moved `prototypes`."""
        import torch

        S = self.student(run)
        T = self.teacher(S)
        rho = None if self.centroids is None else load_prototypes(run, self.centroids)

        def step(pair: Pair, t: int) -> Updates:
            self.follow(T, S, t)
            x_s, y_s = self.source(run, pair, t), pair.source.label
            with torch.no_grad():
                seen = T(pair.target)
                chosen, sure = self.labels(run, pair.target, seen, rho)
                x_mix, y_mix, weight = self.mixed(run, pair, x_s, chosen, t)
                self.move(run, rho, seen, chosen.label)
            p = run.forward(S, x_s, "views" in self.statistics.update)
            p_mix = run.forward(S, x_mix, "mixed" in self.statistics.update)
            run.leak(S, pair.target, self.statistics)
            run.picture(t, "bridge", lambda: bridging(pair, chosen, x_mix, y_mix, p_mix))
            run.watch(t, lambda: {"target/sure": sure.mean()} | told(seen, chosen.label))
            losses = run.supervised(p, y_s, self.normalise, self.aux)
            yield "student", losses | run.supervised(p_mix, y_mix, self.normalise, self.aux, "mixed", weight)

        nets: dict[str, nn.Module] = {"student": S, "teacher": T}
        run.fit(nets if rho is None else nets | {"prototypes": rho}, step, self.plan)

    def teacher(self, S: nn.Module) -> nn.Module:
        """T as it starts: S, on statistics of its own batches unless they are copied, that drops nothing out."""
        from torch import nn

        from diga.models.norm import freeze

        T: nn.Module = ops.ema.teacher_of(S).train(self.statistics.teacher == "batch")
        freeze(T, False)  # S may train on fixed statistics: T goes by its own batches all the same
        for module in T.modules():
            if isinstance(module, nn.Dropout | nn.Dropout2d):
                module.eval()
        return T

    def follow(self, T: nn.Module, S: nn.Module, t: int) -> None:
        """T <- a T + (1 - a) S with a = min(1 - 1/(t + 1), cap): parameters only, unless buffers are copied."""
        ops.ema.ema_(T, S, ops.ema.ema_rate(t, self.ema))
        if self.statistics.teacher == "copied":
            ops.ema.copy_buffers_(T, S)

    def labels(self, run: Run, x_t: Tensor, seen: Prediction, rho: Prototypes | None) -> tuple[Chosen, Tensor]:
        """The teacher's labels of x_t and how much they count, and the share of sure pixels of each image (B,)."""
        corners = run.recipe.align_corners
        label, p = ops.pseudo.confident([seen.logits], x_t, corners)
        sure = ops.ensemble.sure(p, self.threshold)
        weight = None
        if self.trust == "fraction":
            weight = run.gather(sure).mean().expand_as(p)
        elif self.trust == "pixel":
            label = label.masked_fill(p < self.threshold, IGNORE)
        elif rho is not None:
            near = ops.prototypes.affinity(rho.distances(seen.features, self.unseen))
            label = ops.pseudo.consensus(label, ops.pseudo.nearest(near, x_t, corners))
        return ops.rules.Chosen(label, weight), sure

    def mixed(self, run: Run, pair: Pair, x_s: Tensor, chosen: Chosen, t: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """M x_s + (1 - M) x_t, jittered and blurred as a whole; with labels and their weights alike."""
        y_s = pair.source.label
        M = self.masks(run, y_s, t)
        x_mix = self.disturbed(run, ops.mixing.blend(M, x_s, pair.target), t)
        weight = None if chosen.weight is None else chosen.weight.masked_fill(M[:, 0], 1.0)
        return x_mix, ops.mixing.blend(M, y_s, chosen.label), weight

    def masks(self, run: Run, y_s: Tensor, t: int) -> Tensor:
        """M (B, 1, H, W), of the kind that each image draws."""
        import torch

        kinds = (self.mask, *self.beside)
        found = torch.stack([drawn(run, how, y_s, t, MIX) for how in kinds])
        if len(kinds) == 1:
            return found[0]
        which = (run.chance(t, MASK).uniform() * len(kinds)).long()
        return found[which, torch.arange(len(y_s), device=y_s.device)]

    def move(self, run: Run, rho: Prototypes | None, seen: Prediction, label: Tensor) -> None:
        """rho <- delta rho + (1 - delta) v, v the mean feature of class k in a target image (DiGA, eq. 10)."""
        if rho is None or self.delta == 1:
            return
        y = cells(run, label, seen.features)
        means, valid = ops.prototypes.class_means(seen.features, y, run.classes, 1)
        rho.ema_(run.gather(means), run.gather(valid), self.delta)


class CrossPath(Bridging):
    """Cross-path distillation: a student learns x_t by what several trained, frozen networks together say of it.

    Its forward of x_t, a mix without a source, is what `statistics.update` calls `mixed`.
    """

    teachers: tuple[Ref, ...] = Field(min_length=1, description="stages whose students teach, frozen")
    prototypes: tuple[Ref, ...] = Field((), description="the centroids of each teacher, in their order")
    target: Literal["hard", "soft"] = Field("hard", description="the winner of all, or their blend")
    rectify: Literal["probabilities", "logits", "none"] = Field(
        "probabilities", description="what softmax(-d / tau), d the distances to prototypes, multiplies"
    )
    temperature: Positive = Field(1.0, description="tau of the distances")
    soft_weight: Weight = Field(0.1, description="lambda, of the loss of a soft target")
    soft_temperature: Positive = Field(1.0, description="T of a soft target")
    trust: Literal["none", "fraction"] = Field("none", description="fraction: the target counts q, of their blend")
    distortion: Share = 0.5

    def fits(self, earlier: Mapping[str, Stage], name: str) -> None:
        """Every teacher must leave a student, and have its own prototypes where something is rectified."""
        super().fits(earlier, name)
        for i, ref in enumerate(self.teachers):
            must_train(earlier, ref, f"{name}.teachers[{i}]")
        wanted = 0 if self.rectify == "none" else len(self.teachers)
        if len(self.prototypes) != wanted:
            what = f"{len(self.prototypes)} for {len(self.teachers)} teachers, and rectify={self.rectify!r}"
            raise ConfigError(f"{name}.prototypes", what, f"{wanted}, in the order of the teachers")
        for i, (ref, teacher) in enumerate(zip(self.prototypes, self.teachers, strict=False)):
            if (of := must_be_centroids(earlier, ref, f"{name}.prototypes[{i}]").of) != teacher:
                what = f"{ref!r} is of the features of {of!r}"
                raise ConfigError(f"{name}.prototypes[{i}]", what, f"those of {teacher!r}, the teacher in its place")

    def __call__(self, run: Run) -> None:
        """Leaves `student`."""
        import torch

        S = self.student(run)
        teachers = [run.segmenter(ref).eval().requires_grad_(False) for ref in self.teachers]
        rhos = [load_prototypes(run, ref) for ref in self.prototypes]

        def step(pair: Pair, t: int) -> Updates:
            with torch.no_grad():
                seen = [T(pair.target) for T in teachers]
            voices = ops.ensemble.voices(seen, rhos)
            x_s, x_t = self.source(run, pair, t), self.disturbed(run, pair.target, t)
            p_s = run.forward(S, x_s, "views" in self.statistics.update)
            p_t = run.forward(S, x_t, "mixed" in self.statistics.update)
            label, losses = self.learnt(run, voices, p_t, pair.target)
            run.leak(S, pair.target, self.statistics)
            run.picture(t, "cross-path", lambda: together(pair.target, voices, label, x_t, p_t))
            run.watch(t, lambda: {"target/agreement": ops.ensemble.agreement(voices)} | told(p_t, label))
            yield "student", run.supervised(p_s, pair.source.label, self.normalise, self.aux) | losses

        run.fit({"student": S}, step, self.plan)

    def how(self, run: Run) -> ops.ensemble.How:
        """The teachers' blend, as this stage wants it."""
        return ops.ensemble.How(self.rectify, self.temperature, self.unseen, run.recipe.align_corners)

    def learnt(self, run: Run, voices: Sequence[Voice], p: Prediction, x_t: Tensor) -> tuple[Tensor, Losses]:
        """The teachers' label of every pixel (B, H, W), and the losses of S's prediction of the disturbed x_t."""
        if self.target == "soft":
            z = ops.ensemble.soft(voices, x_t, self.how(run))
            q = self.counts(run, z.softmax(1).amax(1))
            return ops.pseudo.argmax(z), self.distilled(run, z, p, q)
        label, s = ops.ensemble.hard(voices, x_t, self.how(run))
        q = self.counts(run, s)
        weight = None if q is None else q.expand_as(s)
        return label, run.supervised(p, label, self.normalise, self.aux, "target", weight)

    def distilled(self, run: Run, z: Tensor, p: Prediction, q: Tensor | None) -> Losses:
        """lambda T^2 KL(softmax(z' / T) || p), of the student's head and of an auxiliary one; times q."""
        heads = {"target": (1.0, p.logits)} | ({} if p.aux is None else {"target_aux": (self.aux, p.aux)})
        found = {}
        for name, (factor, logits) in heads.items():
            loss = ops.ensemble.distillation(z, run.upsample(logits, z), self.soft_temperature)
            found[name] = factor * self.soft_weight * (loss if q is None else q * loss)
        return found

    def counts(self, run: Run, confidence: Tensor) -> Tensor | None:
        """q, the share of the batch's pixels whose blend is sure; None where all count alike."""
        if self.trust == "none":
            return None
        return run.gather(ops.ensemble.sure(confidence, self.threshold)).mean()
