"""What the commands share: the console, finding recipes and studies by name, live progress."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, get_type_hints

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

import experiments
from diga.errors import ConfigError, DataError, DigaError, expected_one_of
from diga.launch.parameters import flat
from diga.plan import StageRun
from diga.recipe import Recipe, loads, override, plain
from diga.study import Row, Study

WIDE = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200  # columns of a file: nothing is folded

out = Console(highlight=False, soft_wrap=True, width=WIDE)

Maker = Callable[[], Any]


def catalogue(kind: type[Recipe] | type[Study]) -> dict[str, Maker]:
    """Functions of `experiments` that return a recipe or a study and need nothing for it, by "module:function"."""
    found: dict[str, Maker] = {}
    for info in pkgutil.iter_modules(experiments.__path__):
        module = importlib.import_module(f"experiments.{info.name}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            here = function.__module__ == module.__name__ and not name.startswith("_")
            ready = all(p.default is not p.empty for p in inspect.signature(function).parameters.values())
            if here and ready and get_type_hints(function).get("return") is kind:
                found[f"{info.name}:{name}"] = function
    return found


def made(name: str, kind: type[Recipe] | type[Study]) -> Any:
    """The recipe or study of that name; its module may be left out.  Raises ConfigError with the nearest name."""
    known = catalogue(kind)
    if full := full_name(name, known):
        return known[full]()
    raise unknown(name, kind.__name__.lower(), known)


def full_name(name: str, known: Collection[str]) -> str:
    """What a name stands for among known ones: its module may be left out, or come last; empty for nothing."""
    if len(short := [full for full in known if full.partition(":")[2] == name]) == 1:
        return short[0]
    turned = ":".join(reversed(name.split(":")))  # diga:gta5_cityscapes for gta5_cityscapes:diga
    return next((full for full in (name, turned) if full in known), "")


def unknown(name: str, what: str, known: Iterable[str]) -> ConfigError:
    """The answer to a name that nothing has."""
    return ConfigError(name, f"no such {what}", f"{expected_one_of(name, known)}; `diga list` shows all")


def recipe_of(name: str | None, file: Path | None, changes: Sequence[str], seed: int | None) -> Recipe:
    """The recipe a command was asked for, with its changes."""
    if (name is None) == (file is None):
        raise ConfigError("recipe", "found none or two", "a name such as diga:streets, or --recipe FILE")
    if file is not None:
        try:
            recipe = loads(file.read_text("utf8"), str(file))
        except (OSError, UnicodeDecodeError) as failure:
            raise ConfigError(file, f"cannot be read: {failure}", "a JSON file of `diga show --json`") from None
    else:
        recipe = made(str(name), Recipe)
    return override(recipe, settings(changes) | ({} if seed is None else {"seed": seed}))


def study_of(name: str, changes: Sequence[str], seeds: str | None) -> Study:
    """The study a command was asked for; changes apply to every row that has their path."""
    study: Study = made(name, Study)
    wanted = settings(changes)
    for path in wanted:
        if varied := varied_at(study, path):
            raise ConfigError(path, f"the study itself varies {varied}", "a value that all its rows share")
    rows = tuple(changed(row, wanted) for row in study.rows) if wanted else study.rows
    for path in wanted:
        if all(override_error(row.recipe, path, wanted[path]) for row in study.rows):
            raise override_error(study.rows[-1].recipe, path, wanted[path])  # type: ignore[misc]
    numbers = study.seeds if seeds is None else seeds_of(seeds)
    return study.model_copy(update={"rows": rows, "seeds": numbers})


def varied_at(study: Study, path: str) -> str:
    """A path at or below `path` in which rows that have it differ; empty if there is none."""
    seen: dict[str, Any] = {}
    for row in study.rows:
        for leaf, value in flat(plain(row.recipe)).items():
            if f"{leaf}.".startswith(f"{path}.") and leaf != "name" and seen.setdefault(leaf, value) != value:
                return leaf
    return ""


def changed(row: Row, changes: Mapping[str, Any]) -> Row:
    """The row with those changes that its recipe can take."""
    fitting = {p: v for p, v in changes.items() if not override_error(row.recipe, p, v)}
    return row.model_copy(update={"recipe": override(row.recipe, fitting)})


def override_error(recipe: Recipe, path: str, value: Any) -> ConfigError | None:
    """Why a recipe cannot take a change."""
    try:
        override(recipe, {path: value})
    except ConfigError as failure:
        return failure
    return None


def settings(changes: Sequence[str]) -> dict[str, Any]:
    """["warm_up.alpha=0.3"] as paths and JSON values; what is no JSON is text."""
    values: dict[str, Any] = {}
    for change in changes:
        path, sign, text = change.partition("=")
        if not sign or not path:
            raise ConfigError("--set", f"found {change!r}", "PATH=VALUE, such as warm_up.alpha=0.3")
        try:
            values[path] = json.loads(text)
        except ValueError:
            values[path] = number(text)
    return values


def number(text: str) -> float | str:
    """A number as people write it, .5 for one; other text is itself."""
    try:
        return float(text)
    except ValueError:
        return text


def seeds_of(text: str) -> tuple[int, ...]:
    """ "3" is 0, 1, 2; "0,4,7" is those."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = (-1,)
    if min(numbers) < 0 or (len(numbers) == 1 and not 1 <= numbers[0] <= 1000) or len(set(numbers)) < len(numbers):
        raise ConfigError("--seeds", f"found {text!r}", "a count such as 3, or different seeds such as 0,1,2")
    return tuple(range(numbers[0])) if len(numbers) == 1 else numbers


def need_streets(recipe: Recipe, data: Path) -> None:
    """Raises DataError, with the command to type, when a recipe wants the embedded benchmark and it is not there."""
    wanted = [*recipe.sources, *recipe.targets, *(d for s in recipe.stages.values() for d in s.scores())]
    if any(name.startswith("streets/") for name in wanted) and not (data / "streets").exists():
        raise DataError(data / "streets", "the embedded benchmark is not there", "`diga data make streets` makes it")


class Bars:
    """Live progress: one bar a stage under way and one for all; a line a stage where nobody watches."""

    def __init__(self, stages: Mapping[str, StageRun]) -> None:
        self.total, self.over = len(stages), 0
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=out, transient=True)
        self.all = self.progress.add_task("all stages", total=self.total)
        self.tasks: dict[str, TaskID] = {}
        self.under_way: set[str] = set()
        self.lock = threading.Lock()

    def __enter__(self) -> Bars:
        if out.is_terminal:
            self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if out.is_terminal:
            self.progress.stop()

    def found(self, number: int) -> None:
        """So many stages were there already."""
        self.over += number
        self.progress.update(self.all, completed=self.over)
        if number:
            out.print(f"{number} of {self.total} stages were there", markup=False)

    def started(self, run: StageRun) -> None:
        """A stage was sent; its bar appears with its first step."""
        self.under_way.add(run.fingerprint)

    def moved(self, run: StageRun, step: int) -> None:
        """A stage has done so many steps."""
        with self.lock:
            if run.fingerprint not in self.under_way:
                return
            if run.fingerprint not in self.tasks:
                self.tasks[run.fingerprint] = self.progress.add_task(f"  {title(run)}", total=run.steps or None)
            self.progress.update(self.tasks[run.fingerprint], completed=step)

    def again(self, run: StageRun, error: DigaError, tries: int) -> None:
        """A stage failed so often, and is tried once more."""
        out.print(f"  {title(run)}  try {tries} failed, once more: {error}", markup=False)

    def ended(self, run: StageRun, seconds: float, error: DigaError | None) -> None:
        """[12/54] warm_up 3fa9c1 seed 0  31.2 s"""
        with self.lock:
            self.over += 1
            self.under_way.discard(run.fingerprint)
            if run.fingerprint in self.tasks:
                self.progress.remove_task(self.tasks.pop(run.fingerprint))
        self.progress.update(self.all, completed=self.over)
        place = f"[{self.over:{len(str(self.total))}}/{self.total}]"
        out.print(f"{place} {title(run)}  " + (f"failed: {error}" if error else f"{seconds:.1f} s"), markup=False)


def title(run: StageRun) -> str:
    """warm_up 3fa9c1 seed 0: the six digits are enough for `diga show`."""
    return f"{run.name} {run.fingerprint[:6]} seed {run.recipe.seed}"
