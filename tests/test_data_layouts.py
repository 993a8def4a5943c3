"""Layouts: tiny trees as the datasets are published, read back by the code that reads the real ones."""

from __future__ import annotations

import io
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diga.data import LAYOUTS, gta5_list
from diga.data.domain import decode_image, domain, existing
from diga.data.labels import CLASSES, IGNORE, RAW_IDS, SIXTEEN, UNKNOWN
from diga.data.manifest import manifest
from diga.data.synthia import decode_first_channel
from diga.errors import ConfigError, DataError
from tests import tiny
from tests.test_data_reading import picture, png, raw_ids

HERE = Path("somewhere.png")
# the published tables, by name: raw ids of SYNTHIA and of Mapillary Vistas 1.2
TABLE = {
    "road": ((3,), (13, 24, 41)),
    "sidewalk": ((4,), (15, 2)),
    "building": ((2,), (17,)),
    "wall": ((21,), (6,)),
    "fence": ((5,), (3,)),
    "pole": ((7,), (45, 47)),
    "light": ((15,), (48,)),
    "sign": ((9,), (50,)),
    "vegetation": ((6,), (30,)),
    "terrain": ((16,), (29,)),
    "sky": ((1,), (27,)),
    "person": ((10,), (19,)),
    "rider": ((17,), (20, 21, 22)),
    "car": ((8,), (55,)),
    "truck": ((18,), (61,)),
    "bus": ((19,), (54,)),
    "train": ((20,), (58,)),
    "motorcycle": ((12,), (57,)),
    "bicycle": ((11,), (52,)),
}


def png16(array: np.ndarray, filters: str = "", colour: int = 2, level: int = 6) -> bytes:
    """A PNG of 16 bits a channel (H, W, 3), or (H, W) with `colour` 0; Pillow cannot write the former."""
    height, width = array.shape[:2]
    lines = array.astype(">u2").reshape(height, -1).view(np.uint8)
    step, above, body = 2 * (3 if colour == 2 else 1), np.zeros(lines.shape[1], int), b""
    for y, line in enumerate(lines.astype(int)):
        kind = int((filters or "0")[y % max(1, len(filters))])
        left, corner = (np.r_[np.zeros(step, int), x[:-step]] for x in (line, above))
        base = left + above - corner
        away = np.abs(base - np.stack([left, above, corner]))
        paeth = np.choose(away.argmin(0), [left, above, corner])
        guess = [0, left, above, (left + above) // 2, paeth][kind]
        body += bytes([kind]) + ((line - guess) % 256).astype(np.uint8).tobytes()
        above = line

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body, level)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def jpeg(seed: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture(seed=seed)).save(out, "JPEG", quality=95)
    return out.getvalue()


def some(ids: list[int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array(ids), (12, 20))


def written(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def synthia(root: Path, n: int = 3) -> Path:
    """Classes in the first channel, instances in the second, as published."""
    tree = root / "synthia/RAND_CITYSCAPES"
    for i in range(n):
        ids = some([*range(23)], i)
        label = np.stack([ids, np.random.default_rng(i).integers(0, 65536, ids.shape), 0 * ids], -1)
        written(tree / f"RGB/{i:07}.png", png(picture(seed=i)))
        written(tree / f"GT/LABELS/{i:07}.png", png16(label, "01234"))
    return root / "synthia"


def bdd100k(root: Path, official: bool = False, n: int = 3) -> Path:
    tree = root / "bdd100k"
    for s, split in enumerate(("train", "val")):
        for i in range(n):
            name, label = f"{s}a{i}", png(some([*range(19), 255], 10 * s + i).astype(np.uint8))
            written(tree / ("images/10k" if official else "images") / split / f"{name}.jpg", jpeg(10 * s + i))
            where = f"labels/sem_seg/masks/{split}/{name}" if official else f"gtFine/{split}/{name}_train_id"
            written(tree / f"{where}.png", label)
    return tree


def mapillary(root: Path, n: int = 3) -> Path:
    tree = root / "mapillary"
    for s, split in enumerate(("training", "validation")):
        for i in range(n):
            label = png(some([*range(66)], 10 * s + i).astype(np.uint8), palette=True)
            written(tree / split / f"images/x{s}-{i}.jpg", jpeg(10 * s + i))
            written(tree / split / f"labels/x{s}-{i}.png", label)
    return tree


def slow_train_ids(raw: np.ndarray, column: int) -> np.ndarray:
    """One mask a class, by the published table."""
    out = np.full(raw.shape, IGNORE)
    for k, name in enumerate(CLASSES):
        for i in TABLE[name][column]:
            out[raw == i] = k
    return out


# --- read back -----------------------------------------------------------------------------


def test_synthia_is_read_as_written(tmp_path: Path) -> None:
    synthia(tmp_path)
    d = domain("synthia", tmp_path)
    samples = d.samples("train", labelled=True)
    assert [s.stem for s in samples] == ["0000000", "0000001", "0000002"]
    for i, sample in enumerate(samples):
        slow = slow_train_ids(some([*range(23)], i), 0)
        assert (d.image(sample) == picture(seed=i)).all()
        assert (d.label(sample) == slow).all()
        compact = [SIXTEEN.index(k) if k in SIXTEEN else IGNORE for k in slow.ravel()]
        assert d.label(sample, 16).ravel().tolist() == compact
    with pytest.raises(DataError, match=r"SYNTHIA has no val split .all of its images are train"):
        d.samples("val", labelled=True)
    with pytest.raises(ConfigError, match=r"test: no split of SYNTHIA"):
        d.samples("test", labelled=False)


@pytest.mark.parametrize("official", [False, True])
def test_bdd100k_is_read_as_written(tmp_path: Path, official: bool) -> None:
    bdd100k(tmp_path, official)
    d = domain("bdd100k", tmp_path)
    for s, split in enumerate(("train", "val")):
        samples = d.samples(split, labelled=True)
        assert [sample.stem for sample in samples] == [f"{s}a{i}" for i in range(3)]
        for i, sample in enumerate(samples):
            assert (d.image(sample) == decode_image(HERE, jpeg(10 * s + i))).all()
            assert (d.label(sample) == some([*range(19), 255], 10 * s + i)).all()
    with pytest.raises(ConfigError, match="did you mean 'val'"):
        d.samples("vall", labelled=True)


def test_mapillary_is_read_as_written(tmp_path: Path) -> None:
    mapillary(tmp_path)
    d = domain("mapillary", tmp_path)
    for s, split in enumerate(("train", "val")):
        samples = d.samples(split, labelled=True)
        assert [sample.stem for sample in samples] == [f"x{s}-{i}" for i in range(3)]
        for i, sample in enumerate(samples):
            assert (d.image(sample) == decode_image(HERE, jpeg(10 * s + i))).all()
            assert (d.label(sample) == slow_train_ids(some([*range(66)], 10 * s + i), 1)).all()
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        d.samples("training", labelled=True)


def test_every_layout_knows_the_nineteen_classes_and_what_is_void() -> None:
    known = {
        "gta5": 36,
        "cityscapes": 35,
        "synthia": 23,
        "synscapes": 35,
        "bdd100k": 20,
        "mapillary": 66,
        "mapillary_ddb": 66,
    }
    assert {name: int((layout.table != UNKNOWN).sum()) for name, layout in LAYOUTS.items()} == known
    for layout in LAYOUTS.values():
        assert set(layout.table[layout.table != UNKNOWN].tolist()) == {*range(19), IGNORE}
    assert [int(i) for i in np.flatnonzero(LAYOUTS["cityscapes"].table < 19)] == sorted(RAW_IDS)


def test_they_are_listed_and_have_manifests(tmp_path: Path) -> None:
    for make in (synthia, bdd100k, mapillary):
        make(tmp_path / "sets")
    assert existing(tmp_path) == ["sets/bdd100k", "sets/mapillary", "sets/synthia"]
    for name in existing(tmp_path):
        found = manifest(domain(name, tmp_path), "train", labelled=True, cache=tmp_path / "cache")
        assert len(found) == 3
        assert found.pixels.sum() == 3 * 240
        labels = [domain(name, tmp_path).label(s) for s in domain(name, tmp_path).samples("train", True)]
        assert found.pixels.tolist() == [int((np.stack(labels) == k).sum()) for k in (*range(19), IGNORE)]


# --- sixteen bits --------------------------------------------------------------------------


def test_sixteen_bit_colour_is_decoded_in_full() -> None:
    """Pillow alone gives the high bytes, which are zero for every class of SYNTHIA."""
    array = np.random.default_rng(0).integers(0, 65536, (40, 33, 3))
    for filters in ("", "1", "2", "3", "4", "01234"):
        data = png16(array, filters)
        assert (decode_first_channel(HERE, data) == array[..., 0]).all()
        assert (np.array(Image.open(io.BytesIO(data))) == array // 256).all()
    assert (decode_first_channel(HERE, png16(array[:1, :1])) == array[:1, :1, 0]).all()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (png(picture()), "mode 8-bit RGB .16-bit RGB, of which red is the class"),
        (png(raw_ids(), palette=True), "mode 8-bit P "),
        (png16(np.full((4, 4), 7), colour=0), "mode 16-bit I;16"),
        (jpeg(0), "no image data"),
        (b"", "empty file"),
        (png16(np.ones((40, 33, 3)))[:-20], "cut short"),
    ],
)
def test_other_files_are_no_labels_of_synthia(data: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says) as found:
        decode_first_channel(HERE, data)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("how", ["flip", "cut"])
def test_forty_of_forty_damaged_labels_of_synthia_are_refused(how: str) -> None:
    from tests.test_data_manifest import damaged

    whole, chance = png16(np.random.default_rng(0).integers(0, 23, (12, 20, 3))), np.random.default_rng(1)
    for _ in range(40):
        with pytest.raises(DataError, match=r"somewhere\.png: "):
            decode_first_channel(HERE, damaged(whole, how, chance))


# --- damage in a tree ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "label", "data", "says"),
    [
        (
            synthia,
            "RAND_CITYSCAPES/GT/LABELS/0000001.png",
            png16(np.dstack([np.tile([3, 23, 300, 65535], (12, 5)), *np.zeros((2, 12, 20))])),
            r"unknown label ids 23 \(60 pixels\), 300 \(60 pixels\), 65535 \(60 pixels\) .*synthia map: 0 to 22",
        ),
        (
            bdd100k,
            "gtFine/train/0a1_train_id.png",
            png(np.tile(np.array([0, 19, 254, 255], np.uint8), (12, 5))),
            r"unknown label ids 19 \(60 pixels\), 254 \(60 pixels\) .*bdd100k map: 0 to 18, 255",
        ),
        (
            mapillary,
            "training/labels/x0-1.png",
            png(np.tile(np.array([0, 65, 66, 255], np.uint8), (12, 5)), palette=True),
            r"unknown label ids 66 \(60 pixels\), 255 \(60 pixels\) .*mapillary map: 0 to 65",
        ),
    ],
)
def test_unknown_ids_are_counted(tmp_path: Path, make: Callable, label: str, data: bytes, says: str) -> None:
    tree = make(tmp_path)
    (tree / label).write_bytes(data)
    with pytest.raises(DataError, match=f"{Path(label).name}: {says}"):
        manifest(domain(tree.name, tmp_path), "train", labelled=True)


@pytest.mark.parametrize("make", [synthia, bdd100k, mapillary])
def test_missing_partners_and_damaged_images_are_named(tmp_path: Path, make: Callable) -> None:
    tree = make(tmp_path)
    d = domain(tree.name, tmp_path)
    first = d.samples("train", labelled=True)[0]
    assert first.label
    data = first.image.read_bytes()
    first.image.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=f"{first.image.name}: "):
        manifest(d, "train", labelled=False)
    first.image.unlink()
    with pytest.raises(DataError, match=f"1 labels have no image: .*{first.label.name}"):
        d.samples("train", labelled=True)
    first.image.write_bytes(data)
    first.label.unlink()
    with pytest.raises(DataError, match=f"1 labels are missing: .*{first.label.name}"):
        d.samples("train", labelled=True)
    assert len(d.samples("train", labelled=False)) == 3


@pytest.mark.parametrize("name", ["synthia", "bdd100k", "mapillary"])
def test_empty_trees_say_which_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=rf"{name}/.*: No such file or directory"):
        domain(name, tmp_path).samples("train", labelled=False)


def test_the_authors_list_of_gta5_has_18111_frames() -> None:
    listed, left_out = gta5_list.names(), gta5_list.left_out()
    assert (len(listed), len(left_out)) == (18_111, 6_855)
    assert listed == sorted(set(listed))
    assert max(left_out) <= gta5_list.FRAMES
    runs = [n for n in left_out if n - 1 not in left_out]
    assert len(runs) == 53


def test_the_list_is_written_once_and_only_for_gta5(tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(tiny.data(), tmp_path / "data")
    words = {"DIGA_DATA": str(tmp_path / "data")}
    assert tiny.typed(home, "data", "split", "streets/cityscapes", **words)[0] == 2
    file = tmp_path / "data/streets/gta5/splits/train.txt"
    own = file.read_text()
    assert tiny.typed(home, "data", "split", "streets/gta5", **words)[0] == 2
    assert file.read_text() == own, "a list is not overwritten"
    file.unlink()
    code, said, errors = tiny.typed(home, "data", "split", "streets/gta5", **words)
    assert (code, errors) == (0, "")
    assert "18,111 frames" in said
    assert len(file.read_text().split()) == 18_111


def test_the_two_maps_of_mapillary_differ_in_eleven_indices() -> None:
    tables = [LAYOUTS[name].table for name in ("mapillary", "mapillary_ddb")]
    apart = {i for i in range(66) if tables[0][i] != tables[1][i]}
    assert apart == {7, 8, 9, 10, 11, 14, 23, 41, 44, 46, 49}
