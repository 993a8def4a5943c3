"""From a trained stage to its numbers: every column, every class, every image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor, nn

from diga.data import streams
from diga.data.labels import SIXTEEN, SUBSETS, THIRTEEN, names, palette
from diga.engine import protocols
from diga.engine.checkpoint import read_weights
from diga.engine.evaluate import Protocol, confusions, predict, reestimated
from diga.files import write_whole
from diga.ops.pseudo import winners
from diga.ops.scores import iou, mean_iou
from diga.types import Batch

if TYPE_CHECKING:
    from diga.engine.run import Run

SCORES = "scores.json"
CONFUSION = "confusion.parquet"


def named_protocol(run: Run, name: str) -> Protocol:
    """The protocol of that name, with the recipe's corner rule."""
    maps, align_corners = getattr(protocols, name), run.recipe.align_corners
    return lambda net, image: winners(maps(net, image, align_corners), image, align_corners)


def labelled(run: Run, domain: str) -> Iterator[Batch]:
    """The validation images and labels of a domain, in order."""
    for _, (image, label) in streams.labelled(run.domain(domain), "val", run.classes, batch=8):
        yield Batch(image.to(run.device), label.to(run.device))


def score(run: Run, of: str, domains: Sequence[str], protocol: str, statistics: Sequence[str], samples: int) -> None:
    """Score stage `of` on every domain in every column; see `diga.methods.score.Score`."""
    test = named_protocol(run, protocol)
    values: dict[str, float] = {}
    tables: list[pa.Table] = []
    best, curve = best_snapshot(run, of, domains[0], test)
    run.report(curve)
    for domain in domains:
        for name, net in columns(run, of, domain, statistics):
            counts = confusions(net, labelled(run, domain), test, run.classes)
            values |= numbers(f"{domain}/{name}/last", counts.sum(0), run.classes)
            tables.append(table(domain, name, stems(run, domain), counts))
            if name == "plain":
                keep_samples(run, domain, net, test, samples)
        if best:
            counts = confusions(weighted(run, of, best), labelled(run, domain), test, run.classes)
            values |= numbers(f"{domain}/plain/best", counts.sum(0), run.classes)
    pq.write_table(pa.concat_tables(tables), run.folder / CONFUSION)
    write_whole(run.folder / SCORES, json.dumps(values, indent=1).encode())


def columns(run: Run, of: str, domain: str, statistics: Sequence[str]) -> Iterator[tuple[str, nn.Module]]:
    """The networks behind the columns; one that cannot be had for this stage or domain is left out."""
    student = run.segmenter(of)
    if "plain" in statistics:
        yield "plain", student
    if "teacher" in statistics and "teacher" in run.read(of):
        yield "teacher", run.segmenter(of, "teacher")
    if "adabn" in statistics and domain in run.recipe.targets:
        yield "adabn", reestimated(student, (image for _, image in run.images(domain, "train")))


def weighted(run: Run, of: str, snapshot: Path) -> nn.Module:
    """The student with the weights of a snapshot."""
    net = run.segmenter(of)
    net.load_state_dict(read_weights(snapshot, run.device))
    return net


def best_snapshot(run: Run, of: str, domain: str, test: Protocol) -> tuple[Path | None, dict[int, dict[str, float]]]:
    """The kept weights with the highest plain mIoU on a domain, and that mIoU by step.

    This looks at target labels; only the column named `best` is made from it.
    """
    files, key = sorted((run.inputs[of] / "snapshots").glob("*.pt")), f"{domain}/plain/miou"
    curve: dict[int, dict[str, float]] = {}
    for i in run.track(len(files)):
        counts = confusions(weighted(run, of, files[i]), labelled(run, domain), test, run.classes)
        curve[int(files[i].stem)] = {key: mean_iou(iou(counts.sum(0)))}
    return max(files, key=lambda file: curve[int(file.stem)][key], default=None), curve


def numbers(prefix: str, counts: Tensor, classes: int) -> dict[str, float]:
    """mIoU over all, 16 and 13 classes and each class's IoU, as fractions; an absent class has none."""
    per_class = iou(counts)
    values = {f"{prefix}/miou": mean_iou(per_class)}
    for title, subset in (("miou16", SIXTEEN), ("miou13", THIRTEEN)):
        values[f"{prefix}/{title}"] = mean_iou(per_class, [SUBSETS[classes].index(k) for k in subset])
    values |= {f"{prefix}/iou/{n}": v for n, v in zip(names(classes), per_class.tolist(), strict=True)}
    return {k: v for k, v in values.items() if np.isfinite(v)}


def stems(run: Run, domain: str) -> list[str]:
    """Names of the validation images, in order."""
    return [sample.stem for sample in run.domain(domain).samples("val", True)]


def table(domain: str, statistic: str, stems: list[str], counts: Tensor) -> pa.Table:
    """One row an image: its K * K counts, row = truth."""
    flat = [c.flatten().tolist() for c in counts]
    columns: dict[str, Any] = {"domain": [domain] * len(stems), "statistic": [statistic] * len(stems)}
    return pa.table(columns | {"stem": stems, "counts": pa.array(flat, pa.list_(pa.int64()))})


@torch.no_grad()
def keep_samples(run: Run, domain: str, net: nn.Module, test: Protocol, wanted: int) -> None:
    """Input, truth and prediction of the first images, labels as palette PNGs of train ids."""
    folder = run.folder / "samples" / domain.replace("/", "__")
    folder.mkdir(parents=True, exist_ok=True)
    pictures = streams.labelled(run.domain(domain), "val", run.classes)
    for _, ((stem,), (image, label)) in zip(range(wanted), pictures, strict=False):
        seen = predict(net, image.to(run.device), test)
        rgb = (image[0] * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(rgb).save(folder / f"{stem}.input.png")
        save_label(folder / f"{stem}.truth.png", label[0], run.classes)
        save_label(folder / f"{stem}.prediction.png", seen[0], run.classes)


def save_label(path: Path, label: Tensor, classes: int) -> None:
    """An 8-bit palette PNG of class ids (H, W)."""
    picture = Image.fromarray(label.byte().cpu().numpy())
    picture.putpalette(palette(classes))
    picture.save(path)
