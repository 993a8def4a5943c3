"""From a plan to an optimizer, with the rates of the network's own parameter groups."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from diga.settings import Plan


def optimizer(net: nn.Module, plan: Plan) -> Optimizer:
    """The optimizer of `net`'s parameters that want gradients, each handed over once."""
    groups = [g for g in grouped(net, plan) if g["params"]]
    weights = [p for group in groups for p in group["params"]]
    for group in groups:
        group["params"] = [as_it_lies(p) for p in group["params"]]
    if plan.optimizer == "sgd":
        made: Optimizer = SGD(groups, plan.lr, plan.momentum, weight_decay=plan.weight_decay, fused=True)
    else:
        kind = {"adam": Adam, "adamw": AdamW}[plan.optimizer]
        made = kind(groups, plan.lr, (plan.momentum, plan.beta_2), weight_decay=plan.weight_decay, fused=True)
    hand_over_gradients(made, weights)
    return made


def as_it_lies(p: Tensor, like: Tensor | None = None) -> Tensor:
    """The memory of `p` with its dimensions in the order in which those of `like`, or its own, lie.

    On a CPU, fused kernels first copy what is not dense in the order of its dimensions, say weights
    that lie channels last, which doubles the time of a step.
    """
    strides = (p if like is None else like).stride()
    return p.detach().permute(sorted(range(p.dim()), key=strides.__getitem__, reverse=True))


def hand_over_gradients(optim: Optimizer, weights: list[nn.Parameter]) -> None:
    """Give the optimizer, which holds views of `weights`, their gradients before each step, and nobody after it."""
    views = [view for group in optim.param_groups for view in group["params"]]

    def give(*_: object) -> None:
        for view, p in zip(views, weights, strict=True):
            # torch 2.13 misreads a gradient that is not dense
            view.grad = None if p.grad is None else as_it_lies(p.grad, like=p).contiguous()

    def drop(*_: object) -> None:
        for x in (*views, *weights):
            x.grad = None

    optim.register_step_pre_hook(give)
    optim.register_step_post_hook(drop)


def grouped(net: nn.Module, plan: Plan) -> list[dict[str, Any]]:
    """Parameter groups with `factor`, of the learning rate; a network without groups is all one."""
    name_groups = getattr(net, "parameter_groups", None)
    named = name_groups() if name_groups else {"all": list(net.parameters())}
    factors = {"backbone": plan.backbone, "head": plan.head, "all": 1.0}
    return [
        {"params": [p for p in params if p.requires_grad], "factor": factors[name]} for name, params in named.items()
    ]


def set_rate(optim: Optimizer, lr: float) -> None:
    """The rate of this step, times each group's factor."""
    for group in optim.param_groups:
        group["lr"] = lr * group["factor"]
