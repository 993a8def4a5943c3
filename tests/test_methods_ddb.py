"""DDB's paths, prototypes and student: equations as their steps use them, switches, refusals, an exact resume."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diga import ops
from diga.engine.run import ARTIFACT, Run
from diga.errors import ConfigError
from diga.methods.ddb import CLASSES, CUT, Bridge, CrossPath
from diga.methods.targets import Centroids, load_prototypes
from diga.methods.views import MASK, MIX, TARGET_VIEW, VIEW
from diga.models.deeplab_v2 import Head
from diga.ops.prototypes import Prototypes
from diga.ops.rules import Chosen
from diga.pipeline import Place, execute
from diga.recipe import Recipe, override
from diga.settings import Mask, Photometric, Statistics
from diga.types import IGNORE, Batch, Pair, Prediction
from experiments.ddb import TARGET, streets
from experiments.ddb_studies import together
from tests.conftest import BRIEF, Chain, carried_out, differing, left_by, png, stage_run, told_by

B, K, D, H, W, h, w = 2, 19, 48, 8, 12, 2, 3
TRAINED = ("cut_1", "classes_1", "student_1")
STILL = Photometric(jitter=0.0, blur=0.0)
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels(seed: int, *shape: int, classes: int = K, void: float = 0.2) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, classes, shape, generator=g).masked_fill(torch.rand(shape, generator=g) < void, IGNORE)


def tiny(rounds: int = 1, steps: int = 12, **changes: Any) -> Recipe:
    """Paths and students of a few steps; dots of a path are written `__`."""
    brief: dict[str, Any] = {"crop": (28, 56), "score.samples": 1}
    for r in range(1, rounds + 1):
        for stage in (f"cut_{r}", f"classes_{r}", f"student_{r}"):
            brief |= {f"{stage}.plan.steps": steps, f"{stage}.plan.ramp": 0, f"{stage}.plan.snapshots": 2}
    return override(streets(rounds), brief | {k.replace("__", "."): v for k, v in changes.items()})


@pytest.fixture(scope="module")
def ddb(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Two rounds, carried out."""
    place = Place(tmp_path_factory.mktemp("home"), data)
    return Chain(tiny(2), place, execute(tiny(2), place))


def run_of(ddb: Chain, folder: Path, stage: str = "cut_1", **changes: Any) -> tuple[Any, Run]:
    """A stage with two images a batch, and a run of it."""
    recipe = tiny(**{"batch": B} | changes)
    return recipe.stages[stage], stage_run(ddb, recipe, stage, folder / "run")


# --- the whole ---------------------------------------------------------------------------


def test_two_rounds_leave_all_that_is_said(ddb: Chain) -> None:
    parts = {name: {key.split(".")[0] for key in left_by(f)} for name, f in ddb.folders.items() if name != "score"}
    for r in (1, 2):
        assert parts[f"cut_{r}"] == parts[f"classes_{r}"] == {"student", "teacher"}
        assert parts[f"cut_prototypes_{r}"] == parts[f"classes_prototypes_{r}"] == {"prototypes"}
        assert parts[f"student_{r}"] == {"student"}
    assert (ddb.folders["score"] / "scores.json").is_file()
    for name in ("cut_1", "classes_2", "student_2"):
        rows = told_by(ddb.folders[name])
        assert [step for step, _ in rows] == list(range(12))
        assert all(math.isfinite(v) for _, values in rows for v in values.values())
        assert list((ddb.folders[name] / "pictures").glob("*.png"))


def test_what_a_step_tells(ddb: Chain, tmp_path: Path) -> None:
    carried_out(ddb, tiny(), "cut_1", tmp_path / "a")
    carried_out(ddb, tiny(), "student_1", tmp_path / "b")
    path, student = (told_by(tmp_path / name)[1][1] for name in "ab")
    assert {"loss/source", "loss/mixed", "target/sure", "target/kept", "entropy/target"} <= set(path)
    assert {"loss/source", "loss/target", "target/agreement", "entropy/target"} <= set(student)


def test_a_second_round_starts_from_the_student_and_the_student_anew(ddb: Chain) -> None:
    recipe = tiny(2)
    for name in ("cut_2", "classes_2"):
        stage = recipe.stages[name]
        assert isinstance(stage, Bridge)
        run = stage_run(ddb, recipe, name, ddb.place.home / f"look_{name}")
        assert differing(stage.student(run).state_dict(), parts_of(ddb, "student_1", "student")) == []
        assert stage.plan.lr == pytest.approx(recipe.stages["cut_1"].plan.lr / 10)  # type: ignore[attr-defined]
    fresh = stage_run(ddb, recipe, "student_2", ddb.place.home / "look")
    found = recipe.stages["student_2"].student(fresh).state_dict()  # type: ignore[attr-defined]
    assert differing(found, fresh.segmenter().state_dict()) == []
    assert len({s.stream() for k, s in recipe.stages.items() if isinstance(s, Bridge | CrossPath)}) == 6


def parts_of(ddb: Chain, ref: str, part: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{part}."): x for k, x in left_by(ddb.folders[ref]).items() if k.startswith(f"{part}.")}


@pytest.mark.parametrize("of", [f"{kind}_{r}" for r in (1, 2) for kind in ("cut", "classes", "student")])
def test_every_intermediate_can_be_scored(ddb: Chain, tmp_path: Path, of: str) -> None:
    """Under its own name, from what the chain left: nothing is trained again."""
    recipe = override(tiny(2), {"score.of": of, "score.statistics": ["plain"]})
    assert recipe.needed()[-2:] == (of, "score")
    run = stage_run(ddb, recipe, "score", tmp_path)
    recipe.stages["score"](run)
    found = json.loads((tmp_path / "scores.json").read_text())
    assert 0 <= found[f"{TARGET}/plain/last/miou"] <= 1
    assert {"label_free/entropy", "label_free/agreement", "label_free/vanished"} <= found.keys()


# --- a path ------------------------------------------------------------------------------


@pytest.mark.parametrize("trust", ["fraction", "pixel", "one"])
def test_labels_of_the_target_pixel_by_pixel(ddb: Chain, tmp_path: Path, trust: str) -> None:
    stage, run = run_of(ddb, tmp_path, cut_1__trust=trust, cut_1__threshold=0.6)
    z = 3 * normal(1, B, K, H, W)
    chosen, sure = stage.labels(run, torch.zeros(B, 3, H, W), Prediction(z, z), None)
    p = z.softmax(1)
    certain = [[[float(p[b, :, i, j].max()) >= 0.6 for j in range(W)] for i in range(H)] for b in range(B)]
    shares = [sum(map(sum, image)) / (H * W) for image in certain]
    assert sure.tolist() == pytest.approx(shares)
    assert 0 < sum(shares) < B
    for b, i, j in [(b, i, j) for b in range(B) for i in range(H) for j in range(W)]:
        top = int(z[b, :, i, j].argmax())
        assert chosen.label[b, i, j] == (top if trust != "pixel" or certain[b][i][j] else IGNORE)
    if trust == "fraction":
        assert chosen.weight is not None
        assert chosen.weight.flatten().tolist() == pytest.approx([sum(shares) / B] * (B * H * W))
    else:
        assert chosen.weight is None


@pytest.mark.parametrize("unseen", ["ignored", "origin"])
def test_consensus_keeps_what_the_nearest_centroid_says_too(ddb: Chain, tmp_path: Path, unseen: Any) -> None:
    stage = Bridge(trust="consensus", centroids="cut_prototypes_1", unseen=unseen)
    run = stage_run(ddb, tiny(batch=B), "cut_1", tmp_path)
    rho = Prototypes(K, D)
    rho.vectors.copy_(normal(3, K, D))
    rho.seen.fill_(1)
    rho.vectors[4], rho.seen[4] = 0, 0
    f, z = 0.3 * normal(2, B, D, h, w), normal(1, B, K, h, w)
    chosen, _ = stage.labels(run, torch.zeros(B, 3, h, w), Prediction(z, f), rho)
    kept = 0
    for b, i, j in [(b, i, j) for b in range(B) for i in range(h) for j in range(w)]:
        far = [math.dist(f[b, :, i, j].tolist(), v.tolist()) for v in rho.vectors]
        far[4] = far[4] if unseen == "origin" else math.inf
        top, near = int(z[b, :, i, j].argmax()), min(range(K), key=far.__getitem__)
        assert chosen.label[b, i, j] == (top if top == near else IGNORE)
        kept += top == near
    assert chosen.weight is None
    assert (unseen == "origin") == (near == 4), kept


def test_the_mixed_image_label_and_weight_pixel_by_pixel(ddb: Chain, tmp_path: Path) -> None:
    stage, run = run_of(ddb, tmp_path, "classes_1", classes_1__photometric=STILL)
    x_s, y_s = normal(1, B, 3, H, W).sigmoid(), labels(2, B, H, W, classes=4)
    x_t, y_t, t = normal(3, B, 3, H, W).sigmoid(), labels(4, B, H, W), 7
    pair, q = Pair(Batch(x_s, y_s), x_t), torch.full((B, H, W), 0.3)
    image, label, weight = stage.mixed(run, pair, x_s, Chosen(y_t, q), t)
    M = ops.masks.classes(y_s, run.chance(t, MIX), CLASSES)
    for b in range(B):
        values = set(y_s[b].flatten().tolist())
        assert len(set(y_s[b][M[b, 0]].tolist())) == math.ceil(len(values) / 2), "void is a class like any other"
        for i, j in [(i, j) for i in range(H) for j in range(W)]:
            front = bool(M[b, 0, i, j])
            assert torch.equal(image[b, :, i, j], (x_s if front else x_t)[b, :, i, j])
            assert label[b, i, j] == (y_s if front else y_t)[b, i, j]
            assert weight[b, i, j] == (1 if front else q[b, i, j])
    assert stage.mixed(run, pair, x_s, Chosen(y_t), t)[2] is None
    loud = stage.model_copy(update={"photometric": Photometric(jitter=1.0)})
    again = loud.mixed(run, pair, x_s, Chosen(y_t), t)[0]
    wanted = ops.distortion.photometric(image, loud.photometric, run.chance(t, TARGET_VIEW))
    assert torch.equal(again, wanted), "colours are of the whole mixed image"


def test_each_image_draws_one_of_several_masks(ddb: Chain, tmp_path: Path) -> None:
    stage, run = run_of(ddb, tmp_path, batch=64)
    both = stage.model_copy(update={"beside": (CLASSES, Mask(kind="none"))})
    y = labels(1, 64, H, W, classes=4)
    found, t = both.masks(run, y, 3), 3
    kinds = [getattr(ops.masks, how.kind)(y, run.chance(t, MIX), how) for how in (CUT, CLASSES, Mask(kind="none"))]
    which = (run.chance(t, MASK).uniform() * 3).long().tolist()
    assert all(torch.equal(found[b], kinds[k][b]) for b, k in enumerate(which))
    assert min(which.count(k) for k in range(3)) > 10
    assert torch.equal(stage.masks(run, y, t), kinds[0]), "one mask alone is drawn as it always was"


def test_the_teacher_starts_as_the_student_on_batches_and_drops_nothing() -> None:
    S = Head(3, c_in=4)
    for policy in ("batch", "copied"):
        T = Bridge(statistics=Statistics(teacher=policy)).teacher(S)
        assert differing(S.state_dict(), T.state_dict()) == []
        assert not any(p.requires_grad for p in T.parameters())
        assert T.training == (policy == "batch")
        assert not T.dropout.training
        assert S.dropout.training
    x = normal(1, 2, 4, 5, 5)
    with torch.no_grad():
        T = Bridge().teacher(S)
        assert torch.equal(T(x).logits, T(x).logits)
        assert not torch.equal(T(x).logits, T.eval()(x).logits), "its statistics were those of the batch"


def test_the_teacher_follows_parameters_alone() -> None:
    S, T = Head(3, c_in=4), Head(3, c_in=4)
    before = [p.clone() for p in T.parameters()]
    for t, rate in ((0, 0.0), (1, 0.5), (98, 1 - 1 / 99), (99, 0.99), (5000, 0.99)):
        with torch.no_grad():
            for p, old in zip(T.parameters(), before, strict=True):
                p.copy_(old)
        Bridge().follow(T, S, t)
        for a, old, s in zip(T.parameters(), before, S.parameters(), strict=True):
            torch.testing.assert_close(a.detach(), rate * old + (1 - rate) * s.detach(), **CLOSE)
    S.adapter[1].running_mean.fill_(7)
    Bridge().follow(T, S, 3)
    assert T.adapter[1].running_mean.abs().max() == 0
    Bridge(statistics=Statistics(teacher="copied")).follow(T, S, 3)
    assert (T.adapter[1].running_mean == 7).all()


def test_centroids_follow_the_target(ddb: Chain, tmp_path: Path) -> None:
    stage = Bridge(trust="consensus", centroids="cut_prototypes_1", delta=0.6)
    run = stage_run(ddb, tiny(batch=B), "cut_1", tmp_path)
    rho, f, y = Prototypes(K, D), normal(1, B, D, h, w), labels(2, B, h, w, classes=3)
    rho.vectors.copy_(normal(3, K, D))
    wanted = rho.vectors.clone()
    for b in range(B):
        for k in y[b].unique().tolist():
            if k != IGNORE:
                wanted[k] = 0.6 * wanted[k] + 0.4 * f[b][:, y[b] == k].mean(1)
    stage.move(run, rho, Prediction(f, f), y)
    torch.testing.assert_close(rho.vectors, wanted, **CLOSE)


# --- the student -------------------------------------------------------------------------


def heard(seed: int, count: int) -> tuple[list[Prediction], list[Prototypes]]:
    """What teachers see of B images, and their prototypes."""
    seen = [Prediction(2 * normal(seed + m, B, K, h, w), normal(seed + 50 + m, B, D, h, w)) for m in range(count)]
    rhos = [Prototypes(K, D) for _ in range(count)]
    for m, rho in enumerate(rhos):
        rho.vectors.copy_(0.2 * normal(seed + 90 + m, K, D))
        rho.seen.fill_(1)
    return seen, rhos


@pytest.mark.parametrize("trust", ["none", "fraction"])
@pytest.mark.parametrize("target", ["hard", "soft"])
def test_what_the_student_learns_of_the_target(ddb: Chain, tmp_path: Path, target: str, trust: str) -> None:
    least = {"hard": 0.02, "soft": 0.25}[target]
    changes = {"target": target, "trust": trust, "threshold": least, "soft_weight": 0.3, "soft_temperature": 2.0}
    how = {f"student_1__{k}": v for k, v in changes.items()}
    stage, run = run_of(ddb, tmp_path, "student_1", balance="none", **how)
    voices = ops.ensemble.voices(*heard(1, 2))
    p = normal(7, B, K, h, w)
    label, losses = stage.learnt(run, voices, Prediction(p, p), torch.zeros(B, 3, h, w))
    s = torch.zeros(B, K, h, w)
    for voice in voices:
        for b, i, j in [(b, i, j) for b in range(B) for i in range(h) for j in range(w)]:
            assert voice.prototypes is not None
            far = [math.dist(voice.features[b, :, i, j].tolist(), v.tolist()) for v in voice.prototypes.vectors]
            near = torch.tensor([-d for d in far]).softmax(0)
            s[b, :, i, j] += near * voice.logits[b, :, i, j].softmax(0) / 2
    assert torch.equal(label, s.argmax(1))
    confidence = s.amax(1) if target == "hard" else (s / s.sum(1, keepdim=True)).amax(1)
    q = float((confidence >= least).float().mean()) if trust == "fraction" else 1.0
    assert trust == "none" or 0 < q < 1
    log_p = p.log_softmax(1)
    if target == "hard":
        wanted = -log_p.gather(1, s.argmax(1, keepdim=True)).mean()
    else:
        soft, log_soft = (s.log() / 2).softmax(1), (p / 2).log_softmax(1)
        wanted = 0.3 * 4 * (soft * (soft.log() - log_soft)).sum(1).mean()
    assert set(losses) == {"target"}
    assert losses["target"].item() == pytest.approx(q * wanted.item(), rel=1e-4)


def test_the_student_sees_other_colours_and_the_teachers_do_not(ddb: Chain, tmp_path: Path) -> None:
    stage, run = run_of(ddb, tmp_path, "student_1")
    x = normal(1, B, 3, H, W).sigmoid()
    pair = Pair(Batch(x, labels(2, B, H, W)), x)
    assert torch.equal(stage.source(run, pair, 3), ops.distortion.distorted(x, 0.5, run.chance(3, VIEW)))
    assert stage.model_copy(update={"distortion": 0.0}).source(run, pair, 3) is x
    assert torch.equal(
        stage.disturbed(run, x, 3), ops.distortion.photometric(x, stage.photometric, run.chance(3, TARGET_VIEW))
    )


def test_teachers_stay_as_they_are_and_run_as_tested(
    ddb: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[tuple[bool, bool]] = []
    real = ops.ensemble.voices

    def voices(seen: Any, rhos: Any) -> Any:
        modes.extend((out.logits.requires_grad, out.features.requires_grad) for out in seen)
        return real(seen, rhos)

    monkeypatch.setattr(ops.ensemble, "voices", voices)
    nets: list[nn.Module] = []
    segmenter = Run.segmenter
    monkeypatch.setattr(Run, "segmenter", lambda *how: nets.append(segmenter(*how)) or nets[-1])  # type: ignore[func-returns-value]
    carried_out(ddb, tiny(steps=2), "student_1", tmp_path)
    assert set(modes) == {(False, False)}
    _, *teachers = nets
    for ref, T in zip(("cut_1", "classes_1"), teachers, strict=True):
        assert not any(module.training for module in T.modules())
        assert differing(T.state_dict(), parts_of(ddb, ref, "student")) == []


def test_three_teachers_and_one(ddb: Chain, tmp_path: Path) -> None:
    three = {"student_1__teachers": ["cut_1", "classes_1", "cut_1"]}
    three["student_1__prototypes"] = ["cut_prototypes_1", "classes_prototypes_1", "cut_prototypes_1"]
    one = {"student_1__teachers": ["cut_1"], "student_1__prototypes": ["cut_prototypes_1"]}
    found = [
        carried_out(ddb, tiny(steps=2, **how), "student_1", tmp_path / name)
        for name, how in (("a", three), ("b", one), ("c", {}))
    ]
    assert differing(found[0], found[2]) and differing(found[1], found[2])


# --- prototypes --------------------------------------------------------------------------


def test_prototypes_pass_through_crops_of_every_target_image(ddb: Chain, tmp_path: Path) -> None:
    """Four passes over five images, four at a time; the mean is of images, each pixel's feature resized."""
    recipe = tiny(cut_prototypes_1__passes=4, cut_prototypes_1__least=3)
    run = stage_run(ddb, recipe, "cut_prototypes_1", tmp_path)
    crops = [image for image, _ in run.own.of_target(run)]  # type: ignore[attr-defined]
    assert [len(c) for c in crops] == [4] * 5
    left = carried_out(ddb, recipe, "cut_prototypes_1", tmp_path / "run")
    net = run.segmenter("cut_1").eval()
    sums: dict[int, list[Tensor]] = {}
    with torch.no_grad():
        for image in torch.cat(crops):
            out = net(image[None])
            f, z = (run.upsample(x, image) for x in (out.features, out.logits))
            for k in range(K):
                here = z[0].argmax(0) == k
                if here.sum() >= 3:
                    sums.setdefault(k, []).append(f[0][:, here].mean(1))
    assert len(sums) > 1
    for k in range(K):
        assert left["prototypes.seen"][k] == len(sums.get(k, []))
        mean = torch.stack(sums[k]).mean(0) if k in sums else torch.zeros(D)
        torch.testing.assert_close(left["prototypes.vectors"][k], mean, rtol=1e-4, atol=1e-5)


def test_at_pixels_labels_of_the_source_are_its_own(ddb: Chain, tmp_path: Path) -> None:
    how = {"images": "source_crdomix", "average": "cells", "steps": 2, "least": 1, "agreed": True}
    recipe = tiny(**{f"cut_prototypes_1__{k}": v for k, v in how.items()})
    left = carried_out(ddb, recipe, "cut_prototypes_1", tmp_path / "run")
    run = stage_run(ddb, recipe, "cut_prototypes_1", tmp_path)
    net, total, count = run.segmenter("cut_1").eval(), torch.zeros(K, D), torch.zeros(K)
    with torch.no_grad():
        for image, label in run.own.of_source(run):  # type: ignore[attr-defined]
            out = net(image)
            f, z = (run.upsample(x, image) for x in (out.features, out.logits))
            for k in range(K):
                here = (label == k) & (z.argmax(1) == k)
                total[k] += f.movedim(1, -1)[here].sum(0)
                count[k] += here.sum()
    assert torch.equal(left["prototypes.seen"], count)
    torch.testing.assert_close(left["prototypes.vectors"], total / count.clamp(min=1)[:, None], rtol=1e-4, atol=1e-5)


# --- no switch is dead -------------------------------------------------------------------

SWITCHES: dict[str, tuple[Any, str]] = {  # dotted path: another value, and part of a name of what must change
    "cut_1.start": ("warm_up", "student"),
    "cut_1.series": (5, "student"),
    "cut_1.mask.kind": ("noise", "student"),
    "cut_1.mask.fraction": (0.8, "student"),
    "cut_1.beside": ([{"kind": "classes"}], "student"),
    "cut_1.trust": ("one", "student"),
    "cut_1.threshold": (1e-6, "student"),
    "cut_1.ema": (0.0, "teacher"),
    "cut_1.photometric.strength": (0.0, "student"),
    "cut_1.photometric.blur": (1.0, "student"),
    "cut_1.photometric.kind": ("horizontal", "student"),
    "cut_1.photometric.sigma": ([3.0, 4.0], "student"),
    "cut_1.distortion": (1.0, "student"),
    "cut_1.normalise": ("all", "student"),
    "cut_1.statistics.student": ("running", "student.fine.0.1.running_mean"),
    "cut_1.statistics.teacher": ("copied", "teacher.fine.0.1.running_mean"),
    "cut_1.statistics.update": (["views"], "student.fine.0.1.running_mean"),
    "student_1.start": ("classes_1", "student"),
    "student_1.target": ("soft", "student"),
    "student_1.rectify": ("logits", "student"),
    "student_1.temperature": (30.0, "student"),
    "student_1.trust": ("fraction", "student"),
    "student_1.distortion": (0.0, "student"),
    "student_1.normalise": ("all", "student"),
    "student_1.photometric.jitter": (0.0, "student"),
    "student_1.statistics.update": (["views"], "student.fine.0.1.running_mean"),
    "cut_prototypes_1.at": ("cells", "prototypes.vectors"),
    "cut_prototypes_1.passes": (2, "prototypes.vectors"),
    "cut_prototypes_1.least": (200, "prototypes.vectors"),
    "cut_prototypes_1.average": ("cells", "prototypes.vectors"),
    "sampling": ("balanced", "student"),
}
CASES = [(path, value, part) for path, (value, part) in SWITCHES.items()]
CASES += [("soft", "student_1.soft_weight", 3.0), ("soft", "student_1.soft_temperature", 4.0)]
CASES += [("unsure", "student_1.threshold", 1e-9), ("absent", "student_1.unseen", "origin")]


def plainest(**changes: Any) -> Recipe:
    """Two steps of plain descent on DDB's and DiGA's stages in one recipe."""
    how = {"plan.steps": 2, "plan.optimizer": "sgd", "plan.lr": 0.05, "plan.snapshots": 1}
    brief: dict[str, Any] = {f"{stage}.{k}": v for stage in (*TRAINED, "warm_up") for k, v in how.items()}
    brief |= {"crop": (28, 56), "warm_up.translator": None, "classes_1.series": 11}
    brief |= {"cut_1.threshold": 0.5, "student_1.threshold": 0.2, "cut_1.photometric.blur": 0.9}
    return override(together(), brief | changes)


@pytest.fixture(scope="module")
def warm(ddb: Chain, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The same chain, and a warm-up beside it."""
    folder = tmp_path_factory.mktemp("warm") / "warm_up"
    carried_out(ddb, plainest(), "warm_up", folder)
    return ddb._replace(folders=ddb.folders | {"warm_up": folder})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_switch_is_dead(warm: Chain, tmp_path: Path, case: tuple[Any, ...]) -> None:
    base, inputs = plainest(), {}
    if case[0] in ("soft", "unsure", "absent"):
        extra = {"soft": {"student_1.target": "soft"}, "unsure": {"student_1.trust": "fraction"}, "absent": {}}
        base, (path, value), part = override(base, extra[case[0]]), case[1:], "student"
        if case[0] == "absent":
            inputs = {ref: lowered(warm, ref, tmp_path / ref) for ref in ("cut_prototypes_1", "classes_prototypes_1")}
    else:
        path, value, part = case
    stage = path.split(".")[0] if "." in path else "cut_1"
    sources = {"sources": ["streets/gta5", "streets/cityscapes"]} if path == "sampling" else {}
    first = carried_out(warm, override(base, sources), stage, tmp_path / "a", **inputs)
    second = carried_out(warm, override(base, sources | {path: value}), stage, tmp_path / "b", **inputs)
    changed = differing(first, second)
    assert any(name.startswith(part) for name in changed), changed


def lowered(chain: Chain, ref: str, folder: Path) -> Path:
    """Prototypes so far out that a class without one, at the origin, is nearest."""
    run = stage_run(chain, plainest(), "student_1", folder / "run")
    rho = load_prototypes(run, ref)
    rho.vectors.add_(30.0)
    rho.vectors[16], rho.seen[16] = 0, 0
    run.folder = folder
    run.save({"prototypes": rho})
    assert (folder / ARTIFACT).is_file()
    return folder


def test_no_prototypes_are_read_where_nothing_is_rectified(ddb: Chain, tmp_path: Path) -> None:
    plain = {"student_1__rectify": "none", "student_1__prototypes": []}
    found = [carried_out(ddb, tiny(steps=2, **how), "student_1", tmp_path / n) for n, how in (("a", plain), ("b", {}))]
    assert differing(*found)


def test_consensus_needs_its_centroids_to_do_something(warm: Chain, tmp_path: Path) -> None:
    agreed = {"cut_1.start": "warm_up", "cut_1.trust": "consensus", "cut_1.centroids": "centroids"}
    inputs = {"centroids": warm.folders["cut_prototypes_1"]}
    found = {}
    for name, delta in (("a", 1.0), ("b", 0.5)):
        recipe = plainest(**agreed, **{"cut_1.delta": delta})
        found[name] = carried_out(warm, recipe, "cut_1", tmp_path / name, **inputs)
    assert {key.split(".")[0] for key in found["a"]} == {"student", "teacher", "prototypes"}
    given = left_by(warm.folders["cut_prototypes_1"])
    assert torch.equal(found["a"]["prototypes.vectors"], given["prototypes.vectors"])
    assert "prototypes.vectors" in differing(found["a"], found["b"])


# --- what cannot be meant ----------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"student_1.teachers": ["cut_1"]}, r"student_1.prototypes: 2 for 1 teachers, .*\(1, in the order"),
    ({"student_1.prototypes": []}, r"student_1.prototypes: 0 for 2 teachers"),
    ({"student_1.rectify": "none"}, r"student_1.prototypes: 2 for 2 teachers, and rectify='none' \(0,"),
    (
        {"student_1.teachers": ["cut_prototypes_1", "classes_1"]},
        r"student_1.teachers\[0\]: 'cut_prototypes_1' is a Centroids, which leaves no student",
    ),
    (
        {"student_1.prototypes": ["classes_prototypes_1", "cut_prototypes_1"]},
        r"student_1.prototypes\[0\]: 'classes_prototypes_1' is of the features of 'classes_1' \(those of 'cut_1'",
    ),
    ({"student_1.prototypes": ["cut_1", "classes_1"]}, r"student_1.prototypes\[0\]: 'cut_1' is a Bridge"),
    ({"student_1.start": "cut_prototypes_1"}, r"student_1.start: .* leaves no student"),
    ({"classes_1.trust": "consensus"}, r"classes_1.centroids: none, and the trust 'consensus'.*cut_prototypes_1"),
    ({"classes_1.centroids": "cut_prototypes_1"}, r"classes_1.centroids: 'cut_prototypes_1', and the trust 'fraction'"),
    ({"classes_1.trust": "consensus", "classes_1.centroids": "cut_1"}, r"classes_1.centroids: 'cut_1' is a Bridge"),
    ({"student_1.teachers": []}, r"student_1.teachers"),
    ({"cut_prototypes_1.passes": 2, "cut_prototypes_1.images": "source_crdomix"}, r"cut_prototypes_1.passes: 2 passes"),
    ({"cut_1.photometric.sigma": [2.0, 1.0]}, r"cut_1.photometric.sigma"),
    ({"cut_1.threshold": 0.0}, r"cut_1.threshold: found 0.0 \(greater than 0\)"),
    ({"student_1.threshold": 1.0}, r"student_1.threshold: found 1.0 \(less than 1\)"),
    ({"cut_1.mask.fraction": 0.01}, r"cut_1.mask.fraction: found 0.01, of which 'cut' makes no pixel of 28 x 56"),
    (
        {"cut_1.beside": [{"kind": "classes"}, {"kind": "noise", "fraction": 1e-4}]},
        r"cut_1.beside\[1\].fraction: .*\(0.0003189 or more\)",
    ),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED, ids=lambda x: str(x)[:60])
def test_what_cannot_be_meant_is_refused_before_it_runs(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        override(tiny(), changes)


def test_a_painter_leaves_no_student() -> None:
    with pytest.raises(ConfigError, match=r"cut_1.start: 'translator' is a ColourTransfer, which leaves no student"):
        override(together(), {"cut_1.start": "translator"})


def test_references_in_tuples_are_references() -> None:
    from diga.stage import refs

    stage = CrossPath(teachers=("a", "b"), prototypes=("c", "d"), start="e")
    assert sorted(refs(stage)) == ["a", "b", "c", "d", "e"]
    assert refs(Bridge(start="a", trust="consensus", centroids="b")) == ["a", "b"]
    assert refs(Centroids(of="a")) == ["a"]


# --- resumed -----------------------------------------------------------------------------


class Stop(Exception):
    """Where a run is cut short."""


@dataclass
class Stopped(Run):
    """A run that ends before a step."""

    at: int = -1

    def pairs(self, start: int, stop: int) -> Iterator[Pair]:
        for t, pair in enumerate(super().pairs(start, stop), start):
            if t == self.at:
                raise Stop
            yield pair


@pytest.mark.parametrize("stage", ["cut_1", "student_1", "consensus"])
@pytest.mark.parametrize("at", [2, 4, 7])
def test_cut_short_and_resumed_is_unbroken(warm: Chain, tmp_path: Path, stage: str, at: int) -> None:
    recipe, inputs = override(plainest(), {f"{s}.plan.steps": 8 for s in TRAINED}), dict(warm.folders)
    if stage == "consensus":
        agreed = {"trust": "consensus", "centroids": "centroids", "delta": 0.9, "start": "warm_up"}
        recipe = override(recipe, {f"cut_1.{k}": v for k, v in agreed.items()})
        inputs["centroids"], stage = warm.folders["cut_prototypes_1"], "cut_1"
    whole = carried_out(warm, recipe, stage, tmp_path / "whole", **inputs)
    run = stage_run(warm, recipe, stage, tmp_path / "cut", inputs)
    broken = Stopped(recipe, stage, run.folder, run.inputs, run.data_root, run.cache, pace=BRIEF, at=at)
    with pytest.raises(Stop):
        recipe.stages[stage](broken)
    assert not (run.folder / ARTIFACT).exists()
    again = carried_out(warm, recipe, stage, tmp_path / "cut", **inputs)
    assert differing(whole, again) == []
    assert told_by(tmp_path / "whole") == told_by(tmp_path / "cut")


# --- what is shown -----------------------------------------------------------------------


def test_pictures_are_there_to_be_looked_at(ddb: Chain, tmp_path: Path) -> None:
    for stage, name in (("cut_1", "bridge"), ("student_1", "cross-path")):
        carried_out(ddb, tiny(steps=1), stage, tmp_path / stage)
        (file,) = (tmp_path / stage / "pictures").glob("*.png")
        assert file.name == f"{name}-00000000.png"
        assert png(file).shape[2] == 3
