"""A sweep's records made by hand: trials of a space with a choice and what follows from it, in memory or in MLflow."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from diga.report import runs, trials
from diga.report.records import Records
from tests import make_records as make

SOURCE = "streets/gta5"
RUNGS = (25, 100, 400)
SEEDS = (1, 2, 3)
END = 1_700_000_000_000  # milliseconds: long ago
TABLES = ["sweep", "sweep_confirmed", "sweep_choices", "sweep_importance"]
KINDS = ("classes", "cut", "none")
DIMENSIONS: list[dict[str, Any]] = [
    {"path": "self_training.distil", "kind": "float", "low": 0.05, "high": 2.0, "log": True},
    {"path": "self_training.ema", "kind": "float", "low": 0.9, "high": 0.999},
    {"path": "self_training.mix.kind", "kind": "categorical", "choices": list(KINDS)},
    {
        "path": "self_training.mix.fraction",
        "kind": "float",
        "low": 0.2,
        "high": 0.8,
        "when": {"self_training.mix.kind": ["classes", "cut"]},
    },
    {"path": "warm_up.mask.kind", "kind": "categorical", "choices": ["cut", "none"]},
]
OBJECTIVES = {
    "target": {"name": "target", "metric": f"{make.DOMAIN}/plain/last/miou", "direction": "max", "oracle": True},
    "agreement": {"name": "agreement", "metric": "label_free/agreement", "direction": "max", "oracle": False},
    "compute": {"name": "compute", "metric": "cost/exaflop", "direction": "min", "oracle": False},
}


@dataclass(frozen=True)
class Trial:
    """One run of MLflow, as the contract has it."""

    number: int
    params: dict[str, Any]
    metrics: dict[str, float]
    rungs: dict[int, float]
    status: str = "done"
    failure: str = ""
    error: str = ""

    @property
    def tags(self) -> dict[str, str]:
        return {
            "kind": "trial",
            "study": "sweep",
            "trial": str(self.number),
            "status": self.status,
            "failure": self.failure,
            "error": self.error,
            "seed": "0",
            "space": "diga.self_training",
            "cell": f"{self.number:016x}",
            "protocol": "two_scale_max",
        }


@dataclass(frozen=True)
class Sweep:
    """A declaration, trials, and the cells of a confirmation."""

    study: dict[str, Any]
    trials: tuple[Trial, ...] = ()
    cells: tuple[make.Cell, ...] = field(default=())

    def changed(self, change: Callable[[Trial], Trial | None]) -> Sweep:
        """With every trial put through `change`; None leaves it out."""
        return replace(self, trials=tuple(t for t in map(change, self.trials) if t is not None))

    def declared(self, **changes: Any) -> Sweep:
        """With another declaration of the sweep."""
        return replace(self, study=self.study | {"sweep": self.study["sweep"] | changes})


def setting(number: int) -> dict[str, Any]:
    """Trial 0 is the base; others are drawn."""
    rng = np.random.default_rng(number)
    kind = KINDS[number % 3]
    found = {
        "self_training.distil": float(np.exp(rng.uniform(np.log(0.05), np.log(2.0)))) if number else 1.0,
        "self_training.ema": float(rng.uniform(0.9, 0.999)) if number else 0.99,
        "self_training.mix.kind": kind,
        "warm_up.mask.kind": ("cut", "none")[int(rng.integers(2))],
    }
    return found | ({"self_training.mix.fraction": float(rng.uniform(0.2, 0.8))} if kind != "none" else {})


def miou(params: dict[str, Any], noise: float = 0.0) -> float:
    """What a setting is worth: best near a weight of 0.4, with class masks."""
    base = 0.55 - 0.03 * math.log(params["self_training.distil"] / 0.4) ** 2
    return base + {"classes": 0.03, "cut": 0.01, "none": -0.02}[params["self_training.mix.kind"]] + noise


def trial(number: int) -> Trial:
    """One of three is ended at a rung, two fail."""
    params = setting(number)
    rng = np.random.default_rng([7, number])
    end = miou(params, float(rng.normal(0, 0.005)))
    rungs = {steps: end - 0.3 / steps**0.5 + float(rng.normal(0, 0.01)) for steps in RUNGS[:2]} | {400: end}
    cost = {"cost/seconds": 30.0 + number, "cost/steps": 900.0 if number == 0 else 525.0}
    if number in (5, 11):
        kind = "divergence" if number == 5 else "memory"
        return Trial(number, params, cost, {25: 0.2} if number == 11 else {}, "failed", kind, "Diverged: loss is nan")
    if number and end < 0.53:
        return Trial(number, params, cost | {"cost/steps": 25.0}, {25: rungs[25]}, "pruned")
    scores = {
        f"{make.DOMAIN}/plain/last/miou": end,
        f"{SOURCE}/plain/last/miou": 0.7 - 0.1 * (end - 0.55) + float(rng.normal(0, 0.01)),
        "label_free/agreement": 0.8 + end / 10 + float(rng.normal(0, 0.002)),
        "label_free/entropy": 0.4 - end / 4,
        "cost/exaflop": 0.01 * (1 + number % 4),
    }
    values = {f"objective/{name}": scores[str(o["metric"])] for name, o in OBJECTIVES.items()}
    return Trial(number, params, scores | values | cost, rungs)


def sweep(count: int = 24, objectives: tuple[str, ...] = ("target",), top: int = 2) -> Sweep:
    """A search with halving, and the `top` best confirmed; several objectives have no rungs."""
    one = len(objectives) == 1
    told = {
        "space": "diga.self_training",
        "base": "diga/streets",
        "seed": 0,
        "dimensions": DIMENSIONS,
        "objectives": [OBJECTIVES[name] for name in objectives],
        "trials": count,
        "sampler": "tpe",
        "halving": {"stage": "self_training", "rungs": list(RUNGS), "eta": 4} if one else None,
        "confirm": {"top": top, "seeds": list(SEEDS)} if top else None,
        "naive_steps": 900 * count,
    }
    tried = tuple(map(trial, range(count)))
    best = sorted((t for t in tried if t.status == "done"), key=lambda t: -t.metrics["objective/target"])[:top]
    labels = ["default", *(f"#{t.number}" for t in best if t.number)]
    rows = [{"label": k, "index": i, "parent": "default" if i else "", "components": []} for i, k in enumerate(labels)]
    cells = tuple(_cell(i, k, seed) for i, k in enumerate(labels) for seed in SEEDS) if top else ()
    study = {
        "name": "sweep",
        "title": "diga.self_training from diga/streets",
        "metric": f"{make.DOMAIN}/plain/last/miou",
        "components": [],
        "reference": "",
        "tables": TABLES,
        "seeds": list(SEEDS) if top else [0],
        "rows": rows,
        "sweep": told,
    }
    return Sweep(study, tried, cells)


def _cell(index: int, label: str, seed: int) -> make.Cell:
    number = int(label[1:]) if index else 0
    value = miou(setting(number), 0.004 * (seed - 2) + 0.001 * ((index + seed) % 2))
    metrics = {f"{make.DOMAIN}/plain/last/miou": value, "cost/seconds": 40.0, "cost/steps": 900.0}
    return make.Cell(label, index, "default" if index else "", (), seed, metrics, protocol="two_scale_max")


# --- as records --------------------------------------------------------------------------


def in_memory(spec: Sweep) -> Records:
    """What would be read, without a database."""
    known = make.in_memory(make.Spec(spec.study, spec.cells))
    return replace(known, trial_runs=runs.table(map(_line, spec.trials), trials.FIELDS))


def _line(one: Trial) -> dict[str, Any]:
    facts = {name: one.tags[name] for name in ("status", "failure", "error", "cell", "protocol")}
    told = {"params": json.dumps(one.params, sort_keys=True), "rungs": json.dumps(one.rungs) if one.rungs else ""}
    where = {"run_id": f"trial-{one.number}", "trial": one.number, "seed": 0, "start": one.number, "end": 0}
    return facts | told | where | {"closed": one.status == "done"} | one.metrics


def recorded(spec: Sweep, folder: Path) -> str:
    """Write it to MLflow under `folder` and return the tracking address."""
    from diga.report.records import client

    uri = make.recorded(make.Spec(spec.study, spec.cells), folder)
    asked = client(uri)
    experiment = asked.get_experiment_by_name(f"diga/{spec.study['name']}")
    assert experiment
    for one in spec.trials:
        tell(asked, experiment.experiment_id, one)
    return uri


def tell(asked: Any, experiment: str, one: Trial) -> str:
    """A run of a trial, as the launch writes it."""
    from mlflow.entities import Metric, Param

    run: str = asked.create_run(experiment, start_time=1000 + one.number, tags=one.tags).info.run_id
    asked.log_batch(run, params=[Param(path, json.dumps(value)) for path, value in one.params.items()])
    asked.log_batch(run, [Metric("rung/target", value, 0, steps) for steps, value in one.rungs.items()])
    asked.log_batch(run, [Metric(name, value, 0, 0) for name, value in one.metrics.items()])
    state = {"done": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}.get(one.status)
    if state:
        asked.set_terminated(run, state, END + one.number)
    return run
