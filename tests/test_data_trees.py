"""Trees: splits, pairs and names, and where data is looked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diga.data import LAYOUTS
from diga.data.domain import domain, existing
from diga.errors import ConfigError, DataError
from diga.home import data_root, home
from tests.test_data_reading import cityscapes, gta5, picture, png


def test_gta5_lists_make_the_splits(tmp_path: Path) -> None:
    tree = gta5(tmp_path, 5, val=(1, 3))
    d = domain("gta5", tmp_path)
    assert [s.stem for s in d.samples("train", labelled=True)] == ["00000", "00002", "00004"]
    assert [s.stem for s in d.samples("val", labelled=True)] == ["00001", "00003"]
    (tree / "splits/train.txt").unlink()  # a val list alone: train is the rest, never what is scored
    assert [s.stem for s in d.samples("train", labelled=True)] == ["00000", "00002", "00004"]
    (tree / "splits/val.txt").unlink()
    assert len(d.samples("train", labelled=True)) == 5
    with pytest.raises(DataError, match=r"val\.txt: no such list"):
        d.samples("val", labelled=True)
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        d.samples("trian", labelled=True)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("00000.png\n00009.png\n", "1 of 2 images .* missing: 00009.png"),
        ("00000.png\n00000.png\n", "listed more than once"),
        ("../00000.png\n", "file names of the images folder"),
        ("\n", "0 images listed"),
    ],
)
def test_a_wrong_list_is_named(tmp_path: Path, content: str, says: str) -> None:
    tree = gta5(tmp_path, 3, val=(1,))
    (tree / "splits/train.txt").write_text(content)
    with pytest.raises(DataError, match=says):
        domain("gta5", tmp_path).samples("train", labelled=True)


def test_missing_partners_are_named(tmp_path: Path) -> None:
    tree = gta5(tmp_path, 3)
    d = domain("gta5", tmp_path)
    os.rename(tree / "labels/00001.png", tree / "labels/kept")
    with pytest.raises(DataError, match=r"1 labels are missing: labels/00001\.png"):
        d.samples("train", labelled=True)
    assert len(d.samples("train", labelled=False)) == 3
    os.rename(tree / "labels/kept", tree / "labels/00001.png")
    (tree / "images/00002.png").unlink()
    with pytest.raises(DataError, match=r"1 labels have no image: labels/00002\.png"):
        d.samples("train", labelled=True)


def test_case_and_twins_are_named(tmp_path: Path) -> None:
    tree = cityscapes(tmp_path)
    d = domain("cityscapes", tmp_path)
    here = tree / "leftImg8bit/train"
    twin = here / "bochum/AACHEN_000001_000019_leftImg8bit.png"
    twin.write_bytes(png(picture()))
    with pytest.raises(DataError, match="has the stem of"):
        d.samples("train", labelled=False)
    os.rename(twin, twin.with_name("x_leftimg8bit.PNG"))
    with pytest.raises(DataError, match="upper and lower case"):
        d.samples("train", labelled=False)


def test_empty_and_missing_trees(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder.*known: none"):
        domain("gta5", tmp_path)
    (tmp_path / "gta5/images").mkdir(parents=True)
    (tmp_path / "streets/cityscapes/leftImg8bit/train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"gta5/images: 0 files match \*\.png"):
        domain("gta5", tmp_path).samples("train", labelled=False)
    with pytest.raises(DataError, match=r"train: 0 files match \*/\*_leftImg8bit\.png"):
        domain("streets/cityscapes", tmp_path).samples("train", labelled=False)
    with pytest.raises(DataError, match=r"leftImg8bit/val: No such file"):
        domain("streets/cityscapes", tmp_path).samples("val", labelled=False)
    assert existing(tmp_path) == ["gta5", "streets/cityscapes"]
    with pytest.raises(DataError, match="did you mean 'streets/cityscapes'"):
        domain("street/cityscapes", tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'cityscapes'"):
        domain("streets/cityscape", tmp_path)
    for name in ("", "/gta5", "../gta5", "a//gta5", "gta5/"):
        with pytest.raises(ConfigError, match="no domain"):
            domain(name, tmp_path)


def test_left_out_samples_are_not_listed(tmp_path: Path) -> None:
    gta5(tmp_path, 3)
    d = domain("gta5", tmp_path).without(["00001"])
    assert [s.stem for s in d.samples("train", labelled=True)] == ["00000", "00002"]
    with pytest.raises(DataError, match="0 images are left"):
        d.without(["00000", "00002"]).samples("train", labelled=True)


def test_home_and_data_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DIGA_HOME", raising=False)
    monkeypatch.delenv("DIGA_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert home() == tmp_path / "diga-home"
    assert data_root() == tmp_path / "diga-home/data"
    monkeypatch.setenv("DIGA_HOME", "elsewhere")
    assert data_root() == tmp_path / "elsewhere/data"
    monkeypatch.setenv("DIGA_DATA", str(tmp_path / "sets"))
    gta5(tmp_path / "sets", 1)
    assert domain("gta5").root == tmp_path / "sets/gta5"


def test_the_data_floor_is_read_without_torch() -> None:
    floor = "diga.data, diga.data.manifest, diga.data.geometry, diga.data.parts, diga.data.shelf, diga.home"
    code = f"import {floor}, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True)


def test_every_layout_is_registered_under_its_name() -> None:
    assert all(name == layout.name for name, layout in LAYOUTS.items())
