"""Every loss against a loop over pixels and classes in float64: its value and its gradient."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diga.ops import losses
from diga.ops.losses import cross_entropy, hard_cross_entropy, rows_of, soft_cross_entropy, symmetric_distillation, taps
from diga.types import IGNORE

torch.set_num_threads(1)
CLOSE = {"atol": 1e-6, "rtol": 1e-6}
B, K, H, W = 2, 4, 3, 5


def logits(seed: int, *shape: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(*(shape or (B, K, H, W)), dtype=torch.float64, generator=g)).requires_grad_()


def labels(seed: int, void: float = 0.3, shape: tuple[int, ...] = (B, H, W)) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, K, shape, generator=g)
    return y.masked_fill(torch.rand(shape, generator=g) < void, IGNORE)


def pixels_of(y: Tensor) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, y.shape))


def log_p(x: Tensor, b: int, i: int, j: int) -> list[Tensor]:
    total = sum(x[b, k, i, j].exp() for k in range(x.shape[1]))
    return [(x[b, k, i, j].exp() / total).log() for k in range(x.shape[1])]


def agree(fast: Callable[..., Tensor], slow: Callable[..., Tensor], *inputs: Tensor) -> None:
    """The same value, and the same slope by every input."""
    values, slopes = [], []
    for loss in (fast, slow):
        value = loss(*inputs)
        values.append(value.detach())
        slopes.append(torch.autograd.grad(value, inputs, materialize_grads=True))
    torch.testing.assert_close(*values, **CLOSE)
    for a, b in zip(*slopes, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


# --- eq. 1 -------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("normalise", ["all", "valid"])
def test_cross_entropy_is_the_slow_sum(normalise, weighted):
    x, y = logits(0), labels(1)
    weight = torch.tensor([0.5, 1, 2, 3], dtype=torch.float64) if weighted else None

    def slow(x: Tensor) -> Tensor:
        kept = [p for p in pixels_of(y) if y[p] != IGNORE]
        w = [1.0 if weight is None else weight[y[p]] for p in kept]
        total = sum(-w_y * log_p(x, *p)[y[p]] for w_y, p in zip(w, kept, strict=True))
        return total / (y.numel() if normalise == "all" else len(kept))

    agree(lambda x: cross_entropy(x, y, losses.counted(y, normalise), weight), slow, x)


def test_cross_entropy_divides_by_labelled_pixels_unless_told():
    x, y = logits(0), labels(1)
    torch.testing.assert_close(cross_entropy(x, y), F.cross_entropy(x, y, ignore_index=IGNORE))


@pytest.mark.parametrize("loss", [cross_entropy, hard_cross_entropy])
def test_a_label_of_void_alone_teaches_nothing(loss):
    x, y = logits(0), labels(1, void=1.1)
    value = loss(x, y)
    value.backward()
    assert value == 0
    assert torch.equal(x.grad, torch.zeros_like(x))
    assert losses.counted(y, "valid") == 0
    assert losses.counted(y, "all") == y.numel()


def test_two_halves_over_a_shared_count_are_the_whole():
    x, y = logits(0), labels(1)
    count = losses.counted(y, "valid")
    halves = cross_entropy(x[:1], y[:1], count) + cross_entropy(x[1:], y[1:], count)
    torch.testing.assert_close(halves, cross_entropy(x, y), **CLOSE)


@pytest.mark.parametrize("weighted", [False, True])
def test_trust_multiplies_the_pixels_and_not_the_divisor(weighted):
    x, y = logits(0), labels(1)
    weight = torch.tensor([0.5, 1, 2, 3], dtype=torch.float64) if weighted else None
    trust = logits(12, B, H, W).detach().sigmoid()

    def slow(x: Tensor) -> Tensor:
        kept = [p for p in pixels_of(y) if y[p] != IGNORE]
        w = [1.0 if weight is None else weight[y[p]] for p in kept]
        return sum(-trust[p] * w_y * log_p(x, *p)[y[p]] for w_y, p in zip(w, kept, strict=True)) / len(kept)

    agree(lambda x: cross_entropy(x, y, weight=weight, trust=trust), slow, x)
    ones = torch.ones(B, H, W)
    assert torch.equal(cross_entropy(x, y, trust=ones), cross_entropy(x, y))
    assert cross_entropy(x, y, trust=0 * ones) == 0


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 7), (3, 4, 2)])
def test_cross_entropy_at_any_size(shape):
    x, y = logits(3, shape[0], K, *shape[1:]), labels(4, 0, shape)
    torch.testing.assert_close(cross_entropy(x, y), F.cross_entropy(x, y), **CLOSE)


# --- hard examples -----------------------------------------------------------------------


@pytest.mark.parametrize("trusting", [False, True])
@pytest.mark.parametrize(("threshold", "keep"), [(0.7, 2), (0.05, 7), (0.7, 1000), (0.0, 0), (1.0, 3), (0.5, 20)])
def test_hard_cross_entropy_is_the_slow_choice(threshold, keep, trusting):
    x, y = logits(5), labels(6)
    trust = logits(12, B, H, W).detach().sigmoid() if trusting else None

    def slow(x: Tensor) -> Tensor:
        terms = {p: log_p(x, *p)[y[p]] for p in pixels_of(y) if y[p] != IGNORE}
        chances = sorted(t.exp().item() for t in terms.values())
        limit = max(threshold, chances[keep]) if keep < len(chances) else 2.0
        hard = [-t * (1 if trust is None else trust[p]) for p, t in terms.items() if t.exp().item() < limit]
        return sum(hard) / max(1, len(hard)) if hard else 0 * x.sum()

    agree(lambda x: hard_cross_entropy(x, y, threshold, keep, trust), slow, x)


def test_hard_pixels_of_two_workers_are_those_of_their_batch():
    x, y = logits(5), labels(6)
    p_y = (
        x.detach()
        .softmax(1)
        .gather(1, y.masked_fill(y == IGNORE, 0)[:, None])[:, 0]
        .masked_fill(y == IGNORE, torch.inf)
    )
    for threshold, keep in ((0.7, 2), (0.05, 7), (0.7, 1000)):
        halves = [
            hard_cross_entropy(x[i : i + 1], y[i : i + 1], threshold, keep, gather=lambda mine: p_y) for i in range(B)
        ]
        torch.testing.assert_close(sum(halves) / B, hard_cross_entropy(x, y, threshold, keep), **CLOSE)


# --- eq. 4 -------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_soft_cross_entropy_is_the_slow_sum(masked):
    teacher, student = logits(7), logits(8)
    mask = labels(9) < 2 if masked else None

    def slow(teacher: Tensor, student: Tensor) -> Tensor:
        kept = [p for p in itertools.product(range(B), range(H), range(W)) if mask is None or mask[p]]
        q = {p: [t.detach().exp() for t in log_p(teacher, *p)] for p in kept}
        terms = [-sum(a * b for a, b in zip(q[p], log_p(student, *p), strict=True)) for p in kept]
        return sum(terms) / len(terms)

    agree(lambda t, s: soft_cross_entropy(t, s, mask), slow, teacher, student)


def test_soft_cross_entropy_slope_agrees_with_finite_differences():
    teacher = logits(7, 1, 3, 2, 2).detach()
    assert torch.autograd.gradcheck(lambda s: soft_cross_entropy(teacher, s), (logits(8, 1, 3, 2, 2),))


def test_soft_cross_entropy_of_a_sure_teacher_is_the_cross_entropy():
    x, y = logits(10), labels(11, void=0)
    sure = 1e4 * F.one_hot(y, K).movedim(3, 1).double()
    torch.testing.assert_close(soft_cross_entropy(sure, x), cross_entropy(x, y), **CLOSE)


def test_an_empty_mask_teaches_nothing():
    teacher, student = logits(7), logits(8)
    value = soft_cross_entropy(teacher, student, torch.zeros(B, H, W, dtype=torch.bool))
    value.backward()
    assert value == 0
    assert not student.grad.any()


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_symmetric_distillation_crosses_the_views(alpha):
    t, t_view, s, s_view = (logits(i) for i in range(4))

    def slow(t: Tensor, t_view: Tensor, s: Tensor, s_view: Tensor) -> Tensor:
        def entropy(q: Tensor, p: Tensor) -> Tensor:
            return -(q.detach().softmax(1) * p.log_softmax(1)).sum() / (B * H * W)

        return entropy(t, s_view) + alpha * entropy(t_view, s)

    agree(lambda *x: symmetric_distillation(*x, alpha), slow, t, t_view, s, s_view)


def test_without_alpha_the_second_term_is_not_even_read():
    nan = torch.full((B, K, H, W), torch.nan)
    assert symmetric_distillation(logits(0), nan, nan, logits(1), alpha=0).isfinite()


# --- sizes and precision -----------------------------------------------------------------


@pytest.mark.parametrize("align_corners", [False, True])
def test_upsample_interpolates_between_pixel_centres(align_corners):
    x = logits(0, 1, 2, 3, 4).detach()
    y = torch.zeros(1, 7, 9)

    def at(n: int, N: int, i: int) -> float:
        return i * (n - 1) / (N - 1) if align_corners else min(max((i + 0.5) * n / N - 0.5, 0), n - 1)

    slow = torch.zeros(1, 2, 7, 9, dtype=torch.float64)
    for i, j in itertools.product(range(7), range(9)):
        u, v = at(3, 7, i), at(4, 9, j)
        for a, b in itertools.product(range(3), range(4)):
            slow[0, :, i, j] += x[0, :, a, b] * max(0, 1 - abs(u - a)) * max(0, 1 - abs(v - b))
    torch.testing.assert_close(losses.upsample(x, y, align_corners), slow, **CLOSE)


def test_upsample_leaves_what_has_the_size():
    x = logits(0)
    assert losses.upsample(x, labels(0)) is x


def test_half_precision_stops_at_the_door():
    x, y = logits(0).float(), labels(1)
    half = x.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = [cross_entropy(half, y), hard_cross_entropy(half, y), soft_cross_entropy(half, half)]
    wanted = [f(half.float(), y) for f in (cross_entropy, hard_cross_entropy)]
    wanted.append(soft_cross_entropy(half.float(), half.float()))
    assert losses.upsample(half, torch.zeros(9, 9)).dtype == torch.float32
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b)
    sum(found).backward()
    assert half.grad.dtype == torch.bfloat16


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(-80, 80))
def test_losses_ignore_a_shift_of_all_logits_and_stay_finite(seed, void, shift):
    x, y = logits(seed).detach(), labels(seed + 1, void)
    for loss in (cross_entropy, hard_cross_entropy):
        torch.testing.assert_close(loss(x + shift, y), loss(x, y), **CLOSE)
        assert loss(x, y) >= 0
    torch.testing.assert_close(soft_cross_entropy(x + shift, x), soft_cross_entropy(x, x), **CLOSE)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_no_student_beats_the_teacher_itself(seed):
    teacher, student = logits(seed).detach(), logits(seed + 1).detach()
    assert soft_cross_entropy(teacher, teacher) <= soft_cross_entropy(teacher, student) + 1e-9


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize(("n", "N"), [(9, 64), (17, 130), (65, 65), (33, 20), (1, 5)])
def test_some_rows_of_a_resize_are_those_of_the_whole(n, N, align):
    x = torch.randn(2, 3, n, 5)
    whole = taps(n, N, align, x.dtype, x.device) @ x
    for top in range(0, N, 7):
        torch.testing.assert_close(rows_of(x, N, top, top + 7, align), whole[..., top : top + 7, :])
