"""Figures: what is drawn is what is recorded, in the colours of its classes, and what is not drawn says why."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from diga.data.labels import COLOURS, IGNORE, palette
from diga.report import evidence, figures
from diga.report.build import spread
from diga.report.evidence import Evidence, Sample
from diga.report.figures import canvas, classes, curves, pictures, study
from diga.report.records import Records, records
from tests import make_records as make

ROWS = ["Source-only", "(ii)", "(iv)"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Records:
    return records(make.recorded(make.ladder(), tmp_path_factory.mktemp("demo"), pictures=2), "demo")


@pytest.fixture(scope="module")
def kept(demo: Records, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept") / "evidence"
    evidence.gather(demo, make.DOMAIN, ROWS, folder)
    return folder


@pytest.fixture(scope="module")
def found(kept: Path) -> Evidence:
    return evidence.load(kept)


# --- evidence ----------------------------------------------------------------------------


def test_evidence_is_what_the_runs_left(found: Evidence) -> None:
    assert list(found.confusions) == ROWS
    assert found.classes == 19
    assert [s.stem for s in found.samples] == ["city_0", "city_1"]
    assert list(found.samples[0].maps) == ROWS
    assert set(found.stages["row"]) == set(ROWS)
    assert found.stages.groupby("stage")["fingerprint"].nunique().to_dict() == {"score": 9, "train": 3}
    assert "lr" not in set(found.curves["name"])
    assert found.features == {}


def test_counts_are_summed_over_images_and_seeds(demo: Records, found: Evidence, tmp_path: Path) -> None:
    total = np.zeros((19, 19), np.int64)
    for i, run in enumerate(demo.done[demo.done["row"] == "(iv)"]["run_id"]):
        here = demo.artifact(run, "confusion.parquet", tmp_path / str(i))
        assert here is not None
        for counts in pd.read_parquet(here)["counts"]:
            total += np.asarray(counts).reshape(19, 19)
    assert np.array_equal(found.confusions["(iv)"], total)


def test_a_curve_is_thinned_but_for_its_end(tmp_path: Path) -> None:
    lines = [{"step": t, "values": {"loss/source": 1.0, "other": 2.0, "loss/bad": float("nan")}} for t in range(1001)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    told = list(evidence._told("f", tmp_path / "metrics.jsonl"))
    losses = [step for _, step, name, _ in told if name == "loss/source"]
    assert len(losses) <= evidence.POINTS + 1
    assert (losses[0], losses[-1]) == (0, 1000)
    assert sum(name == "other" for _, _, name, _ in told) == 1001
    assert not any(name == "loss/bad" for _, _, name, _ in told)


def test_records_read_back_bring_their_folder(demo: Records, kept: Path, tmp_path: Path) -> None:
    again = make.replace(demo, folder=kept.parent, uri="sqlite:///nowhere.db")
    evidence.gather(again, make.DOMAIN, ROWS, tmp_path / "evidence")
    same = [p.relative_to(kept) for p in kept.rglob("*") if p.is_file()]
    assert len(same) > 10
    assert all((tmp_path / "evidence" / p).read_bytes() == (kept / p).read_bytes() for p in same)


def test_without_a_store_there_is_no_evidence(tmp_path: Path) -> None:
    evidence.gather(make.in_memory(make.ladder()), make.DOMAIN, ROWS, tmp_path / "evidence")
    assert evidence.load(tmp_path / "evidence").samples == ()
    evidence.gather(make.in_memory(make.replace(make.ladder(), cells=())), make.DOMAIN, [], tmp_path / "none")


# --- which are drawn ---------------------------------------------------------------------


def test_each_figure_is_a_picture_and_a_page(demo: Records, found: Evidence, tmp_path: Path) -> None:
    drawn, missing = figures.draw(demo, found, tmp_path)
    assert {f.name for f in drawn} | {p.name for p in figures.PARTS if p.title in missing} == {
        p.name for p in figures.PARTS
    }
    assert set(missing) == {"Labels of the target", "Chosen without labels", "Labels, side by side", "Features"}
    for figure in drawn:
        with Image.open(tmp_path / f"{figure.name}.png") as opened:
            opened.load()
            assert min(opened.size) > 200
        assert (tmp_path / f"{figure.name}.pdf").read_bytes().startswith(b"%PDF-")
        assert figure.caption.endswith(".")


def test_a_figure_is_the_same_to_the_byte(demo: Records, found: Evidence, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for part in figures.PARTS[:4]:
            part.drawn(demo, found, tmp_path / folder / part.name)
    assert len(list((tmp_path / "a").iterdir())) == 8
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    empty = make.in_memory(make.replace(make.ladder(), cells=()))
    drawn, missing = figures.draw(empty, Evidence(), tmp_path)
    assert drawn == []
    assert len(missing) == len(figures.PARTS)
    assert list(tmp_path.iterdir()) == []


def test_one_cell_is_enough_for_a_ladder(tmp_path: Path) -> None:
    known = make.in_memory(make.ladder().changed(lambda c: c if (c.index, c.seed) == (2, 1) else None))
    drawn, _ = figures.draw(known, Evidence(), tmp_path)
    assert [f.name for f in drawn] == ["ladder"]


@pytest.mark.parametrize("spec", [make.table4, make.table5, make.table6, make.table7, make.quirks, make.controls])
def test_every_study_has_its_figures(spec: object, tmp_path: Path) -> None:
    drawn, _ = figures.draw(make.in_memory(spec()), Evidence(), tmp_path)  # type: ignore[operator]
    expected = {"ladder", "deltas", "label_free"} | ({"labels"} if spec is make.table5 else set())
    assert {f.name for f in drawn} == expected


def test_rows_of_a_figure_are_spread_evenly() -> None:
    assert spread("abc", 6) == ["a", "b", "c"]
    assert spread("abcdefghijk", 6) == ["a", "c", "e", "g", "i", "k"]
    for best in "abcdefghijk":
        rows = spread("abcdefghijk", 6, best)
        assert {"a", "k", best} <= set(rows)
        assert sorted(set(rows)) == rows
        assert len(rows) == 6


# --- what is in them ---------------------------------------------------------------------


def test_the_best_row_stands_against_the_first() -> None:
    assert canvas.subject(make.in_memory(make.ladder())) == ("(iv)", "Source-only")
    alone = make.in_memory(make.ladder().changed(lambda c: c if c.index == 0 else None))
    assert canvas.subject(alone) is None


@pytest.mark.parametrize("flat", [False, True])
def test_a_ladder_has_a_line_and_other_studies_have_heights(flat: bool) -> None:
    plotted: list[tuple[list[float], list[float]]] = []
    axes = SimpleNamespace(plot=lambda x, y, **_: plotted.append((list(y if flat else x), list(x if flat else y))))
    means = [float(i) for i in range(6)]
    assert study._links(axes, make.in_memory(make.quirks()), means, flat)  # type: ignore[arg-type]
    assert [y for _, y in plotted] == [[0.0, 0.0]] * 5
    plotted.clear()
    assert not study._links(axes, make.in_memory(make.ladder()), means, flat)  # type: ignore[arg-type]
    assert [y for _, y in plotted] == [[float(i), i + 1.0] for i in range(5)]


def test_many_rows_stand_below_each_other(tmp_path: Path) -> None:
    known = make.in_memory(make.table7())
    assert len(known.rows) == 12 > study.BESIDE
    assert study.ladder(known, Evidence(), tmp_path / "ladder")
    with Image.open(tmp_path / "ladder.png") as opened:
        assert opened.size[0] == round(7.2 * canvas.DPI)


def test_an_interval_of_two_seeds_does_not_make_the_frame() -> None:
    low, high = canvas.frame([1.0, 2.0], [(-50.0, 50.0, 2), (0.5, 2.5, 3)])
    assert (low, high) == pytest.approx((0.34, 2.66))
    assert canvas.frame([3.0], []) == (2.0, 4.0)


def test_differences_are_paired_by_seed() -> None:
    known = make.in_memory(make.ladder().changed(lambda c: None if (c.index, c.seed) == (1, 0) else c))
    metric = f"{make.DOMAIN}/plain/last/miou"
    slow = [100 * (make.score(1, s) - make.score(0, s)) for s in (1, 2)]
    assert canvas.differences(known, "+ MST", "Source-only", metric) == pytest.approx(slow)


def test_colours_are_told_apart_without_colour() -> None:
    looks = list(canvas.colours_of([str(i) for i in range(12)]).values())
    assert len(set(looks)) == 12
    assert len({marker for _, marker in looks[:6]}) == 6


def test_a_line_is_what_rows_share(found: Evidence) -> None:
    assert [line.label for line in curves.lines(found, "train")] == ["all rows"]
    assert [line.label for line in curves.lines(found, "score")] == ROWS


def test_a_band_is_mean_and_deviation_over_seeds(found: Evidence) -> None:
    (line,) = curves.lines(found, "train")
    band = curves.band(found, line, "loss/source")
    assert band is not None
    assert (band.n, list(band.steps[:3])) == (3, [0, 1, 2])
    assert band.mean[0] == pytest.approx(2 + 0.1)
    assert band.sd == pytest.approx(np.full(80, 0.1))
    assert curves.band(found, line, "loss/none") is None


def test_shares_of_a_class_that_is_not_there_are_none() -> None:
    shares = classes._shares(np.array([[3, 1], [0, 0]]))
    assert shares[0].tolist() == [75, 25]
    assert np.isnan(shares[1]).all()


def test_what_changed_is_what_one_row_wins() -> None:
    truth = np.array([[0, 0, 0, 0, IGNORE]], np.uint8)
    before, after = np.array([[0, 0, 1, 1, 0]], np.uint8), np.array([[0, 1, 0, 1, 1]], np.uint8)
    seen = [tuple(int(v) for v in pixel) for pixel in pictures.verdict(truth, before, after)[0]]
    assert seen == [pictures.RIGHT, pictures.LOST, pictures.GAINED, pictures.WRONG, pictures.RIGHT]


def test_where_labels_disagree() -> None:
    one, other = np.array([[1, 1, IGNORE, IGNORE]], np.uint8), np.array([[1, 2, 3, IGNORE]], np.uint8)
    seen = [tuple(int(v) for v in pixel) for pixel in pictures.apart(one, other)[0]]
    assert seen == [pictures.RIGHT, pictures.LOST, pictures.WRONG, pictures.RIGHT]


def test_names_of_images_tell_them_apart() -> None:
    assert pictures._told_apart(["aachen_000000_000019", "bonn_000000_000019"]) == ["aachen", "bonn"]
    assert pictures._told_apart(["city_0", "city_1"]) == ["city_0", "city_1"]
    assert pictures._told_apart(["a_1"]) == ["a_1"]
    assert pictures._told_apart(["a_1", "1"]) == ["a_1", "1"]


def test_the_grid_has_every_prediction_in_its_colours(demo: Records, found: Evidence, tmp_path: Path) -> None:
    assert pictures.samples(demo, found, tmp_path / "grid")
    with Image.open(tmp_path / "grid.png") as opened:
        picture = np.asarray(opened.convert("RGB"))
    step, down = pictures.PANEL + pictures.GAP, pictures.PANEL // 2
    assert picture.shape[1] == pictures.LEFT + 5 * step
    for y in range(2):
        line = picture[pictures.TOP + y * (down + pictures.GAP) :][:down]
        truth, first, last = (line[:, pictures.LEFT + k * step :][:, : pictures.PANEL] for k in (1, 2, 4))
        assert tuple(truth[5, -5]) == COLOURS[10]
        assert tuple(truth[-3, 100]) == (0, 0, 0)
        assert (last == truth).mean() > (first == truth).mean() > 0.4


def test_sixteen_classes_have_their_own_colours_and_names(demo: Records, found: Evidence, tmp_path: Path) -> None:
    """Compact id 9 of sixteen is sky, which is id 10 of nineteen."""
    sixteen = make.replace(found, confusions={row: np.ones((16, 16), np.int64) for row in ROWS})
    assert sixteen.classes == 16
    image = Image.fromarray(np.full((64, 128), 9, np.uint8))
    image.putpalette(palette(16))
    image.save(tmp_path / "label.png")
    image.convert("RGB").save(tmp_path / "photo.png")
    sample = Sample("x", tmp_path / "photo.png", tmp_path / "label.png", dict.fromkeys(ROWS, tmp_path / "label.png"))
    assert pictures.samples(demo, make.replace(sixteen, samples=(sample,)), tmp_path / "grid")
    with Image.open(tmp_path / "grid.png") as opened:
        picture = np.asarray(opened.convert("RGB"))
    at = pictures.LEFT + pictures.PANEL + pictures.GAP
    assert tuple(picture[pictures.TOP + 20, at + 20]) == COLOURS[10]
    assert list(pictures._class_legend({9}, 16)) == ["sky"]
    assert classes.confusion(demo, sixteen, tmp_path / "confusion")


def about(folder: Path, **more: object) -> None:
    """What `gather` says of a folder."""
    (folder / evidence.ABOUT).write_text(json.dumps({"rows": ROWS, "seed": 1} | more))


# --- what few runs leave ---------------------------------------------------------------------


def test_labels_are_drawn_where_they_are_recorded(demo: Records, tmp_path: Path) -> None:
    folder = tmp_path / "evidence" / "labels"
    folder.mkdir(parents=True)
    for name in ("input", "truth", "warm", "feature", "consensus"):
        label = Image.fromarray(np.full((32, 64), len(name), np.uint8))
        label.putpalette(palette())
        (label.convert("RGB") if name == "input" else label).save(folder / f"a[b.{name}.png")
    assert evidence.load(tmp_path / "evidence").labels == (), "of an older layout: nobody knows whose they are"
    about(tmp_path / "evidence", labels_of="(ii)")
    (sample,) = evidence.load(tmp_path / "evidence").labels
    assert (sample.stem, set(sample.maps)) == ("a[b", {"warm", "feature", "consensus"})
    found = evidence.load(tmp_path / "evidence")
    assert "of (ii), seed 1; orange" in pictures.labels(demo, found, tmp_path / "labels")
    assert "warm and feature name different classes" in pictures.labels(demo, found, tmp_path / "labels")


def test_features_are_placed_where_they_are_recorded(demo: Records, tmp_path: Path) -> None:
    """Of the first and the best row that have some."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "domain": ["streets/gta5", "streets/cityscapes"] * 20,
            "class": [k % 4 for k in range(40)],
            "vector": [(rng.standard_normal(8) + k % 4).tolist() for k in range(40)],
        }
    )
    (tmp_path / "evidence/features").mkdir(parents=True)
    about(tmp_path / "evidence")
    part = next(p for p in figures.PARTS if p.name == "features")
    for place, said in ((2, "of 40 cells"), (0, "of 40 and 40 cells")):
        table.to_parquet(tmp_path / f"evidence/features/{place}.parquet")
        found = evidence.load(tmp_path / "evidence")
        caption = part.drawn(demo, found, tmp_path / "features")
        assert said in caption
        assert "Seed 1. Not shown: " in caption
    assert list(found.features) == [ROWS[0], ROWS[2]]
    assert (tmp_path / "features.pdf").is_file()
