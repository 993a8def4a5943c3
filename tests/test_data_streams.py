"""Streams: a pair is a function of seed and step, and labels go where their pixels go."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diga.data import streams
from diga.data.domain import domain
from diga.data.labels import IGNORE
from diga.data.streams import PairStream, images, index, labelled, loader, rows
from diga.errors import ConfigError, DataError
from diga.settings import Frames
from diga.types import Pair
from tests.test_data_reading import cityscapes, gta5, picture, png, raw_ids

torch.set_num_threads(1)
SCALED = Frames(scale=(0.7, 1.2))
HOW: dict[str, Any] = {"crop": (8, 12), "flip": 0.5, "batch": 4, "seed": 3}
HOW |= {"source_frames": SCALED, "target_frames": SCALED}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    gta5(root, 5)
    cityscapes(root)
    (root / "stored/labels").mkdir(parents=True)
    for sample in domain("cityscapes", root).samples("train", labelled=True):
        ids = domain("cityscapes", root).label(sample)
        (root / f"stored/labels/{sample.stem}.png").write_bytes(png(ids))
    return root


def stream(root: Path, **changes: Any) -> PairStream:
    return PairStream([domain("gta5", root)], [domain("cityscapes", root)], **(HOW | changes))


def same(a: Pair, b: Pair) -> bool:
    one, other = ([*p.source, p.target, *(p.guess or ())] for p in (a, b))
    return len(one) == len(other) and all(
        torch.equal(x, y) if x is not None and y is not None else x is y for x, y in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("wrong", [{"crop": (0, 5)}, {"flip": 1.5}, {"asks": frozenset({"confidence"})}])
def test_bounds_are_checked_before_any_file_is_read(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        PairStream([], [], **(HOW | wrong))


# --- which sample, which row ------------------------------------------------------------


def test_an_epoch_is_a_permutation_and_epochs_differ() -> None:
    epochs = [[index(0, "source", e * 7 + i, 7) for i in range(7)] for e in range(40)]
    assert all(sorted(e) == list(range(7)) for e in epochs)
    assert len({tuple(e) for e in epochs}) > 30
    assert [index(0, "target", i, 50) for i in range(50)] != [index(0, "source", i, 50) for i in range(50)]
    assert [index(1, "source", i, 50) for i in range(50)] != [index(0, "source", i, 50) for i in range(50)]


def test_rows_are_shared_out_or_refused() -> None:
    assert [*rows(0, 3, 6), *rows(1, 3, 6), *rows(2, 3, 6)] == list(range(6))
    with pytest.raises(ConfigError, match="5 images over 2 workers"):
        rows(0, 2, 5)
    with pytest.raises(ConfigError, match="found 2 of 2"):
        rows(2, 2, 4)


def test_workers_together_see_what_one_sees(root: Path) -> None:
    one = stream(root, guesses=root / "stored")
    for world in (2, 4):
        parts = [stream(root, guesses=root / "stored", rank=r, world=world) for r in range(world)]
        for t in (0, 1, 5):
            pairs = [p[t] for p in parts]
            assert torch.equal(one[t].source.image, torch.cat([p.source.image for p in pairs]))
            assert torch.equal(one[t].source.label, torch.cat([p.source.label for p in pairs]))
            assert torch.equal(one[t].target, torch.cat([p.target for p in pairs]))
            guesses = [p.guess.label for p in pairs if p.guess is not None]
            whole = one[t].guess
            assert whole is not None
            assert torch.equal(whole.label, torch.cat(guesses))


def test_a_pair_is_a_function_of_seed_and_step(root: Path) -> None:
    a, b = stream(root), stream(root, memory=0)
    backwards = {t: b[t] for t in (9, 2, 0)}
    assert all(same(a[t], backwards[t]) for t in (0, 2, 9))
    assert a[0].guess is None
    assert not same(a[0], a[1])
    assert not same(a[0], stream(root, seed=4)[0])
    assert len(a.shelf.kept) > 0
    assert len(b.shelf.kept) == 0
    assert same(pickle.loads(pickle.dumps(a))[3], a[3])


def digests(s: PairStream) -> tuple[str, str]:
    """Of the images and of the ids of twelve steps."""
    images, ids = hashlib.sha256(), hashlib.sha256()
    for t in range(12):
        pair = s[t]
        assert pair.guess is not None
        for whole, parts in ((images, (pair.source.image, pair.target)), (ids, (pair.source.label, pair.guess.label))):
            for part in parts:
                whole.update(part.numpy().tobytes())
    return images.hexdigest()[:16], ids.hexdigest()[:16]


def test_the_default_stream_is_what_it_always_was(root: Path) -> None:
    """The bytes of version 1: a stream that drew other pairs would change results of the same recipe."""
    plain = {"source_frames": Frames(), "target_frames": Frames()}
    assert digests(stream(root, **plain, guesses=root / "stored")) == ("d4272c5562c9601d", "2020494c70bbacec")
    named = PairStream(
        [domain("gta5", root)],
        [domain("cityscapes", root)],
        crop=(8, 12),
        batch=4,
        seed=3,
        guesses=root / "stored",
    )
    assert digests(named) == ("d4272c5562c9601d", "2020494c70bbacec")
    assert digests(stream(root, guesses=root / "stored"))[1] == "9676d0b6e4a66891"  # resampled pixels are Pillow's


def test_shapes_and_ranges(root: Path) -> None:
    pair = stream(root, guesses=root / "stored")[0]
    assert pair.source.image.shape == pair.target.shape == (4, 3, 8, 12)
    assert pair.source.image.dtype == torch.float32
    assert pair.source.image.is_contiguous()
    assert 0 <= pair.source.image.min() < 0.2
    assert 0.8 < pair.source.image.max() <= 1
    assert pair.source.label.dtype == torch.int64
    assert pair.source.label.shape == (4, 8, 12)
    assert all(v < 19 or v == IGNORE for v in set(pair.source.label.flatten().tolist()))
    sixteen = stream(root, classes=16)[0].source.label
    assert max(v for v in set(sixteen.flatten().tolist()) if v != IGNORE) <= 15


def test_pixels_are_the_files_pixels(root: Path) -> None:
    """No scaling, no flip, crop as large as the image: the batch is the stored images."""
    s = stream(root, crop=(12, 20), source_frames=Frames(), target_frames=Frames(), flip=0.0, guesses=root / "stored")
    for t in range(3):
        pair = s[t]
        for row in range(4):
            d, sample = s.sources[index(3, "source", 4 * t + row, 5)]
            assert (pair.source.image[row].permute(1, 2, 0) * 255).round().numpy().astype(int).tolist() == d.image(
                sample
            ).tolist()
            assert pair.source.label[row].tolist() == d.label(sample).tolist()
            d, sample = s.targets[index(3, "target", 4 * t + row, 6)]
            truth = domain("cityscapes", root).root / "gtFine/train" / sample.stem.split("_")[0]
            table = d.layout.table[np.array(Image.open(truth / f"{sample.stem}_gtFine_labelIds.png"))]
            assert pair.guess is not None
            assert pair.guess.label[row].tolist() == table.tolist()


def test_the_guess_moves_with_the_target(root: Path, tmp_path: Path) -> None:
    """A guess that is the image's own red channel, so that the two can be compared after any view."""
    tree = tmp_path / "cityscapes/leftImg8bit/train/aachen"
    tree.mkdir(parents=True)
    (tmp_path / "g/labels").mkdir(parents=True)
    gta5(tmp_path, 1)
    for i in range(3):
        ids = np.kron(np.random.default_rng(i).integers(0, 19, (4, 6)), np.ones((10, 10))).astype(np.uint8)
        (tree / f"a_{i}_leftImg8bit.png").write_bytes(png(np.repeat(ids[..., None] * 10, 3, -1)))
        (tmp_path / f"g/labels/a_{i}.png").write_bytes(png(ids))
    s = stream(tmp_path, crop=(20, 30), guesses=tmp_path / "g", target_frames=Frames(scale=(0.9, 1.1)))
    for t in range(5):
        pair = s[t]
        assert pair.guess is not None
        near = (pair.target[:, 0] * 255 - pair.guess.label * 10).abs() < 8
        assert near.float().mean() > 0.7


def test_several_domains_come_in_proportion(root: Path, tmp_path: Path) -> None:
    gta5(tmp_path, 15)
    both = PairStream([domain("gta5", root), domain("gta5", tmp_path)], [], **HOW, read=frozenset({"source"}))
    names = [both.sources[index(3, "source", i, 20)].domain.root for i in range(60)]
    assert Counter(names) == {root / "gta5": 15, tmp_path / "gta5": 45}


# --- what must not be touched ------------------------------------------------------------


def test_training_never_opens_a_target_label(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    for file in (tmp_path / "copy/cityscapes/gtFine").rglob("*.png"):
        file.unlink()
        os.mkfifo(file)  # opening it would hang for ever
    copied = stream(tmp_path / "copy")
    assert all(same(copied[t], stream(root)[t]) for t in range(4))
    shutil.rmtree(tmp_path / "copy/cityscapes/gtFine")
    assert same(stream(tmp_path / "copy")[1], copied[1])
    assert sum(x.shape[0] for _, x in images(domain("cityscapes", tmp_path / "copy"), "train", batch=4)) == 6


def test_a_role_that_is_not_read_is_not_touched(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "gta5", tmp_path / "gta5")
    (tmp_path / "cityscapes").mkdir()
    source_only = stream(tmp_path, read=frozenset({"source"}))
    pair = source_only[0]
    assert pair.target.shape == (0, 3, 8, 12)
    assert pair.guess is None
    assert torch.equal(pair.source.image, stream(root)[0].source.image)
    target_only = stream(root, read=frozenset({"target"}))[0]
    assert target_only.source.image.shape == (0, 3, 8, 12)
    assert target_only.source.label.shape == (0, 8, 12)
    with pytest.raises(ConfigError, match="0 target domains"):
        PairStream([domain("gta5", root)], [], **HOW)


# --- damage ------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", ["images", "labels"])
def test_damage_during_training_is_the_manifests_error(root: Path, tmp_path: Path, kind: str, workers: int) -> None:
    shutil.copytree(root, tmp_path / "copy")
    s = stream(tmp_path / "copy")
    for file in (tmp_path / f"copy/gta5/{kind}").iterdir():
        file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DataError, match=rf"{kind}/0000\d\.png: cut short"):
        list(loader(s, 0, 2, workers))


def test_wrong_guesses_are_named(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "stored", tmp_path / "g")
    one = sorted((tmp_path / "g/labels").iterdir())[2]
    whole = one.read_bytes()
    for content, says in (
        (png(np.full((12, 20), 19, np.uint8)), r"ids \[19\]"),
        (png(raw_ids((12, 4)) * 0), "4 x 12"),
    ):
        one.write_bytes(content)
        with pytest.raises(DataError, match=f"{one.name}: {says}"):
            list(loader(stream(root, guesses=tmp_path / "g"), 0, 3))
    one.write_bytes(whole)
    one.unlink()
    with pytest.raises(DataError, match=f"{one.name}: 1 of 6 stored labels are missing: {one.stem}"):
        stream(root, guesses=tmp_path / "g")
    d = domain("cityscapes", root)
    with pytest.raises(ConfigError, match="targets: cityscapes and cityscapes share file stems, such as aachen"):
        PairStream([domain("gta5", root)], [d, d], **HOW, guesses=root / "stored")


# --- loading and scoring -----------------------------------------------------------------


def test_the_loader_gives_the_same_pairs_in_order(root: Path) -> None:
    s = stream(root, guesses=root / "stored")
    for workers in (0, 2):
        found = list(loader(s, 3, 8, workers))
        assert len(found) == 5
        assert all(same(p, s[t]) for p, t in zip(found, range(3, 8), strict=True))
        assert all(isinstance(p, Pair) for p in found)
    assert list(loader(s, 4, 4)) == []


def test_the_shelf_keeps_to_its_budget(root: Path) -> None:
    s = stream(root, memory=12 * 20 * 3 * 2 + 100)  # two images
    for t in range(6):
        assert same(s[t], stream(root)[t])
    assert s.shelf.used <= s.shelf.budget
    assert 1 <= len(s.shelf.kept) <= 8
    assert s.shelf.used == sum(a.nbytes for a in s.shelf.kept.values())


def test_scoring_sees_every_image_once_and_whole(root: Path, tmp_path: Path) -> None:
    d = domain("cityscapes", root)
    samples = d.samples("val", labelled=True)
    for batch in (1, 4):
        found = list(labelled(d, "val", batch=batch))
        assert [s for stems, _ in found for s in stems] == [s.stem for s in samples]
        assert torch.cat([b.label for _, b in found]).tolist() == [d.label(s).tolist() for s in samples]
        pixels = (torch.cat([b.image for _, b in found]) * 255).round().permute(0, 2, 3, 1).byte()
        assert (pixels.numpy() == np.stack([d.image(s) for s in samples])).all()
    shares = [s for r in range(2) for stems, _ in images(d, "val", batch=2, rank=r, world=2) for s in stems]
    assert sorted(shares) == [s.stem for s in samples]
    tree = gta5(tmp_path, 3)
    (tree / "images/00001.png").write_bytes(png(picture((6, 8))))
    sizes = [tuple(x.shape) for _, x in images(domain("gta5", tmp_path), "train", batch=4)]
    assert sizes == [(1, 3, 12, 20), (1, 3, 6, 8), (1, 3, 12, 20)]
    with pytest.raises(DataError, match=r"labels/00001\.png: 20 x 12 pixels"):
        list(labelled(domain("gta5", tmp_path), "train", batch=4))


def test_memory_of_workers_together_is_the_budget(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s = stream(root, memory=1000)

    class Info:
        dataset, num_workers = streams._Answers(s), 4

    monkeypatch.setattr(streams, "get_worker_info", Info)
    streams._share_memory(0)
    assert s.shelf.budget == 250
