"""Translators: their losses, what they leave, what they paint with, and paintings that are stored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from diga import ops
from diga.data.streets import Knobs, make
from diga.engine.checkpoint import read_weights
from diga.engine.fit import Step
from diga.engine.run import ARTIFACT, Run
from diga.errors import ConfigError, DataError
from diga.methods.adversarial import AdversarialWarmUp
from diga.methods.diga import WarmUp
from diga.methods.painting import FOLDER, Painted, draw_of, one_by_one
from diga.methods.source_only import SourceOnly
from diga.methods.translation import (
    ChannelStatistics,
    ColourTransfer,
    Fourier,
    Translator,
    least_side,
    of_any_size,
)
from diga.models import translator as network
from diga.models.judge import OutputJudge
from diga.models.vgg import VGG19
from diga.ops.chance import Chance
from diga.pipeline import Place, execute
from diga.recipe import Recipe, dumps, loads, override
from diga.settings import Plan
from diga.stage import Stage
from diga.types import IGNORE, Batch, Pair
from tests.conftest import (
    BRIEF,
    COUNTS,
    Chain,
    carried_out,
    differing,
    png,
    small,
    stage_run,
    told_by,
    until,
    with_stage,
)

CROP, BATCH = (32, 64), 2
CLOSE = {"rtol": 1e-4, "atol": 1e-6}
PLAN = Plan(steps=2, optimizer="adam", lr=1e-3, momentum=0.5, weight_decay=0.0, head=1.0, snapshots=1)
CLOSED = (ColourTransfer(), ChannelStatistics(), Fourier(beta=0.1))


def gan(**fields: Any) -> Translator:
    """A narrow translator of a few steps."""
    return Translator(**{"width": 4, "blocks": 1, "scales": 2, "plan": PLAN} | fields)


def recipe_of(stage: Stage, **changes: Any) -> Recipe:
    """The small recipe on whole images, with another translator."""
    return with_stage(small(**{"crop": CROP, "batch": BATCH} | changes), "translator", stage)


def run_of(chain: Chain, folder: Path, stage: Stage, **changes: Any) -> Run:
    """A run of that translator."""
    return stage_run(chain, recipe_of(stage, **changes), "translator", folder)


# --- the adversarial translator -----------------------------------------------------------


class Eye(nn.Module):
    """Five maps of an image, of which only the sizes are VGG19's."""

    def forward(self, image: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(image, 2**i).square() for i in range(5)]


def loop_of(monkeypatch: pytest.MonkeyPatch, run: Run) -> tuple[dict[str, nn.Module], Step]:
    """Networks and step of a stage whose loop is not begun."""
    found: list[Any] = []
    monkeypatch.setattr(Run, "fit", lambda self, nets, step, plan, keep: found.append((dict(nets), step)))
    run.own(run)
    return found[0]  # type: ignore[no-any-return]


def slow_l1(a: Tensor, b: Tensor) -> float:
    return float(np.mean([abs(x - y) for x, y in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)]))


def slow_lsgan(scores: list[Tensor], says: int) -> float:
    return sum(float(np.mean([(s - says) ** 2 for s in score.flatten().tolist()])) for score in scores)


def slow_edge(image: Tensor, painted: Tensor, label: Tensor) -> float:
    """L1 where the label's 5 x 5 Laplacian is not flat, over all pixels and channels."""
    total = 0.0
    B, H, W = label.shape
    for b, i, j in ((b, i, j) for b in range(B) for i in range(H) for j in range(W)):
        mirrored = [
            label[b, H - 1 - abs(H - 1 - abs(y)), W - 1 - abs(W - 1 - abs(x))]
            for y in range(i - 2, i + 3)
            for x in range(j - 2, j + 3)
        ]
        laplacian = (sum(int(k) for k in mirrored) - 25 * int(label[b, i, j])) / 48
        if abs(laplacian) > 0.1:
            total += float((image[b, :, i, j] - painted[b, :, i, j]).abs().sum())
    return total / image.numel()


def test_the_losses_of_a_step(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every term by loops over pixels; the judge's update changes what fools it."""
    stage = gan(adversarial=0.7, cycle=3.0, own=0.2, edge=5.0, perceptual=0.3, perceptual_weights="vgg19.pth")
    monkeypatch.setattr(Translator, "sight", lambda self, run: Eye())
    run = run_of(chain, tmp_path, stage)
    nets, step = loop_of(monkeypatch, run)
    G, D, pair = nets["generator"], nets["judge"], next(run.pairs(0, 1))
    x_s, y_s, x_t = pair.source.image, pair.source.label, pair.target
    with torch.no_grad():
        z_s, z_t = G.from_s(x_s), G.from_t(x_t)
        fake_t, fake_s = G.to_t(z_s), G.to_s(z_t)
        back_s, back_t = G.to_s(G.from_t(fake_t)), G.to_t(G.from_s(fake_s))
        own_s, own_t = G.to_s(z_s), G.to_t(z_t)
    updates = step(pair, 0)
    name, judged = next(updates)
    assert name == "judge"
    for k, real, fake in (("s", x_s, fake_s), ("t", x_t, fake_t)):
        wanted = slow_lsgan(D[k](real), 1) + slow_lsgan(D[k](fake), 0)
        assert judged[f"judge_{k}"].item() == pytest.approx(wanted, rel=1e-5)
        assert len(D[k](real)) == stage.scales
    with torch.no_grad():
        for p in D.parameters():
            p.mul_(1.5)
    name, losses = next(updates)
    assert name == "generator"
    seen = [
        sum(
            slow_l1(a, b) / 2 ** (5 - i if i < 4 else 0)
            for i, (a, b) in enumerate(zip(Eye()(x), Eye()(y), strict=True))
        )
        for x, y in ((x_s, fake_t), (x_t, fake_s))
    ]
    wanted = {
        "fool": 0.7 * (slow_lsgan(D["s"](fake_s), 1) + slow_lsgan(D["t"](fake_t), 1)),
        "cycle": 3.0 * (slow_l1(back_s, x_s) + slow_l1(back_t, x_t)),
        "own": 0.2 * (slow_l1(own_s, x_s) + slow_l1(own_t, x_t)),
        "edge": 5.0 * slow_edge(x_s, fake_t, y_s),
        "perceptual": 0.3 * sum(seen),
    }
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(wanted, rel=1e-4)
    assert next(updates, None) is None


def test_each_network_descends_while_the_other_is_frozen(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(chain, tmp_path, gan())
    nets, step = loop_of(monkeypatch, run)
    for t, pair in enumerate(run.pairs(0, 2)):
        for name, losses in step(pair, t):
            torch.stack(list(losses.values())).sum().backward()
            for other, net in nets.items():
                touched = [p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters()]
                assert any(touched) == (other == name), (t, name, other)
                net.zero_grad()


def test_what_must_be_kept_is_kept_by_the_image_itself(chain: Chain, tmp_path: Path) -> None:
    """Edge and perceptual terms are zero there; off the label's edges an image may be painted at no cost."""
    stage, run = gan(perceptual=1.0, perceptual_weights="vgg19.pth"), run_of(chain, tmp_path, gan())
    pair = next(run.pairs(0, 1))
    same = stage.kept(pair, pair.target, pair.source.image, Eye())
    assert {k: v.item() for k, v in same.items()} == {"edge": 0.0, "perceptual": 0.0}
    edges = ops.losses.edge_mask(pair.source.label)
    assert 0.01 < edges.float().mean() < 0.9
    painted = torch.where(edges, pair.source.image, torch.rand(pair.source.image.shape))
    other = stage.kept(pair, pair.target, painted, Eye())
    assert other["edge"].item() == 0.0 < other["perceptual"].item()
    assert stage.kept(pair, pair.target, 1 - painted, None)["edge"].item() > 0.0
    target = stage.kept(pair, 1 - pair.target, pair.source.image, Eye())
    assert target["edge"].item() == 0.0 < target["perceptual"].item(), "only source images have edges to keep"
    assert gan(edge=0.0).kept(pair, pair.target, painted, None) == {}


def test_the_defaults_are_the_authors_but_for_the_file() -> None:
    stage = Translator()
    weights = (stage.adversarial, stage.cycle, stage.own, stage.edge, stage.perceptual)
    assert weights == (0.5, 10.0, 0.001, 20.0, 0.0)
    plan = stage.plan
    assert (plan.steps, plan.optimizer, plan.lr, plan.momentum, plan.beta_2) == (50_000, "adam", 1e-4, 0.5, 0.999)


def test_batch_and_frames_are_its_own(chain: Chain, tmp_path: Path) -> None:
    run = run_of(chain, tmp_path, gan(batch=3))
    assert next(run.pairs(0, 1)).target.shape == (3, 3, *CROP)


def test_vgg_is_read_from_a_file_under_the_data_root(chain: Chain, own_data: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    wanted = VGG19()
    torch.save(wanted.state_dict(), own_data / "vgg19.pth")
    stage = gan(perceptual=0.1, perceptual_weights="vgg19.pth")
    recipe = recipe_of(stage)
    assert stage.files(recipe) == ("vgg19.pth",)
    assert gan(perceptual_weights="vgg19.pth").files(recipe) == ()
    run = Run(recipe, "translator", tmp_path / "run", {}, own_data, pace=BRIEF)
    see = stage.sight(run)
    assert see is not None
    assert not any(p.requires_grad for p in see.parameters())
    image = next(run.pairs(0, 1)).target
    for a, b in zip(see(image), wanted(image), strict=True):
        assert torch.equal(a, b)
    legacy = gan(perceptual=0.1, perceptual_weights="vgg19.pth", perceptual_inputs="legacy").sight(run)
    assert legacy is not None
    assert not torch.equal(legacy(image)[0], wanted(image)[0])
    assert gan().sight(run) is None
    stage(run)
    assert set(told_by(run.folder)[0][1]) == {"lr"} | {
        f"loss/{term}" for term in ("judge_s", "judge_t", "fool", "cycle", "own", "edge", "perceptual")
    }
    (own_data / "vgg19.pth").unlink()
    with pytest.raises(DataError, match="vgg19"):
        stage.sight(run)


class Stopped(Exception):
    """What ends a run in the middle."""


def test_it_goes_on_bit_for_bit(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of(gan(plan=PLAN.model_copy(update={"steps": 5})))
    whole = carried_out(chain, recipe, "translator", tmp_path / "whole")
    real = Run.pairs

    def pairs(self: Run, start: int, stop: int) -> Iterator[Pair]:
        for t, pair in enumerate(real(self, start, stop), start):
            if t == BRIEF.save + 1:
                raise Stopped
            yield pair

    monkeypatch.setattr(Run, "pairs", pairs)
    with pytest.raises(Stopped):
        carried_out(chain, recipe, "translator", tmp_path / "cut")
    begun: list[int] = []
    monkeypatch.setattr(Run, "pairs", lambda self, *steps: begun.append(steps[0]) or real(self, *steps))
    again = carried_out(chain, recipe, "translator", tmp_path / "cut")
    assert begun == [BRIEF.save]
    assert differing(whole, again) == []


# --- refusals ------------------------------------------------------------------------------


def refused(make_it: Any, *changes: Any) -> str:
    """The one line with which something is refused as a recipe from JSON would be."""
    with pytest.raises(ConfigError) as failure:
        make_it(*changes)
    return str(failure.value)


def test_a_crop_too_small_for_the_judges_is_refused() -> None:
    assert [least_side(n) for n in range(1, 8)] == [network.least_side(n) for n in range(1, 8)]
    line = refused(lambda: recipe_of(gan(scales=3)))
    assert line == "translator.scales: 3 for a crop of 32 x 64 pixels (fewer, or sides of 61 at least)"
    assert refused(override, recipe_of(gan()), {"translator.scales": 4}).startswith("translator.scales: 4 for a crop")
    for scales in (1, 2, 3):
        side = -(-least_side(scales) // 4) * 4
        recipe_of(gan(scales=scales), crop=(side, side))
        assert len(network.Judge(2, scales)(torch.rand(1, 3, side, side))) == scales


def test_a_crop_that_cannot_be_given_back_is_refused() -> None:
    line = refused(lambda: recipe_of(gan(), crop=(34, 64)))
    assert line == "crop: a crop of 34 x 64 pixels, which 'translator' cannot give back (multiples of 4)"


def test_a_perceptual_term_needs_its_weights() -> None:
    line = refused(override, recipe_of(gan()), {"translator.perceptual": 0.1})
    assert line.startswith("translator.perceptual_weights: found none with perceptual=0.1, expected a file")
    both = {"translator.perceptual": 0.1, "translator.perceptual_weights": "vgg19.pth"}
    changed = override(recipe_of(gan()), both)
    assert loads(dumps(changed)) == changed


@pytest.mark.parametrize("other", [SourceOnly(), Painted(of="translator"), WarmUp(translator="translator")])
def test_only_a_painter_can_be_stored(other: Stage) -> None:
    stages = {"translator": ColourTransfer(), "other": other, "painted": Painted(of="other")}
    whole = small()
    line = refused(lambda: whole.model_copy(update={"stages": stages}))
    kind = type(other).__name__
    assert line == f"painted.of: 'other' is a {kind}, which paints nothing anew (known: translator)"


# --- closed forms --------------------------------------------------------------------------


def painter_of(chain: Chain, folder: Path, stage: Any, **changes: Any) -> tuple[Run, Any]:
    """A translator that has been carried out, and its painter."""
    run = run_of(chain, folder, stage, **changes)
    stage(run)
    run.inputs = dict(run.inputs) | {"translator": run.folder}
    return run, stage.painter(run, "translator")


def batch(seed: int, n: int = 4, height: int = 20, width: int = 28) -> Batch:
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 19, (n, height, width), generator=g)
    return Batch(torch.rand(n, 3, height, width, generator=g), label)


def chance(*key: int, rows: range = range(4)) -> Chance:
    return Chance((*key,), rows, 4)


def target_images(run: Run) -> list[Tensor]:
    return [image[None] for d in run.recipe.targets for _, images in run.images(d, "train") for image in images]


@pytest.mark.parametrize("stage", [*CLOSED, gan()], ids=lambda stage: type(stage).__name__)
def test_painting_is_a_function_of_chance(chain: Chain, tmp_path: Path, stage: Any) -> None:
    """The same draw paints the same; workers share a batch's draws; only the GAN leaves nothing to chance."""
    _, paint = painter_of(chain, tmp_path, stage)
    source = batch(1)
    once = paint(source, chance(5, 6))
    assert once.shape == source.image.shape
    assert 0 <= once.min() < once.max() <= 1
    assert torch.equal(once, paint(source, chance(5, 6)))
    others = [paint(source, chance(5, t)) for t in range(7, 11)]
    assert all(torch.equal(once, other) for other in others) == isinstance(stage, Translator)
    half = Batch(source.image[2:], source.label[2:])
    torch.testing.assert_close(paint(half, chance(5, 6, rows=range(2, 4))), once[2:], rtol=1e-4, atol=1e-5)


def slow_channels(image: Tensor, style: Tensor) -> Tensor:
    """Each channel moved and stretched to the mean and deviation of the style's."""
    out = torch.zeros_like(image)
    for c in range(3):
        x, y = image[0, c].double(), style[0, c].double()
        out[0, c] = ((x - x.mean()) / x.std(correction=0) * y.std(correction=0) + y.mean()).clamp(0, 1)
    return out


def slow_fourier(image: Tensor, style: Tensor, b: int) -> Tensor:
    """Amplitudes of all frequencies up to b either way swapped, one after the other."""
    H, W = image.shape[-2:]
    waves = torch.fft.fft2(image.double(), norm="forward")
    other = torch.fft.fft2(style.double(), norm="forward")
    for u in range(-b, b + 1):
        for v in range(-b, b + 1):
            for c in range(3):
                amplitude = float(other[0, c, u, v].abs())
                waves[0, c, u, v] = torch.polar(torch.tensor(amplitude).double(), waves[0, c, u, v].angle())
    assert waves.shape[-2:] == (H, W)
    return torch.fft.ifft2(waves, norm="forward").real.clamp(0, 1).float()


@pytest.mark.parametrize("size", [(20, 28), CROP, (45, 70)])
def test_each_image_takes_from_one_target_image(chain: Chain, tmp_path: Path, size: tuple[int, int]) -> None:
    """What is painted is what a slow version makes of one of the target's images, a draw for each source image."""
    source = batch(1, 4, *size)
    for k, (stage, slow) in enumerate(((ChannelStatistics(), slow_channels), (Fourier(beta=0.1), slow_fourier))):
        run, paint = painter_of(chain, tmp_path / str(k), stage)
        styles = target_images(run)
        assert len(styles) == COUNTS["target_train"]
        drawn = (chance(2).uniform() * len(styles)).long().tolist()
        assert len(set(drawn)) > 1
        for b, image in enumerate(paint(source, chance(2))):
            one, style = source.image[b][None], styles[drawn[b]]
            wanted = slow(one, style) if slow is slow_channels else slow_fourier(one, style, 3)  # floor(0.1 * 32)
            torch.testing.assert_close(image[None], wanted, rtol=1e-4, atol=2e-5)


def test_fourier_keeps_little_and_the_swap_is_that_of_whole_crops(chain: Chain, tmp_path: Path) -> None:
    for k, beta in enumerate((0.01, 0.1, 0.45)):
        run, paint = painter_of(chain, tmp_path / str(k), Fourier(beta=beta))
        b = math.floor(beta * 32)
        assert read_weights(run.folder / ARTIFACT)["colours"]["amplitude"].shape == (5, 3, 2 * b + 1, b + 1)
        source = batch(1, 4, *CROP)
        drawn = (chance(2).uniform() * 5).long()
        whole = ops.colour.fourier(source.image, torch.cat(target_images(run))[drawn], beta)
        torch.testing.assert_close(paint(source, chance(2)), whole, rtol=1e-4, atol=2e-5)
        tiny = batch(1, 4, 6, 9)
        assert paint(tiny, chance(2)).shape == tiny.image.shape


def test_larger_target_images_count_as_resized_to_the_crop(chain: Chain, tmp_path: Path) -> None:
    run, _ = painter_of(chain, tmp_path, Fourier(beta=0.2), crop=(16, 32))
    found = read_weights(run.folder / ARTIFACT)["colours"]["amplitude"]
    for row, image in zip(found, target_images(run), strict=True):
        resized = F.interpolate(image, (16, 32), mode="bilinear", antialias=True)
        waves = torch.fft.fft2(resized, norm="forward").abs()[0]
        for i, u in enumerate((0, 1, 2, 3, -3, -2, -1)):
            torch.testing.assert_close(row[:, i], waves[:, u, :4], rtol=1e-4, atol=1e-6)


def test_closed_forms_read_target_images_alone_and_no_weights() -> None:
    for stage in CLOSED:
        assert stage.reads() == {"target"}
        assert stage.files(recipe_of(stage, pretrained="weights.pth")) == ()
        assert isinstance(stage, Stage)


# --- images of any size ---------------------------------------------------------------------


def test_a_generator_paints_images_of_any_size(chain: Chain, tmp_path: Path) -> None:
    _, paint = painter_of(chain, tmp_path, gan())
    G = paint.__closure__[0].cell_contents
    odd = batch(1, 2, 21, 30)
    with torch.no_grad():
        found = paint(odd, chance(1))
        mirrored = torch.stack([odd.image[:, :, i] for i in (*range(21), 19, 18, 17)], 2)
        mirrored = torch.stack([mirrored[..., j] for j in (*range(30), 28, 27)], 3)
        assert torch.equal(found, G(mirrored)[:, :, :21, :30])
        even = batch(1, 2, 24, 32).image
        assert torch.equal(of_any_size(G, even), G(even))


# --- paintings that are stored ----------------------------------------------------------------


def painted_recipe(of: Stage, crop: tuple[int, int] = CROP) -> Recipe:
    """Warm-up on stored paintings."""
    first = until(small(crop=crop, batch=BATCH, flip=0.0), "warm_up")
    stages = {"translator": of, "painted": Painted(of="translator")}
    stages |= {"warm_up": first.stages["warm_up"].model_copy(update={"translator": "painted"})}
    return first.model_copy(update={"stages": stages})


@pytest.mark.parametrize("stage", [*CLOSED, gan()], ids=lambda stage: type(stage).__name__)
def test_paintings_are_stored_and_come_back(data: Path, tmp_path: Path, stage: Any) -> None:
    recipe = override(painted_recipe(stage), {"warm_up.plan.steps": 2, "warm_up.plan.ramp": 0})
    folders = execute(recipe, Place(tmp_path, data))
    files = {p.stem: png(p) for p in (folders["painted"] / FOLDER).iterdir()}
    assert len(files) == COUNTS["source_train"]
    run = Run(recipe, "painted", tmp_path / "look", folders, data)
    paint = stage.painter(run, "translator")
    originals = {stem: image[0] for stem, image in one_by_one(run)}
    assert len({draw_of(run, stem).uniform().item() for stem in originals}) == len(files)
    for stem, image in originals.items():
        with torch.no_grad():
            again = paint(Batch(image[None], torch.full((1, 32, 64), IGNORE)), draw_of(run, stem))[0]
        stored = torch.from_numpy(files[stem]).permute(2, 0, 1)
        assert torch.equal(stored, (255 * again).round().byte())
        assert stored.shape == image.shape
    warm = Run(recipe, "warm_up", tmp_path / "warm", folders, data)
    give = recipe.stages["warm_up"].painter(warm)  # type: ignore[attr-defined]
    for pair in warm.pairs(0, 3):
        for image, painted in zip(pair.source.image, give(pair.source, warm.chance(0)), strict=True):
            (stem,) = [s for s, x in originals.items() if torch.equal(x, image)]
            assert torch.equal((255 * painted).round().byte(), torch.from_numpy(files[stem]).permute(2, 0, 1))


def test_paintings_go_on_where_they_were_cut_short(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = painted_recipe(ColourTransfer())
    asked: list[str] = []
    told: list[tuple[int, int]] = []

    def run_in(folder: str) -> Run:
        run = stage_run(chain, recipe, "painted", tmp_path / folder)
        run.progress = lambda done, total: told.append((done, total))
        return run

    recipe.stages["painted"](run_in("whole"))
    assert told == [(i, COUNTS["source_train"]) for i in range(1, COUNTS["source_train"] + 1)]

    def counting(run: Run, stem: str) -> Chance:
        asked.append(stem)
        if len(asked) == 3:
            raise Stopped
        return draw_of(run, stem)

    monkeypatch.setattr("diga.methods.painting.draw_of", counting)
    with pytest.raises(Stopped):
        recipe.stages["painted"](run_in("cut"))
    assert len(list((tmp_path / "cut" / FOLDER).iterdir())) == 2
    recipe.stages["painted"](run_in("cut"))
    assert len(asked) == 3 + COUNTS["source_train"] - 2
    for path in (tmp_path / "whole" / FOLDER).iterdir():
        assert path.read_bytes() == (tmp_path / "cut" / FOLDER / path.name).read_bytes()


def test_equal_stems_are_refused_before_anything_is_stored(chain: Chain, own_data: Path, tmp_path: Path) -> None:
    make(own_data / "again", Knobs(height=32, width=64, **COUNTS))
    recipe = painted_recipe(ColourTransfer()).model_copy(update={"sources": ("streets/gta5", "again/gta5")})
    run = Run(recipe, "painted", tmp_path / "run", chain.folders, own_data)
    line = refused(recipe.stages["painted"], run)
    assert line.startswith("sources: ")
    assert "streets/gta5" in line
    assert "again/gta5" in line
    assert not (tmp_path / "run" / FOLDER).exists()


def test_a_painting_of_another_size_is_refused(data: Path, tmp_path: Path) -> None:
    recipe = painted_recipe(ColourTransfer())
    folders = execute(
        recipe.model_copy(update={"stages": dict(list(recipe.stages.items())[:2])}), Place(tmp_path, data)
    )
    path = next((folders["painted"] / FOLDER).iterdir())
    Image.fromarray(png(path)[:30]).save(path)
    with pytest.raises(DataError, match="30"):
        list(Run(recipe, "warm_up", tmp_path / "warm", folders, data).pairs(0, 4))


def test_adversarial_warm_up_learns_from_stored_paintings(data: Path, tmp_path: Path) -> None:
    plan = Plan(steps=2, lr=0.01, snapshots=1)
    recipe = painted_recipe(Fourier())
    stages = dict(recipe.stages) | {"warm_up": AdversarialWarmUp(translator="painted", width=4, plan=plan)}
    folders = execute(recipe.model_copy(update={"stages": stages}), Place(tmp_path, data))
    assert read_weights(folders["warm_up"] / ARTIFACT).keys() == {"student", "judge"}
    assert OutputJudge(19, 4).state_dict().keys() == read_weights(folders["warm_up"] / ARTIFACT)["judge"].keys()
