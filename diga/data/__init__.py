"""Domains on disk: reading them strictly, knowing them by digest, and streaming them to a step.

The registry of layouts: to add one, write a module with a `LAYOUT` and name it here.
"""

from __future__ import annotations

from diga.data import cityscapes, gta5
from diga.data.domain import Layout

LAYOUTS: dict[str, Layout] = {
    "gta5": gta5.LAYOUT,
    "cityscapes": cityscapes.LAYOUT,
}
