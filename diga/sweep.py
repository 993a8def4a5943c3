"""A sweep: a space searched from a base recipe by an objective, then its best settings repeated with other seeds.

A value, declared before anything starts; what carries it out is `diga.launch.sweeps`.  A trial is one recipe, the
base with a setting of the space.  With halving it is first carried out with fewer updates of its last training stage
(a rung), each rung a training of its own whose learning rate has decayed to its end, and goes on only if it is among
the best there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, model_validator

from diga.differences import fields
from diga.errors import ConfigError, expected_one_of
from diga.recipe import Recipe, override
from diga.rows import Declared, Row
from diga.settings import Plan
from diga.space import Changes, Dimension
from diga.stage import Painting, Training
from diga.study import Study

Sampler = Literal["tpe", "random", "gp", "cmaes", "nsga2"]
DEFAULT = "default"  # the row of the base recipe as it is, and trial 0
LOWER = frozenset({"entropy", "vanished"})  # label-free measures of which less is better
LABEL_FREE = ("entropy", "confidence", "agreement", "stability", "consensus", "vanished")
OBJECTIVES = ("target", "source", *LABEL_FREE, "compute")
COMPUTE = "cost/exaflop"
TABLES = ("sweep", "sweep_confirmed", "sweep_choices", "sweep_importance")


class Objective(Declared):
    """What a sweep searches for; `oracle`: whether it reads labels of the target."""

    name: str
    metric: str = Field(description="address of the number among a trial's scores")
    direction: Literal["max", "min"]
    oracle: bool = False


class Halving(Declared):
    """Successive halving: which stage is shortened, to how many updates, and one in how many goes on."""

    stage: str
    rungs: tuple[int, ...] = Field(min_length=2, description="updates of that stage, the whole plan's last")
    eta: int = Field(ge=2)
    ends: bool = Field(True, description="whether it ends trials, or scores its rungs alone")
    in_turn: bool = Field(
        False, description="of each eta in turn the best goes on; else whoever is among the best so far"
    )

    def updates(self, recipe: Recipe) -> int:
        """Of a recipe's stage, carried out whole."""
        plan: Plan = recipe.stages[self.stage].plan  # type: ignore[attr-defined]
        return plan.steps


class Confirm(Declared):
    """How many of the best trials are repeated, and with which seeds."""

    top: int = Field(ge=1, le=1000)
    seeds: tuple[int, ...] = Field(min_length=1)


class Sweep(Declared):
    """What is searched, from where, by what, how often, and how the best are confirmed."""

    name: str = Field(min_length=1, max_length=200)
    space: str
    base: SerializeAsAny[Recipe]
    dimensions: tuple[Dimension, ...] = Field(min_length=1)
    objectives: tuple[Objective, ...] = Field(min_length=1)
    trials: int = Field(ge=1, le=100_000)
    sampler: Sampler = "tpe"
    halving: Halving | None = None
    confirm: Confirm | None = None
    typed_base: str = Field("", description="the base as it was typed, for who would type it again")
    changes: tuple[str, ...] = Field((), description="PATH=VALUE that made the base of it")

    @model_validator(mode="after")
    def _fits(self) -> Sweep:
        if self.halving and len(self.objectives) > 1:
            raise ConfigError("--prune", "several objectives", "one: trials of a rung are ranked by it")
        if self.halving and any(d.path.startswith(f"{self.halving.stage}.plan.steps") for d in self.dimensions):
            raise ConfigError("--prune", f"the space varies {self.halving.stage}.plan.steps", "updates that are fixed")
        if self.sampler == "cmaes" and not any(d.kind != "categorical" for d in self.dimensions):
            raise ConfigError("--sampler", "cmaes, and the space has no number", "tpe or random")
        if self.sampler == "cmaes" and len(self.objectives) > 1:
            raise ConfigError("--sampler", "cmaes, and several objectives", "nsga2 or tpe")
        return self

    @property
    def seed(self) -> int:
        """Of the search: the base recipe's, for sampler and trials alike."""
        return self.base.seed

    @property
    def rungs(self) -> tuple[int | None, ...]:
        """Updates of the last training stage, rung by rung; None alone, without halving: as its plan says."""
        return self.halving.rungs if self.halving else (None,)

    @property
    def default(self) -> Changes | None:
        """Trial 0: the base's own values of what would be asked for; None if they do not all lie in the space."""
        own = fields(self.base)
        asked = {d.path: d for d in self.dimensions if d.asked(own)}
        inside = all(path in own and d.holds(own[path]) for path, d in asked.items())
        return {path: own[path] for path in asked} if inside else None

    def recipe_of(self, changes: Mapping[str, Any], rung: int | None = None, name: str = "") -> Recipe:
        """The base with a setting; of a rung before the last, shortened, and scored for what the search asks alone."""
        recipe = override(self.base, {"name": name or f"{self.base.name} of {self.name}"} | dict(changes))
        return recipe if self.halving is None or rung in (None, self.halving.rungs[-1]) else self._short(recipe, rung)

    def _short(self, recipe: Recipe, steps: int | None) -> Recipe:
        assert self.halving and steps
        place, last = self.halving.stage, recipe.needed()[-1]
        stage: Any = recipe.stages[place]
        ramp = round(stage.plan.ramp * steps / stage.plan.steps)  # its share of the plan stays
        plan = {f"{place}.plan.steps": steps, f"{place}.plan.ramp": ramp, f"{place}.plan.snapshots": 1}
        free = self.objectives[0].name in LABEL_FREE
        return override(recipe, plan | {f"{last}.{k}": v for k, v in (("samples", 0), ("label_free", free))})

    def row(self, number: int, changes: Mapping[str, Any]) -> Row:
        """A confirmed trial as a row beside the default."""
        label = f"#{number}"
        return Row(label=label, recipe=self.recipe_of(changes, name=f"{self.name} {label}"), parent=DEFAULT)

    def study(self, best: Mapping[int, Changes]) -> Study:
        """The default and the settings to be confirmed, as rows with the seeds of the confirmation."""
        rows = [Row(label=DEFAULT, recipe=self.base)]
        rows += [self.row(number, changes) for number, changes in best.items()]
        domain = self.base.stages[self.base.needed()[-1]].scores()[0]
        return Study(
            name=self.name,
            title=f"{self.space} from {self.base.name}, {self.trials} trials",
            rows=tuple(rows),
            seeds=self.confirm.seeds if self.confirm else (self.seed,),
            metric=f"{domain}/plain/last/miou",
            tables=TABLES,
            sweep=self.layout(),
        )

    def layout(self) -> dict[str, Any]:
        """The declaration as JSON, for records."""
        flat = self.model_dump(mode="json", exclude={"base", "name"})
        known = {"base": self.base.name, "seed": self.seed, "naive_steps": self.naive_steps}
        return flat | known | {"default": self.default}

    @property
    def naive_steps(self) -> int:
        """Updates that the trials would take end to end: every chain whole, nothing shared."""
        plans: list[Plan | None] = [getattr(self.base.stages[name], "plan", None) for name in self.base.needed()]
        return self.trials * sum(plan.steps for plan in plans if plan)


# --- made from what was typed --------------------------------------------------------------


def objective(name: str, base: Recipe) -> Objective:
    """The objective of that name for a recipe that ends in a score.  Raises ConfigError for one it cannot have."""
    if name not in OBJECTIVES:
        raise ConfigError("--objective", f"no {name!r}", expected_one_of(name, OBJECTIVES))
    domains = scored(base)
    if name == "target":
        return Objective(name=name, metric=f"{domains[0]}/plain/last/miou", direction="max", oracle=True)
    if name == "source" and base.sources[0] not in scored(with_source(base)):
        what = f"source, and {base.sources[0]!r} is not scored"
        raise ConfigError("--objective", what, "target, or one that needs no labels: agreement, say")
    if name == "source":
        return Objective(name=name, metric=f"{base.sources[0]}/plain/last/miou", direction="max")
    if name == "compute":
        return Objective(name=name, metric=COMPUTE, direction="min")
    if not base.targets:
        raise ConfigError("--objective", f"{name!r} is of target images, and the recipe has none", "source")
    if not getattr(base.stages[last := base.needed()[-1]], "label_free", False):
        raise ConfigError("--objective", f"{name!r}, and {last}.label_free is false", f"--set {last}.label_free=true")
    return Objective(name=name, metric=f"label_free/{name}", direction="min" if name in LOWER else "max")


def scored(base: Recipe) -> tuple[str, ...]:
    """The domains that the base recipe is scored on.  Raises ConfigError for one that ends in no score."""
    last = base.needed()[-1]
    if not (domains := base.stages[last].scores()):
        raise ConfigError(f"recipe {base.name!r}", f"ends in {last!r}, which scores nothing", "a recipe with a score")
    return domains


def with_source(base: Recipe) -> Recipe:
    """The base, scored on its sources' validation images too: a criterion that needs no target label."""
    domains = scored(base)
    more = [name for name in base.sources if name not in domains and "@" not in name]
    return override(base, {f"{base.needed()[-1]}.domains": [*domains, *more]}) if more else base


def halving(base: Recipe, rungs: int, eta: int, ends: bool = True, in_turn: bool = False) -> Halving:
    """Rungs of the last training stage: its plan's updates divided by eta, again and again.

    Raises ConfigError where the first would be less than one update, or where nothing trains.
    """
    stages = [name for name in base.needed() if isinstance(base.stages[name], Training)]
    stages = [name for name in stages if not isinstance(base.stages[name], Painting)]
    if not stages:
        raise ConfigError("--prune", f"nothing trains in recipe {base.name!r}", "none")
    steps = base.stages[stages[-1]].plan.steps  # type: ignore[attr-defined]
    if steps // eta ** (rungs - 1) < 1 or rungs < 2:
        what = f"{rungs} rungs of {steps} updates, each a part in {eta} of the next"
        raise ConfigError("--rungs", what, "two rungs at least, the first with an update")
    updates = tuple(steps // eta**i for i in reversed(range(rungs)))
    return Halving(stage=stages[-1], rungs=updates, eta=eta, ends=ends, in_turn=in_turn)


def confirm(text: str | None, seed: int) -> Confirm | None:
    """ "3:5" is the three best with five seeds, none of them the search's: its luck is not confirmed by itself."""
    if text is None:
        return None
    top, colon, seeds = text.partition(":")
    if not (colon and top.isdecimal() and seeds.isdecimal() and int(top) and 0 < int(seeds) <= 1000):
        raise ConfigError("--confirm", f"found {text!r}", "K:N, the K best trials with N seeds, such as 3:5")
    return Confirm(top=int(top), seeds=tuple(s for s in range(int(seeds) + 1) if s != seed)[: int(seeds)])


# --- what came of trials ---------------------------------------------------------------------


def ranked(done: Mapping[int, Mapping[str, float]], objectives: Sequence[Objective]) -> list[int]:
    """Numbers of finished trials, the best first: by the objective, or of several those that none dominates first.

    `done` holds values by the objectives' names.  Equal ones come in the order of their numbers.
    """

    def worth(number: int) -> tuple[float, ...]:
        return tuple(done[number][o.name] * (1 if o.direction == "max" else -1) for o in objectives)

    def dominated(number: int) -> bool:
        own = worth(number)
        return any(worth(n) != own and all(a >= b for a, b in zip(worth(n), own, strict=True)) for n in done)

    return sorted(done, key=lambda n: (len(objectives) > 1 and dominated(n), -worth(n)[0], n))
