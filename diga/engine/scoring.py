"""From a trained stage to its numbers: every column, every class, every image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from diga.data import streams
from diga.data.labels import SIXTEEN, SUBSETS, THIRTEEN, names
from diga.engine import curves, diagnostics, features, label_free, pictures, protocols, quality
from diga.engine.curves import Point
from diga.engine.evaluate import Protocol, confusions, predict, present, reestimated
from diga.files import write_whole
from diga.ops.pseudo import winners
from diga.ops.scores import iou, mean_iou
from diga.types import Batch

if TYPE_CHECKING:
    from diga.engine.run import Run

SCORES = "scores.json"
CONFUSION = "confusion.parquet"
LABELS = "labels.parquet"
CURVES = "pictures/curves.png"


def named_protocol(run: Run, name: str) -> Protocol:
    """The protocol of that name, with the recipe's corner rule."""
    maps, align_corners = getattr(protocols, name), run.recipe.align_corners
    return lambda net, image: winners(maps(net, image, align_corners), image, align_corners)


def labelled(run: Run, domain: str) -> Iterator[Batch]:
    """The validation images and labels of a domain, in order."""
    for _, batch in streams.labelled(run.domain(domain), "val", run.classes, run.at_once):
        yield Batch(batch.image.to(run.device), batch.label.to(run.device))


def score(run: Run, of: str, domains: Sequence[str], protocol: str, statistics: Sequence[str], samples: int) -> None:
    """Score stage `of` on every domain in every column, and what its `Score` asks beside; see `diga.methods.score`."""
    asked: Any = run.stage_of(run.stage)
    test = named_protocol(run, protocol)

    def counts(net: nn.Module, domain: str) -> Tensor:
        return confusions(net, labelled(run, domain), test, run.classes)

    a_quarter = -(-asked.looked_at // 4) if asked.label_free else 0
    points = curves.follow(run, of, domains[0], lambda net: counts(net, domains[0]).sum(0), a_quarter)
    best = max(points, key=lambda point: point.miou, default=None)
    values: dict[str, float] = {}
    tables: list[pa.Table] = []
    for domain in domains:
        for name, net in columns(run, of, domain, statistics):
            found = counts(net, domain)
            values |= numbers(f"{domain}/{name}/last", found.sum(0), run.classes)
            tables.append(table(domain, name, stems(run, domain), found))
            if name == "plain":
                keep_samples(run, domain, net, test, samples)
            if name == "adabn":
                values |= drifted(run, of, domain, net)
        if best:
            found = counts(curves.weighted(run, of, best.file), domain)
            values |= numbers(f"{domain}/plain/best", found.sum(0), run.classes)
    values |= over_domains(values, domains) | beside(run, of, asked, points)
    if tables:
        pq.write_table(pa.concat_tables(tables), run.folder / CONFUSION)
    write_whole(run.folder / SCORES, json.dumps(values, indent=1, allow_nan=False).encode())


def over_domains(values: Mapping[str, float], domains: Sequence[str]) -> dict[str, float]:
    """`mean/<statistic>/<select>/miou`: the mean over several domains of the columns that all of them have."""
    first, *others = domains
    columns = [k.removeprefix(f"{first}/") for k in values if k.startswith(f"{first}/") and k.endswith("/miou")]
    whole = [c for c in columns if others and all(f"{d}/{c}" in values for d in others)]
    return {f"mean/{c}": sum(values[f"{d}/{c}"] for d in domains) / len(domains) for c in whole}


def drifted(run: Run, of: str, domain: str, adapted: nn.Module) -> dict[str, float]:
    """`drift/<domain>`: how far the student's batch-norm statistics are from those of a target's images."""
    found = diagnostics.drift(run.segmenter(of), adapted)
    return {} if found is None else {f"drift/{domain}": found}


def beside(run: Run, of: str, asked: Any, points: Sequence[Point]) -> dict[str, float]:
    """Numbers without labels, of stored labels, and of what snapshots went through; features and curves as files."""
    labels = quality.Labels(run, of, asked.labels) if asked.labels else None
    values: dict[str, float] = {}
    silent: Tensor | None = None
    if asked.label_free:
        known = curves.known(points, run.classes)
        values, silent = label_free.judge(run, of, labels, asked.looked_at, known)
    if asked.quality and labels:
        found, one_by_one = quality.judged(run, of, labels, asked.judged, asked.samples)
        values |= found
        pq.write_table(one_by_one, run.folder / LABELS)
    if asked.features and (cells := features.sampled(run, of, asked.domains, asked.features)):
        pq.write_table(cells, run.folder / features.FILE)
    if points:
        domain = asked.domains[0]
        curves.draw(run.folder / CURVES, f"{of} on {domain}: IoU of each class, %", points, run.classes)
    return values | diagnostics.write(run, of, asked.domains[0], points, silent)


def columns(run: Run, of: str, domain: str, statistics: Sequence[str]) -> Iterator[tuple[str, nn.Module]]:
    """The networks behind the columns; one that cannot be had for this stage or domain is left out."""
    student = run.segmenter(of)
    if "plain" in statistics:
        yield "plain", student
    if "teacher" in statistics and "teacher" in run.read(of):
        yield "teacher", run.segmenter(of, "teacher")
    own = [name for name in run.recipe.targets if run.domain(name).tree == run.domain(domain).tree]
    if "adabn" in statistics and own:  # the domain itself, or parts of it
        yield "adabn", reestimated(student, (image for name in own for _, image in run.images(name, "train")))


def numbers(prefix: str, counts: Tensor, classes: int) -> dict[str, float]:
    """mIoU over all, 16 and 13 classes and each class's IoU, as fractions; an absent class has none."""
    per_class = iou(counts)
    values = {f"{prefix}/miou": mean_iou(per_class)}
    for title, subset in (("miou16", SIXTEEN), ("miou13", THIRTEEN)):
        values[f"{prefix}/{title}"] = mean_iou(per_class, [SUBSETS[classes].index(k) for k in subset])
    values |= {f"{prefix}/iou/{n}": v for n, v in zip(names(classes), per_class.tolist(), strict=True)}
    return present(values)


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
    first = zip(range(wanted), streams.labelled(run.domain(domain), "val", run.classes), strict=False)
    for _, ((stem,), (image, label, _)) in first:
        seen = predict(net, image.to(run.device), test)
        pictures.photo(folder / f"{stem}.input.png", image[0])
        pictures.label(folder / f"{stem}.truth.png", label[0], run.classes)
        pictures.label(folder / f"{stem}.prediction.png", seen[0], run.classes)
