"""The pair a step sees, as a pure function of seed and step, whoever and however many ask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from diga.data import geometry
from diga.data.domain import Domain, Sample, decode_ids, read_bytes, same_size
from diga.data.labels import IGNORE, Bytes
from diga.errors import ConfigError, DataError, DigaError
from diga.types import Batch, Pair

MEMORY = 1 << 29  # bytes of decoded pictures that a stream keeps
Role = Literal["source", "target"]
ROLES: dict[Role, int] = {"source": 1, "target": 2}


class Entry(NamedTuple):
    """A sample and the domain that reads it."""

    domain: Domain
    sample: Sample


class Shelf:
    """Decoded arrays, kept until a budget of bytes is spent.

    Nothing is ever put out: an epoch visits every picture once, the order in which "least recently used"
    would throw each one out just before its next use.
    """

    def __init__(self, budget: int) -> None:
        self.budget, self.used = budget, 0
        self.kept: dict[Path, Bytes] = {}

    def get(self, key: Path, read: Callable[[], Bytes]) -> Bytes:
        """The array of `key`, read if it is not here."""
        if (found := self.kept.get(key)) is not None:
            return found
        found = read()
        if self.used + found.nbytes <= self.budget:
            self.kept[key] = found
            self.used += found.nbytes
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {"budget": self.budget, "used": 0, "kept": {}}  # a copy in another process starts empty


@lru_cache(maxsize=16)
def _permutation(seed: int, role: int, epoch: int, n: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, role, epoch, n)).permutation(n)


def index(seed: int, role: Role, position: int, n: int) -> int:
    """Which of `n` samples stands at `position` of a role's endless sequence: one new shuffle an epoch."""
    epoch, place = divmod(position, n)
    return int(_permutation(seed, ROLES[role], epoch, n)[place])


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

    Several domains are one long list, so each is drawn in proportion to its size.  A role that is not in
    `read` is never listed nor opened and comes as empty tensors (0, 3, H, W).  `guesses` is a folder of
    `<stem>.png`, 8-bit train ids of the size of their target image.  Damage raises the manifest's DataError.
    """

    def __init__(
        self,
        sources: Sequence[Domain],
        targets: Sequence[Domain],
        *,
        crop: tuple[int, int],
        scale: tuple[float, float] = (1.0, 1.0),
        flip: float = 0.5,
        batch: int,
        seed: int,
        classes: int = 19,
        rank: int = 0,
        world: int = 1,
        guesses: Path | None = None,
        read: frozenset[str] = frozenset({"source", "target"}),
        memory: int = MEMORY,
    ) -> None:
        self.how = geometry.checked(crop, scale, flip)
        self.rows, self.batch, self.seed, self.classes = rows(rank, world, batch), batch, seed, classes
        self.crop, self.guesses, self.shelf = crop, guesses, Shelf(memory)
        self.sources = _entries(sources, labelled=True) if "source" in read else []
        self.targets = _entries(targets, labelled=False) if "target" in read else []
        for role, wanted in (("source", self.sources), ("target", self.targets)):
            if role in read and not wanted:
                raise ConfigError(f"{role}s", f"0 {role} domains", f"one at least: this stage reads the {role}")
        if guesses and self.targets:
            _check_guesses(guesses, self.targets)

    def __getitem__(self, t: int) -> Pair:
        image, label = self._batch("source", t, self.sources)
        target, guess = self._batch("target", t, self.targets)
        return Pair(Batch(image, _labels(label, self.crop)), target, _labels(guess, self.crop) if guess else None)

    def _batch(self, role: Role, t: int, entries: list[Entry]) -> tuple[Tensor, list[Bytes]]:
        """Images (B, 3, H, W) in [0, 1], and the label or guess of each as far as there are any."""
        images, labels = [], []
        for row in self.rows if entries else ():
            entry = entries[index(self.seed, role, t * self.batch + row, len(entries))]
            image, label = self._image(entry), self._label(entry, role)
            chance = np.random.default_rng((self.seed, ROLES[role], t, row))
            view = geometry.draw(image.shape[:2], chance=chance, **self.how)
            images.append(view.image(image))
            if label is not None:
                same_size(self._label_file(entry, role), label, entry.sample.image, image)
                labels.append(view.label(label))
        return _images(images, self.crop), labels

    def _image(self, entry: Entry) -> Bytes:
        return self.shelf.get(entry.sample.image, lambda: entry.domain.image(entry.sample))

    def _label_file(self, entry: Entry, role: Role) -> Path | None:
        if role == "source":
            return entry.sample.label
        return self.guesses / f"{entry.sample.stem}.png" if self.guesses else None

    def _label(self, entry: Entry, role: Role) -> Bytes | None:
        if (path := self._label_file(entry, role)) is None:
            return None
        if role == "source":
            return self.shelf.get(path, lambda: entry.domain.label(entry.sample, self.classes))
        return self.shelf.get(path, lambda: read_guess(path, self.classes))


def _entries(domains: Sequence[Domain], labelled: bool) -> list[Entry]:
    return [Entry(domain, sample) for domain in domains for sample in domain.samples("train", labelled)]


def _check_guesses(folder: Path, targets: list[Entry]) -> None:
    stems = [entry.sample.stem for entry in targets]
    if len(set(stems)) < len(stems):
        raise ConfigError("targets", "two target domains share file stems", "one name for each stored guess")
    missing = [stem for stem in stems if not (folder / f"{stem}.png").is_file()]
    if missing:
        what = f"{len(missing)} of {len(stems)} stored guesses are missing: {', '.join(missing[:10])}"
        raise DataError(folder, what, "<stem>.png of every target training image")


def read_guess(path: Path, classes: int) -> Bytes:
    """(H, W) uint8 ids below `classes` or IGNORE, as an earlier stage stored them.  Raises DataError."""
    ids = decode_ids(path, read_bytes(path))
    wrong = (ids >= classes) & (ids != IGNORE)
    if wrong.any():
        raise DataError(path, f"ids {np.unique(ids[wrong]).tolist()}", f"0 to {classes - 1}, or {IGNORE}")
    return ids


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
    """Stems and whole labelled images in order, every `world`-th from `rank`, up to `batch` of one size."""
    for group in _of_one_size(domain, domain.samples(split, labelled=True)[rank::world], batch):
        labels = []
        for sample, image in group:
            labels.append(domain.label(sample, classes))
            same_size(sample.label, labels[-1], sample.image, image)
        yield _stems(group), Batch(_images([image for _, image in group], (0, 0)), _labels(labels, (0, 0)))


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
