"""The networks of the paper's size: published sizes and costs, initial weights, and their parts step by step."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.networks import PaperSize
from diga.models.deeplab import DeepLab, SqueezeExcite, deeplab_resnet101, deeplab_resnet101_official
from diga.models.door import imagenet, legacy
from diga.models.hrnet import Exchange, HRNet, HRNetOCR, hrnet_w48_ocr, resized
from diga.models.norm import norms
from diga.models.ocr import Attention, objects
from diga.models.resnet import Bottleneck, ResNet
from diga.types import Prediction


def millions(parameters: list[nn.Parameter]) -> float:
    return round(sum(p.numel() for p in parameters) / 1e6, 2)


# --- published figures -------------------------------------------------------------------


def cost(make: Callable[[int], nn.Module], height: int, width: int) -> tuple[Prediction, float]:
    """Shapes, and billions of multiply-adds of all convolutions: nothing is computed."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        out = make(19).eval()(torch.empty(1, 3, height, width))
    return out, counter.get_flop_counts()["Global"][torch.ops.aten.convolution] / 2e9


@pytest.mark.parametrize(
    ("size", "grid", "gmac"),
    [((512, 896), (65, 113), 481.2), ((512, 1024), (65, 129), 549.3), ((1024, 2048), (129, 257), 2172)],
)
def test_deeplab_costs_what_the_authors_costs(size: tuple[int, int], grid: tuple[int, int], gmac: float) -> None:
    out, found = cost(deeplab_resnet101, *size)
    assert out.logits.shape == (1, 19, *grid)
    assert out.features.shape == (1, 256, *grid)
    assert found == pytest.approx(gmac, rel=2e-4)


def test_hrnet_costs_what_the_authors_costs() -> None:
    out, found = cost(hrnet_w48_ocr, 512, 1024)
    assert out.features.shape == (1, 512, 128, 256)
    assert out.logits.shape == out.aux.shape == (1, 19, 128, 256)
    assert found == pytest.approx(323.8, rel=2e-4)


def test_weights_are_as_many_as_published() -> None:
    with torch.device("meta"):
        deep, high, paper = deeplab_resnet101(19), hrnet_w48_ocr(19), PaperSize()
    assert millions(list(deep.parameters())) == millions(list(paper.parameters())) == 65.06
    assert millions(deep.parameter_groups()["head"]) == 22.56
    assert round(millions(high.parameter_groups()["backbone"]), 1) == 65.3
    assert millions(high.parameter_groups()["head"]) == 5.05


# --- the door ----------------------------------------------------------------------------


def test_a_pixel_is_what_the_authors_read() -> None:
    """BGR of 8 bits, its mean taken off, over 128."""
    red, green, blue = 200, 100, 30
    image = torch.tensor([red, green, blue]).view(1, 3, 1, 1) / 255
    wanted = [(blue - 104.007) / 128, (green - 116.669) / 128, (red - 122.679) / 128]
    torch.testing.assert_close(legacy(bgr=True)(image).flatten(), torch.tensor(wanted))
    torch.testing.assert_close(legacy(bgr=False)(image).flatten(), torch.tensor(wanted[::-1]))
    by_hand = [(red / 255 - 0.485) / 0.229, (green / 255 - 0.456) / 0.224, (blue / 255 - 0.406) / 0.225]
    torch.testing.assert_close(imagenet()(image).flatten(), torch.tensor(by_hand))
    assert legacy(bgr=True).state_dict() == {}


@pytest.mark.parametrize(("net", "first"), [(DeepLab, "blue"), (HRNetOCR, "red")])
def test_each_network_knows_its_order_of_colours(net: type[nn.Module], first: str) -> None:
    with torch.device("meta"):
        assert net(19).door.bgr == (first == "blue")


# --- DeepLab -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deeplab() -> DeepLab:
    torch.manual_seed(0)
    return DeepLab(19)


def test_every_convolution_starts_from_one_distribution(deeplab: DeepLab) -> None:
    layers = {k: m for k, m in deeplab.named_modules() if isinstance(m, nn.Conv2d)}
    for name, layer in layers.items():
        error = 1 / (2 * layer.weight.numel()) ** 0.5  # of a standard deviation, relative
        assert layer.weight.std().item() == pytest.approx(0.01, rel=5 * error), name
    assert not deeplab.head.fuse[1].bias.any()
    assert all(0 < m.bias.abs().max() <= m.weight[0].numel() ** -0.5 for m in (b[0] for b in deeplab.head.branches))


def test_stages_stride_on_their_first_1x1_and_dilate() -> None:
    with torch.device("meta"):
        blocks = {k: m for k, m in ResNet().named_modules() if isinstance(m, Bottleneck)}
    strided = {k for k, m in blocks.items() if m.conv1.stride != (1, 1)}
    assert (
        strided
        == {"layer2.0"}
        == {
            k
            for k, m in blocks.items()
            if m.downsample(torch.empty(1, m.conv1.in_channels, 4, 4, device="meta")).shape[-1] == 2
        }
    )
    assert all(m.conv2.stride == (1, 1) == m.conv3.stride for m in blocks.values())
    dilations = {k[:6]: {m.conv2.dilation for name, m in blocks.items() if name.startswith(k[:6])} for k in blocks}
    assert dilations == {"layer1": {(1, 1)}, "layer2": {(1, 1)}, "layer3": {(2, 2)}, "layer4": {(4, 4)}}


def test_a_bottleneck_by_hand() -> None:
    block = Bottleneck(8, 4, stride=2, dilation=2).double().eval()
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)

    def normal(y: Tensor) -> Tensor:  # fresh statistics: mean 0, variance 1
        return y / (1 + 1e-5) ** 0.5

    y = normal(F.conv2d(x[:, :, ::2, ::2], block.conv1.weight)).clamp(min=0)
    y = normal(F.conv2d(y, block.conv2.weight, padding=2, dilation=2)).clamp(min=0)
    y = normal(F.conv2d(y, block.conv3.weight))
    y = y + normal(F.conv2d(x[:, :, ::2, ::2], block.downsample[0].weight))
    torch.testing.assert_close(block(x), y.clamp(min=0))


def test_channels_are_weighed_by_their_mean() -> None:
    layer = SqueezeExcite(8, 4).double()
    x = torch.randn(2, 8, 3, 5, dtype=torch.float64)
    first, _, second, _ = layer.weigh
    found = layer(x)
    for b in range(2):
        mean = torch.tensor([x[b, c].sum() / 15 for c in range(8)], dtype=torch.float64)
        hidden = (first.weight @ mean + first.bias).clamp(min=0)
        for c in range(8):
            weight = 1 / (1 + torch.exp(-(second.weight[c] @ hidden + second.bias[c])))
            torch.testing.assert_close(found[b, c], weight * x[b, c])


def test_the_head_by_hand(deeplab: DeepLab) -> None:
    head = deeplab.head.eval()
    x = torch.randn(1, 2048, 5, 7)
    views = []
    for view, d in zip(head.branches, (0, 6, 12, 18, 24), strict=True):
        y = F.conv2d(x, view[0].weight, view[0].bias, padding=d, dilation=d or 1)
        views.append(F.group_norm(y, 32, view[1].weight, view[1].bias).clamp(min=0))
    weighed = head.fuse[0](torch.cat(views, 1))
    features = F.group_norm(F.conv2d(weighed, head.fuse[1].weight, padding=1), 32)
    torch.testing.assert_close(head(x).features, features, rtol=1e-3, atol=1e-4)
    deeplab.train()


def test_what_the_authors_call_features_has_been_through_dropout() -> None:
    zeros = {}
    for make in (deeplab_resnet101, deeplab_resnet101_official):
        torch.manual_seed(0)
        net = make(19)
        first = next(net.parameters()).sum().item()
        with torch.no_grad():
            out = net(torch.rand(2, 3, 64, 64))
        read = out.features if make is deeplab_resnet101_official else None
        gone = (out.features == 0).all(3).all(2)
        zeros[make.__name__] = (first, gone.float().mean().item(), out.logits)
        if read is not None:
            torch.testing.assert_close(out.logits, net.head.classifier(read))
    clean, official = zeros["deeplab_resnet101"], zeros["deeplab_resnet101_official"]
    assert clean[0] == official[0]
    assert clean[1] == 0
    assert 0.05 < official[1] < 0.15
    assert torch.equal(clean[2], official[2])  # the switch moves no weight and no draw


def test_frozen_norms_still_follow_their_batches(deeplab: DeepLab) -> None:
    """Twice the contrast is the same to layers that normalise by their batch."""
    assert not any(p.requires_grad for norm in norms(deeplab) for p in norm.parameters())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        a, b = deeplab.backbone(x), deeplab.backbone(2 * x)
    assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] > 0.99


# --- HRNet and OCR -----------------------------------------------------------------------


def test_every_branch_hears_every_other() -> None:
    widths = [2, 4, 8]
    net = Exchange(widths, blocks=1).double().eval()
    xs = [torch.rand(1, c, 8 // 2**i, 12 // 2**i, dtype=torch.float64) for i, c in enumerate(widths)]
    own = [branch(x) for branch, x in zip(net.branches, xs, strict=True)]
    found = net(xs)
    for i in range(3):
        total = torch.zeros_like(xs[i])
        for j in range(3):
            y = net.fuse_layers[i][j](own[j])
            if j > i:
                y = F.interpolate(y, total.shape[-2:], mode="bilinear", align_corners=True)
            total += y
        torch.testing.assert_close(found[i], total.clamp(min=0))


def test_an_odd_size_is_rounded_up_and_comes_back() -> None:
    with torch.device("meta"):
        assert HRNet(4, (1, 1, 1))(torch.empty(2, 3, 57, 113)).shape == (2, 60, 15, 29)
    x = torch.rand(1, 2, 3, 4)
    assert resized(x, x) is x


def test_official_names_of_hrnet() -> None:
    with torch.device("meta"):
        state = hrnet_w48_ocr(19).backbone_state()
    for name, shape in {
        "conv2.weight": (64, 64, 3, 3),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer1.3.bn3.running_var": (256,),
        "transition1.0.0.weight": (48, 256, 3, 3),
        "transition1.1.0.0.weight": (96, 256, 3, 3),
        "stage2.0.branches.1.3.bn2.bias": (96,),
        "stage2.0.fuse_layers.0.1.0.weight": (48, 96, 1, 1),
        "transition2.2.0.0.weight": (192, 96, 3, 3),
        "stage3.3.fuse_layers.2.0.0.0.weight": (48, 48, 3, 3),
        "stage3.3.fuse_layers.2.0.1.0.weight": (192, 48, 3, 3),
        "transition3.3.0.1.running_mean": (384,),
        "stage4.2.branches.3.0.conv1.weight": (384, 384, 3, 3),
        "stage4.2.fuse_layers.3.0.2.1.weight": (384,),
    }.items():
        assert state[name].shape == shape, name


def test_an_object_is_the_mean_of_its_region() -> None:
    regions, pixels = torch.randn(2, 3, 2, 5, dtype=torch.float64), torch.randn(2, 4, 2, 5, dtype=torch.float64)
    found = objects(regions, pixels)
    assert found.shape == (2, 4, 3, 1)
    for b, k in itertools.product(range(2), range(3)):
        weight = regions[b, k].exp()
        torch.testing.assert_close(found[b, :, k, 0], (pixels[b] * weight).sum((1, 2)) / weight.sum())


def test_a_cell_attends_to_the_classes() -> None:
    attend = Attention(6, 4).double().eval()
    pixels, classes = torch.randn(2, 6, 2, 3, dtype=torch.float64), torch.randn(2, 6, 5, 1, dtype=torch.float64)
    q, keys, values = attend.query(pixels), attend.key(classes), attend.value(classes)
    context = torch.zeros_like(q)
    for b, y, x in itertools.product(range(2), range(2), range(3)):
        alike = [(q[b, :, y, x] @ keys[b, :, k, 0]) / 4**0.5 for k in range(5)]
        for k, share in enumerate(torch.stack(alike).softmax(0)):
            context[b, :, y, x] += share * values[b, :, k, 0]
    torch.testing.assert_close(attend(pixels, classes), attend.out(context))
