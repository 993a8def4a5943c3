"""Every registered network: what it gives, trains, freezes, keeps on disk, and bears of formats and precisions."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from diga import models
from diga.models.norm import freeze, norms, statistics
from diga.ops.ema import ema_, teacher_of
from diga.registry import names_in
from diga.types import Prediction

SIDE = 64


class Says(NamedTuple):
    """What a network's docstring promises of images of 64 x 64 pixels."""

    width: int  # D
    cells: int  # a side
    aux: bool
    millions: float  # of weights, for 19 classes


TWIN = "deeplab_resnet101_official"  # one switch apart: `test_models_large` tells what it changes
DOCUMENTED = {
    "deeplab_resnet101": Says(256, 9, False, 65.06),
    "deeplab_v2_adapter": Says(256, 8, False, 47.83),
    "hrnet_w48_ocr": Says(512, 16, True, 70.37),
    "streetnet": Says(48, 16, False, 0.31),
    "streetnet_aux": Says(48, 16, True, 0.31),
}
SLOW = ("deeplab_v2_adapter", "hrnet_w48_ocr")  # make test has deeplab_resnet101 for all of that size


def made(name: str, seed: int = 0, classes: int = 19) -> nn.Module:
    torch.manual_seed(seed)
    net: nn.Module = getattr(models, name)(classes)
    return net


@pytest.fixture(
    scope="module", params=[pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in sorted(DOCUMENTED)]
)
def named(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    """Name and network, in training mode, its statistics those of other images."""
    net = made(request.param)
    with torch.no_grad():
        net(images(1))
    return request.param, net


@pytest.fixture
def net(named: tuple[str, nn.Module]) -> nn.Module:
    """A copy that a test may train."""
    return deepcopy(named[1])


def images(seed: int = 0, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def tensors_of(out: Prediction) -> list[Tensor]:
    return [x for x in out if x is not None]


def apart(a: Tensor, b: Tensor) -> float:
    """|a - b| / |b|."""
    return ((a - b).norm() / b.norm()).item()


def loss(out: Prediction) -> Tensor:
    """Something to descend that is no constant of any normalisation."""
    weights = [torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) for x in (out.logits, out.logits)]
    parts = zip([x for x in (out.logits, out.aux) if x is not None], weights, strict=False)
    return torch.stack([(x * w).sum() for x, w in parts]).sum()


def test_every_registered_network_is_told_of_here() -> None:
    assert names_in("diga.models") == DOCUMENTED.keys() | {TWIN}


@pytest.mark.parametrize("training", [True, False])
def test_shapes_are_those_documented(named: tuple[str, nn.Module], training: bool) -> None:
    name, net = named
    says = DOCUMENTED[name]
    with torch.no_grad(), statistics(net, False):
        out = net.train(training)(images())
    net.train()
    grid = (says.cells, says.cells)
    assert out.logits.shape == (2, 19, *grid)
    assert out.features.shape == (2, says.width, *grid)
    assert (None if out.aux is None else out.aux.shape) == (out.logits.shape if says.aux else None)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(says.millions, abs=0.005)


def test_sixteen_classes_are_sixteen_maps(named: tuple[str, nn.Module]) -> None:
    with torch.device("meta"):
        out = getattr(models, named[0])(16)(torch.empty(2, 3, SIDE, SIDE))
    assert all(x is None or x.shape[1] == 16 for x in (out.logits, out.aux))


def test_an_evaluated_network_has_no_chance_and_keeps_its_statistics(net: nn.Module) -> None:
    net.eval()
    before = deepcopy(net.state_dict())
    first, second = (tensors_of(net(images())) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    alone = tensors_of(net(images()[1:]))  # an image is seen alike in any company
    for a, b in zip(alone, first, strict=True):
        assert apart(a, b[1:]) < 1e-4


def test_the_classifier_reads_the_features(net: nn.Module) -> None:
    out = net.eval()(images())
    classifier = net.head.classifier if hasattr(net, "head") else net.classifier
    weight = classifier.weight[:, :, 0, 0]
    bias = 0 if classifier.bias is None else classifier.bias[:, None, None]
    assert apart(torch.einsum("bchw,kc->bkhw", out.features, weight) + bias, out.logits) < 1e-5


def test_channels_last_is_a_matter_of_memory(net: nn.Module) -> None:
    net.eval()
    with torch.no_grad():
        plain = tensors_of(net(images()))
        net.to(memory_format=torch.channels_last)
        last = tensors_of(net(images().contiguous(memory_format=torch.channels_last)))
    for a, b in zip(plain, last, strict=True):
        assert apart(a, b) < 1e-4


@pytest.mark.slow
def test_half_precision_says_about_the_same(net: nn.Module) -> None:
    net.eval()
    with torch.no_grad():
        exact = tensors_of(net(images()))
        with torch.autocast("cpu", torch.bfloat16):
            rough = tensors_of(net(images()))
    for a, b in zip(exact, rough, strict=True):
        assert a.shape == b.shape
        assert b.isfinite().all()
        assert torch.corrcoef(torch.stack([a.flatten(), b.float().flatten()]))[0, 1] > 0.99


@pytest.mark.slow
def test_it_trains_in_half_precision(net: nn.Module) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        out = net(images())
    loss(Prediction(*(None if x is None else x.float() for x in out))).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.requires_grad)


def test_gradient_reaches_every_weight_that_trains_and_no_other(net: nn.Module) -> None:
    loss(net(images())).backward()
    unmoved = [k for k, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert unmoved == []
    assert [k for k, p in net.named_parameters() if not p.requires_grad and p.grad is not None] == []


def test_groups_hold_every_parameter_once(named: tuple[str, nn.Module]) -> None:
    name, net = named
    groups = net.parameter_groups()
    assert groups.keys() == {"backbone", "head"}
    assert sorted(id(p) for group in groups.values() for p in group) == sorted(map(id, net.parameters()))
    frozen = {id(p) for p in net.parameters() if not p.requires_grad}
    affine = {id(p) for norm in norms(net) for p in norm.parameters()}
    assert frozen == (affine if name.startswith("deeplab_resnet101") else set())


def test_the_backbone_is_the_networks_own_memory(net: nn.Module) -> None:
    state = net.backbone_state()
    own = {x.data_ptr() for x in net.state_dict().values()}
    assert {x.data_ptr() for x in state.values()} <= own
    weights = {x.data_ptr() for x in state.values()} & {p.data_ptr() for p in net.parameters()}
    assert weights == {p.data_ptr() for p in net.parameter_groups()["backbone"]}


def test_weights_go_to_a_file_and_back(named: tuple[str, nn.Module], net: nn.Module, tmp_path: Path) -> None:
    torch.save(net.state_dict(), tmp_path / "net.pt")
    other = made(named[0], seed=1)
    assert not torch.equal(next(other.parameters()), next(net.parameters()))
    other.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    with torch.no_grad():
        found, wanted = (tensors_of(n.eval()(images())) for n in (other, net))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_one_seed_is_one_network(named: tuple[str, nn.Module]) -> None:
    again = made(named[0])
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), named[1].parameters(), strict=True))


def test_statistics_move_when_told(net: nn.Module) -> None:
    before = [norm.running_mean.clone() for norm in norms(net)]
    with torch.no_grad(), statistics(net, False):
        net(images())
    assert all(torch.equal(norm.running_mean, was) for norm, was in zip(norms(net), before, strict=True))
    with torch.no_grad():
        net(images())
    assert not any(torch.equal(norm.running_mean, was) for norm, was in zip(norms(net), before, strict=True))


def test_frozen_statistics_are_those_of_evaluation(net: nn.Module) -> None:
    with torch.no_grad():
        wanted = tensors_of(net.eval()(images()))
        net.train()
        for module in net.modules():
            if isinstance(module, nn.Dropout2d):
                module.eval()
        on_batch = tensors_of(deepcopy(net)(images()))
        freeze(net)
        frozen = tensors_of(net(images()))
    for a, b, c in zip(frozen, wanted, on_batch, strict=True):
        assert apart(a, b) < 1e-4
        assert apart(a, c) > 1e-2


def test_a_mean_teacher_follows(net: nn.Module) -> None:
    teacher = teacher_of(net)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(1)
    wanted = [(a + b) / 2 for a, b in zip(teacher.parameters(), net.parameters(), strict=True)]
    ema_(teacher, net, 0.5)
    for a, b in zip(teacher.parameters(), wanted, strict=True):
        torch.testing.assert_close(a, b)
