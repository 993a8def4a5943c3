"""What figures need beyond numbers: curves, confusion matrices and pictures, copied from a study's runs to a folder.

`gather` copies what is recorded into a folder that a report keeps, `load` reads such a folder, and figures know only
what `load` gives: a report that has kept its folder is drawn again byte for byte, without the runs.

The folder holds `about.json` (rows in the order of their numbers, the seed of pictures, the row of the labels),
`stages.parquet` (row, seed, stage, fingerprint), `curves.parquet` (fingerprint, step, name, value),
`confusion.parquet` (row, counts: K * K, row = truth, summed over images and seeds), `features/<number of the
row>.parquet` (domain, class, vector), and PNGs: `samples/<number of the row>/<stem>.{input,truth,prediction}.png` and
`labels/<stem>.{input,truth,<kind>}.png`.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pandas import DataFrame

from diga.errors import DigaError
from diga.report.records import PREFIX, Records, client

if TYPE_CHECKING:
    from mlflow import MlflowClient

POINTS = 200  # of a curve
SEEDS = 10  # of a row that are looked at
NAME = "evidence"  # of the folder in a report
ABOUT = "about.json"
SPOOL = "metrics.jsonl"  # every step of a stage, beside its run
COLUMNS = {
    "stages": ("row", "seed", "stage", "fingerprint"),
    "curves": ("fingerprint", "step", "name", "value"),
    "confusion": ("row", "counts"),
}


@dataclass(frozen=True)
class Sample:
    """Files of one image: a photograph, its truth if that is known, and label maps by what made them."""

    stem: str
    image: Path
    truth: Path | None
    maps: dict[str, Path]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was found, empty where nothing was: frames as the module says, matrices (K, K) by row, and pictures."""

    stages: DataFrame = field(default_factory=lambda: DataFrame(columns=list(COLUMNS["stages"])))
    curves: DataFrame = field(default_factory=lambda: DataFrame(columns=list(COLUMNS["curves"])))
    confusions: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    labels: tuple[Sample, ...] = ()
    features: dict[str, DataFrame] = field(default_factory=dict)  # by row
    rows: tuple[str, ...] = ()  # that were looked at
    seed: int | None = None  # of samples, labels and features
    labels_of: str = ""  # the row that made the labels

    @cached_property
    def told(self) -> dict[tuple[str, str], dict[int, float]]:
        """Value by step, of every curve: a stage run and a name."""
        found: dict[tuple[str, str], dict[int, float]] = {}
        columns = (self.curves[c].tolist() for c in COLUMNS["curves"])
        for fingerprint, step, name, value in zip(*columns, strict=True):
            found.setdefault((fingerprint, name), {})[step] = value
        return found

    @cached_property
    def made_of(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Stage runs of every row, in the order of its seeds, by stage."""
        found: dict[str, dict[str, tuple[str, ...]]] = {}
        columns = (self.stages[c].tolist() for c in COLUMNS["stages"])
        for row, _, stage, run in sorted(zip(*columns, strict=True), key=lambda line: line[1]):
            rows = found.setdefault(stage, {})
            rows[row] = (*rows.get(row, ()), run)
        return found

    @property
    def classes(self) -> int:
        """How many classes the study tells apart."""
        return len(next(iter(self.confusions.values()))) if self.confusions else 19


# --- from the runs -----------------------------------------------------------------------


def gather(known: Records, domain: str, rows: Sequence[str], folder: Path, of_labels: str = "") -> None:
    """Copy what finished cells of `rows` have recorded about `domain` into `folder`; what is not there is left out.

    Labels are those of the row `of_labels`, or, where it has none, of the last row that has some.  Records that were
    read back from a report bring the folder that it has kept.
    """
    if known.folder:
        if (known.folder / NAME).is_dir():
            shutil.copytree(known.folder / NAME, folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    runs = [(row, seed, run) for row in rows for seed, run in _runs(known, row)[:SEEDS]]
    with tempfile.TemporaryDirectory() as copies:
        try:
            asked = client(known.uri)
        except DigaError:
            return  # records that are in no store: numbers are all there is
        _keep(folder, "confusion", _confusions(known, domain, runs, Path(copies)))
        about = {"rows": list(rows)} | _pictures(known, domain, rows, of_labels, folder, Path(copies))
        (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", "utf8", newline="\n")
        stages = list(_stages(known, runs))
        _keep(folder, "stages", stages)
        _keep(folder, "curves", list(_curves(known, asked, stages, Path(copies))))


def _runs(known: Records, row: str) -> list[tuple[int, str]]:
    here = known.done[known.done["row"] == row]
    return sorted(zip(map(int, here["seed"]), map(str, here["run_id"]), strict=True))


def _keep(folder: Path, name: str, lines: list[Any]) -> None:
    if lines:
        DataFrame(lines, columns=list(COLUMNS[name])).to_parquet(folder / f"{name}.parquet", index=False)


def _confusions(known: Records, domain: str, runs: list[tuple[str, int, str]], copies: Path) -> list[tuple[str, Any]]:
    """Counts of the student as it is, over all images and seeds, by row; one number of classes, the first row's."""
    total: dict[str, NDArray[np.int64]] = {}
    for row, _, run in runs:
        found = known.artifact(run, "confusion.parquet", copies / run)
        if found is None:
            continue
        wanted = [("domain", "==", domain), ("statistic", "==", "plain")]
        counts = pq.read_table(found, columns=["counts"], filters=wanted)["counts"].to_pylist()
        if counts:
            total[row] = total.get(row, np.zeros((), np.int64)) + np.array(counts, np.int64).sum(0)
    sizes = {len(c) for c in total.values()}
    return [(row, c.tolist()) for row, c in total.items()] if len(sizes) == 1 else []


def _pictures(
    known: Records, domain: str, rows: Sequence[str], of_labels: str, folder: Path, copies: Path
) -> dict[str, Any]:
    """Pictures and features of the lowest seed that all rows have, and one row's labels; what ABOUT says of it."""
    seeds = [dict(_runs(known, row)) for row in rows]
    common = sorted(set.intersection(*map(set, seeds))) if seeds else []
    if not common:
        return {}
    about: dict[str, Any] = {"seed": common[0]}
    for i, runs in enumerate(seeds):
        own = copies / f"pictures-{i}"
        samples = known.artifact(runs[common[0]], f"samples/{domain.replace('/', '__')}", own)
        if samples is not None:
            shutil.copytree(samples, folder / "samples" / str(i))
        features = known.artifact(runs[common[0]], "features.parquet", own)
        if features is not None:
            (folder / "features").mkdir(exist_ok=True)
            shutil.copyfile(features, folder / "features" / f"{i}.parquet")
    run_of = {row: runs[common[0]] for row, runs in zip(rows, seeds, strict=True)}
    for row in dict.fromkeys((of_labels, *reversed(rows))):
        labels = known.artifact(run_of[row], "samples/labels", copies / "labels") if row in run_of else None
        if labels is not None:
            shutil.copytree(labels, folder / "labels")
            return about | {"labels_of": row}
    return about


def _stages(known: Records, runs: list[tuple[str, int, str]]) -> Iterator[tuple[str, int, str, str]]:
    """Which stage runs a cell is made of."""
    made_of = dict(zip(known.done["run_id"], known.done["stages"], strict=True)) if "stages" in known.done else {}
    for row, seed, run in runs:
        for name, (fingerprint, *_) in json.loads(made_of.get(run) or "{}").items():
            yield row, seed, name, fingerprint


def _curves(
    known: Records, asked: MlflowClient, stages: list[tuple[str, int, str, str]], copies: Path
) -> Iterator[tuple[str, int, str, float]]:
    """Every step that a stage told, thinned to POINTS of a curve."""
    home = asked.get_experiment_by_name(f"{PREFIX}_stages")
    for fingerprint in dict.fromkeys(stage[-1] for stage in stages) if home else ():
        safe = fingerprint.replace("'", "")
        here = asked.search_runs([home.experiment_id], f"tags.fingerprint = '{safe}'", max_results=1)
        table = DataFrame({"run_id": [r.info.run_id for r in here], "artifacts": [r.info.artifact_uri for r in here]})
        for run in table["run_id"]:
            found = replace(known, cells=table).artifact(run, SPOOL, copies / run)
            yield from _told(fingerprint, found) if found else ()


def _told(fingerprint: str, spool: Path) -> Iterator[tuple[str, int, str, float]]:
    lines = [json.loads(line) for line in spool.read_text("utf8").splitlines()]
    stride = max(1, -(-len(lines) // POINTS))
    for i, line in enumerate(lines):
        for name, value in line["values"].items():
            whole = not name.startswith("loss/") or i % stride == 0 or i + 1 == len(lines)
            if name != "lr" and whole and math.isfinite(value):
                yield fingerprint, int(line["step"]), name, float(value)


# --- from the folder ---------------------------------------------------------------------


def load(folder: Path) -> Evidence:
    """What `gather` left, or a report has kept; of one that does not say which rows are in its pictures, no picture."""
    try:
        about = json.loads((folder / ABOUT).read_text("utf8"))
    except OSError:
        about = {"rows": []}
    rows = tuple(map(str, about["rows"]))
    confusions = {row: _square(counts) for row, counts in _kept(folder, "confusion").itertuples(index=False)}
    features = {row: folder / "features" / f"{i}.parquet" for i, row in enumerate(rows)}
    return Evidence(
        stages=_kept(folder, "stages"),
        curves=_kept(folder, "curves"),
        confusions=confusions,
        samples=tuple(_samples(folder / "samples", rows)),
        labels=tuple(_labels(folder / "labels")) if rows else (),
        features={row: pd.read_parquet(path) for row, path in features.items() if path.is_file()},
        rows=rows,
        seed=about.get("seed"),
        labels_of=about.get("labels_of", ""),
    )


def _kept(folder: Path, name: str) -> DataFrame:
    path = folder / f"{name}.parquet"
    return pd.read_parquet(path) if path.is_file() else DataFrame(columns=list(COLUMNS[name]))


def _square(counts: Any) -> NDArray[np.int64]:
    side = math.isqrt(len(counts))
    return np.asarray(counts, np.int64).reshape(side, side)


def _samples(folder: Path, rows: Sequence[str]) -> Iterator[Sample]:
    """Images of which every row has a prediction."""
    first = folder / "0"
    for stem in sorted(p.name.removesuffix(".truth.png") for p in first.glob("*.truth.png")):
        maps = {row: folder / str(i) / f"{stem}.prediction.png" for i, row in enumerate(rows)}
        here = {row: path for row, path in maps.items() if path.parent.is_dir()}
        if (first / f"{stem}.input.png").is_file() and all(path.is_file() for path in here.values()):
            yield Sample(stem, first / f"{stem}.input.png", first / f"{stem}.truth.png", here)


def _labels(folder: Path) -> Iterator[Sample]:
    """Images with what each kind of label says of them."""
    for image in sorted(folder.glob("*.input.png")):
        stem = image.name.removesuffix(".input.png")
        own = (path for path in sorted(folder.iterdir()) if path.name.startswith(f"{stem}.") and path.suffix == ".png")
        kinds = {path.name.removeprefix(f"{stem}.").removesuffix(".png"): path for path in own}
        maps = {kind: path for kind, path in kinds.items() if kind not in ("input", "truth") and "." not in kind}
        if len(maps) >= 2:
            yield Sample(stem, image, kinds.get("truth"), maps)
