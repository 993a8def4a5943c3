"""Recipes of the tables, carried out small, and studies that compare what they say they compare."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diga.differences import fields
from diga.errors import DataError
from diga.methods.adversarial import AdversarialWarmUp
from diga.pipeline import Place
from diga.plan import stage_runs
from diga.recipe import Recipe, override, plain
from diga.report.build import names_of_tables
from diga.study import Study
from diga.sweep import TABLES as SWEEP_TABLES
from experiments import (
    controls,
    ddb_studies,
    demo,
    diga,
    generalization,
    gta5_cityscapes,
    quirks,
    semi_supervised,
    synthia_cityscapes,
)
from experiments.official import QUIRKS
from tests.conftest import Chain, carried_out, png, small, stage_run, told_by
from tests.test_methods_switches import flat

BRIEF = {"plan.steps": 4, "plan.ramp": 0, "plan.snapshots": 2}


def brief(recipe: Recipe, **changes: Any) -> Recipe:
    """The same, a few steps long on small crops."""
    stages = [k for k, stage in recipe.stages.items() if hasattr(stage, "plan")]
    short = {f"{stage}.{field}": value for stage in stages for field, value in BRIEF.items()}
    more = {"centroids.steps": 2} if "centroids" in recipe.stages else {}
    return override(recipe, {"crop": [28, 56], "score.samples": 1} | short | more | changes)


def scores(place: Place, recipe: Recipe) -> dict[str, float]:
    """What the recipe's score says, after all is carried out."""
    from diga.pipeline import carry_out

    folder = [carry_out(run, place) for run in place.stage_runs(recipe)][-1].folder
    found: dict[str, float] = json.loads((folder / "scores.json").read_text())
    return found


# --- Table 6 -----------------------------------------------------------------------------


def test_generalization_never_reads_a_target_training_image(own_data: Path, tmp_path: Path) -> None:
    """Training images of the target cannot be read, nor their labels: nothing changes, and two domains are scored."""
    tree = own_data / "streets/cityscapes"
    (own_data / "streets/dusk").mkdir(exist_ok=True)
    if not (own_data / "streets/dusk/cityscapes/leftImg8bit").exists():
        shutil.copytree(tree, own_data / "streets/dusk/cityscapes", dirs_exist_ok=True)
    recipe = brief(generalization.streets())
    before = scores(Place(tmp_path / "a", own_data), recipe)
    for folder in ("leftImg8bit/train", "gtFine/train"):
        for file in (tree / folder).rglob("*.png"):
            file.write_bytes(b"unreadable")
    after = scores(Place(tmp_path / "b", own_data), recipe)
    assert before == after
    domains = [after[f"{domain}/plain/last/miou"] for domain in generalization.UNSEEN]
    assert after["mean/plain/last/miou"] == pytest.approx(np.mean(domains))
    adapted = brief(diga.streets())
    with pytest.raises(DataError):
        scores(Place(tmp_path / "c", own_data), adapted)


# --- Table 7 -----------------------------------------------------------------------------


def test_a_semi_supervised_chain_learns_labels_of_its_part_alone(own_data: Path, tmp_path: Path) -> None:
    """Labels of the unlabelled part are spoilt: nothing changes; the auxiliary head has its losses."""
    recipe = brief(semi_supervised.streets("1/2"), **{"score.domains": ["streets/cityscapes"]})
    place = Place(tmp_path / "a", own_data)
    before = scores(place, recipe)
    run = stage_run_of(recipe, "warm_up", place, tmp_path / "look")
    labelled = {s.stem for d in recipe.sources for s in run.domain(d).samples("train", labelled=True)}
    others = {s.stem for d in recipe.targets for s in run.domain(d).samples("train", labelled=False)}
    assert labelled and others and not labelled & others
    spoilt = 0
    for file in (own_data / "streets/cityscapes/gtFine/train").rglob("*.png"):
        if any(file.name.startswith(stem.removesuffix("_leftImg8bit")) for stem in others):
            file.write_bytes(b"closed")
            spoilt += 1
    assert spoilt == len(others)
    assert scores(Place(tmp_path / "b", own_data), recipe) == before
    stages = {r.name: place.store.found(r.fingerprint) for r in place.stage_runs(recipe)}
    told = set().union(*(set(values) for _, values in told_by(stages["self_training"])))
    assert {"loss/source_aux", "loss/distil_aux", "loss/target_aux"} <= told


def stage_run_of(recipe: Recipe, stage: str, place: Place, folder: Path) -> Any:
    from diga.engine.run import Run

    return Run(recipe, stage, folder, {}, place.data, place.manifests)


# --- Table 5 -----------------------------------------------------------------------------


@pytest.mark.parametrize("row", diga.table5().rows, ids=lambda row: row.recipe.stages["self_training"].rule)
def test_every_rule_for_target_labels_trains(chain: Chain, tmp_path: Path, row: Any) -> None:
    """On labels that kept what rules read; each ends elsewhere than all others, from the same start."""
    rule = row.recipe.stages["self_training"].rule
    recipe = small(labels__keep=["confidence", "probabilities"], self_training__rule=rule)
    run = stage_run(chain, recipe, "labels", tmp_path / "labels")
    recipe.stages["labels"](run)
    kept = {p.name for p in (tmp_path / "labels").iterdir()}
    assert {"labels", "confidence", "probabilities", "confidences.pt"} <= kept
    left = carried_out(chain, recipe, "self_training", tmp_path / "st", labels=tmp_path / "labels")
    others = small(self_training__rule="warm_up" if rule != "warm_up" else "consensus")
    base = carried_out(chain, others, "self_training", tmp_path / "base", labels=tmp_path / "labels")
    assert any(not np.array_equal(left[name], base[name]) for name in left if name.startswith("student"))
    values = [values for _, values in told_by(tmp_path / "st")]
    assert any("target/kept" in v and "entropy/target" in v for v in values)


def test_labels_are_the_same_whatever_is_kept_beside_them(chain: Chain, tmp_path: Path) -> None:
    recipe = small(labels__keep=["confidence", "probabilities"])
    recipe.stages["labels"](stage_run(chain, recipe, "labels", tmp_path))
    for file in (chain.folders["labels"] / "labels").glob("*.png"):
        label, again = png(file), png(tmp_path / "labels" / file.name)
        assert np.array_equal(label, again)
        confidence = png(tmp_path / "confidence" / file.name)
        p = np.load(tmp_path / "probabilities" / f"{file.stem}.npy")
        assert confidence.shape == label.shape
        assert p.shape[0] == 19
        assert np.allclose(p.sum(0, dtype=np.float64), 1, atol=2e-3)
        assert confidence.min() >= 255 // 19


# --- studies -----------------------------------------------------------------------------

STUDIES = [
    *(diga.table3(), diga.table4(), diga.table5(), generalization.table6()),
    *(semi_supervised.table7(), quirks.quirks(), controls.attribution()),
    *(gta5_cityscapes.table1(), synthia_cityscapes.table2()),
]


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_every_row_differs_from_its_parent(study: Study) -> None:
    rows = {row.label: flat(plain(row.recipe) | {"name": ""}) for row in study.rows}
    for row in study.rows:
        if row.parent:
            assert rows[row.label] != rows[row.parent], row.label


def test_every_table_is_printed_by_some_study() -> None:
    printed = {name for study in [*STUDIES, ddb_studies.domains(), ddb_studies.crosses()] for name in study.tables}
    assert printed | set(SWEEP_TABLES) == set(names_of_tables())


def test_source_only_at_full_size_sees_what_the_warm_up_sees() -> None:
    for study in (gta5_cityscapes.table1(), synthia_cityscapes.table2()):
        rows = {row.label: row.recipe for row in study.rows}
        one, other = rows["source-only"], rows["warm-up"]
        assert one.stages["warm_up"].draws(one) == other.stages["warm_up"].draws(other)
        assert one.stages["warm_up"].plan == other.stages["warm_up"].plan  # type: ignore[attr-defined]
        assert {row.recipe.stages["score"].protocol for row in study.rows} == {"two_scale_max"}  # type: ignore[attr-defined]
        assert list(one.needed()) == ["warm_up", "score"]


def test_a_quirk_row_changes_its_own_fields_alone() -> None:
    rows = {row.label: row for row in quirks.quirks().rows}
    found = {label: flat(plain(row.recipe)) for label, row in rows.items()}
    for label, row in rows.items():
        quirk = label.removeprefix("warm-up alone, ")
        if quirk in QUIRKS:
            clean = found[row.parent].items()
            changed = {k.removeprefix("stages."): found[label][k] for k, v in clean if v != found[label][k]}
            assert changed == dict(QUIRKS[quirk]) | {"name": row.recipe.name}
    assert len(rows) == 1 + len(QUIRKS.keys() - set(quirks.NOT_ON_STREETS)) + 1 + 2


def test_warm_up_alone_is_the_warm_up_of_the_rows_it_explains() -> None:
    """Only its score is new."""
    runs = {row.label: stage_runs(row.recipe, lambda name, use: f"{use} of {name}") for row in quirks.quirks().rows}
    known = {run.fingerprint for label in ("clean", quirks.LEAK) for run in runs[label]}
    for label in (quirks.ALONE, f"warm-up alone, {quirks.LEAK}"):
        assert [run.kind for run in runs[label] if run.fingerprint not in known] == ["Score"]


def test_the_rules_of_table5_differ_in_the_rule_alone() -> None:
    """Mixing stays fixed: else two things would be compared."""
    first, *others = (flat(plain(row.recipe)) for row in diga.table5().rows)
    for other in others:
        changed = {k for k in first if first[k] != other[k]} - {"name", "stages.labels.keep"}
        assert changed == {"stages.self_training.rule"}


def test_the_adversarial_rows_of_table4_have_no_teacher_and_the_same_schedule() -> None:
    rows = {row.label: row.recipe.stages["warm_up"] for row in diga.table4().rows}
    for label, stage in rows.items():
        assert isinstance(stage, AdversarialWarmUp) == (not label.startswith("Distil."))
        assert stage.plan == diga.WARM_UP  # type: ignore[attr-defined]


def test_a_row_without_a_judge_differs_from_its_own_in_the_judges_weight_alone() -> None:
    rows = {row.label: row for row in diga.table4().rows}
    for label, parent in (("no judge", "Adv."), ("no judge + CrDoMix", "Adv. + CrDoMix")):
        assert rows[label].parent == parent
        found, judged = (flat(plain(rows[name].recipe)) for name in (label, parent))
        changed = {k: v for k, v in found.items() if judged[k] != v and k != "name"}
        assert changed == {"stages.warm_up.adversarial": 0.0}


def test_the_matched_row_takes_as_much_work_as_warm_up() -> None:
    warm_up, source = diga.WARM_UP.steps * controls.WARM_UP_WORK, controls.MATCHED.steps * controls.SOURCE_WORK
    assert warm_up - controls.SOURCE_WORK < source <= warm_up


# --- the demo --------------------------------------------------------------------------------


def test_the_demo_is_table_3_with_half_the_updates() -> None:
    whole, half = diga.table3((3, 4)), demo.demo((3, 4))
    assert [(r.label, r.components, r.parent) for r in half.rows] == [
        (r.label, r.components, r.parent) for r in whole.rows
    ]
    assert half.seeds == (3, 4) and half.name == "demo"
    for row, other in zip(half.rows, whole.rows, strict=True):
        own, told = fields(row.recipe), fields(other.recipe)
        changed = {path: (told[path], own[path]) for path in own if path != "name" and own[path] != told[path]}
        assert changed == {
            **{f"{stage}.plan.ramp": (50, 25) for stage in ("warm_up", "self_training")},
            **{f"{stage}.plan.snapshots": (n, 2) for stage, n in (("warm_up", 5), ("self_training", 4))},
            **{f"{stage}.plan.steps": (n, n // 2) for stage, n in (("warm_up", 500), ("self_training", 400))},
        }
