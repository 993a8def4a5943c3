"""Names that are functions of a module: the module is the registry, and its text is enough to read it."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from diga.errors import expected_one_of


@cache
def names_in(module: str) -> frozenset[str]:
    """Public functions a module defines or re-exports, read from its text: no torch is imported."""
    spec = importlib.util.find_spec(module)
    assert spec and spec.origin, module
    body = ast.parse(Path(spec.origin).read_text("utf8")).body
    named = [n.name for n in body if isinstance(n, ast.FunctionDef)]
    named += [a.asname or a.name for n in body if isinstance(n, ast.ImportFrom) for a in n.names if a.asname]
    return frozenset(n for n in named if not n.startswith("_"))


def function_of(module: str) -> Any:
    """A type for fields that name a function of `module`."""

    def check(name: str) -> str:
        if name not in names_in(module):
            raise ValueError(f"{name!r} is no function of {module}; {expected_one_of(name, names_in(module))}")
        return name

    return Annotated[str, AfterValidator(check)]
