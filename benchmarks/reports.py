"""What a report costs: of 10,000 cells with 25 metrics in SQLite, of a study of the demo's size, and to import.

Every line is `diga report` typed anew, in a process of its own: "first" finds nothing, "next" what the one before left,
with 100 cells more; "again" has nothing new to find.  Seconds are by the clock and by processors, all children in it;
MB are of the largest process, no less than this one's own.  The machine should be idle.

python -m benchmarks.reports [--quick] [--cells N] [--study NAME]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from diga.home import home
from diga.report.records import client
from tests import make_database as bulk
from tests import make_records as make

ROWS = 100
LIBRARIES = "import mlflow.store.tracking.sqlalchemy_store, pandas, pyarrow.parquet"
REPORT = "import sys; from diga.cli import main; sys.argv[0] = 'diga'; main()"


class Took(NamedTuple):
    """Seconds by the clock and by processors, and MB of the largest process."""

    wall: float
    cpu: float
    memory: float


def took(*arguments: str, **changes: str) -> Took:
    """What a Python process takes.  Raises CalledProcessError where it fails."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, env=os.environ | changes)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    if status:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), arguments)
    return Took(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def report(study: str, uri: str, folder: Path) -> Took:
    """`diga report study`, with `folder` as the run home."""
    return took("-c", REPORT, "report", study, "--tracking", uri, DIGA_HOME=str(folder))


def large(table: Table, cells: int) -> None:
    """Lines of a study in bulk."""
    seeds = max(1, cells // ROWS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uri = make.database(folder)
        asked = client(uri)
        experiment = asked.create_experiment("diga/large", artifact_location=(folder / "a").as_uri())
        declared = asked.create_run(experiment, start_time=0, tags={"kind": "study"}).info.run_id
        asked.log_text(declared, json.dumps(bulk.layout("large", ROWS, range(seeds))), "study.json")
        bulk.fill(uri, experiment, "large", range(ROWS), range(seeds))
        what = f"{ROWS * seeds:,} cells x {len(bulk.NAMES)} metrics"
        _line(table, f"{what}, first", report("large", uri, folder))
        bulk.fill(uri, experiment, "large", range(ROWS), [seeds], end=int(time.time() * 1000))
        asked.log_text(declared, json.dumps(bulk.layout("large", ROWS, range(seeds + 1))), "study.json")
        _line(table, f"{what}, next, {ROWS} new", report("large", uri, folder))
        _line(table, f"{what}, again", report("large", uri, folder))


def demo(table: Table) -> None:
    """Lines of six rows with three seeds, four pictures each, as the demo leaves them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uri = make.recorded(make.ladder().declared(tables=["table3", "per_class", "test_set", "costs"]), folder, 4)
        for what in ("first", "again"):
            _line(table, f"the demo's size, {what}", report("demo", uri, folder))


def own(table: Table, study: str) -> None:
    """Lines of a study in the run home: what its report costs without what the last one left, and with it."""
    uri = f"sqlite:///{home() / 'mlflow.db'}"
    with tempfile.TemporaryDirectory() as name:
        for what in ("first", "again"):
            _line(table, f"{study}, {what}", report(study, uri, Path(name)))


def _line(table: Table, what: str, spent: Took) -> None:
    table.add_row(what, f"{spent.wall:.2f}", f"{spent.cpu:.2f}", f"{spent.memory:.0f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small study: does it run at all")
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--study", help="one in the run home as well, such as the demo's table3")
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    title = f"{platform.machine()}, {os.cpu_count()} CPUs, load {load:.1f} when begun"
    table = Table("what", "s", "s of processor", "MB", title=title)
    for module in ("diga.report", "diga.report.build"):
        _line(table, f"import {module}", min(took("-c", f"import {module}") for _ in range(5)))
    _line(table, "python, nothing imported", min(took("-c", "") for _ in range(5)))
    _line(
        table,
        "import what reads MLflow's records, no line of ours",
        min(took("-c", LIBRARIES, MLFLOW_DISABLE_TELEMETRY="true") for _ in range(5)),
    )
    demo(table)
    if asked.study:
        own(table, asked.study)
    large(table, ROWS if asked.quick else asked.cells)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
