"""Networks that judge: of outputs, of translations, and the frozen eye of a perceptual loss."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from diga.errors import ConfigError
from diga.models.judge import LEAST_SIDE, OutputJudge
from diga.models.translator import Judge, least_side
from diga.models.vgg import VGG19

# --- the judge of outputs ----------------------------------------------------------------


@pytest.mark.parametrize("size", [(56, 112), (64, 128), (512, 896), (33, 32)])
def test_one_score_every_32_pixels(size: tuple[int, int]) -> None:
    maps = torch.rand(1, 19, *size).softmax(1)
    assert OutputJudge(19, 4)(maps).shape == (1, 1, size[0] // 32, size[1] // 32)


def test_the_judge_of_outputs_is_adaptsegnets() -> None:
    layers = [m for m in OutputJudge(19).layers if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in layers] == [(19, 64), (64, 128), (128, 256), (256, 512), (512, 1)]
    assert {(m.kernel_size, m.stride, m.padding) for m in layers} == {((4, 4), (2, 2), (1, 1))}


def test_its_score_by_hand() -> None:
    net = OutputJudge(3, 2).double()
    maps = torch.rand(2, 3, 32, 64, dtype=torch.float64).softmax(1)
    x = maps.clone()
    for i, layer in enumerate(m for m in net.layers if isinstance(m, nn.Conv2d)):
        x = F.conv2d(x if i == 0 else torch.where(x > 0, x, 0.2 * x), layer.weight, layer.bias, 2, 1)
    torch.testing.assert_close(net(maps), x)


def test_gradient_of_a_judgement_reaches_maps_and_weights() -> None:
    net, maps = OutputJudge(3, 2), torch.rand(2, 3, 56, 112, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        score = net(maps)
    score.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in [*net.parameters(), maps])


# --- images that are too small -----------------------------------------------------------


@pytest.mark.parametrize("size", [(LEAST_SIDE - 1, 200), (200, LEAST_SIDE - 1)])
def test_maps_too_small_for_the_judge_of_outputs_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"^crop: \d+ x \d+ pixels are too few for the judge \(32 a side at least\)$"):
        OutputJudge(3, 2)(torch.rand(1, 3, *size))


@pytest.mark.parametrize("scales", [1, 2, 3, 4, 5])
def test_the_least_side_is_the_least(scales: int) -> None:
    net, side = Judge(2, scales), least_side(scales)
    assert all(score.numel() for score in net(torch.rand(1, 3, side, side)))
    coarse = torch.rand(1, 3, side - 1, side)
    for _ in range(scales - 1):
        coarse = F.avg_pool2d(coarse, 3, 2, 1)
    with pytest.raises(RuntimeError):  # without the check, the last head has nothing to look at
        net.heads[-1](coarse)
    with pytest.raises(ConfigError, match=rf"^crop: {side - 1} x {side} pixels .* \({side} a side at least\)$"):
        net(torch.rand(1, 3, side - 1, side))


def test_three_scales_want_more_than_the_small_crop() -> None:
    assert least_side(3) == 61 > 56 > least_side(2)


# --- VGG-19 ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vgg() -> VGG19:
    torch.manual_seed(0)
    return VGG19()


def test_five_maps_of_growing_depth(vgg: VGG19) -> None:
    maps = vgg(torch.rand(2, 3, 32, 48))
    sizes = [(2, c, 32 // s, 48 // s) for c, s in ((64, 1), (128, 2), (256, 4), (512, 8), (512, 16))]
    assert [tuple(m.shape) for m in maps] == sizes
    assert all((m >= 0).all() and m.any() for m in maps)


def test_maps_are_those_behind_the_named_convolutions(vgg: VGG19) -> None:
    """Convolutions 1, 3, 5, 9 and 13, by torchvision's numbers 0, 5, 10, 19 and 28."""
    x = torch.rand(1, 3, 16, 16)
    y, found = vgg.door(x), []
    for number in (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28):
        state = vgg.state_dict()
        y = F.conv2d(y, state[f"features.{number}.weight"], state[f"features.{number}.bias"], padding=1).relu()
        if number in (0, 5, 10, 19, 28):
            found.append(y)
        if number in (2, 7, 16, 25):
            y = F.max_pool2d(y, 2)
    for a, b in zip(vgg(x), found, strict=True):
        torch.testing.assert_close(a, b)
    assert len(vgg.state_dict()) == 26
    assert vgg.backbone_state().keys() == vgg.state_dict().keys()


def test_it_is_frozen_and_lets_gradient_through(vgg: VGG19) -> None:
    assert not vgg.training
    assert not any(p.requires_grad for p in vgg.parameters())
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    vgg(image)[-1].sum().backward()
    assert image.grad is not None
    assert image.grad.any()


def test_an_untrained_eye_does_not_go_blind(vgg: VGG19) -> None:
    """Maps keep their size from layer to layer, so that all five count."""
    sizes = [m.square().mean().sqrt().item() for m in vgg(torch.rand(2, 3, 32, 32))]
    assert max(sizes) < 10 * min(sizes)


def test_what_goes_in_is_chosen() -> None:
    image = torch.rand(1, 3, 16, 16)
    torch.manual_seed(0)
    a = VGG19()
    torch.manual_seed(0)
    b = VGG19("legacy")
    assert torch.equal(a.features[0].weight, b.features[0].weight)
    assert not torch.allclose(a(image)[0], b(image)[0])
    assert b.door.bgr
