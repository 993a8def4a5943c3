"""The ensemble of DDB's distillation against its naive, full-resolution form; prototypes at pixels likewise."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diga.ops import ensemble
from diga.ops.ensemble import How, Voice, distances, distillation
from diga.ops.prototypes import Prototypes, affinity, means_of, pixel_sums
from diga.types import Prediction

torch.set_num_threads(1)
B, K, D = 2, 5, 7
GRIDS = [  # cells, pixels: whole factors, others, a single cell, as many cells as pixels, a single pixel, fewer pixels
    ((4, 6), (32, 48)),
    ((5, 7), (33, 49)),
    ((9, 15), (64, 112)),
    ((1, 1), (8, 8)),
    ((1, 6), (70, 13)),
    ((6, 5), (6, 5)),
    ((3, 3), (1, 1)),
    ((9, 8), (5, 3)),
]
grids = pytest.mark.parametrize(("cells", "pixels"), GRIDS)
aligned = pytest.mark.parametrize("align", [False, True])
EXACT = {"rtol": 1e-6, "atol": 1e-9}


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def prototypes(seed: int, absent: tuple[int, ...] = ()) -> Prototypes:
    rho = Prototypes(K, D).double()
    rho.vectors.copy_(normal(seed, K, D))
    rho.seen.fill_(9)
    for k in absent:
        rho.vectors[k], rho.seen[k] = 0, 0
    return rho


def up(x: Tensor, size: tuple[int, int], align: bool) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=align)


# --- distances ---------------------------------------------------------------------------


def slow_distances(f: Tensor, rho: Prototypes, size: tuple[int, int], align: bool, unseen: str) -> Tensor:
    """Class by class on resized features."""
    wide = up(f, size, align)
    far = [(wide - v.view(1, -1, 1, 1)).norm(dim=1) for v in rho.vectors]
    if unseen == "ignored":
        far = [d if rho.seen[k] else torch.full_like(d, math.inf) for k, d in enumerate(far)]
    return torch.stack(far, 1)


@grids
@aligned
@pytest.mark.parametrize("unseen", ["ignored", "origin"])
def test_distances_at_pixels(cells: tuple[int, int], pixels: tuple[int, int], align: bool, unseen: Any) -> None:
    f, rho = normal(1, B, D, *cells), prototypes(2, absent=(1, 4))
    found = distances(f, rho, torch.empty(pixels), unseen, align)
    torch.testing.assert_close(found, slow_distances(f, rho, pixels, align, unseen), **EXACT)
    assert found.isinf().all(3).all(2).all(0).tolist() == [unseen == "ignored" and k in (1, 4) for k in range(K)]


def test_a_feature_on_its_prototype_is_at_no_distance() -> None:
    """Where rounding could take a square below zero."""
    rho = prototypes(2)
    rho.vectors.mul_(300)
    f = rho.vectors[3].view(1, -1, 1, 1).expand(1, D, 4, 4).contiguous()
    found = distances(f, rho, torch.empty(16, 16))
    assert found.isfinite().all()
    assert found[:, 3].max() < 1e-4
    assert (found.argmin(1) == 3).all()


def test_single_precision_keeps_six_digits_of_features_of_a_networks_size() -> None:
    rho, f = prototypes(2), normal(1, B, D, 8, 8).relu() * 3
    exact = distances(f, rho, torch.empty(64, 64))
    found = distances(f.float(), rho.float(), torch.empty(64, 64))
    assert ((found - exact).abs() / exact).max() < 1e-5


# --- the blend ---------------------------------------------------------------------------


def voices(count: int, cells: tuple[int, int], absent: tuple[int, ...] = ()) -> list[Voice]:
    seen = [Prediction(2 * normal(10 + m, B, K, *cells), normal(20 + m, B, D, *cells)) for m in range(count)]
    return ensemble.voices(seen, [prototypes(30 + m, absent) for m in range(count)])


def slow_weights(voice: Voice, u: tuple[int, int, int], size: tuple[int, int], how: How) -> list[float]:
    """softmax(-d / tau) of one pixel, by hand."""
    b, i, j = u
    assert voice.prototypes is not None
    d = slow_distances(voice.features, voice.prototypes, size, how.align_corners, how.unseen)[b, :, i, j].tolist()
    near = [math.exp(-x / how.temperature) for x in d]
    return [x / sum(near) for x in near]


def slow_softmax(z: list[float]) -> list[float]:
    e = [math.exp(x) for x in z]
    return [x / sum(e) for x in e]


def slow_blend(heard: list[Voice], u: tuple[int, int, int], size: tuple[int, int], how: How) -> tuple[list[float], ...]:
    """s and z' of one pixel."""
    b, i, j = u
    s, z_soft = [0.0] * K, [0.0] * K
    for voice in heard:
        z = up(voice.logits, size, how.align_corners)[b, :, i, j].tolist()
        w = [1.0] * K if how.rectify == "none" else slow_weights(voice, u, size, how)
        said = [a * x for a, x in zip(w, z, strict=True)] if how.rectify == "logits" else z
        p = slow_softmax(said)
        for k in range(K):
            s[k] += (w[k] * p[k] if how.rectify == "probabilities" else p[k]) / len(heard)
            z_soft[k] += said[k] / len(heard)
    if how.rectify == "probabilities":
        z_soft = [math.log(x) if x else -math.inf for x in s]
    return s, z_soft


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("rectify", ["probabilities", "logits", "none"])
@pytest.mark.parametrize(("temperature", "unseen", "align"), [(1.0, "ignored", False), (0.4, "origin", True)])
def test_the_blend_pixel_by_pixel(count: int, rectify: Any, temperature: float, unseen: Any, align: bool) -> None:
    cells, size = (3, 4), (13, 9)
    how, heard = How(rectify, temperature, unseen, align), voices(count, cells, absent=(2,))
    label, score = ensemble.hard(heard, torch.empty(size), how)
    z = ensemble.soft(heard, torch.empty(size), how)
    for u in [(b, i, j) for b in range(B) for i in range(0, 13, 3) for j in range(0, 9, 2)]:
        s, z_soft = slow_blend(heard, u, size, how)
        assert int(label[u]) == max(range(K), key=s.__getitem__)
        assert float(score[u]) == pytest.approx(max(s), rel=1e-6)
        assert z[u[0], :, u[1], u[2]].tolist() == pytest.approx(z_soft, rel=1e-6)
    if rectify == "probabilities" and unseen == "ignored":
        assert (label != 2).all()


def test_strips_of_rows_are_one_picture() -> None:
    """More rows than a strip holds, and no whole number of strips."""
    heard, size = voices(2, (6, 5)), (ensemble.STRIP * 2 + 9, 20)
    label, score = ensemble.hard(heard, torch.empty(size), How())
    s = sum(
        affinity(slow_distances(v.features, v.prototypes, size, False, "ignored"))
        * up(v.logits, size, False).softmax(1)
        for v in heard
        if v.prototypes is not None
    )
    assert isinstance(s, Tensor)
    torch.testing.assert_close(score, s.max(1).values / 2, **EXACT)
    assert torch.equal(label, s.argmax(1))


def test_the_same_voice_twice_is_itself_and_even_weights_change_no_winner() -> None:
    heard, like = voices(1, (4, 4)), torch.empty(32, 32)
    for rectify in ("probabilities", "none"):
        alone, twice = (ensemble.hard(heard * n, like, How(rectify)) for n in (1, 2))  # type: ignore[arg-type]
        assert torch.equal(alone[0], twice[0])
        torch.testing.assert_close(alone[1], twice[1], **EXACT)
    even = prototypes(3)
    even.vectors.copy_(even.vectors[:1].expand(K, D))
    voice = heard[0]._replace(prototypes=even)
    plain = ensemble.hard(heard, like, How("none"))[0]
    assert torch.equal(ensemble.hard([voice], like, How())[0], plain)


def test_a_voice_in_doubt_lets_the_other_decide() -> None:
    """Weights are not renormalised over teachers: one that is far from the class it names says little of it."""
    rho = prototypes(2)
    near, far = rho.vectors[1].view(1, D, 1, 1), rho.vectors[3].view(1, D, 1, 1) + 30
    mild, strong = torch.zeros(2, 1, K, 1, 1, dtype=torch.float64)
    mild[:, 1], strong[:, 3] = 0.1, 4.0
    rho.vectors[3] -= 30
    heard, like = [Voice(mild, near, rho), Voice(strong, far, rho)], torch.empty(1, 1)
    assert ensemble.hard(heard, like, How())[0].item() == 1
    assert ensemble.hard(heard, like, How("none"))[0].item() == 3


def test_products_too_small_for_a_float_still_have_a_winner() -> None:
    rho = prototypes(2)
    rho.vectors.mul_(200)
    voice = Voice(400 * normal(1, 1, K, 2, 2).float(), 9 * normal(4, 1, D, 2, 2).float(), rho.float())
    d = slow_distances(voice.features.double(), rho.double(), (2, 2), False, "ignored")
    wanted = (voice.logits.double().log_softmax(1) - d).argmax(1)
    assert torch.equal(ensemble.hard([voice], torch.empty(2, 2), How())[0], wanted)
    assert ensemble.hard([voice], torch.empty(2, 2), How())[1].min() == 0, "else the test above would say nothing"


# --- the soft loss -----------------------------------------------------------------------


@pytest.mark.parametrize("T", [1.0, 2.5])
def test_distillation_pixel_by_pixel(T: float) -> None:
    z, p = normal(1, B, K, 3, 2), normal(2, B, K, 3, 2).requires_grad_()
    z[:, 4] = -math.inf
    total = 0.0
    for b, i, j in [(b, i, j) for b in range(B) for i in range(3) for j in range(2)]:
        q, r = (slow_softmax([x / T for x in v[b, :, i, j].tolist()]) for v in (z, p))
        total += T**2 * sum(a * math.log(a / c) for a, c in zip(q, r, strict=True) if a)
    found = distillation(z, p, T)
    assert found.item() == pytest.approx(total / (B * 6), rel=1e-6)
    (slope,) = torch.autograd.grad(found, p)
    torch.testing.assert_close(slope, T * ((p / T).softmax(1) - (z / T).softmax(1)).detach() / (B * 6), **EXACT)
    assert abs(distillation(p.detach(), p, T).item()) < 1e-12


def test_how_sure_and_how_much_in_agreement() -> None:
    confidence = torch.tensor([[[0.9, 0.968], [0.2, 1.0]], [[0.1, 0.1], [0.1, 0.97]]])
    assert ensemble.sure(confidence, 0.968).tolist() == [0.5, 0.25]
    heard = voices(3, (4, 4))
    winners = [v.logits.argmax(1) for v in heard]
    same = [(winners[0] == w) for w in winners[1:]]
    assert ensemble.agreement(heard).item() == pytest.approx((same[0] & same[1]).double().mean().item())
    assert ensemble.agreement(heard[:1]).item() == 1


# --- prototypes at pixels ------------------------------------------------------------------


@grids
@aligned
def test_means_of_features_resized_to_pixels(cells: tuple[int, int], pixels: tuple[int, int], align: bool) -> None:
    f = normal(1, B, D, *cells)
    y = torch.randint(0, K - 1, (B, *pixels), generator=torch.Generator().manual_seed(3))
    y[0, :1] = 255
    total, count = pixel_sums(f, y, K, align)
    wide = up(f, pixels, align)
    for b in range(B):
        for k in range(K):
            here = y[b] == k
            assert count[b, k] == here.sum()
            torch.testing.assert_close(total[b, k], wide[b][:, here].sum(1), **EXACT)
    assert not means_of(total, count, 1)[1][:, K - 1].any()
