"""Domains on disk: reading them strictly, knowing them by digest, and streaming them to a step.

The registry of layouts: to add one, write a module with a `LAYOUT` and name it here.
"""

from __future__ import annotations

from diga.data import bdd100k, cityscapes, gta5, mapillary, synscapes, synthia
from diga.data.domain import Layout

LAYOUTS: dict[str, Layout] = {
    "gta5": gta5.LAYOUT,
    "synthia": synthia.LAYOUT,
    "synscapes": synscapes.LAYOUT,
    "cityscapes": cityscapes.LAYOUT,
    "bdd100k": bdd100k.LAYOUT,
    "mapillary": mapillary.LAYOUT,
    "mapillary_ddb": mapillary.LAYOUT_DDB,
}
