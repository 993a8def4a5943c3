"""The one training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from diga.engine import checkpoint, parallel
from diga.engine.optim import optimizer, set_rate
from diga.errors import Diverged, Stopped
from diga.files import PRIVATE
from diga.settings import Plan
from diga.types import Losses, Pair, Updates

if TYPE_CHECKING:
    from diga.engine.run import Run

Step = Callable[[Pair, int], Updates]
Plans = Mapping[str, Plan] | None  # of networks that descend otherwise than the rest


def fit(run: Run, nets: nn.ModuleDict, step: Step, plan: Plan, keep: str = "student", plans: Plans = None) -> None:
    """Descend `step` for `plan.steps` updates and leave `nets` as the run's artifact.

    `step(pair, t)` yields `(network, losses)` once per update: a segmentation method yields once, a
    GAN twice.  A fit that was cut short goes on from its last checkpoint and ends bit for bit where
    an unbroken one does: all chance is a function of seed and step.  Weights of `nets[keep]` are
    also kept at the plan's snapshots.  A network named in `plans` descends by its own.  Raises Diverged,
    naming step and term, and Stopped, after saving, when `run.stop` asks for that.
    """
    plan_of = dict.fromkeys(nets, plan) | dict(plans or {})
    optims = {k: optimizer(n, plan_of[k]) for k, n in nets.items() if any(p.requires_grad for p in n.parameters())}
    start = resume(run, nets, optims)
    pending: dict[int, Losses] = {}
    vote = parallel.Vote(run.device)
    with run.stop() as asked:
        for t, pair in enumerate(run.pairs(start, plan.steps), start):
            run.seed(t)
            pending[t] = {}
            updates = step(pair, t)
            while update := run.under_precision(partial(next, updates, None)):
                name, losses = update
                descend(nets[name], optims[name], losses, plan_of[name].lr_at(t))
                pending[t] |= {f"loss/{k}": v.detach() for k, v in losses.items()}
            done, stop = t + 1, vote(asked())
            saves = stop or (done % run.pace.save == 0 and done < plan.steps)
            if saves or done % run.pace.log == 0 or done == plan.steps:
                tell(run, pending, plan)
            if done in plan.snapshot_steps() and keep in nets:
                run.snapshot(done, nets[keep])
            if saves:
                save(run, nets, optims, done)
            if stop:
                raise Stopped(run.stage, f"stopped after step {done}", "the same command goes on from there")
    run.save(dict(nets.items()))


def descend(net: nn.Module, optim: Optimizer, losses: Losses, lr: float) -> None:
    """One update along the sum of the losses, with gradients averaged over the workers."""
    set_rate(optim, lr)
    net.zero_grad(set_to_none=True)
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    parallel.average_gradients(net.parameters())
    optim.step()


def tell(run: Run, pending: dict[int, Losses], plan: Plan) -> None:
    """Report the losses since last time, fetched from the device at once; refuse what is not finite."""
    if not pending:
        return
    for t in run.watched.keys() & pending.keys():
        pending[t] |= run.watched.pop(t)
    terms = [(t, name) for t, losses in pending.items() for name in losses]
    values = parallel.mean(torch.stack([pending[t][name].float() for t, name in terms])).tolist()
    rows: dict[int, dict[str, float]] = {t: {"lr": plan.lr_at(t)} for t in pending}
    for (t, name), value in zip(terms, values, strict=True):
        rows[t][name] = value
        if not abs(value) < float("inf"):
            raise Diverged(f"{run.stage} step {t}", f"{name} is {value}", "a finite loss; try a lower plan.lr")
    pending.clear()
    run.report(rows)
    run.progress(max(rows) + 1, plan.steps)


def save(run: Run, nets: nn.ModuleDict, optims: dict[str, Optimizer], done: int) -> None:
    """A checkpoint after `done` steps, by the first worker.  Raises Diverged rather than keep what is not finite."""
    run.check(nets)
    if run.rank == 0:
        state = {
            "step": done,
            "nets": nets.state_dict(),
            "optims": {k: o.state_dict() for k, o in optims.items()},
        }
        checkpoint.save(run.folder / PRIVATE, done, state)
    parallel.barrier()


def resume(run: Run, nets: nn.ModuleDict, optims: dict[str, Optimizer]) -> int:
    """Load the last good checkpoint, if there is one, and return the step to start from."""
    state: dict[str, Any] | None = checkpoint.latest(run.folder / PRIVATE, run.device)
    if state is None:
        return 0
    nets.load_state_dict(state["nets"])
    for name, optim in optims.items():
        optim.load_state_dict(state["optims"][name])
    return int(state["step"])


def finite(nets: nn.Module) -> str:
    """The name of the first tensor that is not finite; empty if all are."""
    bad = (k for k, v in nets.state_dict().items() if isinstance(v, Tensor) and not v.isfinite().all())
    return next(bad, "")
