"""What of DDB earns its gain, and what it gains of DiGA: `diga ablate ddb_studies:ladder`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diga.methods.ddb import CLASSES, CUT
from diga.methods.source_only import SourceOnly
from diga.methods.targets import Centroids
from diga.recipe import Recipe
from diga.settings import Mask
from diga.stage import Stage
from diga.study import Row, Study
from experiments.ddb import (
    PROTOTYPES,
    STEPS,
    everywhere,
    gta5_cityscapes,
    multi_source,
    multi_target,
    paths,
    streets,
    streets_multi_source,
    streets_multi_target,
    streets_semi_supervised,
)
from experiments.diga import METRIC, named
from experiments.diga import streets as diga_streets

Line = tuple[str, str, Recipe, Mapping[str, Any]]  # label, parent, and a recipe with changes
REFERENCE = "ddb_results.csv"
DOMAINS = ("ddb_domains", "per_class", "costs")


def ladder(seeds: Sequence[int] = (0, 1, 2)) -> Study:
    """Source-only, the two paths, their student, and the same of a second round that starts from it."""
    whole = streets(2)
    lines: tuple[Line, ...] = (
        ("source-only", "", whole, {"cut_1": SourceOnly(plan=STEPS), "score.of": "cut_1"}),
        ("cut path, round 1", "source-only", whole, {"score.of": "cut_1"}),
        ("class path, round 1", "source-only", whole, {"score.of": "classes_1"}),
        ("CKD round 1", "class path, round 1", whole, {"score.of": "student_1"}),
        ("cut path, round 2", "CKD round 1", whole, {"score.of": "cut_2"}),
        ("class path, round 2", "CKD round 1", whole, {"score.of": "classes_2"}),
        ("CKD round 2 (final)", "CKD round 1", whole, {}),
    )
    return study("ddb_ladder", "From two paths to one student, twice, on streets", lines, seeds, REFERENCE)


def path_pairs(seeds: Sequence[int] = (0, 1, 2)) -> Study:
    """Is a pair of paths better because its masks are complementary, or because it is two, or distilled at all?"""
    both = of_masks({"cut": CUT, "classes": CLASSES})
    cuts = of_masks({"cut": CUT, "cut_again": CUT})
    classes = of_masks({"classes_again": CLASSES, "classes": CLASSES})
    alone = {"student_1.teachers": ["classes_1"], "student_1.prototypes": ["classes_prototypes_1"]}
    lines: tuple[Line, ...] = (
        ("cut path", "", both, {"score.of": "cut_1"}),
        ("class path", "", both, {"score.of": "classes_1"}),
        ("student of class", "class path", both, alone),
        ("student of cut + class", "student of class", both, {}),
        ("student of cut + cut", "student of cut + class", cuts, {}),
        ("student of class + class", "student of cut + class", classes, {}),
    )
    return study("ddb_path_pairs", "Which pairs of paths teach a student, on streets", lines, seeds)


def of_masks(masks: Mapping[str, Mask]) -> Recipe:
    """One round of paths with other masks; each place in a pair has its own series, so equal masks differ by it."""
    whole = streets(1)
    return whole.model_copy(update={"stages": paths(1, masks=masks) | {"score": whole.stages["score"]}})


def rectify(seeds: Sequence[int] = (0, 1, 2)) -> Study:
    """What prototypes rectify, for a hard and for a soft target: six students of the same two teachers."""
    whole = streets(1)
    ways: dict[str, dict[str, Any]] = {
        "probabilities": {},
        "logits": {"student_1.rectify": "logits"},
        "none": {"student_1.rectify": "none", "student_1.prototypes": []},
    }
    lines: list[Line] = []
    for target in ("hard", "soft"):
        for way, changes in ways.items():
            parent = f"hard, {way}" if target == "soft" else "hard, probabilities" if changes else ""
            lines.append((f"{target}, {way}", parent, whole, changes | {"student_1.target": target}))
    return study("ddb_rectify", "Rectification and target of the student on streets", lines, seeds)


def initialisation(seeds: Sequence[int] = (0, 1, 2)) -> Study:
    """Where the student starts: anew, as the authors have it, from a path, or from DiGA's warm-up."""
    whole = together()
    starts = {"anew": None, "the cut path": "cut_1", "the class path": "classes_1", "a warm-up": "warm_up"}
    lines = [
        (f"from {label}" if start else label, "anew" if start else "", whole, {"student_1.start": start})
        for label, start in starts.items()
    ]
    return study("ddb_initialisation", "Where the student starts, on streets", lines, seeds)


def domains(seeds: Sequence[int] = (0, 1, 2)) -> Study:
    """Several sources or targets, drawn as their images are many or all alike; labels of a part of the target."""
    one, sources, targets = streets(1), streets_multi_source(), streets_multi_target()
    alike = {"sampling": "balanced"}
    lines: tuple[Line, ...] = (
        ("one source, one target", "", one, everywhere()),
        ("two sources", "one source, one target", sources, {}),
        ("two sources, balanced", "two sources", sources, alike),
        ("two targets", "one source, one target", targets, {}),
        ("two targets, balanced", "two targets", targets, alike),
        ("a labelled sixteenth", "one source, one target", streets_semi_supervised(), everywhere()),
    )
    return study(
        "ddb_domains",
        "Several domains on streets",
        lines,
        seeds,
        REFERENCE,
        metric="mean/plain/last/miou",
        tables=DOMAINS,
    )


def published_domains(seeds: Sequence[int] = (0, 1, 2)) -> Study:
    """The same at the paper's size, the three rows that it has: days on a GPU."""
    both = {"score.domains": ["cityscapes", "mapillary_ddb"]}
    lines: tuple[Line, ...] = (
        ("one source, one target", "", gta5_cityscapes(), both),
        ("two sources", "one source, one target", multi_source(), both),
        ("two targets", "one source, one target", multi_target(), both),
    )
    title = "Several domains at the paper's size"
    return study("ddb_published_domains", title, lines, seeds, REFERENCE, metric="mean/plain/last/miou", tables=DOMAINS)


def crosses(seeds: Sequence[int] = (0, 1, 2)) -> Study:
    """What neither paper has: paths from a warm-up, with consensus, DiGA as a third teacher, DiGA with a cut mask."""
    whole = together()
    warm = {f"{path}.start": "warm_up" for path in ("cut_1", "classes_1")}
    agreed = {
        f"{path}.{field}": value
        for path in ("cut_1", "classes_1")
        for field, value in (("trust", "consensus"), ("centroids", "centroids"), ("delta", 0.99))
    }
    third = ["cut_1", "classes_1", "self_training"], ["cut_prototypes_1", "classes_prototypes_1", "third_prototypes"]
    lines: tuple[Line, ...] = (
        ("DDB, one round", "", whole, {}),
        ("paths from a warm-up", "DDB, one round", whole, warm),
        ("and by consensus", "paths from a warm-up", whole, warm | agreed),
        ("DiGA", "", whole, {"score.of": "self_training"}),
        ("DiGA, cut mask", "DiGA", whole, {"score.of": "self_training", "self_training.mix": CUT}),
        (
            "three teachers",
            "DDB, one round",
            whole,
            {"student_1.teachers": third[0], "student_1.prototypes": third[1]},
        ),
    )
    return study("ddb_crosses", "Crosses of DDB and DiGA on streets", lines, seeds)


def together() -> Recipe:
    """DiGA's stages and one round of DDB's in one recipe; what a score does not read is not carried out."""
    whole = diga_streets()
    own: dict[str, Stage] = {name: stage for name, stage in whole.stages.items() if name != "score"}
    own["third_prototypes"] = Centroids(of="self_training", **PROTOTYPES)
    ddb = streets(1)
    return whole.model_copy(update={"name": "ddb/streets with DiGA", "stages": own | ddb.stages})


def study(
    name: str,
    title: str,
    lines: Sequence[Line],
    seeds: Sequence[int],
    reference: str = "",
    metric: str = METRIC,
    tables: tuple[str, ...] = ("ddb", "per_class", "test_set", "costs"),
) -> Study:
    """A study of these lines."""
    rows = (Row(label=label, parent=parent, recipe=named(base, label, how)) for label, parent, base, how in lines)
    return Study(
        name=name,
        title=title,
        rows=tuple(rows),
        seeds=tuple(seeds),
        metric=metric,
        reference=reference,
        tables=tables,
    )
