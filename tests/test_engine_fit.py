"""The loop: it learns, it refuses what is not finite, its rates and its spool are what they say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diga.engine import checkpoint
from diga.engine.fit import fit
from diga.engine.optim import optimizer, set_rate
from diga.engine.run import Pace, Run
from diga.engine.spool import Spool
from diga.errors import Diverged
from diga.files import PRIVATE, SPOOL
from diga.models.streetnet import streetnet
from diga.settings import Plan
from diga.types import Batch, Pair, Updates
from tests.conftest import differing, left_by, small, told_by

PLAN = Plan(steps=60, optimizer="adam", lr=0.05, schedule="constant", weight_decay=0.0, snapshots=3)


@dataclass
class Toy(Run):
    """Random images; the net shall find a mean of their colours."""

    def pairs(self, start: int, stop: int) -> Iterator[Pair]:
        for t in range(start, stop):
            image = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(t))
            yield Pair(Batch(image, image[:, 0].long()), image[:0])


def toy(folder: Path, pace: Pace | None = None) -> Toy:
    return Toy(small(), "warm_up", folder, pace=pace or Pace(log=4, save=10))


def untrained() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(3, 1, 1)


def error(net: nn.Module, x: Tensor) -> Tensor:
    wanted = 0.2 * x[:, :1] + 0.5 * x[:, 1:2] + 0.3 * x[:, 2:]
    return (net(x) - wanted).square().mean()


# --- learning ----------------------------------------------------------------------------


def test_a_fit_learns_and_leaves_what_it_promises(tmp_path: Path) -> None:
    net = untrained()
    fit(toy(tmp_path), nn.ModuleDict({"student": net}), lambda pair, t: one(error(net, pair.source.image)), PLAN)
    rows = told_by(tmp_path)
    assert [step for step, _ in rows] == list(range(60))
    assert rows[-1][1]["loss/fit"] < 0.02 * rows[0][1]["loss/fit"]
    assert all(values["lr"] == 0.05 for _, values in rows)
    assert torch.equal(left_by(tmp_path)["student.weight"], net.weight)
    kept = sorted((tmp_path / "snapshots").glob("*.pt"))
    assert [p.stem for p in kept] == ["00000020", "00000040", "00000060"]
    assert torch.equal(checkpoint.read_weights(kept[-1])["weight"], net.weight)
    assert [int(p.name.split(".")[0]) for p in sorted((tmp_path / PRIVATE).iterdir())] == [40, 50]


def one(loss: Tensor, name: str = "fit") -> Updates:
    yield "student", {name: loss}


def test_several_losses_descend_along_their_sum(tmp_path: Path) -> None:
    a, b = untrained(), untrained()

    def parts(pair: Pair, t: int) -> Updates:
        x = pair.source.image
        yield "student", {"left": error(a, x[..., :2]), "right": 3 * error(a, x[..., 2:])}

    fit(toy(tmp_path / "a"), nn.ModuleDict({"student": a}), parts, PLAN)
    whole = lambda x: error(b, x[..., :2]) + 3 * error(b, x[..., 2:])  # noqa: E731
    fit(toy(tmp_path / "b"), nn.ModuleDict({"student": b}), lambda pair, t: one(whole(pair.source.image)), PLAN)
    torch.testing.assert_close(a.weight, b.weight)
    assert set(told_by(tmp_path / "a")[3][1]) == {"lr", "loss/left", "loss/right"}


def test_each_update_moves_the_network_it_names(tmp_path: Path) -> None:
    nets = nn.ModuleDict({"student": untrained(), "judge": untrained()})
    before = {k: v.clone() for k, v in nets.state_dict().items()}
    seen: list[bool] = []

    def two(pair: Pair, t: int) -> Updates:
        yield "judge", {"judge": error(nets["judge"], pair.source.image)}
        moved = {n for n in nets if not torch.equal(nets[n].weight, before[f"{n}.weight"])}
        seen.append(moved == {"judge"})
        yield "student", {"fool": error(nets["student"], pair.source.image)}

    fit(toy(tmp_path), nets, two, PLAN.model_copy(update={"steps": 1, "snapshots": 1}))
    assert seen == [True]
    assert not torch.equal(nets["student"].weight, before["student.weight"])


# --- what is not finite ------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_is_named_by_step_and_term(tmp_path: Path, bad: float) -> None:
    net = untrained()
    run = toy(tmp_path, Pace(log=5, save=10))
    with pytest.raises(Diverged, match=r"warm_up step 23: loss/oops is -?(nan|inf)") as caught:
        fit(run, nn.ModuleDict({"student": net}), lambda p, t: broken(net, p, bad if t == 23 else 1.0), PLAN)
    assert caught.value.code == 5
    assert max(step for step, _ in told_by(tmp_path)) < 23
    all_finite(tmp_path)


def broken(net: nn.Module, pair: Pair, factor: float) -> Updates:
    yield "student", {"fine": error(net, pair.source.image), "oops": factor * error(net, pair.source.image)}


def all_finite(folder: Path) -> None:
    """Of every checkpoint that is left."""
    files = list((folder / PRIVATE).glob("*.pt"))
    assert files
    for path in files:
        state = torch.load(path)
        assert all(x.isfinite().all() for x in state["nets"].values()), path


def test_a_slope_that_is_not_finite_spoils_no_checkpoint(tmp_path: Path) -> None:
    """The loss of step 19 is finite, its slope is not, and after step 20 there is a checkpoint due."""
    net = untrained()

    def step(pair: Pair, t: int) -> Updates:
        loss = error(net, pair.source.image)
        yield "student", {"fit": loss + ((0 * loss).sqrt() if t == 19 else 0)}

    with pytest.raises(Diverged, match=r"student\.weight: weights are not finite"):
        fit(toy(tmp_path), nn.ModuleDict({"student": net}), step, PLAN)
    all_finite(tmp_path)
    assert not (tmp_path / "artifact.pt").exists()


# --- rates -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "rates"),
    [
        ({"schedule": "poly", "power": 1.0}, {0: 1.0, 25: 0.75, 50: 0.5, 99: 0.01}),
        ({"schedule": "poly", "power": 0.9}, {0: 1.0, 50: 0.535886731, 99: 0.0158489319}),
        ({"schedule": "poly", "power": 1.0, "ramp": 10}, {0: 0.1, 4: 0.48, 9: 0.91, 10: 0.9}),
        ({"schedule": "constant", "ramp": 4}, {0: 0.25, 3: 1.0, 80: 1.0}),
        ({"schedule": "linear_ramp"}, {0: 0.0, 50: 0.5, 99: 0.99}),
    ],
)
def test_rates_are_golden(how: dict[str, object], rates: dict[int, float]) -> None:
    plan = Plan(steps=100, lr=1.0, **how)
    assert {t: plan.lr_at(t) for t in rates} == pytest.approx(rates, rel=1e-6)


def test_snapshots_are_even_and_end_at_the_end() -> None:
    assert Plan(steps=100, snapshots=4).snapshot_steps() == {25, 50, 75, 100}
    assert Plan(steps=3, snapshots=8).snapshot_steps() == {1, 2, 3}
    assert all(max(Plan(steps=s, snapshots=k).snapshot_steps()) == s for s in range(1, 30) for k in range(1, 12))


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_every_weight_is_handed_over_once_with_its_factor(kind: str) -> None:
    """Spec 0.2: the authors' walk hands most of the backbone over three times."""
    net = streetnet(19)
    next(net.parameters()).requires_grad_(False)
    optim = optimizer(net, Plan(optimizer=kind, backbone=3.0, head=10.0))
    handed = [p.data_ptr() for group in optim.param_groups for p in group["params"]]
    assert sorted(handed) == sorted(p.data_ptr() for p in net.parameters() if p.requires_grad)
    set_rate(optim, 0.1)
    groups = net.parameter_groups()
    wanted = {p.data_ptr(): {"backbone": 0.3, "head": 1.0}[name] for name, ps in groups.items() for p in ps}
    for group in optim.param_groups:
        assert {wanted[p.data_ptr()] for p in group["params"]} == {round(group["lr"], 9)}


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_memory_layout_changes_no_update(kind: str, layout: torch.memory_format) -> None:
    """Beside torch's own optimizer, one weight at a time, on the parameters themselves."""
    torch.manual_seed(0)
    ours, slow = (streetnet(4).to(memory_format=layout) for _ in range(2))  # type: ignore[call-overload]
    slow.load_state_dict(ours.state_dict())
    plan = Plan(optimizer=kind, lr=0.01, momentum=0.9, weight_decay=0.01, head=1.0)
    optim = optimizer(ours, plan)
    other = {
        "sgd": lambda ps: torch.optim.SGD(ps, 0.01, 0.9, weight_decay=0.01, foreach=False),
        "adam": lambda ps: torch.optim.Adam(ps, 0.01, (0.9, 0.999), weight_decay=0.01, foreach=False),
        "adamw": lambda ps: torch.optim.AdamW(ps, 0.01, (0.9, 0.999), weight_decay=0.01, foreach=False),
    }[kind](slow.parameters())
    for t in range(3):
        for p, q in zip(ours.parameters(), slow.parameters(), strict=True):
            # gradients may lie otherwise than their weights
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(t))
            q.grad = p.grad.clone(memory_format=torch.preserve_format)
        optim.step()
        other.step()
        assert all(p.grad is None for p in ours.parameters())
    for p, q in zip(ours.parameters(), slow.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-5, atol=1e-6)


def test_one_step_of_sgd_is_the_textbooks(tmp_path: Path) -> None:
    net = untrained()
    w = net.weight.detach().clone()
    plan = Plan(steps=2, lr=0.1, momentum=0.9, weight_decay=0.01, schedule="linear_ramp", snapshots=1)
    velocity = torch.zeros_like(w)
    slopes: list[Tensor] = []

    def step(pair: Pair, t: int) -> Updates:
        loss = error(net, pair.source.image)
        slopes.append(torch.autograd.grad(loss, net.weight, retain_graph=True)[0])
        yield "student", {"fit": loss}

    fit(toy(tmp_path), nn.ModuleDict({"student": net}), step, plan)
    for t, slope in enumerate(slopes):
        velocity = 0.9 * velocity + slope + 0.01 * w
        w = w - plan.lr_at(t) * velocity
    torch.testing.assert_close(net.weight.detach(), w)


# --- the spool ---------------------------------------------------------------------------


def test_a_spool_mends_a_line_that_was_cut(tmp_path: Path) -> None:
    Spool(tmp_path).append({s: {"loss/a": s / 2} for s in range(4)})
    path = tmp_path / SPOOL
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1  # where the line of step 3 begins
    for cut in (len(whole) - 1, len(whole) - 9, last + 1):
        path.write_bytes(whole[:cut])
        spool = Spool(tmp_path)
        assert spool.last == 2
        spool.append({2: {"loss/a": -1.0}, 3: {"loss/a": 1.5}, 4: {"loss/a": 2.0}})
        assert told_by(tmp_path) == [(s, {"loss/a": s / 2}) for s in range(5)]
    path.write_bytes(b'{"st')
    assert Spool(tmp_path).last == -1
    assert path.read_bytes() == b""


def test_only_the_first_worker_writes(tmp_path: Path) -> None:
    Spool(tmp_path, write=False).append({0: {"loss/a": 1.0}})
    assert not (tmp_path / SPOOL).exists()
    Spool(tmp_path).append({})
    assert not (tmp_path / SPOOL).exists()


# --- checkpoints -------------------------------------------------------------------------


def test_the_last_two_checkpoints_stay_and_a_damaged_one_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cpu = torch.device("cpu")
    assert checkpoint.latest(tmp_path, cpu) is None
    for step in (2, 4, 10, 12):
        checkpoint.save(tmp_path, step, {"step": step, "x": torch.full((3,), float(step))})
    assert [int(p.name[:8]) for p in sorted(tmp_path.glob("*.pt"))] == [10, 12]
    newest = max(tmp_path.glob("*.pt"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    state = checkpoint.latest(tmp_path, cpu)
    assert state is not None
    assert state["step"] == 10
    assert newest.name in capsys.readouterr().out
    for path in tmp_path.glob("*.pt"):
        path.write_bytes(b"")
    assert checkpoint.latest(tmp_path, cpu) is None
    assert not list(tmp_path.glob("*.pt"))


def test_a_fit_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Stopped by an error at step 33, after the checkpoint of 30."""
    nets = {name: nn.ModuleDict({"student": untrained()}) for name in ("whole", "broken", "mended")}

    def step_of(name: str, bad: int) -> None:
        net = nets[name]["student"]

        def step(pair: Pair, t: int) -> Updates:
            if t == bad:
                raise KeyboardInterrupt
            yield "student", {"fit": error(net, pair.source.image) * torch.rand(())}  # torch's own chance, too

        fit(toy(tmp_path / ("a" if name == "whole" else "b")), nets[name], step, PLAN)

    step_of("whole", -1)
    with pytest.raises(KeyboardInterrupt):
        step_of("broken", 33)
    with torch.no_grad():
        nets["mended"]["student"].weight.fill_(9)  # whatever it held, the checkpoint decides
    step_of("mended", -1)
    assert not differing(left_by(tmp_path / "a"), left_by(tmp_path / "b"))
    assert told_by(tmp_path / "a") == told_by(tmp_path / "b")
    assert json.loads((tmp_path / "b" / SPOOL).read_text().splitlines()[-1])["step"] == 59
