"""What a store holds, as far as planning asks: what was carried out, from what, in what time, on how much disk."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from diga.differences import between, flat, told
from diga.plan import StageRun
from diga.stage import ref_fields
from diga.store import MANIFEST

NAMED = 3  # differences that a reason names
HERE = "there"  # the reason of a stage run that is in the store


class Estimate(NamedTuple):
    """Seconds of one stage run, None if unknown, and where the number comes from."""

    seconds: float | None
    basis: str


class Kept(NamedTuple):
    """A finished stage run as its manifest tells it."""

    fingerprint: str
    facts: dict[str, Any]
    seconds: float
    bytes: int
    device: str
    use: Mapping[str, float] = {}  # what it used of its machine: see diga.engine.use

    @property
    def kind(self) -> str:
        """Name of the stage's class."""
        return str(self.facts["stage"]["is"]).rpartition(".")[2]

    @property
    def steps(self) -> int:
        """Updates it took; 0 for a stage that does not train."""
        return int(self.facts["stage"].get("plan", {}).get("steps", 0))


@dataclass(frozen=True)
class Past:
    """What a store holds, as far as planning asks."""

    kept: Mapping[str, Kept]

    @classmethod
    def read(cls, root: Path) -> Past:
        """All manifests under a store's root; what cannot be read is left out, and would be made again."""
        return cls({kept.fingerprint: kept for kept in _manifests(root)})

    @cached_property
    def families(self) -> dict[str, dict[str, list[Kept]]]:
        """By class and by what they are apart from seed and inputs."""
        found: dict[str, dict[str, list[Kept]]] = defaultdict(lambda: defaultdict(list))
        for kept in self.kept.values():
            found[kept.kind][_family(kept.facts)].append(kept)
        return found

    @cached_property
    def speeds(self) -> dict[tuple[Any, ...], list[Kept]]:
        """Finished runs by what decides how long a step takes."""
        found: dict[tuple[Any, ...], list[Kept]] = defaultdict(list)
        for kept in self.kept.values():
            for key in _speed_keys(kept.kind, kept.facts):
                found[key].append(kept)
        return found

    # --- why ------------------------------------------------------------------------------

    def why(self, run: StageRun, memory: dict[str, str] | None = None) -> str:
        """Why a stage run is not reused: how it differs from the most similar one of its class in the store."""
        if run.fingerprint in self.kept:
            return HERE
        families = self.families.get(run.kind)
        if not families:
            return "none of its class there yet"
        own = _family(run.facts)
        if own in families:
            return self._of_the_family(run, families[own])
        memory = {} if memory is None else memory
        if own not in memory:
            memory[own] = _nearest(run, [members[0] for members in families.values()])
        return memory[own]

    def _of_the_family(self, run: StageRun, members: Sequence[Kept]) -> str:
        """All but seed and inputs is the same."""
        seed = run.recipe.seed
        if not (alike := [kept for kept in members if kept.facts["recipe"]["seed"] == seed]):
            seeds = sorted({kept.facts["recipe"]["seed"] for kept in members})
            return f"of another seed: {_listed(seeds)}"
        for name in ref_fields(type(run.stage)):
            if all(kept.facts["stage"][name] != run.facts["stage"][name] for kept in alike):
                return f"reads another {name}"
        return "reads another combination of stages"

    # --- how long, how large ----------------------------------------------------------------

    def estimate(self, run: StageRun) -> Estimate:
        """Seconds of a stage run, as its like took, else as its class took at another size."""
        for key, basis in zip(_speed_keys(run.kind, run.facts), ("measured", "scaled"), strict=True):
            if found := self.speeds.get(key):
                return Estimate(_seconds(run, found, basis), f"{basis}, {len(found)} runs")
        return Estimate(None, "unknown")

    def bytes(self, run: StageRun) -> int | None:
        """What a stage run would leave on disk, as its like in the store has; None if there is none."""
        for key in _speed_keys(run.kind, run.facts):
            if found := self.speeds.get(key):
                return round(median(kept.bytes for kept in found))
        return None

    def uses(self, run: StageRun) -> list[Mapping[str, float]]:
        """What its like used of their machines, as far as they say."""
        key, _ = _speed_keys(run.kind, run.facts)
        return [kept.use for kept in self.speeds.get(key, []) if kept.use]


# --- reading and comparing -----------------------------------------------------------------


def _manifests(root: Path) -> Iterator[Kept]:
    for path in sorted(root.glob(f"??/{'[0-9a-f]' * 16}/{MANIFEST}")):
        try:
            document = json.loads(path.read_text("utf8"))
            size = sum(int(file["bytes"]) for file in document["files"].values())
            meta = document["meta"]
            cost = float(meta["seconds"]), size, str(meta.get("device", "")), dict(meta.get("use", {}))
            kept = Kept(path.parent.name, document["facts"], *cost)
            _ = kept.kind, kept.facts["recipe"]["seed"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        yield kept


def _family(facts: Mapping[str, Any]) -> str:
    """What a stage run is apart from its seed and from the stage runs it reads."""
    recipe = {k: v for k, v in facts["recipe"].items() if k != "seed"}
    return json.dumps([_own(facts["stage"]), facts["version"], facts["data"], recipe], sort_keys=True)


def _own(stage: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's fields, with no fingerprint in those that refer to others."""
    return {k: "…" if is_fingerprint(v) else v for k, v in stage.items()}


def is_fingerprint(value: Any) -> bool:
    """Whether a value is the fingerprint of a stage run, or a list of some."""
    values = value if isinstance(value, list) and value else [value]
    return all(isinstance(v, str) and len(v) == 16 and not set(v) - set("0123456789abcdef") for v in values)


def _nearest(run: StageRun, others: Sequence[Kept]) -> str:
    """How a stage run differs from the one among `others` with which it has most in common."""
    own = _told_apart(run.facts)
    differences = [between(_told_apart(kept.facts), own) for kept in others]
    closest = min(differences, key=len)
    lines = [_line(run.name, path, pair) for path, pair in closest.items()]
    more = f" and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
    return ", ".join(lines[:NAMED]) + more


def _told_apart(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as paths and values, of data a value for each use of a domain."""
    data = {f"data fingerprint of {domain} ({use})": digest for use, domain, digest in facts["data"]}
    recipe = {k: v for k, v in facts["recipe"].items() if k != "seed"}
    return {"version": facts["version"]} | data | flat({"recipe": recipe, "stage": _own(facts["stage"])})


def _line(stage: str, path: str, pair: tuple[Any, Any]) -> str:
    """warm_up.alpha 0.5 -> 0.3"""
    if path.startswith("data fingerprint"):
        return f"{path} changed"
    head, _, rest = path.partition(".")
    name = {"stage": f"{stage}.{rest}", "recipe": rest}.get(head, path)
    return f"{name} {told(pair)}"


def _speed_keys(kind: str, facts: Mapping[str, Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """What runs must share to take as long a step, and to be scaled by their pixels."""
    recipe, stage = facts["recipe"], facts["stage"]
    shape = {k: stage.get(k) for k in ("batch", "width", "blocks", "protocol", "statistics", "instructor", "steps")}
    size = (tuple(recipe["crop"]), recipe["batch"], recipe["precision"], json.dumps(shape, sort_keys=True))
    return (kind, recipe["model"], *size), (kind, recipe["model"])


def _seconds(run: StageRun, found: Sequence[Kept], basis: str) -> float:
    """The median of what was found on the commonest device, by steps and, if scaled, by pixels."""
    device = Counter(kept.device for kept in found).most_common(1)[0][0]
    alike = [kept for kept in found if kept.device == device]
    scale = _work(run.facts, run.steps, basis)
    return median(kept.seconds * scale / _work(kept.facts, kept.steps, basis) for kept in alike)


def _work(facts: Mapping[str, Any], steps: int, basis: str) -> float:
    height, width = facts["recipe"]["crop"]
    pixels = float(height * width * (facts["stage"].get("batch") or facts["recipe"]["batch"]))
    return max(steps, 1) * (pixels if basis == "scaled" and steps else 1.0)


def _listed(values: Sequence[Any]) -> str:
    """0, 1, 2 and 7 more"""
    more = f" and {len(values) - NAMED} more" if len(values) > NAMED else ""
    return ", ".join(map(str, values[:NAMED])) + more
