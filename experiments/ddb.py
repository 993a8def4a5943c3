"""DDB, two paths and their student, on the embedded benchmark and at the paper's size: `diga run ddb:streets`.

The studies that compare its parts are in `experiments.ddb_studies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diga.methods.ddb import CLASSES, CUT, Bridge, CrossPath
from diga.methods.score import Score
from diga.methods.targets import Centroids
from diga.recipe import Recipe, override
from diga.settings import Frames, Mask, Plan, Size
from diga.stage import Stage
from experiments.diga import TARGET, WARM_UP
from experiments.diga import streets as diga_streets

DUSK = "streets/dusk/gta5"  # a second renderer: another source, or, its labels closed, another target
UNSEEN_DUSK = "streets/dusk/cityscapes"
STEPS = WARM_UP.model_copy(update={"steps": 400, "snapshots": 4})
ADAMW = Plan(
    steps=40_000, optimizer="adamw", lr=6e-5, weight_decay=0.01, power=1.0, ramp=1500, ramp_from=1e-6, snapshots=10
)
SLOWER = 0.1  # the rate of paths that start from a student, as a share of the others'
MASKS: Mapping[str, Mask] = {"cut": CUT, "classes": CLASSES}
PROTOTYPES: Mapping[str, Any] = {"images": "target_pred", "average": "images", "at": "pixels", "least": 10}

# what the authors' code does otherwise, by kind of stage (docs/ddb.md tells the story of each)
OFFICIAL: Mapping[type[Stage], Mapping[str, Any]] = {
    Bridge: {"normalise": "all", "photometric.kind": "horizontal"},
    Centroids: {"passes": 4},
    CrossPath: {"normalise": "all", "photometric.kind": "horizontal", "unseen": "origin"},
}


def paths(
    rounds: int = 2, plan: Plan = STEPS, masks: Mapping[str, Mask] = MASKS, start: str | None = None, passes: int = 0
) -> dict[str, Stage]:
    """A path a mask, the prototypes of each, and their student; each further round starts from the student before."""
    stages: dict[str, Stage] = {}
    student, rate = start, plan
    for r in range(1, rounds + 1):
        for i, (name, mask) in enumerate(masks.items(), 1):
            stages[f"{name}_{r}"] = Bridge(mask=mask, start=student, series=10 * r + i, plan=rate)
            stages[f"{name}_prototypes_{r}"] = Centroids(of=f"{name}_{r}", passes=passes, **PROTOTYPES)
        student = f"student_{r}"
        stages[student] = CrossPath(
            teachers=tuple(f"{name}_{r}" for name in masks),
            prototypes=tuple(f"{name}_prototypes_{r}" for name in masks),
            series=10 * r,
            plan=plan,
        )
        rate = plan.model_copy(update={"lr": SLOWER * plan.lr})
    return stages


def streets(rounds: int = 2) -> Recipe:
    """Rounds of a cut path, a class path and their student, on the embedded benchmark."""
    score = Score(of=f"student_{rounds}", domains=(TARGET,))
    stages: dict[str, Stage] = paths(rounds) | {"score": score}
    return diga_streets().model_copy(update={"name": "ddb/streets", "stages": stages})


def streets_three_rounds() -> Recipe:
    """The same with a third round."""
    return streets(3).model_copy(update={"name": "ddb/streets_three_rounds"})


def streets_official() -> Recipe:
    """The same with the quirks of the authors' code (docs/ddb.md)."""
    return official_of(streets(), "ddb/streets_official")


def streets_multi_source(rounds: int = 1) -> Recipe:
    """Two renderers' streets are labelled; images are drawn as they are many, three to one."""
    changes = {"name": "ddb/streets_multi_source", "sources": ["streets/gta5", DUSK], **everywhere()}
    return override(streets(rounds), changes)


def streets_multi_target(rounds: int = 1) -> Recipe:
    """One network for the camera's streets and for dusk, neither labelled; each is scored, and their mean."""
    changes = {"name": "ddb/streets_multi_target", "targets": [TARGET, DUSK], **everywhere()}
    return override(streets(rounds), changes)


def streets_semi_supervised(part: str = "1/16", rounds: int = 1) -> Recipe:
    """A labelled part of the target is a second source; the rest of it is the target."""
    changes = {
        "name": f"ddb/streets_semi_supervised {part}",
        "sources": ["streets/gta5", f"{TARGET}@{part}"],
        "targets": [f"{TARGET}@not-{part}"],
        "sampling": "balanced",  # as they are many, one image in seventeen would be the target's
    }
    return override(streets(rounds), changes)


def everywhere() -> dict[str, Any]:
    """The score on both of the benchmark's cameras."""
    return {"score.domains": [TARGET, UNSEEN_DUSK]}


def official_of(recipe: Recipe, name: str) -> Recipe:
    """`recipe` with the quirks of the authors' code in every stage that has them."""
    stages = recipe.stages.items()
    changes = {f"{k}.{path}": v for k, stage in stages for path, v in OFFICIAL.get(type(stage), {}).items()}
    return override(recipe, {"name": name} | changes)


# --- at the paper's size -----------------------------------------------------------------


def gta5_cityscapes(rounds: int = 2) -> Recipe:
    """GTA5 to Cityscapes; published 56.5 and 58.2 (paths), 61.2 (student), 62.7 mIoU after the second round.

    Hours on a GPU a stage.  `weights/resnet101_v1c.pth` under the data root: OpenMMLab's ImageNet weights.
    """
    stages: dict[str, Stage] = paths(rounds, ADAMW, passes=4)
    stages["score"] = Score(of=f"student_{rounds}", domains=("cityscapes",), protocol="single_scale_1024x512")
    return Recipe(
        name="ddb/gta5_cityscapes",
        sources=("gta5",),
        targets=("cityscapes",),
        model="deeplab_v2_adapter",
        pretrained="weights/resnet101_v1c.pth",
        crop=(512, 512),
        source_frames=Frames(sizes=(Size(images=4, height=704, width=1280),)),
        target_frames=Frames(sizes=(Size(images=4, height=512, width=1024),)),
        batch=4,
        precision="bf16",
        stages=stages,
    )


def official() -> Recipe:
    """The same with the quirks of the authors' code, in fp32."""
    return override(official_of(gta5_cityscapes(), "ddb/gta5_cityscapes official"), {"precision": "fp32"})


def multi_source() -> Recipe:
    """GTA5 and Synscapes to Cityscapes; published 69.0.  Synscapes comes at GTA5's size, a tenth too high."""
    return override(gta5_cityscapes(), {"name": "ddb/multi_source", "sources": ["gta5", "synscapes"]})


def multi_target() -> Recipe:
    """GTA5 to Cityscapes and Mapillary; published 60.4 and 56.9.

    Mapillary's images come to training at Cityscapes' size, whatever their shape; the authors keep it.  They
    are tested in their own shape, by DDB's map of classes.
    """
    changes = {
        "name": "ddb/multi_target",
        "targets": ["cityscapes", "mapillary_ddb"],
        "score.domains": ["cityscapes", "mapillary_ddb"],
    }
    return override(gta5_cityscapes(), changes)
