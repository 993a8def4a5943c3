"""Where a value of a recipe is set: the line of an experiment that names it, or the default of its class."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import experiments
from diga.recipe import Recipe
from diga.settings import Frozen

ROOT = Path(experiments.__file__).parents[1]


def origin(recipe: Recipe, path: str, value: Any, module: str = "") -> str:
    """The likeliest place, as file:line: where `module`, or what it imports, names the path; the default; else "-".

    Python is not followed: a line counts by what it says, a path or a field's name, and the value beside it.
    """
    kind, default = field_at(recipe, path)
    named = [(rank, place) for rank, is_it, place in mentions(module, path, value) if is_it or default != value]
    if named:
        return max(named, key=lambda item: item[0])[1]
    if kind is not None and default == value:
        return f"default, {declared(kind, path.rpartition('.')[2])}"
    return "-"


def field_at(recipe: Recipe, path: str) -> tuple[type[Frozen] | None, Any]:
    """The class that declares the last name of a path, and the JSON value it has where nobody sets anything."""
    head, *rest = path.split(".")
    root: Frozen = recipe.stages.get(head, recipe)
    names = rest if head in recipe.stages else [head, *rest]
    place: Any = root
    for name in names[:-1]:
        place = getattr(place, name, None)
    if not names or not isinstance(place, Frozen) or names[-1] not in type(place).model_fields:
        return None, None
    default: Any = type(root).model_fields[names[0]].get_default()
    for name in names[1:]:
        default = getattr(default, name, None)
    return type(place), list(default) if isinstance(default, tuple) else default


def declared(kind: type[Frozen], name: str) -> str:
    """file:line at which a class, or one it inherits from, declares a field."""
    owner = next(c for c in kind.__mro__ if name in inspect.get_annotations(c))
    lines, first = inspect.getsourcelines(owner)
    body = ast.parse(inspect.cleandoc("".join(lines)) if lines[0][0] == " " else "".join(lines)).body[0]
    assert isinstance(body, ast.ClassDef)
    at = next(n.lineno for n in body.body if isinstance(n, ast.AnnAssign) and getattr(n.target, "id", "") == name)
    return f"{short(inspect.getsourcefile(owner) or '')}:{first + at - 1}"


def short(file: str) -> str:
    """A path from the root of the checkout, where it is inside."""
    path = Path(file)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


# --- texts ---------------------------------------------------------------------------------


def mentions(module: str, path: str, value: Any) -> Iterator[tuple[int, bool, str]]:
    """Each line that could set the path: how well it fits (path or name, and value), if by value, and where it is."""
    leaf = path.rpartition(".")[2]
    for name in sources(module):
        file, tree = parsed(name)
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
                for key, found in ((k, v) for k, v in pairs if k and said(k) == path):
                    yield 2 + 2 * same(found, value), same(found, value), f"{file}:{key.lineno}"
            elif isinstance(node, ast.keyword) and node.arg == leaf:
                yield 1 + 2 * same(node.value, value), same(node.value, value), f"{file}:{node.value.lineno}"


def said(node: ast.expr) -> Any:
    """The constant a node is."""
    return node.value if isinstance(node, ast.Constant) else None


def same(node: ast.expr, value: Any) -> bool:
    """Whether a node is this very value, written out."""
    try:
        found = ast.literal_eval(node)
    except ValueError:
        return False
    return bool((list(found) if isinstance(found, tuple) else found) == value)


def sources(module: str) -> list[str]:
    """A module of `experiments` and those of them it imports, the nearest first."""
    found: dict[str, None] = {}
    ahead = [module] if module else []
    while ahead:
        if (name := ahead.pop(0)) not in found:
            found[name] = None
            imported = (n for n in ast.walk(parsed(name)[1]) if isinstance(n, ast.ImportFrom))
            ahead += [n.module for n in imported if n.module and n.module.startswith("experiments.")]
    return list(found)


@cache
def parsed(module: str) -> tuple[str, ast.Module]:
    """A module's file, shortened, and its text as a tree."""
    spec = importlib.util.find_spec(module)
    assert spec and spec.origin, module
    return short(spec.origin), ast.parse(Path(spec.origin).read_text("utf8"))
