"""What a set of recipes asks for, before it costs: every distinct stage run, once.  Nothing here needs torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from diga.errors import ConfigError, DataError
from diga.identity import Digest, Use, facts, fingerprint_of
from diga.recipe import Recipe
from diga.stage import Stage, refs


@dataclass(frozen=True)
class StageRun:
    """One stage of one recipe with one seed: what it is called, what it reads, what decides its result."""

    fingerprint: str
    name: str
    recipe: Recipe
    facts: dict[str, Any] = field(repr=False)
    inputs: dict[str, str] = field(repr=False)  # name of each stage it reads -> fingerprint

    @property
    def stage(self) -> Stage:
        """The hyper-parameters."""
        return self.recipe.stages[self.name]

    @property
    def kind(self) -> str:
        """Name of the stage's class."""
        return type(self.stage).__name__

    @property
    def steps(self) -> int:
        """Updates it takes; 0 for a stage that does not train."""
        return getattr(getattr(self.stage, "plan", None), "steps", 0)


def stage_runs(recipe: Recipe, digest: Digest) -> list[StageRun]:
    """The runs one recipe needs, in an order in which each comes after all it reads."""
    named: dict[str, str] = {}
    runs: list[StageRun] = []
    for name in recipe.needed():
        known = facts(recipe, name, digest, named)
        named[name] = fingerprint_of(known)
        inputs = {ref: named[ref] for ref in refs(recipe.stages[name])}
        runs.append(StageRun(named[name], name, recipe, known, inputs))
    return runs


def distinct(runs: Iterable[StageRun]) -> dict[str, StageRun]:
    """Each stage run once, the first of its fingerprint, in order."""
    once: dict[str, StageRun] = {}
    for run in runs:
        once.setdefault(run.fingerprint, run)
    return once


def digests(
    data_root: Path,
    cache_folder: Path | None,
    watch: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Digest:
    """Digests of domains under a data root, each read once; `watch` hears what is read, images done and in all."""
    from diga.data.domain import domain  # a fifth of `diga --help`, which reads no image
    from diga.data.manifest import manifest
    from diga.processes import cores

    @cache
    def digest(name: str, use: Use) -> str:
        if use == "file":
            return of_file(data_root, name)
        found, labelled = domain(name, data_root), use != "unlabelled"
        split, seen = "val" if use == "val" else "train", partial(watch, f"{name} {use}")
        files = manifest(found, split, labelled, cache_folder, seen, workers=cores())
        meaning = found.layout.table.tobytes() if labelled else b""  # which train id a raw id is
        return hashlib.sha256(files.digest.encode() + meaning).hexdigest()[:32]

    return digest


def of_file(data_root: Path, name: str) -> str:
    """Digest of a file under the data root.  Raises DataError where there is none, ConfigError if it lies outside."""
    path = data_root / name
    if not path.resolve().is_relative_to(data_root.resolve()):
        raise ConfigError(name, "lies outside the data root", "a relative path such as 'weights/resnet101.pth'")
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError as failure:
        raise DataError(path, failure.strerror or "cannot be read", "a readable file of weights") from None
