"""`diga promote`: a trial of a sweep becomes a recipe of its own, with where it is from."""

from __future__ import annotations

import json
import keyword
from pathlib import Path
from typing import Annotated, Any

import typer

import experiments
from diga.cli.console import catalogue, out
from diga.cli.work import Tracking, tracking_uri
from diga.differences import between, fields
from diga.errors import ConfigError, StorageError
from diga.files import write_whole
from diga.recipe import Recipe, dumps, override


def promote(
    sweep: Annotated[str, typer.Argument(help="Name of a sweep that was launched, such as diga.self_training.")],
    trial: Annotated[int, typer.Argument(help="Number of a trial that is done.", min=0)],
    name: Annotated[str, typer.Argument(help="What the recipe is to be called.")],
    into: Annotated[
        Path | None, typer.Option("--out", help="A .py or .json file; experiments/NAME.py by default.")
    ] = None,
    tracking: Tracking = None,
) -> None:
    """Write a trial's recipe as a function of experiments, or as JSON, with its provenance; nothing is overwritten.

    diga promote diga.self_training 12 best_streets      then: diga run best_streets
    diga promote diga.self_training 12 best --out b.json  then: diga run --recipe b.json
    """
    from diga.launch.promoted import promoted
    from diga.report.records import client

    if not name.isidentifier() or keyword.iskeyword(name):
        raise ConfigError("NAME", f"found {name!r}", "a word that Python takes as a name, such as best_streets")
    found = promoted(client(tracking_uri(tracking)), sweep, trial)
    path = into or Path(next(iter(experiments.__path__))) / f"{name}.py"
    if path.suffix not in (".py", ".json"):
        raise ConfigError("--out", f"found {str(path)!r}", "a file that ends in .py or .json")
    if path.exists():
        raise ConfigError("--out", f"{path} is there already", "another name")
    recipe = found.recipe.model_copy(update={"name": name})
    text = module(name, recipe, found.base, found.told) if path.suffix == ".py" else dumps(recipe)
    try:
        write_whole(path, text.encode())
    except OSError as failure:
        raise StorageError(path, failure.strerror or str(failure), "a folder that can be written") from None
    if path.suffix == ".json":
        again = f"diga run --recipe {path}"
    else:
        there = path.resolve().parent in {Path(p).resolve() for p in experiments.__path__}
        again = f"{'' if there else 'move it among experiments: '}diga run {path.stem}:{name}"
    out.print(f"{path}\n  next: {again}", markup=False)


def module(name: str, recipe: Recipe, base: str, told: dict[str, Any]) -> str:
    """The text of a module with one recipe function: the base as it is in experiments, and what is changed of it."""
    needs, body = of_base(name, recipe, base) or of_itself(recipe)
    where = "\n".join(f"    {key}: {quoted(value)}" for key, value in told.items())
    what = f"Trial {told['trial']} of sweep {quoted(told['sweep'])}."
    return (
        f'"""A setting that a sweep found."""\n\nfrom __future__ import annotations\n\n{needs}\n\n\n'
        f'def {name}() -> Recipe:\n    """{what}\n\n{where}\n    """\n{body}\n'
    )


def quoted(value: Any) -> str:
    """A value as it may stand in a docstring, whatever it is."""
    return str(value).encode("unicode_escape").decode("ascii").replace('"', '\\"')


def of_base(name: str, recipe: Recipe, base: str) -> tuple[str, str] | None:
    """Imports and body by which a recipe of `experiments` is changed; None where none is called so, or none will do."""
    known = next((full for full, make in catalogue(Recipe).items() if make().name == base), None)
    if known is None:
        return None
    folder, _, function = known.partition(":")
    whole: Recipe = catalogue(Recipe)[known]()
    pairs = between(fields(whole), fields(recipe))
    changes = {"name": name} | {path: new for path, (_, new) in pairs.items()}
    try:
        if override(whole, changes) != recipe:
            return None
    except ConfigError:
        return None
    lines = "".join(f"        {json.dumps(path)}: {value!r},\n" for path, value in changes.items())
    needs = f"from diga.recipe import Recipe, override\nfrom experiments.{folder} import {function} as base"
    return needs, f"    changes = {{\n{lines}    }}\n    return override(base(), changes)"


def of_itself(recipe: Recipe) -> tuple[str, str]:
    """Imports and body by which a recipe is read from its JSON."""
    return "from diga.recipe import Recipe, loads", f'    return loads(r"""{dumps(recipe)}""")'
