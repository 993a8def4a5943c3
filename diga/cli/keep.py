"""`diga gc`: what in the store no recorded cell refers to; it is listed, and deleted only when asked."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer
from rich.table import Column, Table

from diga.cli.console import out
from diga.cli.words import readable
from diga.cli.work import Tracking, tracking_uri
from diga.errors import ConfigError
from diga.waste import Waste


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Delete what is listed.")] = False,
    every: Annotated[bool, typer.Option("--all", help="A line for every folder.")] = False,
    tracking: Tracking = None,
) -> None:
    """List stage runs that no recorded cell refers to, and with --yes delete them.

    A cell is a row with a seed of a study that was launched, or a recipe that was
    run, in the MLflow store: done, failed or stopped. What it names is kept, and the
    checkpoints of what it was stopped in. Cells that a later launch of the same
    study has replaced do not count. Nothing is deleted while anybody computes in
    the store, nor where no cell is recorded at all.

      diga gc              what would go, and how much room it takes
      diga gc --yes        delete it
    """
    from diga.launch.references import referred
    from diga.pipeline import Place
    from diga.waste import waste

    uri, root = tracking_uri(tracking), Place.here().store.root
    kept, cells = referred(uri)
    found = list(waste(root, kept))
    if every:
        for item in found:
            out.print(f"  {item.path.relative_to(root)}  {readable(item.bytes)}  {item.why}", markup=False)
    out.print(table(found))
    out.print(f"{cells} recorded cells refer to {len(kept)} stage runs, which stay", markup=False)
    if yes and found:
        if not cells:
            raise ConfigError("--tracking", f"no cell is recorded at {uri}", "the MLflow store of this home's launches")
        delete(found)
    elif found:
        out.print("nothing was deleted; --yes deletes")


def table(found: list[Waste]) -> Table:
    """How many folders may go, by why, and their size."""
    shown = Table("why", Column("folders", justify="right"), Column("size", justify="right"))
    for why, number in Counter(item.why for item in found).items():
        shown.add_row(why, str(number), readable(sum(item.bytes for item in found if item.why == why)))
    shown.add_section()
    shown.add_row("all", str(len(found)), readable(sum(item.bytes for item in found)))
    return shown


def delete(found: list[Waste]) -> None:
    """Delete what was listed, unless somebody works in the store."""
    from diga.pipeline import Place
    from diga.waste import idle, remove

    idle(Place.here().store.root)
    gone = [item for item in found if remove(item)]
    out.print(f"deleted {len(gone)} folders, {readable(sum(item.bytes for item in gone))}")
    if len(gone) < len(found):
        out.print(f"{len(found) - len(gone)} are being worked on again, and stay")
