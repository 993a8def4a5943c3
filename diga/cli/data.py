"""`diga data`: make the embedded benchmark, list what is there, check a dataset file by file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import Progress
from rich.table import Table

from diga.cli.console import out
from diga.home import data_root, home

app = typer.Typer(no_args_is_help=True, help="Datasets: make, list, check.")


@app.command("make")
def make(
    name: Annotated[Literal["streets"], typer.Argument(help="The embedded benchmark.")],
    gap: Annotated[float, typer.Option(help="Distance in appearance and camera, 0 to 1.")] = 0.7,
    shift: Annotated[float, typer.Option(help="Distance in layout and class frequencies, 0 to 1.")] = 0.5,
    height: Annotated[int, typer.Option(help="Rows of an image.")] = 64,
    width: Annotated[int, typer.Option(help="Columns of an image.")] = 128,
    seed: Annotated[int, typer.Option(help="Another seed is another town.")] = 0,
    into: Annotated[Path | None, typer.Option(help="Folder; streets under the data root by default.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that draw.")] = 1,
) -> None:
    """Write the embedded benchmark in the layouts of GTA5 and Cityscapes; nothing is done if it is there."""
    from pydantic import ValidationError

    from diga.data.streets import Knobs
    from diga.data.streets import make as make_streets
    from diga.errors import ConfigError

    try:
        knobs = Knobs(gap=gap, shift=shift, height=height, width=width, seed=seed)
    except ValidationError as failure:
        first = failure.errors()[0]
        raise ConfigError(f"--{first['loc'][0]}", f"found {first['input']}", first["msg"]) from None
    root = into or data_root() / name
    with Progress(console=out, transient=True) as progress:
        task = progress.add_task("images")
        make_streets(root, knobs, lambda done, total: progress.update(task, completed=done, total=total), workers)
    out.print(f"{name}: {root}", markup=False)


@app.command("list")
def list_() -> None:
    """Domains under the data root, by the names recipes use."""
    from diga.data import LAYOUTS
    from diga.data.domain import existing

    root = data_root()
    found = [name for name in existing(root) if name.split("/")[-1] in LAYOUTS]
    for name in found:
        out.print(name, markup=False)
    if not found:
        out.print(f"no domain under {root}; `diga data make streets` makes one", markup=False)


@app.command("split")
def split(
    name: Annotated[str, typer.Argument(help="A domain of GTA5's layout.")] = "gta5",
) -> None:
    """Write splits/train.txt of GTA5: the 18,111 of 24,966 frames that DiGA's authors train on."""
    from diga.data import gta5_list
    from diga.data.domain import domain
    from diga.errors import ConfigError
    from diga.files import write_whole

    found = domain(name, data_root())
    if found.layout.name != "gta5":
        raise ConfigError(name, f"has the layout {found.layout.name!r}", "a domain of GTA5's layout")
    file = found.root / "splits" / "train.txt"
    if file.exists():
        raise ConfigError(file, "there is such a list", "none, or it would be lost")
    file.parent.mkdir(exist_ok=True)
    write_whole(file, "".join(f"{line}\n" for line in gta5_list.names()).encode())
    out.print(f"{file}: {len(gta5_list.names()):,} frames", markup=False)


@app.command("check")
def check(
    name: Annotated[str, typer.Argument(help="Name of a domain, such as streets/gta5.")],
    split: Annotated[Literal["train", "val"], typer.Option(help="Which images.")] = "train",
    labelled: Annotated[bool, typer.Option("--labelled/--unlabelled", help="Whether labels are read too.")] = True,
    skip: Annotated[int, typer.Option("--skip-bad", min=0, help="Damaged samples to put up with.")] = 0,
) -> None:
    """Read every file of a domain once, strictly; print its digest and how often each class occurs."""
    from diga.data.domain import domain
    from diga.data.labels import CLASSES
    from diga.data.manifest import manifest

    with Progress(console=out, transient=True) as progress:
        task = progress.add_task(name)
        found = manifest(
            domain(name, data_root()),
            split,
            labelled,
            home() / "manifests",
            lambda done, total: progress.update(task, completed=done, total=total),
            skip,
        )
    out.print(f"{name} {split}: {len(found)} images, digest {found.digest[:16]}", markup=False)
    for stem, why in found.skipped:
        out.print(f"  left out: {stem}: {why}", markup=False)
    if labelled:
        table = Table("class", "pixels", "share")
        total = max(int(found.pixels.sum()), 1)
        for title, pixels in zip([*CLASSES, "void"], found.pixels.tolist(), strict=True):
            table.add_row(title, f"{pixels:,}", f"{100 * pixels / total:.2f} %")
        out.print(table)
