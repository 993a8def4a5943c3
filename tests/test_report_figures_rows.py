"""Which rows figures show: the first and the best always, and captions name what is not there, and whose it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diga.data.labels import palette
from diga.report import build, evidence, figures
from diga.report.evidence import Evidence
from diga.report.figures import canvas, classes, curves, pictures
from diga.report.records import Records, client, records
from tests import make_records as make

SCORES = {"a": 0.40, "b": 0.42, "c": 0.55, "d": 0.43, "e": 0.44, "f": 0.45, "g": 0.46, "h": 0.47}
SHOWN = ["a", "c", "d", "e", "g", "h"]  # evenly it would be b, not c, the best
NOT_SHOWN = " Not shown: b; f."


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """Eight rows, and labels of the target that three of them left."""
    folder = tmp_path_factory.mktemp("rows")
    rows = [(label, "a" if label != "a" else "", score) for label, score in SCORES.items()]
    uri = make.recorded(make.study("rows", rows, [1, 2], tables=[]), folder, pictures=1)
    found = records(uri, "rows")
    for row in "ach":
        (folder / row).mkdir()
        for kind in ("input", "warm", "feature"):
            label = Image.fromarray(np.full((32, 64), ord(row) % 19, np.uint8))
            label.putpalette(palette())
            (label.convert("RGB") if kind == "input" else label).save(folder / row / f"x.{kind}.png")
        client(uri).log_artifacts(found.run_of[row, 1], str(folder / row), "samples/labels")
    return found


@pytest.fixture(scope="module")
def found(known: Records, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """What a report of them keeps."""

    def draw(_: Records, __: Evidence, folder: Path) -> tuple[list[figures.Figure], dict[str, str]]:
        folder.mkdir()
        return [], {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "draw", draw)
        return evidence.load(build.write(known, tmp_path_factory.mktemp("out")) / evidence.NAME)


def test_the_best_row_is_among_those_that_are_shown(known: Records, found: Evidence) -> None:
    assert canvas.subject(known) == ("c", "a")
    assert list(found.rows) == list(found.samples[0].maps) == list(found.confusions) == SHOWN


@pytest.mark.slow
def test_captions_say_which_rows_are_not_shown(known: Records, found: Evidence, tmp_path: Path) -> None:
    for figure in (pictures.samples, curves.losses, curves.snapshots, curves.by_class):
        assert figure(known, found, tmp_path / "x").endswith(f".{NOT_SHOWN}"), figure
    assert "seed 1." in pictures.samples(known, found, tmp_path / "x")
    assert pictures.changes(known, found, tmp_path / "x").startswith("What c wins")
    whole = make.replace(found.samples[0], maps=dict.fromkeys(SCORES, found.samples[0].maps["a"]))
    assert "Not shown" not in pictures.samples(known, make.replace(found, samples=(whole,)), tmp_path / "x")


def test_confusions_are_of_the_best_row_that_has_some(known: Records, found: Evidence, tmp_path: Path) -> None:
    said = classes.confusion(known, found, tmp_path / "x")
    assert "no image has: c. Right: that less a, in points." in said
    fewer = make.replace(found, confusions={r: c for r, c in found.confusions.items() if r in "aeg"})
    said = classes.confusion(known, fewer, tmp_path / "x")
    assert "no image has: g. Right: that less a, in points. Better, without confusion.parquet: c; h." in said


def test_labels_are_those_of_the_best_row(known: Records, found: Evidence, tmp_path: Path) -> None:
    """And of another, the last that left some, where that has none."""

    def classes_of(labels: evidence.Sample) -> set[int]:
        return {int(v) for path in labels.maps.values() for v in np.unique(pictures.label_of(path))}

    (labels,) = found.labels
    assert found.labels_of == "c"
    assert ", of c, seed 1; orange" in pictures.labels(known, found, tmp_path / "x")
    assert classes_of(labels) == {ord("c") % 19}
    for of, expected in (("b", "h"), ("", "h"), ("a", "a")):
        folder = tmp_path / f"evidence-{of}"
        evidence.gather(known, make.DOMAIN, SHOWN, folder, of)
        other = evidence.load(folder)
        assert other.labels_of == expected
        assert classes_of(other.labels[0]) == {ord(expected) % 19}


# --- lines and panels --------------------------------------------------------------------


def shared(stages: dict[str, dict[str, str]], losses: int = 1) -> Evidence:
    """Stage runs by stage and row, each of which told so many losses at two steps."""
    lines = [(row, 0, stage, run) for stage, rows in stages.items() for row, run in rows.items()]
    runs = dict.fromkeys(run for *_, run in lines)
    told = [(run, t, f"loss/{k}", 1.0) for run in runs for t in (0, 1) for k in range(losses)]
    frames = {"stages": lines, "curves": told}
    return Evidence(**{k: make.DataFrame(v, columns=list(evidence.COLUMNS[k])) for k, v in frames.items()})


def test_a_line_of_all_that_have_its_stage_is_not_called_all_rows() -> None:
    found = shared(
        {
            "warm_up": dict.fromkeys("abc", "w"),
            "cut_2": dict.fromkeys("bc", "x"),
            "end": {"a": "p", "b": "q", "c": "q"},
            "only": {"c": "y"},
        }
    )
    assert [line.label for line in curves.lines(found, "warm_up")] == ["all rows"]
    assert [line.label for line in curves.lines(found, "cut_2")] == ["all rows with it"]
    assert [line.label for line in curves.lines(found, "end")] == ["a", "b and 1 more"]
    assert [line.label for line in curves.lines(found, "only")] == ["c"]
    looks = [curves._look(found, line) for stage in found.made_of for line in curves.lines(found, stage)]
    assert looks[:2] == [(canvas.INK, "-"), (canvas.INK, "--")]
    assert canvas.INK not in [colour for colour, _ in looks[2:]]


def test_panels_that_have_no_room_are_named(known: Records, tmp_path: Path) -> None:
    found = shared({"warm_up": dict.fromkeys("abc", "w"), "end": {"a": "p"}}, losses=6)
    said = curves.losses(known, found, tmp_path / "x")
    assert "The first 9 of 12 losses: without warm_up 3, warm_up 4, warm_up 5." in said
    assert "The first" not in curves.losses(known, shared({"end": {"a": "p"}}, losses=9), tmp_path / "x")
