"""Adversarial warm-up: the student's target outputs must fool a judge of output maps (Table 4's "adv" rows).

After AdaptSegNet (Tsai et al., CVPR 2018), at the network's last output alone.  DiGA's paper names it
without a definition; with CrDoMix this one is ours: the student learns both views of the source by their
label, and the judge takes the outputs of both for source.

Departures: AdaptSegNet judges a second, auxiliary output as well and sums only two of its head's four
dilation rates; it descends 150 000 steps of a polynomial over 250 000, where `plan.steps` is both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from diga import ops
from diga.errors import ConfigError
from diga.methods.views import Views
from diga.settings import Count, Normalise, Plan, Statistics, Weight
from diga.stage import Draws, Ref

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diga.engine.run import Run
    from diga.recipe import Recipe
    from diga.stage import Painter
    from diga.types import Batch, Losses, Pair, Prediction, Updates

# What "adversarial" means elsewhere, as fields of the stage: a table names which of them it shows.
# Rates are the plan's: SGD at 2.5e-4 with a head of tenfold rate (AdaptSegNet), at 2.5e-4 with frozen
# statistics (ProDA, whose judge has 3 x 3 kernels), at 2.5e-3 with a head of the same rate (MIC).
ADAPTSEGNET: dict[str, Any] = {"judge": "cross_entropy", "adversarial": 0.001}
LEAST_SQUARES_PRODA: dict[str, Any] = {"judge": "least_squares", "adversarial": 0.01}
LEAST_SQUARES_MIC: dict[str, Any] = {"judge": "least_squares", "adversarial": 0.001}

RULES = {"cross_entropy": "binary", "least_squares": "lsgan"}  # functions of `diga.ops.losses`
MIDDLE = {"cross_entropy": 0.0, "least_squares": 0.5}  # a judge's score that says neither
JUDGED = 32  # pixels a side that a judge of outputs needs: it halves them five times
SOURCE, TARGET = False, True  # what a judge says of an output map: 0 and 1


class AdversarialWarmUp(Views):
    """CE on the labelled source, and target outputs that a judge takes for the source's."""

    translator: Ref | None = Field(None, description="without one x_s alone is learnt, and no second view")
    judge: Literal["cross_entropy", "least_squares"] = Field("cross_entropy", description="loss of the judge")
    adversarial: Weight = Field(0.001, description="lambda_adv, of fooling the judge")
    width: Count = Field(64, description="channels of the judge's first layer")
    judge_plan: Plan = Field(
        Plan(optimizer="adam", lr=1e-4, momentum=0.9, beta_2=0.99, weight_decay=0.0, head=1.0, snapshots=1),
        validate_default=True,
        description="how fast the judge descends; its steps are always the plan's",
    )
    aux: Weight = Field(0.1, description="of the cross-entropy of an auxiliary head, where the network has one")
    normalise: Normalise = Field("valid", description="pixels a cross-entropy divides by")
    statistics: Statistics = Field(
        Statistics(update=("views",)), description="`target`: forwards of target images move the running ones too"
    )

    @field_validator("judge_plan")
    @classmethod
    def _as_long(cls, judge_plan: Plan, others: ValidationInfo) -> Plan:
        return judge_plan.model_copy(update={"steps": others.data.get("plan", judge_plan).steps})

    def draws(self, recipe: Recipe) -> Draws:
        """As every training.  Raises ConfigError for crops that the judge cannot read."""
        if min(recipe.crop) < JUDGED:
            name = next((k for k, stage in recipe.stages.items() if stage is self), type(self).__name__)
            what = "{} x {} pixels, too few for the judge of {!r}".format(*recipe.crop, name)
            raise ConfigError("crop", what, f"{JUDGED} a side at least")
        return super().draws(recipe)

    def view(self, run: Run, source: Batch, paint: Painter | None, t: int) -> Tensor:
        """x_cdm (eq. 6); without a translator the images themselves."""
        return source.image if paint is None else super().view(run, source, paint, t)

    def __call__(self, run: Run) -> None:
        """Leaves `student` and `judge`."""
        S = run.segmenter()
        run.normalise(S, self.statistics)
        D = self.judge_of(run)
        paint = self.painter(run)

        def step(pair: Pair, t: int) -> Updates:
            images, label = self.learnt(run, pair.source, paint, t)
            seen = run.forward(S, images, "views" in self.statistics.update)
            seen_t = run.forward(S, pair.target, "target" in self.statistics.update)
            p_s, p_t = outputs(run, seen.logits.detach(), images), outputs(run, seen_t.logits, pair.target)
            run.picture(t, "adversarial", lambda: shown(pair, seen, seen_t))
            run.watch(
                t, lambda: {"judged/source": self.told(D(p_s), SOURCE), "judged/target": self.told(D(p_t), TARGET)}
            )
            D.requires_grad_(False)
            supervised = run.supervised(seen, label, self.normalise, self.aux)
            yield "student", supervised | self.fooling(D, p_t)
            D.requires_grad_(True)
            yield "judge", self.judging(D, p_s, p_t.detach())

        run.fit({"student": S, "judge": D}, step, self.plan, plans={"judge": self.judge_plan})

    def judge_of(self, run: Run) -> nn.Module:
        """An untrained judge, the same for one seed."""
        import torch

        from diga.models.judge import OutputJudge

        torch.manual_seed(run.recipe.seed)
        return OutputJudge(run.classes, self.width).to(run.device)

    def learnt(self, run: Run, source: Batch, paint: Painter | None, t: int) -> tuple[Tensor, Tensor]:
        """x_s and y_s; with a translator [x_s; x_cdm] and [y_s; y_s], so that both views count alike in one mean."""
        import torch

        if paint is None:
            return source.image, source.label
        with torch.no_grad():
            x_cdm = self.view(run, source, paint, t)
        return torch.cat([source.image, x_cdm]), source.label.repeat(2, 1, 1)

    def fooling(self, D: nn.Module, p_t: Tensor) -> Losses:
        """lambda_adv l(D(p_t), source): small where the judge takes a target output for one of the source."""
        return {"fool": self.adversarial * self.against(D(p_t), SOURCE)}

    def judging(self, D: nn.Module, p_s: Tensor, p_t: Tensor) -> Losses:
        """l(D(p_s), source) / 2 + l(D(p_t), target) / 2."""
        return {
            "judge_source": 0.5 * self.against(D(p_s), SOURCE),
            "judge_target": 0.5 * self.against(D(p_t), TARGET),
        }

    def against(self, score: Tensor, domain: bool) -> Tensor:
        """l: how far the judge's scores are from saying that domain."""
        loss: Tensor = getattr(ops.losses, RULES[self.judge])(score, domain)
        return loss

    def told(self, score: Tensor, domain: bool) -> Tensor:
        """Share of the judge's scores on the right side of the middle."""
        return ((score > MIDDLE[self.judge]) == domain).float().mean()


def outputs(run: Run, logits: Tensor, like: Tensor) -> Tensor:
    """softmax of the logits at the pixels of `like` (..., H, W): the maps (B, K, H, W) that a judge sees."""
    return run.upsample(logits, like).softmax(1)


def shown(pair: Pair, seen: Prediction, seen_t: Prediction) -> dict[str, Tensor]:
    """Columns of a picture: source and target, and what the student makes of them."""
    return {
        "source": pair.source.image,
        "label": pair.source.label,
        "student": seen.logits[: len(pair.target)].argmax(1),
        "target": pair.target,
        "student on target": seen_t.logits.argmax(1),
    }
