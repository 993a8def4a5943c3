"""Manifests: every damaged file is found, and a digest is the content's alone."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diga.data import manifest as module
from diga.data.domain import Domain, domain, read_bytes
from diga.data.labels import IGNORE, RAW_IDS, raw_table
from diga.data.manifest import Manifest, class_pixels, class_weights, manifest, verify
from diga.errors import DataError
from tests.test_data_reading import cityscapes, gta5, picture, png, raw_ids


def damaged(data: bytes, how: str, chance: np.random.Generator) -> bytes:
    """One bit flipped, or the file cut, at a random place."""
    if how == "cut":
        return data[: chance.integers(0, len(data))]
    at = int(chance.integers(0, len(data)))
    return data[:at] + bytes([data[at] ^ (1 << int(chance.integers(0, 8)))]) + data[at + 1 :]


@pytest.mark.parametrize("how", ["flip", "cut"])
@pytest.mark.parametrize("kind", ["images", "labels"])
def test_forty_of_forty_damaged_png_are_refused(tmp_path: Path, kind: str, how: str) -> None:
    file = gta5(tmp_path, 1) / kind / "00000.png"
    whole, chance = file.read_bytes(), np.random.default_rng(0)
    d = domain("gta5", tmp_path)
    kept = manifest(d, "train", labelled=True)
    for _ in range(40):
        file.write_bytes(damaged(whole, how, chance))
        with pytest.raises(DataError, match=f"{kind}/00000.png: "):
            manifest(d, "train", labelled=True)
        with pytest.raises(DataError, match=f"{kind}/00000.png: sha256 [0-9a-f]{{64}} .sha256 [0-9a-f]{{64}}, taken"):
            verify(d, "train", True, kept)
    file.write_bytes(whole)
    verify(d, "train", True, kept)


@pytest.mark.parametrize("how", ["flip", "cut"])
def test_forty_of_forty_damaged_jpeg_are_refused_given_the_digest(tmp_path: Path, how: str) -> None:
    file = gta5(tmp_path, 1) / "images/00000.png"
    jpeg = io.BytesIO()
    Image.fromarray(picture()).save(jpeg, "JPEG", quality=95)
    file.write_bytes(jpeg.getvalue())
    d, chance = domain("gta5", tmp_path), np.random.default_rng(1)
    kept = manifest(d, "train", labelled=True)
    for _ in range(40):
        file.write_bytes(damaged(jpeg.getvalue(), how, chance))
        with pytest.raises(DataError, match=r"00000\.png"):
            verify(d, "train", True, kept)


def test_rows_are_what_a_slow_look_finds(tmp_path: Path) -> None:
    tree = cityscapes(tmp_path)
    found = manifest(domain("cityscapes", tmp_path), "train", labelled=True)
    assert len(found) == 6
    assert found.table["stem"].to_pylist() == sorted(found.table["stem"].to_pylist())
    total = np.zeros(20, int)
    for row in found.table.to_pylist():
        raw = np.array(Image.open(tree / row["label"]))
        slow = [int((raw == i).sum()) for i in RAW_IDS]
        assert row["pixels"] == [*slow, raw.size - sum(slow)]
        assert (row["height"], row["width"]) == raw.shape
        assert row["image_sha256"] == hashlib.sha256((tree / row["image"]).read_bytes()).hexdigest()
        assert row["label_sha256"] == hashlib.sha256((tree / row["label"]).read_bytes()).hexdigest()
        total += row["pixels"]
    assert (found.pixels == total).all()
    assert (found.class_pixels == total[:19]).all()


def test_without_labels_no_label_file_is_touched(tmp_path: Path) -> None:
    tree = gta5(tmp_path, 3)
    d = domain("gta5", tmp_path)
    before = manifest(d, "train", labelled=False)
    shutil.rmtree(tree / "labels")
    assert manifest(d, "train", labelled=False).digest == before.digest
    (tree / "labels").mkdir()
    for i in range(3):
        os.mkfifo(tree / f"labels/{i:05}.png")  # opening one would hang for ever
    after = manifest(d, "train", labelled=False)
    assert after.digest == before.digest
    assert after.table["label_sha256"].null_count == 3
    assert not after.pixels.any()


def test_the_digest_is_the_contents(tmp_path: Path) -> None:
    def digest(root: Path) -> str:
        return manifest(domain("gta5", root), "train", labelled=True).digest

    one = gta5(tmp_path / "a", 3)
    first = digest(tmp_path / "a")
    shutil.copytree(one, tmp_path / "moved away/gta5")
    os.utime(tmp_path / "moved away/gta5/images/00000.png", (0, 0))
    assert digest(tmp_path / "moved away") == first
    (one / "labels/00001.png").write_bytes(png(raw_ids(seed=77), palette=True))
    second = digest(tmp_path / "a")
    for folder in ("images", "labels"):
        os.rename(one / folder / "00001.png", one / folder / "00007.png")
    assert len({first, second, digest(tmp_path / "a")}) == 3


# --- errors and what to do about them ----------------------------------------------------


def test_a_label_of_another_size_names_both(tmp_path: Path) -> None:
    tree = gta5(tmp_path, 3)
    (tree / "labels/00002.png").write_bytes(png(raw_ids((12, 19)), palette=True))
    with pytest.raises(DataError, match=r"labels/00002\.png: 19 x 12 pixels \(20 x 12 as .*images/00002\.png\)"):
        manifest(domain("gta5", tmp_path), "train", labelled=True)


def test_an_all_void_label_is_no_error(tmp_path: Path) -> None:
    tree = gta5(tmp_path, 1)
    (tree / "labels/00000.png").write_bytes(png(np.full((12, 20), 255, np.uint8), palette=True))
    found = manifest(domain("gta5", tmp_path), "train", labelled=True)
    assert found.pixels.tolist() == [0] * 19 + [240]
    with pytest.raises(DataError, match="0 labelled pixels"):
        class_weights([found])


@pytest.mark.parametrize("workers", [1, 3])
def test_some_damage_can_be_left_out_and_is_counted(tmp_path: Path, workers: int) -> None:
    tree = gta5(tmp_path, 5)
    for i in (1, 3):
        (tree / f"images/{i:05}.png").write_bytes(b"torn")
    d = domain("gta5", tmp_path)
    with pytest.raises(DataError, match=r"00001\.png.*2 damaged samples .at most 1"):
        manifest(d, "train", labelled=True, skip=1, workers=workers)
    found = manifest(d, "train", labelled=True, skip=2, workers=workers, cache=tmp_path / "cache")
    assert [stem for stem, _ in found.skipped] == ["00001", "00003"]
    assert len(found) == 3
    rest = d.without(stem for stem, _ in found.skipped)
    assert manifest(rest, "train", labelled=True).digest == found.digest
    again = manifest(d, "train", labelled=True, skip=2, cache=tmp_path / "cache")
    assert (again.digest, again.skipped) == (found.digest, found.skipped)
    verify(d, "train", True, found)
    with pytest.raises(DataError, match=r"00001\.png"):  # the cache does not make damage pass
        manifest(d, "train", labelled=True, cache=tmp_path / "cache")


def test_samples_that_come_and_go_are_named(tmp_path: Path) -> None:
    tree = gta5(tmp_path, 3)
    d = domain("gta5", tmp_path)
    kept = manifest(d, "train", labelled=True)
    for folder in ("images", "labels"):
        (tree / folder / "00001.png").unlink()
    with pytest.raises(DataError, match="1 samples came or went: 00001"):
        verify(d, "train", True, kept)


# --- the cache ---------------------------------------------------------------------------


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of files whose bytes a manifest reads."""
    seen: list[str] = []

    def spy(path: Path) -> bytes:
        seen.append(path.name)
        return read_bytes(path)

    monkeypatch.setattr(module, "read_bytes", spy)
    return seen


def cached(d: Domain, cache: Path) -> Manifest:
    return manifest(d, "train", labelled=True, cache=cache)


def test_only_what_changed_is_read_again(tmp_path: Path, read_files: list[str]) -> None:
    tree, cache = gta5(tmp_path, 4), tmp_path / "a/cache"
    d = domain("gta5", tmp_path)
    first = cached(d, cache)
    assert len(read_files) == 8
    read_files.clear()
    assert cached(d, cache).digest == first.digest
    assert not read_files
    (tree / "labels/00002.png").write_bytes(png(raw_ids(seed=9), palette=True))
    second = cached(d, cache)
    assert read_files == ["00002.png", "00002.png"]
    assert second.digest != first.digest
    assert second.digest == manifest(d, "train", labelled=True).digest
    for folder in ("images", "labels"):
        (tree / folder / "00000.png").unlink()
    assert cached(d, cache).digest == manifest(d, "train", labelled=True).digest
    assert [p.name for p in cache.iterdir()] == ["gta5.train.labelled.parquet"]  # and no temporary file


def test_a_cache_that_cannot_be_believed_is_made_again(tmp_path: Path, read_files: list[str]) -> None:
    gta5(tmp_path, 2)
    d, cache = domain("gta5", tmp_path), tmp_path / "cache"
    first = cached(d, cache)
    file = cache / "gta5.train.labelled.parquet"
    whole = file.read_bytes()
    for broken in (b"", whole[: len(whole) // 2], b"no parquet at all"):
        file.write_bytes(broken)
        read_files.clear()
        assert cached(d, cache).digest == first.digest
        assert len(read_files) == 4
    shutil.copytree(d.root, tmp_path / "other/gta5", copy_function=shutil.copy2)
    read_files.clear()
    cached(domain("gta5", tmp_path / "other"), cache)
    assert len(read_files) == 4  # same names, sizes and times, another tree


def test_progress_counts_every_sample(tmp_path: Path) -> None:
    gta5(tmp_path, 3)
    told: list[tuple[int, int]] = []
    d = domain("gta5", tmp_path)
    kept = manifest(d, "train", labelled=True, progress=lambda done, total: told.append((done, total)))
    verify(d, "train", True, kept, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)] * 2


def test_strange_paths(tmp_path: Path) -> None:
    root = tmp_path / "a b\nü 'x'"
    tree = gta5(root, 2)
    for folder in ("images", "labels"):
        os.rename(tree / folder / "00001.png", tree / folder / "strße (1)\n.png")
    d = domain("gta5", root)
    assert manifest(d, "train", labelled=True, cache=root / "cache").table["stem"][1].as_py() == "strße (1)\n"
    (tree / "images/00000.png").write_bytes(b"")
    with pytest.raises(DataError) as found:
        manifest(d, "train", labelled=True)
    assert "\n" not in str(found.value)


# --- class frequencies -------------------------------------------------------------------


def test_weights_are_the_slow_weights(tmp_path: Path) -> None:
    gta5(tmp_path, 3)
    cityscapes(tmp_path)
    both = [manifest(domain(n, tmp_path), "train", labelled=True) for n in ("gta5", "cityscapes")]
    ids = [raw_table()[raw_ids(seed=s)] for s in (0, 1, 2, 0, 1, 2, 10, 11, 12)]
    counts = [sum(int((y == k).sum()) for y in ids) for k in range(19)]
    assert class_pixels(both).tolist() == counts
    share = np.array(counts) / sum(counts)
    assert np.allclose(class_weights(both), share**-0.5 / np.mean(share**-0.5))
    assert (class_weights(both, balance="none") == 1).all()
    assert class_weights(both, 16).shape == (16,)


def test_an_absent_class_gets_weight_one_and_leaves_the_mean(tmp_path: Path) -> None:
    tree = gta5(tmp_path, 1)
    raw = np.full((12, 20), RAW_IDS[0], np.uint8)
    raw[:, :5], raw[0, 19] = RAW_IDS[2], 0
    (tree / "labels/00000.png").write_bytes(png(raw, palette=True))
    weights = class_weights([manifest(domain("gta5", tmp_path), "train", labelled=True)])
    assert np.isfinite(weights).all()
    assert np.isclose(weights[[0, 2]].mean(), 1)
    assert weights[2] > weights[0]
    assert (np.delete(weights, [0, 2]) == 1).all()
    assert len(weights) <= IGNORE


def test_a_manifest_survives_being_killed_while_it_is_stored(tmp_path: Path) -> None:
    gta5(tmp_path, 2)
    code = (
        "import os, sys; from pathlib import Path; from diga.data import manifest as m\n"
        "from diga.data.domain import domain\n"
        "m.os.replace = lambda *_: os._exit(9)\n"
        f"root = Path({str(tmp_path)!r})\n"
        "m.manifest(domain('gta5', root), 'train', True, cache=root / 'cache')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1])
    assert done.returncode == 9
    assert not (tmp_path / "cache/gta5.train.labelled.parquet").exists()
    assert len(cached(domain("gta5", tmp_path), tmp_path / "cache")) == 2
