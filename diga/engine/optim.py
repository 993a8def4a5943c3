"""From a plan to an optimizer, with the rates of the network's own parameter groups."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from diga.settings import Plan


def optimizer(net: nn.Module, plan: Plan) -> Optimizer:
    """The optimizer of `net`'s parameters that want gradients, each handed over once."""
    groups = [g for g in grouped(net, plan) if g["params"]]
    if plan.optimizer == "sgd":
        return SGD(groups, plan.lr, plan.momentum, weight_decay=plan.weight_decay, fused=True)
    kind = {"adam": Adam, "adamw": AdamW}[plan.optimizer]
    betas = (plan.momentum, plan.beta_2)
    made: Optimizer = kind(groups, plan.lr, betas, weight_decay=plan.weight_decay, fused=True)
    return made


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
