"""Networks: their shapes and sizes, and batch norms that are torch's own, alone and over two workers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from diga.models.norm import BatchNorm2d, freeze, norms, statistics
from diga.models.streetnet import streetnet, streetnet_aux
from diga.models.translator import Generator, Judge, decoder, encoder


def seeded(make: Callable[[int], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return make(19)


def millions(net: nn.Module) -> float:
    return sum(p.numel() for p in net.parameters()) / 1e6


# --- StreetNet ---------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [16, 19])
def test_streetnet_is_small_and_hands_every_weight_to_one_group(classes: int) -> None:
    net = streetnet(classes)
    assert 0.3 <= millions(net) <= 1.0
    grouped = [id(p) for group in net.parameter_groups().values() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in net.parameters())


@pytest.mark.parametrize("size", [(56, 112), (57, 113), (33, 61), (8, 8)])
def test_a_cell_is_four_pixels_wide(size: tuple[int, int]) -> None:
    logits, features, aux = streetnet(19)(torch.rand(2, 3, *size))
    h, w = (-(-side // 4) for side in size)
    assert logits.shape == (2, 19, h, w)
    assert features.shape == (2, 48, h, w)
    assert aux is None
    assert streetnet_aux(19)(torch.rand(2, 3, *size)).aux.shape == logits.shape


def test_an_auxiliary_classifier_changes_nothing_beside_it() -> None:
    plain, more = seeded(streetnet).eval(), seeded(streetnet_aux).eval()
    x = torch.rand(2, 3, 32, 64)
    for a, b in zip(plain(x)[:2], more(x)[:2], strict=True):
        assert torch.equal(a, b)
    assert 1e6 * (millions(more) - millions(plain)) == pytest.approx(64 * 19 + 19)


def test_the_auxiliary_classifier_reads_the_coarse_branch_alone() -> None:
    net = streetnet_aux(19)
    x = torch.rand(2, 3, 32, 64)
    coarse = F.interpolate(net.coarse(net.fine(4 * x - 2)), (8, 16), mode="bilinear", align_corners=False)
    weight, bias = net.aux.weight[:, :, 0, 0], net.aux.bias[:, None, None]
    torch.testing.assert_close(net(x).aux, torch.einsum("bchw,kc->bkhw", coarse, weight) + bias)
    net(x).aux.sum().backward()
    assert all(p.grad is None for p in [*net.fuse.parameters(), *net.classifier.parameters()])


# --- the translator ----------------------------------------------------------------------


def test_the_translator_has_the_published_sizes() -> None:
    """Method spec 1.5: 5.39, 5.75 and 8.27 million."""
    found = [millions(net) for net in (encoder(64, 4), decoder(64, 4), Judge(64, 3))]
    assert [round(size, 2) for size in found] == [5.39, 5.75, 8.27]


def test_the_translator_keeps_size_and_range() -> None:
    G = Generator(4, 1)
    x = torch.rand(2, 3, 32, 64)
    assert G.from_s(x).shape == (2, 16, 8, 16)
    painted = G(x)
    assert painted.shape == x.shape
    assert painted.min() >= 0
    assert painted.max() <= 1
    torch.testing.assert_close(painted, G.to_t(G.from_s(x)))


def test_judges_see_halves_of_halves() -> None:
    scores = Judge(4, 3)(torch.rand(2, 3, 64, 128))
    assert [tuple(s.shape) for s in scores] == [(2, 1, 4, 8), (2, 1, 2, 4), (2, 1, 1, 2)]


# --- batch norm, alone -------------------------------------------------------------------


def twins(seed: int = 0) -> tuple[BatchNorm2d, nn.BatchNorm2d]:
    torch.manual_seed(seed)
    theirs = nn.BatchNorm2d(5).double()
    with torch.no_grad():
        for x in theirs.state_dict().values():
            if x.is_floating_point():
                x.copy_(torch.rand_like(x) + 0.5)
    ours = BatchNorm2d(5).double()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def passed(norm: nn.Module, x: Tensor, weight: Tensor) -> list[Tensor]:
    """Output, gradients by input, weight and bias, running statistics."""
    x = x.clone().requires_grad_()
    out = norm(x)
    slopes = torch.autograd.grad((out * weight).sum(), [x, *norm.parameters()])
    return [out.detach(), *slopes, norm.running_mean.clone(), norm.running_var.clone()]


@pytest.mark.parametrize("mode", ["train", "eval", "no update", "frozen"])
def test_batch_norm_is_torchs(mode: str) -> None:
    ours, theirs = twins()
    x, weight = torch.randn(4, 5, 3, 7, dtype=torch.float64), torch.randn(4, 5, 3, 7, dtype=torch.float64)
    before = theirs.running_mean.clone(), theirs.running_var.clone()
    ours.train(mode != "eval")
    theirs.train(mode in ("train", "no update"))
    freeze(ours, mode == "frozen")
    with statistics(ours, mode != "no update"):
        found = passed(ours, x, weight)
    wanted = passed(theirs, x, weight)
    if mode == "no update":
        wanted[-2:] = before
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    moved = not torch.equal(ours.running_mean, before[0])
    assert moved == (mode == "train")


def test_whether_statistics_move_is_put_back_even_after_an_error() -> None:
    net = streetnet(19)
    first = next(norms(net))
    with statistics(net, False):
        assert not first.updating
    with pytest.raises(KeyError), statistics(net, False):
        raise KeyError
    assert all(norm.updating for norm in norms(net))
    assert len(list(norms(net))) == sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())


# --- batch norm, over two workers --------------------------------------------------------


def whole_batch() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(7)
    x = torch.randn(4, 5, 3, 7, dtype=torch.float64, generator=g)
    x += torch.arange(4)[:, None, None, None]  # halves of different mean
    return x, torch.randn(4, 5, 3, 7, dtype=torch.float64, generator=g)


def half(rank: int, folder: str) -> None:
    """What one of two workers finds with its half of the batch."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    x, weight = (whole.chunk(2)[rank] for whole in whole_batch())
    results = {}
    for mode in ("train", "no update", "frozen", "eval"):
        ours, _ = twins()
        ours.train(mode != "eval")
        freeze(ours, mode == "frozen")
        with statistics(ours, mode != "no update"):
            results[mode] = passed(ours, x, weight)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def halves() -> list[dict[str, list[Tensor]]]:
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(half, (folder,), nprocs=2)  # type: ignore[no-untyped-call]
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("mode", ["train", "no update", "frozen", "eval"])
def test_two_workers_normalise_as_one(halves: list[dict[str, list[Tensor]]], mode: str) -> None:
    x, weight = whole_batch()
    ours, _ = twins()
    ours.train(mode != "eval")
    freeze(ours, mode == "frozen")
    with statistics(ours, mode != "no update"):
        out, by_x, by_weight, by_bias, mean, var = passed(ours, x, weight)
    a, b = (found[mode] for found in halves)
    close = {"rtol": 1e-8, "atol": 1e-8}
    torch.testing.assert_close(torch.cat([a[0], b[0]]), out, **close)
    torch.testing.assert_close(torch.cat([a[1], b[1]]), by_x, **close)
    torch.testing.assert_close(a[2] + b[2], by_weight, **close)
    torch.testing.assert_close(a[3] + b[3], by_bias, **close)
    for found in (a, b):
        torch.testing.assert_close(found[4], mean, **close)
        torch.testing.assert_close(found[5], var, **close)
