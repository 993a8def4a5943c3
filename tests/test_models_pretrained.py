"""Weights from files: whose names they have, what is refused, and that nothing in them is executed."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diga.errors import ConfigError, DataError
from diga.models.deeplab import DeepLab
from diga.models.hrnet import HRNetOCR
from diga.models.pretrained import load
from diga.models.resnet import ResNet
from diga.models.streetnet import streetnet
from diga.models.vgg import VGG19

State = dict[str, Tensor]


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return make()


def street(seed: int) -> nn.Module:
    return seeded(lambda: streetnet(19), seed)


def state_of(seed: int) -> State:
    """What a file of StreetNet's weights holds."""
    return dict(street(seed).state_dict())


def saved(state: Any, path: Path, **options: Any) -> Path:
    torch.save(state, path, **options)
    return path


def refused(net: nn.Module, path: Path) -> str:
    """The line that refuses the file; nothing has changed."""
    before = deepcopy(net.state_dict())
    with pytest.raises(DataError) as raised:
        load(net, path)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    line = str(raised.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line.removeprefix(f"{path}: ")


# --- what is taken -----------------------------------------------------------------------


@pytest.mark.parametrize("nest", [None, "state_dict", "model", "both"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "Scale.", "module.backbone.", "model.module."])
def test_nests_and_prefixes(tmp_path: Path, nest: str | None, prefix: str) -> None:
    given = {prefix + k: v for k, v in state_of(1).items()}
    inner: Any = {"state_dict": {"model": given}} if nest == "both" else {nest: given, "epoch": 3} if nest else given
    net, before = street(0), state_of(0)
    load(net, saved(inner, tmp_path / "w.pth"))
    wanted = state_of(1)
    for name, tensor in net.state_dict().items():
        from_file = name.startswith(("fine.", "coarse.")) and not name.endswith("num_batches_tracked")
        assert torch.equal(tensor, (wanted if from_file else before)[name]), name


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_both_formats_of_torch_and_halves(tmp_path: Path, options: dict[str, bool]) -> None:
    given = {k: v.half() if v.is_floating_point() else v for k, v in state_of(1).items()}
    net = street(0)
    load(net, saved(given, tmp_path / "w.pth", **options))
    assert torch.equal(net.coarse[0][0].weight, given["coarse.0.0.weight"].float())


def test_old_files_count_no_batches_and_have_other_classifiers(tmp_path: Path) -> None:
    given = {k: v for k, v in state_of(1).items() if not k.endswith("num_batches_tracked")}
    given |= {"classifier.weight": torch.zeros(1000, 3), "fc.weight": torch.zeros(7)}
    net = street(0)
    load(net, saved(given, tmp_path / "w.pth"))
    assert torch.equal(net.fine[0][0].weight, given["fine.0.0.weight"])
    assert torch.equal(net.classifier.weight, street(0).classifier.weight)


def test_of_two_tensors_of_one_name_the_plainer_counts(tmp_path: Path) -> None:
    given = state_of(1)
    net = street(0)
    load(net, saved({f"module.{k}": v + 1 for k, v in given.items()} | given, tmp_path / "w.pth"))
    assert torch.equal(net.fine[0][0].weight, given["fine.0.0.weight"])


def torchvision_resnet(blocks: tuple[int, ...], bottom: bool = True) -> State:
    """Names and shapes of torchvision's ResNets with bottlenecks, of random weights."""
    state: State = {"conv1.weight": torch.rand(64, 3, 7, 7), "fc.weight": torch.rand(1000, 2048)}

    def norm(name: str, width: int) -> None:
        state.update({f"{name}.{k}": torch.rand(width) for k in ("weight", "bias", "running_mean", "running_var")})
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    norm("bn1", 64)
    c_in = 64
    for i, count in enumerate(blocks, 1):
        width = 32 * 2**i
        for j in range(count):
            at = f"layer{i}.{j}"
            for k, shape in enumerate([(width, c_in, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)], 1):
                state[f"{at}.conv{k}.weight"] = torch.rand(shape)
                norm(f"{at}.bn{k}", shape[0])
            if j == 0:
                state[f"{at}.downsample.0.weight"] = torch.rand(4 * width, c_in, 1, 1)
                norm(f"{at}.downsample.1", 4 * width)
            c_in = 4 * width
    return state


def test_resnet_has_torchvisions_names(tmp_path: Path) -> None:
    given = torchvision_resnet((3, 4, 23, 3))
    net = seeded(lambda: DeepLab(19), 0)
    assert net.backbone_state().keys() == given.keys() - {"fc.weight"}
    head = net.head.classifier.weight.clone()
    load(net, saved({f"Scale.{k}": v for k, v in given.items() if "num_batches" not in k}, tmp_path / "w.pth"))
    state = net.backbone.state_dict()
    assert all(torch.equal(state[k], v) for k, v in given.items() if k in state and "num_batches" not in k)
    assert torch.equal(net.head.classifier.weight, head)
    assert not net.backbone.bn1.weight.requires_grad  # frozen as before, at the file's value


def test_small_hrnet_and_vgg_load_their_own(tmp_path: Path) -> None:
    one, other = (seeded(lambda: HRNetOCR(19, 4, (1, 1, 1)), seed) for seed in (0, 1))
    load(one, saved({"model": other.backbone.state_dict() | {"final_layer.0.weight": torch.rand(3)}}, tmp_path / "h"))
    assert all(torch.equal(a, b) for a, b in zip(one.backbone.parameters(), other.backbone.parameters(), strict=True))
    more = {"features.30.weight": torch.rand(2), "classifier.0.bias": torch.rand(2)}
    eye, given = VGG19(), seeded(VGG19, 1).state_dict() | more
    load(eye, saved(given, tmp_path / "v"))
    assert all(torch.equal(v, given[k]) for k, v in eye.state_dict().items())


# --- what is refused ---------------------------------------------------------------------


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    given = state_of(1)
    del given["coarse.0.0.weight"], given["fine.2.body.0.1.running_var"]
    line = refused(street(0), saved(given, tmp_path / "w.pth"))
    total = sum(k.startswith(("fine", "coarse")) and "num_batches" not in k for k in state_of(0))
    name = "fine.2.body.0.1.running_var"
    assert line == f"{name}: found nothing; 2 of {total} tensors do not fit (numbers of shape (32,))"


def test_another_shape_is_named(tmp_path: Path) -> None:
    line = refused(street(0), saved(state_of(1) | {"fine.0.0.weight": torch.rand(16, 4, 3, 3)}, tmp_path / "w.pth"))
    assert line.startswith("fine.0.0.weight: found shape (16, 4, 3, 3); 1 of ")
    assert line.endswith("(numbers of shape (16, 3, 3, 3))")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (torch.full((16, 3, 3, 3), float("nan")), "values that are not finite"),
        (torch.full((16, 3, 3, 3), float("inf")), "values that are not finite"),
        (torch.ones(16, 3, 3, 3, dtype=torch.int64), "strided of int64 on cpu"),
        (torch.rand(16, 3, 3, 3).to_sparse(), "sparse_coo of float32 on cpu"),
        (torch.empty(16, 3, 3, 3, device="meta"), "strided of float32 on meta"),
        ("a word", "nothing"),
    ],
)
def test_what_are_no_weights(tmp_path: Path, value: Any, found: str) -> None:
    line = refused(street(0), saved(state_of(1) | {"fine.0.0.weight": value}, tmp_path / "w.pth"))
    assert line.startswith(f"fine.0.0.weight: found {found}; 1 of ")


def test_another_networks_file_fits_nowhere(tmp_path: Path) -> None:
    line = refused(street(0), saved(ResNet((1, 1, 1, 1)).state_dict(), tmp_path / "w.pth"))
    count, total = line.split("found nothing; ")[1].split(" tensors")[0].split(" of ")
    assert count == total


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04" + 40 * b"\x00", bytes(range(256)) * 40])
def test_files_that_torch_did_not_write(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    assert refused(street(0), tmp_path / "w.pth").startswith("damaged, or more than tensors")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.001, 0.1, 0.5, 0.99, -1])
def test_truncated_files(tmp_path: Path, zipped: bool, kept: float) -> None:
    whole = saved(state_of(1), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped).read_bytes()
    (tmp_path / "w.pth").write_bytes(whole[: -1 if kept < 0 else int(kept * len(whole))])
    assert refused(street(0), tmp_path / "w.pth").startswith("damaged, or more than tensors")


class Trap:
    """What a file would do if it were let."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.touched,)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_file_is_executed(tmp_path: Path, zipped: bool) -> None:
    given = state_of(1) | {"optimizer": Trap(tmp_path / "touched")}
    path = saved(given, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert refused(street(0), path).startswith("damaged, or more than tensors")
    assert not (tmp_path / "touched").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "touched").exists()  # it was a trap


@pytest.mark.parametrize("value", [[torch.rand(3)], torch.rand(3), {}, {"model": {}}, {"model": 3, "a": "b"}])
def test_files_without_named_tensors(tmp_path: Path, value: Any) -> None:
    assert refused(street(0), saved(value, tmp_path / "w.pth")).startswith("holds no named tensors")


def test_a_file_that_holds_itself_ends(tmp_path: Path) -> None:
    state: dict[str, Any] = {}
    state["model"] = state
    assert refused(street(0), saved(state, tmp_path / "w.pth")).startswith("holds no named tensors")


def test_no_file_and_no_backbone(tmp_path: Path) -> None:
    assert refused(street(0), tmp_path / "none.pth") == "no such file (a file of weights)"
    assert refused(street(0), tmp_path) == "no such file (a file of weights)"
    with pytest.raises(ConfigError, match=r"^pretrained: Linear takes no file of weights"):
        load(nn.Linear(2, 2), tmp_path / "none.pth")
