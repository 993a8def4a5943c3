"""The mean teacher, parameter by parameter."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diga.ops.ema import copy_buffers_, ema_, ema_rate, teacher_of

torch.set_num_threads(1)


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(2, 2)).double()


def test_the_rate_is_a_running_mean_that_stops_at_its_cap():
    assert [ema_rate(t) for t in range(3)] == [0, 0.5, 1 - 1 / 3]
    assert ema_rate(998) == pytest.approx(0.998998998998999)
    assert ema_rate(10**6) == 0.999
    assert ema_rate(10**6, cap=0.9) == 0.9


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.999, 1.0])
def test_ema_moves_every_parameter_and_no_buffer(rate):
    student, teacher = net(0), teacher_of(net(1))
    student[1].running_mean.fill_(7)
    wanted = [rate * a + (1 - rate) * b for a, b in zip(teacher.parameters(), student.parameters(), strict=True)]
    kept = [b.clone() for b in teacher.buffers()]
    ema_(teacher, student, rate)
    for found, slow in zip(teacher.parameters(), wanted, strict=True):
        torch.testing.assert_close(found.data, slow.data, atol=1e-12, rtol=0)
    assert all(torch.equal(a, b) for a, b in zip(teacher.buffers(), kept, strict=True))


def test_the_first_step_copies_exactly():
    student, teacher = net(0), teacher_of(net(1))
    ema_(teacher, student, ema_rate(0))
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), student.parameters(), strict=True))


def test_a_running_mean_of_weights():
    student, teacher, history = nn.Linear(2, 1).double(), None, []
    teacher = teacher_of(student)
    for t in range(6):
        nn.init.normal_(student.weight)
        history.append(student.weight.detach().clone())
        ema_(teacher, student, ema_rate(t))
    torch.testing.assert_close(teacher.weight.data, torch.stack(history).mean(0), atol=1e-12, rtol=0)


def test_a_teacher_is_a_frozen_copy():
    student = net(0)
    student[0](torch.rand(1, 3, 3, 3, dtype=torch.float64)).sum().backward()
    teacher = teacher_of(student)
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.grad is None for p in teacher.parameters())
    assert student[0].weight.grad is not None
    assert student[0].weight.requires_grad
    teacher[0].weight.zero_()
    assert student[0].weight.any()


def test_buffers_are_copied_on_request_and_parameters_are_not():
    student, teacher = net(0), teacher_of(net(1))
    student[1].running_mean.normal_()
    student[1].num_batches_tracked.fill_(5)
    before = teacher[0].weight.clone()
    copy_buffers_(teacher, student)
    assert all(torch.equal(a, b) for a, b in zip(teacher.buffers(), student.buffers(), strict=True))
    assert torch.equal(teacher[0].weight, before)


def test_networks_that_differ_are_refused():
    with pytest.raises(RuntimeError):
        ema_(nn.Linear(2, 2), nn.Linear(2, 2, bias=False), 0.5)
    with pytest.raises(ValueError, match="zip"):
        copy_buffers_(nn.BatchNorm1d(2), nn.Linear(2, 2))
