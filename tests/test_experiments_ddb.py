"""DDB's recipes and studies: what they share, what they are made of, and the tables of their records."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from diga.data.domain import domain
from diga.data.streams import PairStream, balanced
from diga.engine.protocols import half_scale, single_scale_1024x512, two_scale_max
from diga.errors import ConfigError
from diga.methods.ddb import CLASSES, CUT, Bridge, CrossPath
from diga.methods.targets import Centroids
from diga.models import deeplab_v2_adapter, streetnet
from diga.models.deeplab_v2 import ResNetV1c
from diga.models.norm import norms
from diga.plan import StageRun, distinct, stage_runs
from diga.recipe import Recipe, dumps, loads, override
from diga.report import latex, markdown
from diga.study import Study
from diga.types import Prediction
from experiments import ddb, ddb_studies
from reports import ddb as table_of_paths
from reports import ddb_domains
from tests import make_records as make
from tests.test_data_reading import cityscapes, gta5, png
from tests.test_methods_switches import fields

torch.set_num_threads(1)
LADDER, PAIRS = ddb_studies.ladder, ddb_studies.path_pairs
STUDIES = [LADDER, PAIRS, ddb_studies.rectify, ddb_studies.initialisation, ddb_studies.domains, ddb_studies.crosses]
FULL = [ddb.gta5_cityscapes, ddb.official, ddb.multi_source, ddb.multi_target]


def digest(name: str, use: str) -> str:
    """A stand-in for the digest of a domain's files."""
    return f"{use} of {name}"


def runs(study: Study) -> dict[str, StageRun]:
    """Every distinct stage run of a study."""
    return distinct(run for cell in study.cells() for run in stage_runs(cell.recipe, digest))


def kinds(study: Study) -> Counter[str]:
    return Counter(run.kind for run in runs(study).values())


# --- what is shared ----------------------------------------------------------------------


def test_six_students_of_a_study_train_each_teacher_once() -> None:
    for seeds in ((0,), (0, 1, 2)):
        found = kinds(ddb_studies.rectify(seeds))
        n = len(seeds)
        assert found == {"Bridge": 2 * n, "Centroids": 2 * n, "CrossPath": 6 * n, "Score": 6 * n}


def test_the_ladder_is_seven_trainings_and_the_pairs_add_five() -> None:
    ladder, pairs = (runs(make((0,))) for make in (LADDER, PAIRS))
    assert kinds(LADDER((0,))) == {"SourceOnly": 1, "Bridge": 4, "Centroids": 4, "CrossPath": 2, "Score": 7}
    assert kinds(PAIRS((0,))) == {"Bridge": 4, "Centroids": 4, "CrossPath": 4, "Score": 6}
    own = [run for name, run in pairs.items() if name not in ladder]
    assert Counter(run.kind for run in own) == {"Bridge": 2, "Centroids": 2, "CrossPath": 3, "Score": 3}
    assert sum(run.steps for run in {**ladder, **pairs}.values()) == 12 * ddb.STEPS.steps


def test_paths_of_a_pair_differ_in_mask_or_in_all_that_is_drawn() -> None:
    for row in PAIRS((0,)).rows:
        student = row.recipe.stages["student_1"]
        assert isinstance(student, CrossPath)
        teachers = [row.recipe.stages[name] for name in student.teachers]
        assert len({stage.stream() for stage in teachers}) == len(teachers)
        masks = [stage.mask for stage in teachers if isinstance(stage, Bridge)]
        wanted = {"student of cut + cut": [CUT, CUT], "student of class + class": [CLASSES, CLASSES]}
        assert masks == wanted.get(row.label, [CLASSES] if row.label == "student of class" else [CUT, CLASSES])


def test_students_of_other_starts_share_their_teachers() -> None:
    found = kinds(ddb_studies.initialisation((0,)))
    assert found["Bridge"] == found["Centroids"] == 2
    assert found["CrossPath"] == found["Score"] == 4
    assert found["WarmUp"] == 1


@pytest.mark.parametrize("study", [*STUDIES, ddb_studies.published_domains])
def test_rows_of_a_study_are_different_and_come_back(study: Any) -> None:
    made = study()
    assert len({dumps(row.recipe.model_copy(update={"name": "x"})) for row in made.rows}) == len(made.rows)
    for row in made.rows:
        assert loads(dumps(row.recipe)) == row.recipe
        last = list(stage_runs(row.recipe, digest))[-1]
        assert last.kind == "Score"
    scores = [list(stage_runs(row.recipe, digest))[-1].fingerprint for row in made.rows]
    assert len(set(scores)) == len(scores), "no two rows come to the same"


def test_crosses_have_what_they_are_called_for() -> None:
    rows = {row.label: row.recipe for row in ddb_studies.crosses().rows}
    assert [r.stages["student_1"].teachers for r in rows.values()].count(("cut_1", "classes_1", "self_training")) == 1  # type: ignore[attr-defined]
    for path in ("cut_1", "classes_1"):
        assert rows["paths from a warm-up"].stages[path].start == "warm_up"  # type: ignore[attr-defined]
        assert rows["and by consensus"].stages[path].trust == "consensus"  # type: ignore[attr-defined]
    assert rows["DiGA, cut mask"].stages["self_training"].mix == CUT  # type: ignore[attr-defined]
    assert "Bridge" not in {run.kind for run in stage_runs(rows["DiGA"], digest)}


# --- recipes -----------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_rounds_are_a_loop(rounds: int) -> None:
    stages = ddb.streets(rounds).stages
    assert Counter(type(s).__name__ for s in stages.values()) == {
        "Bridge": 2 * rounds,
        "Centroids": 2 * rounds,
        "CrossPath": rounds,
        "Score": 1,
    }
    for r in range(1, rounds + 1):
        cut, student = stages[f"cut_{r}"], stages[f"student_{r}"]
        assert isinstance(cut, Bridge) and isinstance(student, CrossPath)
        assert cut.start == (f"student_{r - 1}" if r > 1 else None)
        assert student.start is None
        assert cut.plan.lr == pytest.approx(ddb.STEPS.lr * (0.1 if r > 1 else 1))
    draws = [s.stream() for s in stages.values() if isinstance(s, Bridge | CrossPath)]
    assert len(set(draws)) == 3 * rounds


def test_official_differs_from_clean_in_the_documented_fields_alone() -> None:
    clean, official = fields(ddb.streets()), fields(ddb.streets_official())
    changed = {path: value for path, value in official.items() if value != clean[path]}
    wanted = {
        f"{name}.{path}": value
        for name, stage in ddb.streets().stages.items()
        for path, value in ddb.OFFICIAL.get(type(stage), {}).items()
    }
    assert changed == wanted | {"name": "ddb/streets_official"}
    told = (Path(__file__).parents[1] / "docs/ddb.md").read_text()
    assert all(f"`{path}`" in told for changes in ddb.OFFICIAL.values() for path in changes)


def test_several_domains() -> None:
    sources, targets, part = ddb.streets_multi_source(), ddb.streets_multi_target(), ddb.streets_semi_supervised()
    assert (sources.sources, sources.targets) == (("streets/gta5", ddb.DUSK), (ddb.TARGET,))
    assert targets.targets == (ddb.TARGET, ddb.DUSK)
    assert targets.stages["score"].scores() == (ddb.TARGET, ddb.UNSEEN_DUSK)
    assert part.sources == ("streets/gta5", f"{ddb.TARGET}@1/16")
    assert part.targets == (f"{ddb.TARGET}@not-1/16",)


@pytest.mark.parametrize("make_recipe", FULL)
def test_recipes_of_the_papers_size(make_recipe: Any) -> None:
    recipe: Recipe = make_recipe()
    assert loads(dumps(recipe)) == recipe
    assert (recipe.crop, recipe.batch, recipe.model) == ((512, 512), 4, "deeplab_v2_adapter")
    passes = [s.passes for s in recipe.stages.values() if isinstance(s, Centroids)]
    assert passes == [4] * 4


def test_rates_are_the_published_ones() -> None:
    """Golden values of AdamW at 6e-5: a rise from a millionth over 1500 steps, times what is left of 40,000."""
    stages = ddb.gta5_cityscapes().stages
    plan = stages["cut_1"].plan  # type: ignore[attr-defined]
    golden = {0: 6.0e-11, 1: 4.006e-8, 750: 2.9438e-5, 1499: 5.7713e-5, 1500: 5.775e-5, 20_000: 3e-5, 39_999: 1.5e-9}
    for t, lr in golden.items():
        assert plan.lr_at(t) == pytest.approx(lr, rel=2e-4)
    assert (plan.optimizer, plan.momentum, plan.beta_2, plan.weight_decay) == ("adamw", 0.9, 0.999, 0.01)
    assert (plan.head, plan.backbone) == (10.0, 1.0)
    assert stages["cut_2"].plan.lr_at(20_000) == pytest.approx(3e-6)  # type: ignore[attr-defined]
    assert stages["student_2"].plan.lr_at(20_000) == pytest.approx(3e-5)  # type: ignore[attr-defined]


def test_a_ramp_without_a_start_is_as_it_was() -> None:
    plan = ddb.STEPS
    for t in range(plan.ramp + 5):
        rise = min(1.0, (t + 1) / plan.ramp)
        assert plan.lr_at(t) == plan.lr * rise * (1 - t / plan.steps) ** plan.power


# --- the network -------------------------------------------------------------------------


def test_the_network_has_the_published_size_and_cost() -> None:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        net = deeplab_v2_adapter(19).eval()
        out = net(torch.empty(1, 3, 512, 512))
    assert out.logits.shape == (1, 19, 64, 64)
    assert out.features.shape == (1, 256, 64, 64)
    sizes = {k: round(sum(p.numel() for p in v) / 1e6, 2) for k, v in net.parameter_groups().items()}
    assert sizes == {"backbone": 42.52, "head": 5.31}
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == 47.83
    assert counter.get_total_flops() / 1e9 == pytest.approx(400.5, rel=2e-4)
    assert all(p.requires_grad for norm in norms(net) for p in norm.parameters())


def test_strides_and_dilations_of_the_backbone() -> None:
    net = ResNetV1c((2, 2, 3, 2))
    found = [
        [(block.conv1.stride[0], block.conv2.stride[0], block.conv2.dilation[0]) for block in stage]
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4)
    ]
    assert found == [
        [(1, 1, 1)] * 2,
        [(1, 2, 1), (1, 1, 1)],
        [(1, 1, 1), (1, 1, 2), (1, 1, 2)],
        [(1, 1, 2), (1, 1, 4)],
    ]
    names = set(net.state_dict())
    assert {"stem.0.weight", "stem.4.running_var", "stem.7.bias", "layer1.0.downsample.1.weight"} <= names
    with torch.no_grad():
        assert net(torch.rand(2, 3, 65, 40)).shape == (2, 2048, 9, 5)


def test_half_of_an_image_alone_is_the_second_of_two_scales() -> None:
    net, image = streetnet(19).eval(), torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        (half,) = half_scale(net, image)
        assert torch.equal(half, two_scale_max(net, image)[1])


@pytest.mark.parametrize(
    ("size", "seen"),
    [((1024, 2048), (512, 1024)), ((3000, 4000), (512, 683)), ((4000, 3000), (683, 512)), ((64, 128), (512, 1024))],
)
def test_images_are_tested_within_1024_x_512_in_their_own_shape(size: Any, seen: Any) -> None:
    sizes: list[tuple[int, ...]] = []

    def net(image: torch.Tensor) -> Prediction:
        sizes.append(tuple(image.shape[-2:]))
        return Prediction(image, image)

    single_scale_1024x512(net, torch.zeros(1, 3, *size))  # type: ignore[arg-type]
    assert sizes == [seen]


def test_cityscapes_images_are_tested_at_half_their_size() -> None:
    image = torch.rand(1, 3, 1024, 2048)
    net: Any = lambda x: Prediction(x, x)  # noqa: E731
    assert torch.equal(*single_scale_1024x512(net, image), *half_scale(net, image))


# --- data --------------------------------------------------------------------------------


def test_balanced_draws_are_one_of_each_domain_in_turn_and_whole_shuffles_of_it() -> None:
    sizes = [5, 2, 3]
    found = [balanced(7, "source", i, sizes) for i in range(3 * 30)]
    starts = [0, 5, 7, 10]
    for turn in range(30):
        three = found[3 * turn : 3 * turn + 3]
        assert sorted(sum(i >= s for s in starts) for i in three) == [1, 2, 3]
    for d, n in enumerate(sizes):
        own = [i - starts[d] for i in found if starts[d] <= i < starts[d + 1]]
        epochs = [own[k : k + n] for k in range(0, 30, n)]
        assert all(sorted(e) == list(range(n)) for e in epochs)
        assert len({tuple(e) for e in epochs}) > 1
    assert found != [balanced(7, "target", i, sizes) for i in range(90)]
    assert found != [balanced(8, "source", i, sizes) for i in range(90)]
    assert {balanced(7, "source", i, [4]) for i in range(4)} == set(range(4))


def test_a_stream_draws_domains_alike_only_if_it_is_told_to(tmp_path: Path) -> None:
    gta5(tmp_path, 9)
    gta5(tmp_path / "more", 3)
    cityscapes(tmp_path)
    sources = [domain("gta5", tmp_path), domain("more/gta5", tmp_path)]
    how: dict[str, Any] = {"crop": (8, 12), "batch": 4, "seed": 3, "read": frozenset({"source"})}
    shares = {}
    for sampling in ("proportional", "balanced"):
        stream = PairStream(sources, [], sampling=sampling, **how)
        drawn = [entry for t in range(30) for _, entry in stream._drawn("source", stream.sources, t)]
        shares[sampling] = Counter(entry.domain.name for entry in drawn)
        parts = [PairStream(sources, [], sampling=sampling, rank=r, world=2, **how) for r in (0, 1)]
        assert torch.equal(stream[5].source.image, torch.cat([p[5].source.image for p in parts]))
    assert shares["balanced"] == {"gta5": 60, "more/gta5": 60}
    assert shares["proportional"] == {"gta5": 90, "more/gta5": 30}


def test_synscapes(tmp_path: Path) -> None:
    for kind in ("rgb", "class"):
        (tmp_path / "synscapes/img" / kind).mkdir(parents=True)
    ids = np.array([[7, 26], [0, 33]], np.uint8)
    for n in (1, 2, 10):
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / f"synscapes/img/rgb/{n}.png")
        (tmp_path / f"synscapes/img/class/{n}.png").write_bytes(png(ids))
        (tmp_path / f"synscapes/img/class/{n}_gt_labelTrainIds.png").write_bytes(png(ids))
    found = domain("synscapes", tmp_path)
    samples = found.samples("train", labelled=True)
    assert [s.stem for s in samples] == ["1", "10", "2"]
    assert found.label(samples[0]).tolist() == [[0, 13], [255, 18]]
    with pytest.raises(ConfigError, match="no split of Synscapes"):
        found.samples("val", labelled=True)


# --- tables ------------------------------------------------------------------------------


def spec(study: Any, seeds: tuple[int, ...] = (0, 1, 2), **declared: Any) -> make.Spec:
    made = study(seeds)
    rows = [(row.label, row.parent, 0.4 + 0.01 * i) for i, row in enumerate(made.rows)]
    how = {"title": made.title, "reference": made.reference} | declared
    return make.study(made.name, rows, seeds, lambda i, base: make.numbers(base, 400.0 * (i + 1)), **how)


def test_the_ladder_stands_beside_what_is_on_record() -> None:
    known = make.in_memory(spec(LADDER))
    table = table_of_paths.table(known)
    keys = [column.key for column in table.columns]
    paper = {row.key: row.cells[keys.index("paper")].mean for row in table.rows}
    recorded = {k: v for k, v in paper.items() if not math.isnan(v)}
    assert recorded == {
        "cut path, round 1": 56.5,
        "class path, round 1": 58.2,
        "CKD round 1": 61.2,
        "CKD round 2 (final)": 62.7,
    }
    steps = {row.key: row.cells[keys.index("paper_step")].mean for row in table.rows}
    assert steps["CKD round 1"] == pytest.approx(3.0)
    assert steps["CKD round 2 (final)"] == pytest.approx(1.5)
    assert "Published numbers: DDB" in markdown.table(table)
    assert latex.problems(latex.table(table)) == []
    said = table_of_paths.verdicts(known)
    assert len(said) == 6
    assert said[2].startswith("CKD round 1 over class path, round 1: ") and said[2].endswith("Published: +3.0.")


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("seeds", [(0, 1, 2), (3,)])
def test_every_study_has_its_table(study: Any, seeds: tuple[int, ...]) -> None:
    module = ddb_domains if study is ddb_studies.domains else table_of_paths
    assert study().tables[0] == module.__name__.rpartition(".")[2]
    made = spec(study, seeds)
    if module is ddb_domains:
        measured = made.changed(lambda cell: make.replace(cell, metrics=everywhere(cell.metrics)))
        made = measured.declared(metric="mean/plain/last/miou")
    table = module.table(make.in_memory(made))
    assert [row.key for row in table.rows] == [row.label for row in study().rows]
    assert latex.problems(latex.table(table)) == []
    assert len(module.verdicts(make.in_memory(made))) == sum(bool(row.parent) for row in study().rows)
    if len(seeds) == 1:
        assert "±" not in markdown.table(table)


def everywhere(metrics: Any) -> dict[str, float]:
    """What is logged of a cell that is scored on two domains."""
    base = metrics[f"{make.DOMAIN}/plain/last/miou"]
    dusk = make.numbers(base - 0.1, domain="streets/dusk/cityscapes")
    return dict(metrics) | dusk | make.numbers(base - 0.05, domain="mean")


def test_domains_have_a_column_each_and_a_row_that_lacks_one_is_refused() -> None:
    made = spec(ddb_studies.domains, metric="mean/plain/last/miou")
    whole = made.changed(lambda cell: make.replace(cell, metrics=everywhere(cell.metrics)))
    table = ddb_domains.table(make.in_memory(whole))
    keys = [column.key for column in table.columns]
    assert {"streets/cityscapes", "streets/dusk/cityscapes", "mean", "step"} <= set(keys)
    row = table.rows[0]
    one, dusk, mean = (row.cells[keys.index(k)].mean for k in ("streets/cityscapes", "streets/dusk/cityscapes", "mean"))
    assert mean == pytest.approx((one + dusk) / 2)
    ties = [cell.tied for row in table.rows for cell in row.cells]
    assert any(ties), "rows a point apart, whose seeds differ by as much"
    assert "best" in keys
    part = made.changed(lambda cell: make.replace(cell, metrics=everywhere(cell.metrics)) if cell.index != 2 else cell)
    with pytest.raises(ConfigError, match="not scored on streets/dusk/cityscapes"):
        ddb_domains.table(make.in_memory(part))


@pytest.mark.parametrize("study", [ddb_studies.domains, ddb_studies.published_domains])
def test_domains_stand_beside_what_is_published_of_them(study: Any) -> None:
    """69.0 of two sources, 60.4 and 56.9 of two targets; less it only where a target is the paper's, too."""
    names = {"streets/dusk/cityscapes": "mapillary_ddb", "streets/cityscapes": "cityscapes"}
    small = study is ddb_studies.domains

    def scored(cell: make.Cell) -> make.Cell:
        found = everywhere(cell.metrics)
        for old, new in {} if small else names.items():
            found = {key.replace(old, new) if key.startswith(old) else key: v for key, v in found.items()}
        return make.replace(cell, metrics=found)

    made = spec(study, metric="mean/plain/last/miou").changed(scored)
    table = ddb_domains.table(make.in_memory(made))
    keys = [column.key for column in table.columns]
    values = {row.key: dict(zip(keys, (cell.mean for cell in row.cells), strict=True)) for row in table.rows}
    assert values["two sources"]["paper_Cityscapes"] == 69.0
    assert [values["two targets"][f"paper_{name}"] for name in ("Cityscapes", "Mapillary")] == [60.4, 56.9]
    assert values["one source, one target"]["paper_Cityscapes"] == 62.7
    ours = values["two targets"][names["streets/cityscapes"] if not small else "streets/cityscapes"]
    assert values["two targets"]["gap_Cityscapes"] == pytest.approx(ours - 60.4)
    assert ("gap_Mapillary" in keys) == (not small)
    if not small:
        assert values["two targets"]["gap_Mapillary"] == pytest.approx(values["two targets"]["mapillary_ddb"] - 56.9)
    assert "Ours − paper: " in table.caption
    assert "Published numbers: DDB" in markdown.table(table)
    assert latex.problems(latex.table(table)) == []
    assert not any("paper_" in c.key for c in ddb_domains.table(make.in_memory(made.declared(reference=""))).columns)


def test_a_wrong_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="sampling"):
        override(ddb.streets(), {"sampling": "even"})
