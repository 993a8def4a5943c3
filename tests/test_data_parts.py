"""Parts: nested shares of the training images, the same for ever, read once with the whole."""

from __future__ import annotations

import os
import shutil
from fractions import Fraction
from itertools import pairwise
from math import floor
from pathlib import Path

import pytest

from diga.data.domain import domain, existing
from diga.data.manifest import manifest, verify
from diga.data.parts import Part, parted
from diga.errors import ConfigError, DataError
from tests.test_data_manifest import read_files as read_files
from tests.test_data_reading import cityscapes, gta5

CITY = [f"a_{i:06}" for i in range(2975)]


def stems(root: Path, name: str, split: str = "train", labelled: bool = False) -> list[str]:
    return [sample.stem for sample in domain(name, root).samples(split, labelled)]


# --- which images --------------------------------------------------------------------------


def test_the_papers_counts() -> None:
    counts = {n: len(Part(n).of(CITY, "here")) for n in (2, 4, 8, 16)}
    assert counts == {2: 1488, 4: 744, 8: 372, 16: 186}
    assert all(len(Part(n, others=True).of(CITY, "here")) == 2975 - k for n, k in counts.items())


def test_a_part_and_the_others_are_the_whole_and_parts_lie_in_larger_ones() -> None:
    for total in range(2, 40):
        names = [f"{i:03}" for i in range(total)]
        found = {n: Part(n).of(names, "here") for n in range(2, total + 1)}
        for n, part in found.items():
            assert len(part) == floor(Fraction(total, n) + Fraction(1, 2))
            assert sorted(part | Part(n, others=True).of(names, "here")) == names
            assert not part & Part(n, others=True).of(names, "here")
            assert Part(n).of(reversed(names), "here") == part
        assert all(small <= large for large, small in pairwise(found[n] for n in sorted(found)))


def test_the_shuffle_stays() -> None:
    """A labelled sixteenth that changed would change published numbers."""
    assert sorted(Part(4).of([f"{i:02}" for i in range(16)], "here")) == ["02", "03", "10", "11"]
    assert sorted(Part(16).of(CITY, "here"))[:3] == ["a_000046", "a_000049", "a_000060"]


def test_only_training_images_come_in_parts(tmp_path: Path) -> None:
    cityscapes(tmp_path / "deep", n=8)
    whole = stems(tmp_path, "deep/cityscapes")
    some, others = stems(tmp_path, "deep/cityscapes@1/4"), stems(tmp_path, "deep/cityscapes@not-1/4")
    assert some == sorted(Part(4).of(whole, "here"))
    assert sorted(some + others) == whole
    assert stems(tmp_path, "deep/cityscapes@1/4", "val") == stems(tmp_path, "deep/cityscapes", "val")
    found = domain("deep/cityscapes@1/4", tmp_path)
    assert (found.name, found.tree, found.root) == (
        "deep/cityscapes@1/4",
        "deep/cityscapes",
        tmp_path / "deep/cityscapes",
    )
    assert [s.stem for s in found.without(some[:1]).samples("train", labelled=True)] == some[1:]
    assert existing(tmp_path) == ["deep/cityscapes"]


def test_labels_are_asked_for_in_the_part_alone(tmp_path: Path) -> None:
    tree = gta5(tmp_path, 8)
    some = stems(tmp_path, "gta5@1/4")
    for label in (tree / "labels").iterdir():
        if label.stem not in some:
            label.unlink()
    assert stems(tmp_path, "gta5@1/4", labelled=True) == some
    with pytest.raises(DataError, match="6 labels are missing"):
        stems(tmp_path, "gta5@not-1/4", labelled=True)
    assert len(stems(tmp_path, "gta5@not-1/4")) == 6
    (tree / "labels/stray.png").touch()
    with pytest.raises(DataError, match="1 labels have no image"):
        stems(tmp_path, "gta5@1/4", labelled=True)
    shutil.rmtree(tree / "labels")
    assert len(stems(tmp_path, "gta5@1/4")) == 2


# --- names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gta5@1/0", "did you mean 'gta5@1/2'"),
        ("gta5@1/1", "did you mean 'gta5@1/2'"),
        ("gta5@not-1/1", "did you mean 'gta5@not-1/2'"),
        ("gta5@2/16", "did you mean 'gta5@1/8'"),
        ("gta5@15/16", "did you mean 'gta5@not-1/16'"),
        ("gta5@0/16", "did you mean 'gta5@1/16'"),
        ("gta5@1/016", "did you mean 'gta5@1/16'"),
        ("gta5@ 1/16", "did you mean 'gta5@1/16'"),
        ("gta5@1 / 16", "did you mean 'gta5@1/16'"),
        ("gta5@1/16\n", "did you mean 'gta5@1/16'"),
        ("gta5@1/16@1/2", "did you mean"),
        ("gta5@not 1/16", "did you mean 'gta5@not-1/16'"),
        ("gta5@16", "did you mean 'gta5@1/16'"),
        ("gta5@-1/16", "did you mean 'gta5@1/16'"),
        ("gta5@1/٣", "did you mean 'gta5@1/2'"),
        ("gta5@1/" + "9" * 5000, "did you mean"),
        ("gta5@", "a part such as 'gta5@1/16' or 'gta5@not-1/16'"),
        ("gta5@half", "a part such as"),
        ("gta@1/2", "'gta' is no layout .did you mean 'gta5'"),
        ("gta5 @1/2", "'gta5 ' is no layout"),
        ("@1/2", "no domain"),
    ],
)
def test_a_malformed_name_is_answered_with_the_nearest(tmp_path: Path, name: str, says: str) -> None:
    gta5(tmp_path, 2)
    with pytest.raises(ConfigError, match=says) as found:
        domain(name, tmp_path)
    if near := str(found.value).partition("did you mean '")[2].partition("'")[0]:
        assert near == "gta5" or parted(near)[1]  # what is proposed can be meant


def test_names_come_back() -> None:
    for name in ("streets/cityscapes@1/16", "a/gta5@not-1/2", "gta5@1/100000"):
        path, part = parted(name)
        assert f"{path}@{part}" == name
    assert parted("a/gta5") == ("a/gta5", None)


def test_a_folder_may_have_the_mark_in_its_name(tmp_path: Path) -> None:
    gta5(tmp_path / "me@home", 4)
    assert domain("me@home/gta5", tmp_path).part is None
    assert existing(tmp_path) == ["me@home/gta5"]


def test_more_parts_than_images_is_said_before_a_file_is_read(tmp_path: Path, read_files: list[str]) -> None:
    tree = gta5(tmp_path, 3)
    for file in (tree / "images").iterdir():
        file.unlink()
        os.mkfifo(file)  # opening it would hang for ever
    with pytest.raises(DataError, match=r"gta5@1/4/train: 3 training images, 4 parts .*1/3 at most"):
        manifest(domain("gta5@1/4", tmp_path), "train", labelled=True)
    assert not read_files


# --- manifests -----------------------------------------------------------------------------


def test_a_part_is_in_the_cache_of_the_whole(tmp_path: Path, read_files: list[str]) -> None:
    cityscapes(tmp_path, n=4)
    cache = tmp_path / "cache"

    def digest(name: str, labelled: bool = True) -> str:
        return manifest(domain(name, tmp_path), "train", labelled, cache=cache).digest

    parts = ("cityscapes@1/4", "cityscapes@not-1/4", "cityscapes@1/2", "cityscapes@not-1/2")
    slow = {name: manifest(domain(name, tmp_path), "train", labelled=True).digest for name in ("cityscapes", *parts)}
    assert len(set(slow.values())) == 5
    read_files.clear()
    assert digest("cityscapes") == slow["cityscapes"]
    assert len(read_files) == 16
    read_files.clear()
    assert {name: digest(name) for name in slow} == slow
    assert read_files == []
    assert [p.name for p in cache.iterdir()] == ["cityscapes.train.labelled.parquet"]
    digest("cityscapes@1/4", labelled=False)
    assert len(read_files) == 2, "labels stay closed, and so does their cache"


def test_parts_fill_the_cache_of_the_whole(tmp_path: Path, read_files: list[str]) -> None:
    tree, cache = gta5(tmp_path, 8), tmp_path / "cache"
    for name, files in (("gta5@1/4", 4), ("gta5@1/2", 4), ("gta5@1/4", 0), ("gta5@not-1/2", 8), ("gta5", 0)):
        read_files.clear()
        part = manifest(domain(name, tmp_path), "train", labelled=True, cache=cache)
        assert len(read_files) == files, name
        assert part.digest == manifest(domain(name, tmp_path), "train", labelled=True).digest
        verify(domain(name, tmp_path), "train", True, part)
    for folder in ("images", "labels"):
        (tree / folder / "00000.png").unlink()
    whole = manifest(domain("gta5", tmp_path), "train", labelled=True, cache=cache)
    assert len(whole) == 7
    assert whole.digest == manifest(domain("gta5", tmp_path), "train", labelled=True).digest


def test_validation_has_one_digest(tmp_path: Path) -> None:
    cityscapes(tmp_path)
    names = ("cityscapes", "cityscapes@1/2", "cityscapes@not-1/3")
    assert len({manifest(domain(name, tmp_path), "val", labelled=True).digest for name in names}) == 1
