"""The equations: tensors in, tensors out; no files, no globals, no networks.

`from diga import ops` costs nothing: a module of equations is imported when it is first named, so
that a recipe can be read without torch.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diga.ops import augment as augment
    from diga.ops import chance as chance
    from diga.ops import colour as colour
    from diga.ops import distortion as distortion
    from diga.ops import ema as ema
    from diga.ops import ensemble as ensemble
    from diga.ops import legacy as legacy
    from diga.ops import losses as losses
    from diga.ops import masks as masks
    from diga.ops import mixing as mixing
    from diga.ops import photometry as photometry
    from diga.ops import prototypes as prototypes
    from diga.ops import pseudo as pseudo
    from diga.ops import rules as rules
    from diga.ops import scores as scores


def __getattr__(name: str) -> ModuleType:
    if name.startswith("_"):
        raise AttributeError(name)
    try:
        return importlib.import_module(f"diga.ops.{name}")
    except ModuleNotFoundError as failure:
        if failure.name != f"diga.ops.{name}":
            raise
        raise AttributeError(f"diga.ops has no {name!r}") from None
