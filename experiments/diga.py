"""DiGA's recipes and studies: `diga run diga:streets`, `diga ablate diga:table3`."""

from __future__ import annotations

from collections.abc import Sequence

from diga.methods.diga import SelfTraining, WarmUp
from diga.methods.score import Score
from diga.methods.source_only import SourceOnly
from diga.methods.targets import Centroids, PseudoLabels
from diga.methods.translation import ColourTransfer, Translator
from diga.recipe import Recipe, Stage, override
from diga.settings import Plan, Strong
from diga.study import Component, Study, ladder

TARGET = "streets/cityscapes"
WARM_UP = Plan(steps=500, optimizer="adamw", lr=4e-3, head=1.0, weight_decay=1e-4, ramp=50, snapshots=5)
SELF_TRAINING = WARM_UP.model_copy(update={"steps": 400, "lr": 2e-3, "snapshots": 4})
STRONG = Strong(blend=1.0)

OFFICIAL = {  # what the authors' code does where the equations say otherwise (docs/quirks.md)
    "align_corners": True,
    "warm_up.normalise": "all",
    "warm_up.count_void": True,
    "warm_up.distil_at": "pixels",
    "warm_up.statistics.update": ["views", "target"],
    "warm_up.plan.backbone": 3.0,
    "centroids.images": "target_pred",
    "centroids.average": "images",
    "centroids.least": 5,
    "self_training.normalise": "all",
    "self_training.count_void": True,
    "self_training.distil_at": "pixels",
    "self_training.least": 5,
    "self_training.plan.backbone": 3.0,
    "self_training.unseen": "origin",
    "self_training.agreed": True,
    "self_training.order": "target_first",
}


def streets() -> Recipe:
    """DiGA on the embedded benchmark, all five components: about a minute a seed on one core.

    Rates, step counts and the blend of the strong view are those a benchmark of 500 steps can bear;
    they are the same for every row of every study.
    """
    stages: dict[str, Stage] = {
        "translator": ColourTransfer(),
        "warm_up": WarmUp(translator="translator", ema=0.99, strong=STRONG, distil_at="cells", plan=WARM_UP),
        "labels": PseudoLabels(of="warm_up"),
        "centroids": Centroids(of="warm_up", translator="translator", steps=75),
        "self_training": SelfTraining(
            warm_up="warm_up",
            labels="labels",
            centroids="centroids",
            translator="translator",
            ema=0.99,
            delta=0.99,
            strong=STRONG,
            distil_at="cells",
            plan=SELF_TRAINING,
        ),
        "score": Score(of="self_training", domains=(TARGET,), protocol="two_scale_max"),
    }
    return Recipe(
        name="diga/streets",
        sources=("streets/gta5",),
        targets=(TARGET,),
        crop=(56, 112),
        batch=4,
        balance="sqrt_inverse",
        stages=stages,
    )


def streets_official() -> Recipe:
    """The same with the quirks of the authors' code (docs/quirks.md)."""
    return override(streets(), {"name": "diga/streets_official"} | OFFICIAL)


def streets_gan() -> Recipe:
    """The same with the adversarial translator, trained small: several minutes a seed on one core."""
    small = Translator(width=16, blocks=2, scales=2, plan=Translator().plan.model_copy(update={"steps": 1500}))
    return override(streets(), {"name": "diga/streets_gan", "translator": small})


def streets_two_rounds() -> Recipe:
    """The same with a refined round: labels anew from the first round's student, old centroids."""
    first = streets()
    score = first.stages["score"]
    again = first.stages["self_training"].model_copy(
        update={"warm_up": "self_training", "labels": "labels_2", "round": 2}
    )
    rounds = {k: v for k, v in first.stages.items() if k != "score"} | {
        "labels_2": PseudoLabels(of="self_training"),
        "self_training_2": again,
        "score": score.model_copy(update={"of": "self_training_2"}),
    }
    return first.model_copy(update={"name": "diga/streets_two_rounds", "stages": rounds})


def table3(seeds: Sequence[int] = (0, 1, 2)) -> Study:
    """Table 3: the ladder of five components, from source-only to the whole method."""
    whole = streets()
    source_only = SourceOnly(plan=WARM_UP)
    components = (
        Component(name="MST", off={"score.protocol": "single_scale"}),
        Component(name="weak to strong", off={"warm_up": source_only}),
        Component(
            name="strong to weak",
            off={"warm_up.alpha": 0.0, "self_training.alpha": 0.0},
            needs=("weak to strong",),
        ),
        Component(
            name="CrDoMix",
            off={f"{stage}.translator": None for stage in ("warm_up", "centroids", "self_training")},
            needs=("weak to strong",),
        ),
        Component(name="self-training", off={"score.of": "warm_up"}),
    )
    return Study(
        name="table3",
        title="Component ablation of DiGA on streets",
        rows=ladder(whole, components, labels=("source-only", "source-only + MST", "(i)", "(ii)", "(iii)", "(iv)")),
        components=tuple(c.name for c in components),
        seeds=tuple(seeds),
        metric=f"{TARGET}/plain/last/miou",
        reference="diga_table3_components.csv",
        tables=("table3", "per_class"),
    )
