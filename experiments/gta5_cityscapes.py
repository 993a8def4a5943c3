"""GTA5 to Cityscapes at the paper's size: `diga run gta5_cityscapes:diga`; hours on a GPU, and both datasets on disk.

Weights are files the user has under the data root: `weights/resnet101_caffe.pth`, ImageNet weights of a
ResNet-101 whose blocks stride in their first convolution, and for the official translator
`weights/vgg19.pth`.  The published number is 62.7 mIoU (Table 1), the best of 79 looks at target labels.
`diga ablate gta5_cityscapes:table1` is that table: its stages one by one, with three seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diga.methods.diga import SelfTraining, WarmUp
from diga.methods.score import Score
from diga.methods.source_only import SourceOnly
from diga.methods.targets import Centroids, PseudoLabels
from diga.methods.translation import Translator
from diga.recipe import Recipe, override
from diga.settings import Frames, Plan, Size, Strong
from diga.stage import Stage
from diga.study import Row, Study
from experiments.diga import named, refined
from experiments.official import OFFICIAL

SGD = Plan(steps=80_000, optimizer="sgd", lr=2.5e-4, power=0.9, weight_decay=5e-4, head=10.0)
SIZES = {"source": ((720, 1280), (1052, 1914)), "target": ((512, 1024), (1024, 2048))}  # low and high, in pixels
AUTHORS = {  # what is theirs at this size alone
    "precision": "fp32",
    "model": "deeplab_resnet101_official",
    "self_training.source_frames.gate": True,
    "translator.perceptual": 0.1,
    "translator.perceptual_weights": "weights/vgg19.pth",
    "translator.perceptual_inputs": "legacy",
}


def frames(role: str, low: int, high: int, scale: tuple[float, float] = (1.0, 1.0)) -> Frames:
    """`low` images of a batch at the role's low resolution, `high` at its high one."""
    (h, w), (H, W) = SIZES[role]
    return Frames(sizes=(Size(images=low, height=h, width=w), Size(images=high, height=H, width=W)), scale=scale)


def diga() -> Recipe:
    """DiGA as the equations say: translator, warm-up, labels, centroids, one round of self-training."""
    stages: dict[str, Stage] = {
        "translator": Translator(batch=2, source_frames=frames("source", 1, 1), target_frames=frames("target", 1, 1)),
        "warm_up": WarmUp(translator="translator", plan=SGD),
        "labels": PseudoLabels(of="warm_up"),
        "centroids": Centroids(of="warm_up", translator="translator"),
        "self_training": SelfTraining(
            warm_up="warm_up",
            labels="labels",
            centroids="centroids",
            translator="translator",
            source_frames=frames("source", 2, 1, scale=(0.7, 1.0)),
            target_frames=frames("target", 2, 1, scale=(0.7, 1.0)),
            plan=SGD,
        ),
        "score": Score(of="self_training", domains=("cityscapes",), protocol="two_scale_max"),
    }
    return Recipe(
        name="diga/gta5_cityscapes",
        sources=("gta5",),
        targets=("cityscapes",),
        model="deeplab_resnet101",
        pretrained="weights/resnet101_caffe.pth",
        crop=(512, 896),
        batch=3,
        source_frames=frames("source", 1, 2, scale=(0.7, 1.0)),
        target_frames=frames("target", 1, 2),
        precision="bf16",
        stages=stages,
    )


def official() -> Recipe:
    """The same with the quirks of the authors' code, in fp32, with a refined round and their translator's terms.

    They train on 18,111 of GTA5's frames: `diga data split gta5` first, or all that are there are taken.
    """
    return refined(override(diga(), OFFICIAL | AUTHORS), "diga/gta5_cityscapes official")


def table1(seeds: Sequence[int] = (0, 1, 2)) -> Study:
    """Table 1: source-only, warm-up and self-training, and the same by the authors' code, class by class."""
    return by_class(
        "table1", diga(), official(), seeds, reference="diga_table1_gta5_cityscapes.csv", title="GTA5 to Cityscapes"
    )


def by_class(name: str, whole: Recipe, theirs: Recipe, seeds: Sequence[int], reference: str, title: str) -> Study:
    """A study of the method's stages one by one, and of what the authors' code makes of them."""
    source_only = SourceOnly(
        **whole.stages["warm_up"].model_dump(include={"batch", "source_frames", "target_frames", "plan"})
    )
    rows: tuple[tuple[str, str, Recipe, dict[str, Any]], ...] = (
        ("source-only", "", whole, {"warm_up": source_only, "score.of": "warm_up"}),
        ("warm-up", "source-only", whole, {"score.of": "warm_up"}),
        ("DiGA", "warm-up", whole, {}),
        ("DiGA, authors' code", "DiGA", theirs, {}),
    )
    return Study(
        name=name,
        title=title,
        rows=tuple(Row(label=k, parent=parent, recipe=named(base, k, how)) for k, parent, base, how in rows),
        seeds=tuple(seeds),
        metric="cityscapes/plain/last/miou",
        reference=reference,
        tables=(name, "test_set", "costs"),
    )


def generalization() -> Recipe:
    """Table 6: warm-up on GTA5 alone, scored on Cityscapes, BDD100k and Mapillary; published 48.9, 44.4, 51.8."""
    warm_up = WarmUp(
        batch=4,
        strong=Strong(sharpen=0.0),
        source_frames=frames("source", 2, 2, scale=(0.7, 1.0)),
        plan=SGD,
    )
    score = Score(of="warm_up", domains=("cityscapes", "bdd100k", "mapillary"), protocol="two_scale_max")
    whole = diga()
    return whole.model_copy(
        update={
            "name": "diga/gta5_generalization",
            "targets": (),
            "stages": {"warm_up": warm_up, "score": score},
        }
    )
