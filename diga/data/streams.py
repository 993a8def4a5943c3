"""The pair a step sees, as a pure function of seed and step, whoever and however many ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from diga.data import geometry
from diga.data.domain import Domain, Sample, same_size
from diga.data.labels import Bytes
from diga.data.shelf import Entry, Role, Shelf, Stored, check_stored, entries, stored_guess, stored_painting
from diga.data.shelf import check_stems as check_stems
from diga.errors import ConfigError, DataError, DigaError, expected_one_of
from diga.settings import Frames, Sampling
from diga.types import Batch, Guess, Pair

OWN_SIZE = Frames()  # every image at its own size
MEMORY = 1 << 29  # bytes of decoded pictures that a stream keeps
ROLES: dict[Role, int] = {"source": 1, "target": 2}


@lru_cache(maxsize=16)
def _permutation(seed: int, role: int, epoch: int, n: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, role, epoch, n)).permutation(n)


def index(seed: int, role: Role, position: int, n: int) -> int:
    """Which of `n` samples stands at `position` of a role's endless sequence: one new shuffle an epoch."""
    epoch, place = divmod(position, n)
    return int(_permutation(seed, ROLES[role], epoch, n)[place])


def balanced(seed: int, role: Role, position: int, sizes: Sequence[int]) -> int:
    """Which of several domains' samples, one domain after the other, stands there when all are drawn alike.

    Each domain once in every run of as many positions, in a new order; its own samples in new shuffles.
    """
    turn, place = divmod(position, len(sizes))
    number = 1000 * ROLES[role]  # far from the shuffles of a whole role
    chosen = int(_permutation(seed, number, turn, len(sizes))[place])
    epoch, within = divmod(turn, sizes[chosen])
    return sum(sizes[:chosen]) + int(_permutation(seed, number + 1 + chosen, epoch, sizes[chosen])[within])


def rows(rank: int, world: int, batch: int) -> range:
    """The rows of a global batch that worker `rank` of `world` computes, a contiguous run of equal length.

    Raises ConfigError when the batch does not divide.
    """
    if not 0 <= rank < world:
        raise ConfigError("rank", f"found {rank} of {world} workers", "0 <= rank < workers")
    if batch < 1 or batch % world:
        raise ConfigError("batch", f"{batch} images over {world} workers", "a multiple of the number of workers")
    share = batch // world
    return range(rank * share, (rank + 1) * share)


class PairStream(Dataset[Pair]):
    """Item t is the Pair of global step t, the rows of this rank alone.

    Several domains are one long list, so each is drawn in proportion to its size, unless `sampling` is
    "balanced": then all are drawn alike.  A role that is not in
    `read` is never listed nor opened and comes as empty tensors (0, 3, H, W).  `guesses` is the folder of a
    stage that stored labels of target images, with what `asks` names beside them; `paintings` a folder of
    `<stem>.png`, painted source images.  All are of the size of their image and cropped with it.
    Damage raises the manifest's DataError.
    """

    def __init__(
        self,
        sources: Sequence[Domain],
        targets: Sequence[Domain],
        *,
        crop: tuple[int, int],
        source_frames: Frames = OWN_SIZE,
        target_frames: Frames = OWN_SIZE,
        flip: float = 0.5,
        batch: int,
        seed: int,
        classes: int = 19,
        rank: int = 0,
        world: int = 1,
        guesses: Path | None = None,
        asks: frozenset[str] = frozenset(),
        paintings: Path | None = None,
        read: frozenset[str] = frozenset({"source", "target"}),
        memory: int = MEMORY,
        sampling: Sampling = "proportional",
    ) -> None:
        self.laws = {
            "source": geometry.Law.of("source", source_frames, crop, flip, batch),
            "target": geometry.Law.of("target", target_frames, crop, flip, batch),
        }
        self.rows, self.batch, self.seed, self.classes = rows(rank, world, batch), batch, seed, classes
        self.crop, self.shelf = crop, Shelf(memory)
        self.guesses, self.asks, self.paintings = guesses, _asked(asks, guesses), paintings
        self.sources = entries(sources, labelled=True) if "source" in read else []
        self.targets = entries(targets, labelled=False) if "target" in read else []
        self.sizes = {role: _sizes(found) for role, found in (("source", self.sources), ("target", self.targets))}
        self.sampling = sampling
        for role, wanted in (("source", self.sources), ("target", self.targets)):
            if role in read and not wanted:
                raise ConfigError(f"{role}s", f"0 {role} domains", f"one at least: this stage reads the {role}")
        if guesses and self.targets:
            check_stored([guesses / kind for kind in ("labels", *sorted(asks))], self.targets, "target")
        if paintings and self.sources:
            check_stored([paintings], self.sources, "source")

    def __getitem__(self, t: int) -> Pair:
        return Pair(self._source(t), *self._target(t))

    def _source(self, t: int) -> Batch:
        images, labels, painted = [], [], []
        for row, entry in self._drawn("source", self.sources, t):
            image, label = self._image(entry), self._label(entry)
            same_size(entry.sample.label, label, entry.sample.image, image)
            view = self.laws["source"].view(image.shape[:2], row, self._chance("source", t, row), label)
            images.append(view.image(image))
            labels.append(view.label(label))
            if self.paintings:
                painted.append(view.image(stored_painting(self.shelf, self.paintings, entry, image)))
        some = _images(painted, self.crop) if painted else None
        return Batch(_images(images, self.crop), _labels(labels, self.crop), some)

    def _target(self, t: int) -> tuple[Tensor, Guess | None]:
        images, guesses = [], []
        for row, entry in self._drawn("target", self.targets, t):
            image = self._image(entry)
            view = self.laws["target"].view(image.shape[:2], row, self._chance("target", t, row))
            images.append(view.image(image))
            if self.guesses:
                whole = stored_guess(self.shelf, self.guesses, entry, image, self.classes, self.asks)
                guesses.append(_cropped(whole, view, image))
        return _images(images, self.crop), _guess(guesses, self.crop) if guesses else None

    def _drawn(self, role: Role, found: list[Entry], t: int) -> Iterator[tuple[int, Entry]]:
        """Each row of this rank and the sample that stands there."""
        for row in self.rows if found else ():
            position = t * self.batch + row
            if self.sampling == "balanced":
                yield row, found[balanced(self.seed, role, position, self.sizes[role])]
            else:
                yield row, found[index(self.seed, role, position, len(found))]

    def _chance(self, role: Role, t: int, row: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, ROLES[role], t, row))

    # --- files, once each while there is room ---------------------------------------------

    def _image(self, entry: Entry) -> Bytes:
        return self.shelf.get(entry.sample.image, lambda: entry.domain.image(entry.sample))

    def _label(self, entry: Entry) -> Bytes:
        assert entry.sample.label
        return self.shelf.get(entry.sample.label, lambda: entry.domain.label(entry.sample, self.classes))


def _sizes(found: Iterable[Entry]) -> list[int]:
    """How many samples each domain has."""
    return [len([*group]) for _, group in groupby(found, key=lambda entry: id(entry.domain))]


def _asked(asks: frozenset[str], guesses: Path | None) -> frozenset[str]:
    for name in sorted(asks - {"confidence", "probabilities"}):
        raise ConfigError("asks", f"found {name!r}", expected_one_of(name, ("confidence", "probabilities")))
    if asks and not guesses:
        raise ConfigError("asks", f"{', '.join(sorted(asks))} of no labels", "the folder of a stage that stored labels")
    return asks


def _cropped(stored: Stored, view: geometry.View, image: Bytes) -> Stored:
    """What is stored of a whole image, at the pixels and cells of its crop."""
    label, sure, soft = stored
    return Stored(
        view.label(label),
        None if sure is None else view.label(sure),
        None if soft is None else view.cells(soft, image.shape[:2]),
    )


def _guess(stored: Sequence[Stored], crop: tuple[int, int]) -> Guess:
    """Raises DataError where the crops' cells do not make one grid."""
    sure = [each.confidence for each in stored if each.confidence is not None]
    soft = [each.probabilities for each in stored if each.probabilities is not None]
    if len(grids := {each.shape[1:] for each in soft}) > 1:
        what = f"probabilities on grids of {' and '.join(f'{h} x {w}' for h, w in sorted(grids))} cells in one batch"
        raise DataError("targets", what, "the same number of pixels a cell in all target images")
    return Guess(
        _labels([each.label for each in stored], crop),
        torch.from_numpy(np.stack(sure)).float().div_(255) if sure else None,
        torch.from_numpy(np.stack(soft)).float() if soft else None,
    )


def _images(images: Sequence[Bytes], crop: tuple[int, int]) -> Tensor:
    """Equal (H, W, 3) uint8 arrays to (B, 3, H, W) float in [0, 1]."""
    if not images:
        return torch.zeros(0, 3, *crop)
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return stacked.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def _labels(labels: Sequence[Bytes], crop: tuple[int, int]) -> Tensor:
    """Equal (H, W) uint8 arrays to (B, H, W) int64."""
    return torch.from_numpy(np.stack(labels)).long() if labels else torch.zeros(0, *crop, dtype=torch.long)


# --- loading -----------------------------------------------------------------------------


class _Answers(Dataset[Any]):
    """A stream that returns its errors: a loader's worker would turn them into a RuntimeError's text."""

    def __init__(self, stream: Dataset[Pair]) -> None:
        self.stream = stream

    def __getitem__(self, t: int) -> Pair | DigaError:
        try:
            return self.stream[t]
        except DigaError as failure:
            return failure


def _share_memory(_: int) -> None:
    info = get_worker_info()
    assert info
    answers: Any = info.dataset
    if isinstance(answers.stream, PairStream):
        answers.stream.shelf.budget //= info.num_workers


def loader(stream: Dataset[Pair], start: int, stop: int, workers: int = 0, pin: bool = False) -> Iterator[Pair]:
    """The pairs of steps start..stop-1 in order, read ahead by `workers` processes.

    The same pairs come whatever `workers` is, and the same errors.
    """
    steps = DataLoader(
        _Answers(stream),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_share_memory if workers else None,
    )
    for answer in steps:
        if isinstance(answer, DigaError):
            raise answer
        yield answer


# --- whole images, for scoring and for passes over a domain ------------------------------


def labelled(
    domain: Domain, split: str, classes: int = 19, batch: int = 1, rank: int = 0, world: int = 1
) -> Iterator[tuple[tuple[str, ...], Batch]]:
    """Stems and labelled images in order, every `world`-th from `rank`, up to `batch` of one size; labels are bytes."""
    for group in _of_one_size(domain, domain.samples(split, labelled=True)[rank::world], batch):
        labels = []
        for sample, image in group:
            labels.append(domain.label(sample, classes))
            same_size(sample.label, labels[-1], sample.image, image)
        yield _stems(group), Batch(_images([image for _, image in group], (0, 0)), torch.from_numpy(np.stack(labels)))


def images(
    domain: Domain, split: str, batch: int = 1, rank: int = 0, world: int = 1
) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Stems and whole images (B, 3, H, W), as `labelled` but without touching a label file."""
    for group in _of_one_size(domain, domain.samples(split, labelled=False)[rank::world], batch):
        yield _stems(group), _images([image for _, image in group], (0, 0))


def _stems(group: list[tuple[Sample, Bytes]]) -> tuple[str, ...]:
    return tuple(sample.stem for sample, _ in group)


def _of_one_size(domain: Domain, samples: Iterable[Sample], most: int) -> Iterator[list[tuple[Sample, Bytes]]]:
    """Decoded samples in order, grouped while they have the same size and up to `most`."""
    group: list[tuple[Sample, Bytes]] = []
    for sample in samples:
        image = domain.image(sample)
        if group and (len(group) == most or group[0][1].shape != image.shape):
            yield group
            group = []
        group.append((sample, image))
    if group:
        yield group
