"""A study's records made by hand, in memory or in a real MLflow database on SQLite, for tests of reports."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    classes: str = ""
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


# --- studies of other tables -------------------------------------------------------------

Declared = tuple[str, str, float]  # label, parent, mIoU
LABEL_FREE: Mapping[str, Callable[[float], float]] = {  # as if they followed from mIoU
    "entropy": lambda x: 0.6 - 0.7 * x,
    "agreement": lambda x: 0.9 - 6 * (x - 0.47) ** 2,
    "vanished": lambda x: float(round(9 - 14 * x)),
}


def wobble(index: int, seed: int) -> float:
    """What a seed does to a row: an effect that pairs cancel, and noise that they do not."""
    return 0.011 * (seed - 1) + 0.0017 * ((3 * index * index + 4 * index * seed + 5 * seed) % 7 - 3)


def numbers(base: float, steps: float = 500.0, domain: str = DOMAIN) -> dict[str, float]:
    """What is logged of a cell whose plain last mIoU is `base`."""
    lifts = {"plain/last": 0.0, "plain/best": 0.014, "teacher/last": 0.006, "adabn/last": -0.021}
    found = {f"{domain}/{where}/miou": base + lift for where, lift in lifts.items()}
    found |= {f"label_free/{name}": of(base) for name, of in LABEL_FREE.items()}
    return found | {"cost/seconds": 12.0, "cost/steps": steps}


def study(
    name: str,
    rows: Sequence[Declared],
    seeds: Iterable[int] = (0, 1, 2),
    measured: Callable[[int, float], Mapping[str, float]] = lambda i, base: numbers(base),
    on: Mapping[str, tuple[str, ...]] | None = None,
    **declared: Any,
) -> Spec:
    """A study whose cells log what `measured` says of a row's index and a cell's mIoU."""
    seeds, on = list(seeds), on or {}
    layout = [
        {"label": label, "index": i, "parent": parent, "components": list(on.get(label, ()))}
        for i, (label, parent, _) in enumerate(rows)
    ]
    whole = {
        "name": name,
        "title": name,
        "metric": f"{DOMAIN}/plain/last/miou",
        "components": sorted({c for cs in on.values() for c in cs}),
        "rows": layout,
        "seeds": seeds,
        "reference": "",
        "tables": [name],
    }
    cells = [
        Cell(label, i, parent, on.get(label, ()), seed, measured(i, base + wobble(i, seed)))
        for i, (label, parent, base) in enumerate(rows)
        for seed in seeds
    ]
    return Spec(whole | declared, tuple(cells))


def table4(seeds: Iterable[int] = (0, 1, 2)) -> Spec:
    rows = [
        ("Adv.", "", 0.44),
        ("Distil.", "Adv.", 0.468),
        ("Adv. + CrDoMix", "Adv.", 0.452),
        ("Distil. + CrDoMix", "Distil.", 0.491),
        ("Adv. (least squares)", "Adv.", 0.431),
    ]
    on = {label: ("CrDoMix",) for label, _, _ in rows if "CrDoMix" in label}
    return study("table4", rows, seeds, on=on, reference="diga_table4_warm_up.csv")


def table5(seeds: Iterable[int] = (0, 1, 2)) -> Spec:
    rows = [
        ("(1) feature labels", "", 0.501),
        ("(2) warm-up labels", "(1) feature labels", 0.512),
        ("(3) BDL", "(2) warm-up labels", 0.53),
        ("(4) ProDA", "(3) BDL", 0.542),
        ("(5) bilateral consensus", "(4) ProDA", 0.561),
        ("(6) confident fraction", "(2) warm-up labels", 0.534),
    ]

    def measured(index: int, base: float) -> dict[str, float]:
        quality = {"warm/kept": 1.0, "warm/accuracy": 0.731, "feature/kept": 1.0, "feature/accuracy": base + 0.2}
        quality |= {"consensus/kept": base + 0.12, "consensus/accuracy": 0.88, "teacher/accuracy": 0.8}
        return numbers(base, 900.0) | {f"labels/{k}": v for k, v in quality.items()}

    return study("table5", rows, seeds, measured, reference="diga_table5_pseudo_labels.csv")


SEEN = ("streets/mapillary", "streets/bdd100k", DOMAIN)


def table6(seeds: Iterable[int] = (0, 1, 2)) -> Spec:
    rows = [
        ("source-only", "", 0.38),
        ("source-only, strong views", "source-only", 0.42),
        ("DiGA distillation", "source-only, strong views", 0.452),
    ]

    def measured(index: int, base: float) -> dict[str, float]:
        values = {d: base + 0.03 * k + 0.003 * ((index + k) % 3) for k, d in enumerate(SEEN)}
        found = {k: v for d, value in values.items() for k, v in numbers(value, domain=d).items()}
        return found | numbers(sum(values.values()) / len(values), domain="mean")

    changes: dict[str, Any] = {"metric": "mean/plain/last/miou", "reference": "diga_table6_domain_generalization.csv"}
    return study("table6", rows, seeds, measured, **changes)


def table7(seeds: Iterable[int] = (0, 1, 2)) -> Spec:
    methods = (("supervised", ""), ("warm-up", "supervised"), ("DiGA", "warm-up"))
    rows = [
        (f"{method}, 1/{part}", f"{parent}, 1/{part}" if parent else "", 0.4 + 0.03 * j + 0.02 * i / (j + 1))
        for j, part in enumerate((16, 8, 4, 2))
        for i, (method, parent) in enumerate(methods)
    ]
    return study("table7", rows, seeds, reference="diga_table7_semi_supervised.csv")


def quirks(seeds: Iterable[int] = (0, 1, 2)) -> Spec:
    effects = {
        "void pixels are counted": -0.004,
        "target moves running statistics": 0.021,
        "corners are aligned": -0.0001,
        "backbone at three times the rate": -0.017,
        "official": -0.012,
    }
    rows = [("clean", "", 0.55), *((label, "clean", 0.55 + effect) for label, effect in effects.items())]
    alone = "warm-up alone"
    rows += [(alone, "", 0.5), (f"{alone}, target moves running statistics", alone, 0.53)]
    return study("quirks", rows, seeds, lambda i, base: numbers(base, 900.0))


def controls(seeds: Iterable[int] = (0, 1, 2)) -> Spec:
    rows = [
        ("source-only", "", 0.38),
        ("source-only, matched compute", "source-only", 0.383),
        ("strong views, hard labels", "source-only", 0.421),
        ("strong views, distillation", "strong views, hard labels", 0.449),
        ("CrDoMix, hard labels", "strong views, hard labels", 0.44),
        ("CrDoMix, distillation", "CrDoMix, hard labels", 0.482),
        ("self-training, hard labels", "CrDoMix, distillation", 0.541),
        ("self-training", "self-training, hard labels", 0.556),
    ]
    updates = (500.0, 900.0, 500.0, 500.0, 500.0, 500.0, 900.0, 900.0)
    return study("controls", rows, seeds, lambda i, base: numbers(base, updates[i]))


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
            asked.log_artifact(run, str(_confusion(folder, cell)))
            _stages(asked, run, folder, cell)
    return uri


def _confusion(folder: Path, cell: Cell) -> Path:
    """Per-image counts (19 * 19) of a network that gets better up the ladder."""
    rng = np.random.default_rng([cell.index, cell.seed])
    right = np.diag(rng.integers(400, 600, 19) + 100 * cell.index)
    counts = [(right + rng.integers(0, 40, (19, 19))).flatten().tolist() for _ in range(2)]
    rows = {"domain": [DOMAIN] * 2, "statistic": ["plain"] * 2, "stem": ["city_0", "city_1"], "counts": counts}
    DataFrame(rows).to_parquet(folder / "confusion.parquet", index=False)
    return folder / "confusion.parquet"


def _stages(asked: Any, cell_run: str, folder: Path, cell: Cell) -> None:
    """Runs of the stages of a cell: a training, which all rows of a seed share, and a score of four snapshots."""
    found = asked.get_experiment_by_name("diga/_stages")
    where = found.experiment_id if found else asked.create_experiment("diga/_stages", (folder / "stages").as_uri())
    asked.set_tag(cell_run, "steps", json.dumps({"train": 80, "score": 80}))
    for name, fingerprint in (("train", f"train{cell.seed}"), ("score", f"score{cell.index}{cell.seed}")):
        asked.set_tag(cell_run, f"stage.{name}", fingerprint)
        if asked.search_runs([where], f"tags.fingerprint = '{fingerprint}'"):
            continue
        run = asked.create_run(where, tags={"kind": "stage", "fingerprint": fingerprint}).info.run_id
        lines = [
            {"step": t, "time": 0, "values": _told(name, t, cell)} for t in range(0, 80, 1 if name == "train" else 20)
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        asked.log_artifact(run, str(folder / "metrics.jsonl"))


def _told(stage: str, step: int, cell: Cell) -> dict[str, float]:
    if stage == "train":
        return {"lr": 0.1, "loss/source": 2 / (1 + step) + 0.1 * cell.seed, "loss/distil": 1.5}
    base = cell.metrics[f"{DOMAIN}/plain/last/miou"] + step / 1000
    known = {f"{DOMAIN}/plain/iou/{c}": base for c in CLASSES if c not in ABSENT}
    return known | {f"{DOMAIN}/plain/miou": base, "label_free/entropy": 1 - base}


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
