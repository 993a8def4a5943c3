"""A study's records made by hand, in memory or in a real MLflow database on SQLite, for tests of reports."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame
from PIL import Image

from diga.data.labels import CLASSES, palette
from diga.report.records import FACTS, Records

DOMAIN = "streets/cityscapes"
COMPONENTS = ("MST", "weak to strong", "strong to weak", "CrDoMix", "self-training")
LABELS = ("Source-only", "+ MST", "(i)", "(ii)", "(iii)", "(iv)")
ABSENT = ("train",)  # classes that no test image holds


@dataclass(frozen=True)
class Cell:
    """One run of MLflow, as the contract has it."""

    row: str
    index: int
    parent: str
    components: tuple[str, ...]
    seed: int
    metrics: Mapping[str, float]
    status: str = "done"
    error: str = ""
    protocol: str = "single_scale"
    git: str = "abc1234"
    dirty: bool = False

    def tags(self, study: str) -> dict[str, str]:
        return {
            "kind": "cell",
            "study": study,
            "row": self.row,
            "row.index": str(self.index),
            "row.parent": self.parent,
            "components": json.dumps(self.components),
            "seed": str(self.seed),
            "cell": f"{self.index:02d}{self.seed:02d}ffff",
            "recipe": "demo",
            "status": self.status,
            "error": self.error,
            "git": self.git,
            "dirty": str(self.dirty).lower(),
            "protocol": self.protocol,
        }


@dataclass(frozen=True)
class Spec:
    """A study and what has been run of it."""

    study: dict[str, Any]
    cells: tuple[Cell, ...] = field(default=())

    def changed(self, change: Callable[[Cell], Cell | None]) -> Spec:
        """With every cell put through `change`; None leaves it out."""
        changed = (change(cell) for cell in self.cells)
        return replace(self, cells=tuple(c for c in changed if c is not None))

    def declared(self, **changes: Any) -> Spec:
        return replace(self, study=self.study | changes)


def score(index: int, seed: int) -> float:
    """mIoU of a rung: unlike steps, an effect of the seed that pairs cancel, and noise that they do not."""
    rises = (0.402, 0.405, 0.462, 0.464, 0.49, 0.561)
    return rises[index] + 0.011 * (seed - 1) + 0.0017 * ((7 * index + 5 * seed) % 4 - 1.5)


def metrics(index: int, seed: int) -> dict[str, float]:
    """Everything the contract logs of a cell."""
    base = score(index, seed)
    found = {"cost/seconds": 12.0 + index, "cost/steps": 80.0}
    for statistic, select, lift in [
        ("plain", "last", 0.0),
        ("plain", "best", 0.014),
        ("teacher", "last", 0.006),
        ("adabn", "last", -0.021),
    ]:
        where = f"{DOMAIN}/{statistic}/{select}"
        found |= {f"{where}/{name}": base + lift + d for name, d in [("miou", 0), ("miou16", 0.02), ("miou13", 0.04)]}
        known = [c for c in CLASSES if c not in ABSENT]
        found |= {f"{where}/iou/{c}": base + lift + 0.02 * (k % 7 - 3) for k, c in enumerate(known)}
    return found


def ladder(name: str = "demo", seeds: Iterable[int] = (0, 1, 2)) -> Spec:
    """The six rungs of Table 3; MST, the first component, is a protocol."""
    seeds = list(seeds)
    rows = [
        {"label": label, "index": i, "parent": LABELS[i - 1] if i else "", "components": list(COMPONENTS[:i])}
        for i, label in enumerate(LABELS)
    ]
    study = {
        "name": name,
        "title": "Components of DiGA",
        "metric": f"{DOMAIN}/plain/last/miou",
        "components": list(COMPONENTS),
        "rows": rows,
        "seeds": seeds,
        "reference": "diga_table3_components.csv",
        "tables": ["table3", "per_class"],
    }
    cells = [
        Cell(
            row=str(row["label"]),
            index=i,
            parent=str(row["parent"]),
            components=COMPONENTS[:i],
            seed=seed,
            metrics=metrics(i, seed),
            protocol="two_scale" if i else "single_scale",
        )
        for i, row in enumerate(rows)
        for seed in seeds
    ]
    return Spec(study, tuple(cells))


def in_memory(spec: Spec) -> Records:
    """What `diga.report.records.records` would read, without a database."""
    lines = []
    for cell in spec.cells:
        facts = {name: getattr(cell, name, "") for name in FACTS}
        facts |= {"row_index": cell.index, "run_id": f"run-{cell.index}-{cell.seed}"}
        facts["cell"] = cell.tags("")["cell"]
        lines.append(facts | dict(cell.metrics))
    return Records(spec.study, DataFrame(lines, columns=None if lines else list(FACTS)), "sqlite:///nowhere.db")


# --- in MLflow ---------------------------------------------------------------------------


@functools.cache
def _template() -> Path:
    """An empty database with its schema: made once, since that takes seconds."""
    folder = Path(tempfile.mkdtemp(prefix="diga-records-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "template.db"
    path.touch()
    from diga.report.records import client

    client(f"sqlite:///{path}").search_experiments()
    return path


def database(folder: Path) -> str:
    """Tracking address of a new, empty database in `folder`."""
    path = folder / "mlflow.db"
    shutil.copyfile(_template(), path)
    return f"sqlite:///{path}"


def recorded(spec: Spec, folder: Path, pictures: int = 0, uri: str = "") -> str:
    """Write `spec` to MLflow under `folder` and return the tracking address.

    `pictures` validation images are stored with every cell that is done.
    """
    from mlflow.entities import Metric

    from diga.report.records import client

    uri = uri or database(folder)
    asked = client(uri)
    name = spec.study["name"]
    experiment = asked.create_experiment(f"diga/{name}", artifact_location=(folder / "artifacts").as_uri())
    declared = asked.create_run(experiment, start_time=0, tags={"kind": "study"}).info.run_id
    asked.log_text(declared, json.dumps(spec.study), "study.json")
    for order, cell in enumerate(spec.cells):
        run = asked.create_run(experiment, start_time=1 + order, tags=cell.tags(name)).info.run_id
        asked.log_batch(run, [Metric(k, float(v), 0, 0) for k, v in cell.metrics.items()])
        if cell.status == "done" and pictures:
            _pictures(folder / "drawn", pictures, cell)
            asked.log_artifacts(run, str(folder / "drawn"), f"samples/{DOMAIN.replace('/', '__')}")
    return uri


def _pictures(folder: Path, count: int, cell: Cell) -> None:
    """Samples in the contract's form: a photograph, and palette label maps that get better up the ladder."""
    folder.mkdir(exist_ok=True)
    for i in range(count):
        truth = _scene(i)
        rng = np.random.default_rng([i, cell.index, cell.seed])
        wrong = rng.random((8, 16)).repeat(8, 0).repeat(8, 1) > 0.55 + 0.08 * cell.index
        guess = np.where(wrong, rng.integers(0, 19, (8, 16), np.uint8).repeat(8, 0).repeat(8, 1), truth)
        noise = np.random.default_rng(i).integers(0, 30, (64, 128, 3))
        colours = np.frombuffer(palette(), np.uint8).reshape(256, 3)[truth]
        Image.fromarray((colours * 0.6 + 50 + noise).clip(0, 255).astype(np.uint8)).save(folder / f"city_{i}.input.png")
        _label(truth).save(folder / f"city_{i}.truth.png")
        _label(guess.astype(np.uint8)).save(folder / f"city_{i}.prediction.png")


def _scene(i: int) -> np.ndarray:
    """Sky, houses, road, a car, and an edge that is not counted (64, 128)."""
    scene = np.full((64, 128), 10, np.uint8)
    scene[20:44, 10 * i :] = 2
    scene[40:] = 0
    scene[40:46, :30] = 1
    scene[38:48, 50 + 8 * i : 74 + 8 * i] = 13
    scene[30:46, 100:104] = 11
    scene[60:] = 255
    return scene


def _label(label: np.ndarray) -> Image.Image:
    image = Image.fromarray(label)
    image.putpalette(palette())
    return image
