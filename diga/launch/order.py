"""Which stage comes first: the one whose row of the table is nearest to complete."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from diga.plan import StageRun
from diga.study import Cell
from diga.study import Order as Order

Rank = tuple[int, ...]


def ranks(cells: Sequence[tuple[Cell, Sequence[StageRun]]], over: Collection[str], order: Order) -> Mapping[str, Rank]:
    """How urgent each stage that is not over is, smaller first.

    By rows: how many stage runs the row it helps still misses over all its seeds, the row's place, the
    seed's.  By seeds: the seed's place, then what the cell misses, so that a whole table of one seed
    comes first.  A stage of several rows is as urgent as the most urgent of them makes it.
    """
    seeds = {seed: place for place, seed in enumerate(dict.fromkeys(cell.seed for cell, _ in cells))}
    missing: dict[int, set[str]] = {}
    for cell, runs in cells:
        missing.setdefault(cell.index, set()).update(r.fingerprint for r in runs if r.fingerprint not in over)
    found: dict[str, Rank] = {}
    for cell, runs in cells:
        left = [r.fingerprint for r in runs if r.fingerprint not in over]
        by_row = (len(missing[cell.index]), cell.index, seeds[cell.seed])
        rank = by_row if order == "rows" else (seeds[cell.seed], len(left), cell.index)
        for fingerprint in left:
            found[fingerprint] = min(found.get(fingerprint, rank), rank)
    return found
