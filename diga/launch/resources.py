"""What a stage occupies while it runs: chosen when a study is launched, and no part of what the stage is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, model_validator

from diga.errors import ConfigError, expected_one_of
from diga.settings import Frozen
from diga.stage import Stage
from diga.study import Study

Share = Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)]


class Resources(Frozen):
    """Of one stage; with several workers, of each."""

    cpus: Share = 1
    gpus: Share = 0
    workers: Annotated[int, Field(ge=0, le=10_000)] = Field(0, description="of Ray Train; 0: one process without it")

    @model_validator(mode="after")
    def _whole_gpus(self) -> Resources:
        if self.gpus > 1 and self.gpus % 1:
            raise ValueError(f"found {self.gpus:g} gpus, expected a part of one, or whole ones")
        return self

    def each(self) -> dict[str, float]:
        """What one worker asks Ray for."""
        return {kind: value for kind, value in (("CPU", self.cpus), ("GPU", self.gpus)) if value}

    def total(self) -> dict[str, float]:
        """What all of them together ask for."""
        return {kind: value * max(self.workers, 1) for kind, value in self.each().items()}

    def wider(self) -> Resources:
        """More of a node's memory, for a stage that ran out of it: twice the CPUs, and no GPU shared."""
        return self.model_copy(update={"cpus": 2 * self.cpus, "gpus": max(1.0, self.gpus) if self.gpus else 0.0})


class Allotment(Frozen):
    """Resources by the name of a stage or of its class; the default for all others."""

    default: Resources = Resources()
    of_stage: dict[str, Resources] = Field(default_factory=dict)

    def of(self, name: str, stage: Stage) -> Resources:
        """What a stage gets; one that cannot be shared by workers is one process."""
        found = self.of_stage.get(name) or self.of_stage.get(type(stage).__name__) or self.default
        return found if stage.shared else found.model_copy(update={"workers": 0})

    def suits(self, study: Study) -> None:
        """Raises ConfigError for a name no stage has, and for workers that cannot share a batch evenly."""
        known: set[str] = set()
        for recipe in (row.recipe for row in study.rows):
            for name, stage in ((name, recipe.stages[name]) for name in recipe.needed()):
                known |= {name, type(stage).__name__}
                batch, workers = stage.draws(recipe).batch, self.of(name, stage).workers
                if workers and batch % workers:
                    raise ConfigError(f"{name}: workers", f"found {workers}", f"a divisor of the batch of {batch}")
        for name in self.of_stage.keys() - known:
            raise ConfigError("--give", f"no stage {name!r}", expected_one_of(name, known))


def allotment(default: Resources, given: Sequence[str]) -> Allotment:
    """["self_training:gpus=1,workers=2"] over a default.  Raises ConfigError for anything else."""
    of_stage: dict[str, Resources] = {}
    for text in given:
        name, colon, values = text.partition(":")
        pairs = [part.partition("=") for part in values.split(",")]
        if not (name and colon and all(key and sign for key, sign, _ in pairs)):
            raise ConfigError("--give", f"found {text!r}", "STAGE:KEY=VALUE,… such as self_training:gpus=1,cpus=4")
        for key, _, _ in pairs:
            if key not in Resources.model_fields:
                raise ConfigError(f"--give {name}", f"no {key!r}", expected_one_of(key, Resources.model_fields))
        of_stage[name] = changed(default, {key: number(f"--give {name}.{key}", value) for key, _, value in pairs})
    return Allotment(default=default, of_stage=of_stage)


def changed(default: Resources, values: dict[str, float]) -> Resources:
    """The default with other values, checked."""
    if (workers := values.get("workers")) is not None and workers % 1:
        raise ConfigError("--give workers", f"found {workers:g}", "a whole number")
    whole = {key: int(value) if key == "workers" else value for key, value in values.items()}
    return made(**(default.model_dump() | whole))


def made(cpus: float, gpus: float, workers: int = 0) -> Resources:
    """Resources from what was typed.  Raises ConfigError naming the value."""
    try:
        return Resources(cpus=cpus, gpus=gpus, workers=workers)
    except ValueError as failure:
        what = failure.errors(include_url=False)[0]  # type: ignore[attr-defined]
        where = ".".join(map(str, what["loc"])) or "resources"
        raise ConfigError(where, what["msg"].removeprefix("Value error, ")) from None


def number(where: str, text: str) -> float:
    """A number as it was typed."""
    try:
        return float(text)
    except ValueError:
        raise ConfigError(where, f"found {text!r}", "a number") from None
