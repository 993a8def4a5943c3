"""Domains: what is read is what was written, and what is damaged is refused by name."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from diga.data import labels
from diga.data.domain import decode_ids, decode_image, domain, read_bytes
from diga.data.labels import CLASSES, COLOURS, IGNORE, RAW_IDS, SIXTEEN, THIRTEEN
from diga.errors import ConfigError, DataError

HERE = Path("somewhere.png")


def picture(size: tuple[int, int] = (12, 20), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def raw_ids(size: tuple[int, int] = (12, 20), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([*RAW_IDS, 0, 4, 255], np.uint8), size)


def png(array: np.ndarray, palette: bool = False, **options: Any) -> bytes:
    image = Image.fromarray(array)
    if palette:
        image = image.convert("P") if image.mode != "L" else image
        image.putpalette(labels.palette())
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue()


def gta5(root: Path, n: int = 4, val: tuple[int, ...] | None = None) -> Path:
    """A GTA5 tree of `n` images under root/gta5."""
    tree = root / "gta5"
    for folder in ("images", "labels"):
        (tree / folder).mkdir(parents=True)
    for i in range(n):
        (tree / f"images/{i:05}.png").write_bytes(png(picture(seed=i)))
        (tree / f"labels/{i:05}.png").write_bytes(png(raw_ids(seed=i), palette=True))
    if val is not None:
        (tree / "splits").mkdir()
        for split, members in (("train", set(range(n)) - set(val)), ("val", val)):
            (tree / f"splits/{split}.txt").write_text("".join(f"{i:05}.png\n" for i in sorted(members)))
    return tree


def cityscapes(root: Path, n: int = 3) -> Path:
    """A Cityscapes tree with two cities of `n` images in train and in val, under root/cityscapes."""
    tree = root / "cityscapes"
    for s, split in enumerate(("train", "val")):
        for c, city in enumerate(("aachen", "bochum")):
            for folder in ("leftImg8bit", "gtFine"):
                (tree / folder / split / city).mkdir(parents=True)
            for i in range(n):
                stem = f"{split}/{city}/{city}_{i:06}_000019"
                seed = 100 * s + 10 * c + i
                (tree / f"leftImg8bit/{stem}_leftImg8bit.png").write_bytes(png(picture(seed=seed)))
                (tree / f"gtFine/{stem}_gtFine_labelIds.png").write_bytes(png(raw_ids(seed=seed)))
    return tree


# --- label maps --------------------------------------------------------------------------


def test_the_tables_are_the_published_map() -> None:
    table = labels.raw_table()
    for raw in range(256):
        expected = RAW_IDS.index(raw) if raw in RAW_IDS else IGNORE if raw < 34 or raw == 255 else labels.UNKNOWN
        assert table[raw] == expected
    assert [CLASSES[k] for k in range(19) if k not in SIXTEEN] == ["terrain", "truck", "train"]
    assert [CLASSES[k] for k in SIXTEEN if k not in THIRTEEN] == ["wall", "fence", "pole"]
    assert [labels.lookup(16)[k] for k in (0, 8, 9, 10, 13, 15, 17, 18)] == [0, 8, IGNORE, 9, 12, 13, 14, 15]
    assert labels.names(16)[9] == "sky"
    assert labels.names(13)[3] == "light"
    with pytest.raises(ConfigError, match="13 classes"):
        labels.lookup(13)


def test_conversion_is_the_loop_over_masks() -> None:
    raw = raw_ids((40, 50))
    slow = np.full(raw.shape, IGNORE, np.uint8)
    for k, i in enumerate(RAW_IDS):
        slow[raw == i] = k
    assert (labels.to_train_ids(raw, labels.raw_table()) == slow).all()
    colours = labels.colourise(slow)
    assert all((colours[slow == k] == COLOURS[k]).all() for k in range(19))
    assert not colours[slow == 255].any()


def test_ignore_is_the_same_everywhere() -> None:
    from diga.types import IGNORE as tensors_ignore

    assert tensors_ignore == IGNORE


# --- reading -----------------------------------------------------------------------------


def test_a_palette_label_gives_indices_not_colours(tmp_path: Path) -> None:
    gta5(tmp_path)
    d = domain("gta5", tmp_path)
    sample = d.samples("train", labelled=True)[2]
    ids = labels.to_train_ids(raw_ids(seed=2), labels.raw_table())
    assert (d.label(sample) == ids).all()
    assert (d.image(sample) == picture(seed=2)).all()
    assert (d.label(sample, 16) == labels.lookup(16)[ids]).all()


def test_cityscapes_pairs_and_stems(tmp_path: Path) -> None:
    cityscapes(tmp_path / "deep")
    d = domain("deep/cityscapes", tmp_path)
    train, val = d.samples("train", labelled=True), d.samples("val", labelled=True)
    assert [s.stem for s in val] == [f"{c}_{i:06}_000019" for c in ("aachen", "bochum") for i in range(3)]
    assert (d.image(train[4]) == picture(seed=11)).all()
    assert (d.label(val[4]) == labels.to_train_ids(raw_ids(seed=111), labels.raw_table())).all()
    assert {s.label for s in d.samples("train", labelled=False)} == {None}
    with pytest.raises(DataError, match="without labels"):
        d.label(d.samples("train", labelled=False)[0])


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_other_modes_are_converted(mode: str) -> None:
    image = Image.fromarray(picture()).convert(mode)
    out = io.BytesIO()
    image.save(out, "PNG")
    assert (decode_image(HERE, out.getvalue()) == np.array(image.convert("RGB"))).all()


def test_modes_that_would_lose_something_are_refused_by_name() -> None:
    glass = np.dstack([picture(), np.full((12, 20), 128, np.uint8)])
    with pytest.raises(DataError, match="RGBA image with transparent"):
        decode_image(HERE, png(glass))
    with pytest.raises(DataError, match="mode I;16"):
        decode_image(HERE, png(np.full((4, 4), 40_000, np.uint16)))
    with pytest.raises(DataError, match="label map of mode RGB "):
        decode_ids(HERE, png(picture()))
    with pytest.raises(DataError, match="I;16"):
        decode_ids(HERE, png(np.full((4, 4), 7, np.uint16)))
    with pytest.raises(DataError, match="1-bit"):
        decode_ids(HERE, png(np.zeros((4, 4), bool)))
    jpeg = io.BytesIO()
    Image.fromarray(raw_ids()).save(jpeg, "JPEG")
    with pytest.raises(DataError, match=r"no image data.*PNG"):
        decode_ids(HERE, jpeg.getvalue())


def grey_of_four_bits() -> bytes:
    """A 2 x 1 PNG of 4-bit grey values 7 and 8: Pillow would multiply them by 17."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 1, 4, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\x78")) + chunk(b"IEND", b"")
    )


def test_four_bit_grey_labels_are_refused_and_four_bit_palettes_read() -> None:
    with pytest.raises(DataError, match="4-bit L"):
        decode_ids(HERE, grey_of_four_bits())
    ids = np.array([[7, 8, 11, 12]], np.uint8)
    assert (decode_ids(HERE, png(ids, palette=True, bits=4)) == ids).all()


def test_one_pixel_and_exif_rotation() -> None:
    assert decode_image(HERE, png(picture((1, 1)))).shape == (1, 1, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees": not applied, or the label would no longer fit
    out = io.BytesIO()
    Image.fromarray(picture()).save(out, "JPEG", exif=exif)
    assert decode_image(HERE, out.getvalue()).shape == (12, 20, 3)


def test_truncated_loading_switched_on_by_another_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ConfigError, match="LOAD_TRUNCATED_IMAGES"):
        decode_image(HERE, png(picture()))


def test_hostile_files_are_refused_quickly(tmp_path: Path) -> None:
    bomb = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(bomb, "PNG")
    begin = time.perf_counter()
    with pytest.raises(DataError, match="pixels"):
        decode_image(HERE, bomb.getvalue())
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="not a regular file"):
        read_bytes(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with pytest.raises(DataError, match=r"loop\.png"):
        read_bytes(tmp_path / "loop.png")
    with pytest.raises(DataError, match="empty file"):
        decode_image(HERE, b"")
    assert time.perf_counter() - begin < 0.5


def test_unknown_ids_are_listed_with_their_pixels(tmp_path: Path) -> None:
    tree = gta5(tmp_path)
    raw = raw_ids()
    raw[0, 0], raw[1, :3] = 77, 99
    (tree / "labels/00001.png").write_bytes(png(raw, palette=True))
    d = domain("gta5", tmp_path)
    with pytest.raises(DataError, match=r"00001\.png: unknown label ids 77 \(1 pixels\), 99 \(3 pixels\)") as found:
        d.label(d.samples("train", labelled=True)[1])
    assert "gta5 map: 0 to 34, 255" in str(found.value)
