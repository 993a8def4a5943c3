"""`diga doctor`: is everything here that a study needs, and what to do about what is not."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from rich.table import Table

from diga.cli.console import out
from diga.cli.work import tracking_uri
from diga.errors import DigaError, StorageError
from diga.home import data_root, home
from diga.processes import cores

LEAST_FREE = 2 << 30  # bytes a study on the embedded benchmark should find


class Finding(NamedTuple):
    """One line: `ok`, `note` for what can be done without, or `bad`."""

    part: str
    state: str
    said: str


def doctor() -> None:
    """Check packages, devices, data, disk, MLflow and TeX; exit code 4 if a study could not run."""
    found = [finding for check in CHECKS for finding in check()]
    table = Table("", "part", "found")
    for part, state, said in found:
        table.add_row(
            {"ok": "[green]ok[/green]", "note": "[yellow]–[/yellow]", "bad": "[red]!![/red]"}[state],
            part,
            said,
        )
    out.print(table)
    if bad := [f for f in found if f.state == "bad"]:
        raise StorageError(bad[0].part, bad[0].said, "see the lines marked !!")


def packages() -> Iterator[Finding]:
    """Versions of what the platform stands on."""
    python = platform.python_version()
    yield Finding("python", "ok" if (3, 11) <= sys.version_info[:2] <= (3, 12) else "note", python)
    for name in ("torch", "ray", "optuna", "mlflow", "pandas", "pyarrow", "pydantic"):
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding(name, "bad", f"missing; pip install {name}")


def devices() -> Iterator[Finding]:
    """Cores, memory and GPUs."""
    import psutil
    import torch

    memory = psutil.virtual_memory()
    yield Finding("cores", "ok", str(cores()))
    yield Finding("memory", "ok", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield Finding("GPUs", "ok" if names else "note", ", ".join(names) or "none: everything runs on the CPU")


def storage() -> Iterator[Finding]:
    """The run home: can it be written, and how much room there is."""
    place = home()
    try:
        place.mkdir(parents=True, exist_ok=True)
        probe = place / f".doctor-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as failure:
        yield Finding("run home", "bad", f"{place}: {failure.strerror}; set DIGA_HOME to a folder of your own")
        return
    free = shutil.disk_usage(place).free
    said = f"{place}, {free / 2**30:.1f} GiB free"
    yield Finding("run home", "ok" if free > LEAST_FREE else "note", said)


def datasets() -> Iterator[Finding]:
    """Domains under the data root."""
    from diga.data import LAYOUTS
    from diga.data.domain import existing

    found = [name for name in existing(data_root()) if name.split("/")[-1] in LAYOUTS]
    said = ", ".join(found) or f"none under {data_root()}; diga data make streets"
    yield Finding("data", "ok" if found else "note", said)


def tracking() -> Iterator[Finding]:
    """Whether the MLflow store answers."""
    from diga.launch.tracking import Tracker

    uri = tracking_uri(os.environ.get("MLFLOW_TRACKING_URI"))
    try:
        count = len(Tracker(uri, home() / "mlflow-artifacts").client.search_experiments())
        yield Finding("MLflow", "ok", f"{uri}, {count} experiments")
    except DigaError as failure:
        yield Finding("MLflow", "bad", str(failure))


def tex() -> Iterator[Finding]:
    """pdflatex, for whoever wants to see a table set."""
    found = shutil.which("pdflatex")
    yield Finding("pdflatex", "ok" if found else "note", found or "none: .tex files are written, not compiled")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (packages, devices, storage, datasets, tracking, tex)
