"""MLflow's picture of a sweep's trials: a run each, below the sweep's own, brought to agree with the ledger."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Metric

from diga.errors import ConfigError
from diga.launch.answers import first_line
from diga.launch.storage import name_of
from diga.launch.tracking import Tracker
from diga.launch.trial import chain_of
from diga.launch.tried import Outcome, Tried
from diga.pipeline import Place
from diga.recipe import dumps
from diga.sweep import COMPUTE, Sweep

FINAL = {"done": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
UNDER_WAY = ("running", "waiting")
PARENT = "mlflow.parentRunId"


class TrialMirror:
    """Tells MLflow of trials; what it has already is not told again, whoever told it."""

    def __init__(
        self, tracker: Tracker, sweep: Sweep, place: Place, question: str, ledger: str, tags: Mapping[str, str]
    ) -> None:
        self.tracker, self.sweep, self.place, self.question, self.tags = tracker, sweep, place, question, tags
        self.ledger, self.parent, self.trouble, self.home = ledger, "", "", name_of(place.home)
        self._told: dict[int, Outcome] = {}
        self._runs: dict[int, str] = {}

    def declare(self, artifacts: Mapping[str, str]) -> None:
        """The sweep's own run.  Trials of an earlier sweep of its name, whose ledger is gone, are in no table more.

        Raises ConfigError where the trials of that name are another run home's.
        """
        where = self.tracker.experiment(f"diga/{self.sweep.name}")
        others = f"tags.kind = 'trial' AND tags.ledger != '{self.ledger}'"
        gone = list(self.tracker.client.search_runs([where], others, max_results=10_000))
        if homes := {run.data.tags.get("home", self.home) for run in gone} - {self.home}:
            what = f"its trials in MLflow are of {len(homes)} other run home{'s' * (len(homes) > 1)}"
            raise ConfigError(f"sweep {self.sweep.name!r}", what, "another --name, or that DIGA_HOME")
        tags = {"space": self.sweep.space} | dict(self.tags)
        self.parent = self.tracker.study(self.sweep.study({}), tags, dict(artifacts))
        for run in gone:
            self.tracker.log(run.info.run_id, tags={"kind": "superseded trial"})

    def sync(self, tried: list[Tried]) -> int:
        """Tell what is new; at the first refusal leave the rest for next time.  How many trials are left to be told."""
        waiting = [one for one in tried if self._told.get(one.number) != one.outcome]
        for place, one in enumerate(waiting):
            try:
                self._tell(one)
            except Exception as failure:  # whatever it is: a record that cannot be written is no reason to stop
                self.trouble = first_line(failure)
                return len(waiting) - place
            self._told[one.number] = one.outcome
        self.trouble = ""
        return 0

    def abandon(self, tried: list[Tried]) -> None:
        """Say of trials that are not over that they were stopped."""
        for one in tried:
            if one.outcome.status in UNDER_WAY and one.number in self._runs:
                self.tracker.failed(self._runs[one.number], "stopped", "stopped")

    def _tell(self, one: Tried) -> None:
        tags = {
            "kind": "trial",
            "study": self.sweep.name,
            "trial": str(one.number),
            "seed": str(self.sweep.seed),
            "space": self.sweep.space,
            "question": self.question,
            "ledger": self.ledger,
            "home": self.home,
            "protocol": str(getattr(self.sweep.base.stages[self.sweep.base.needed()[-1]], "protocol", "")),
            PARENT: self.parent,
        }
        key = [self.sweep.name, "trial", str(one.number), self.ledger]
        run_id = self.tracker.run(f"diga/{self.sweep.name}", called(one), key, tags, one.suggested)
        self._runs[one.number] = run_id
        known = self.tracker.client.get_run(run_id).data.tags.get("status", "")
        if one.outcome.status in UNDER_WAY and known not in FINAL:
            self.tracker.begun(run_id)
        elif one.outcome.status in FINAL and known not in FINAL:
            self._recipe(run_id, one)
            self._end(run_id, one.outcome)

    def _recipe(self, run_id: str, one: Tried) -> None:
        """What it was, and which stage runs it is made of: those of a trial that is done are kept."""
        recipe = self.sweep.recipe_of(one.changes)
        self.tracker.client.log_text(run_id, dumps(recipe), "recipe.json")
        self.tracker.client.log_text(run_id, dumps(self.sweep.base), "base.json")
        if one.done:
            chain = chain_of(self.sweep, one.changes, None, self.place)
            self.tracker.origin(run_id, {f"stage.{run.name}": run.fingerprint for run in chain} | dict(self.tags), {})

    def _end(self, run_id: str, outcome: Outcome) -> None:
        """Its numbers, its rungs, then its state: a run that has a final state has everything.

        A value told twice is one to MLflow if its moment is the same: a driver may be killed between two of these.
        """
        main = self.sweep.objectives[0].name
        moment = outcome.moment or int(1000 * time.time())  # of an older ledger's trial it is not known
        rungs = [Metric(f"rung/{main}", v, moment, int(steps)) for steps, v in outcome.rungs.items()]
        if rungs:
            self.tracker.client.log_batch(run_id, rungs)
        self.tracker.log(run_id, self._numbers(outcome), moment=moment)
        self.tracker.log(run_id, tags=self._words(outcome))
        self.tracker.client.set_terminated(run_id, FINAL[outcome.status])

    def _words(self, outcome: Outcome) -> Mapping[str, str]:
        """How it ended; once they are told it is not told again."""
        return {"cell": outcome.cell, "error": outcome.error, "failure": outcome.failure, "status": outcome.status}

    def _numbers(self, outcome: Outcome) -> Mapping[str, float]:
        """What it cost and, of a trial that was carried out whole, its scores."""
        found = {"cost/seconds": outcome.seconds, "cost/steps": float(outcome.steps)}
        found |= {} if outcome.exaflop is None else {COMPUTE: outcome.exaflop}
        if outcome.status == "done":
            found |= {f"objective/{name}": value for name, value in outcome.values.items()}
            found |= json.loads((self.place.store.folder(outcome.cell) / "scores.json").read_text())
        return found


def called(one: Tried) -> str:
    """#012 kind=cut distil=0.31"""
    return " ".join([f"#{one.number:03}", *(f"{path.split('.')[-1]}={short(v)}" for path, v in one.suggested.items())])


def short(value: Any) -> str:
    """A value as a name shows it."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def unclaimed(tracker: Tracker, name: str) -> None:
    """Raises ConfigError where a study that is no sweep is recorded under a name: one would replace the other."""
    found = tracker.client.get_experiment_by_name(f"diga/{name}")
    runs = tracker.client.search_runs([found.experiment_id], "tags.kind = 'study'") if found else []
    if any("space" not in run.data.tags for run in runs):
        raise ConfigError(f"sweep {name!r}", "there is a study of this name, which is no sweep", "another --name")


def lessons(
    tracker: Tracker, sweep: Sweep, question: str, place: Place
) -> list[tuple[str, dict[str, Any], list[float]]]:
    """Settings inside the space that other sweeps have measured by the same question: where from, setting, values.

    Of a setting that a space answered with changes of its own, the recipe is another: it is none.
    """
    client = tracker.client
    everywhere = [str(e.experiment_id) for e in client.search_experiments() if e.name.startswith("diga/")]
    asked = f"tags.kind = 'trial' AND tags.question = '{question}' AND tags.status = 'done'"
    runs = client.search_runs(everywhere, asked, max_results=10_000) if everywhere else []
    found = []
    for run in runs:
        if run.data.tags["study"] == sweep.name:
            continue
        own = {d.path for d in sweep.dimensions}
        told = {path: json.loads(text) for path, text in run.data.params.items() if path in own}
        wanted = {d.path: d for d in sweep.dimensions if d.asked(told)}
        values = [run.data.metrics.get(f"objective/{o.name}") for o in sweep.objectives]
        fits = wanted.keys() == told.keys() and all(d.holds(told[path]) for path, d in wanted.items())
        if not fits or run.data.params.keys() != told.keys() or None in values:
            continue
        if chain_of(sweep, told, None, place)[-1].fingerprint == run.data.tags["cell"]:
            source = f"{run.data.tags['study']} #{run.data.tags['trial']}"
            found.append((source, told, [float(v) for v in values if v is not None]))
    return found
