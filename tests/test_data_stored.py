"""What earlier stages stored travels with its image; rows of a batch come at their sizes, through their gate."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diga.data import geometry
from diga.data.domain import domain
from diga.data.streams import PairStream, check_stems, index, loader
from diga.errors import ConfigError, DataError
from diga.settings import Frames, Size
from tests.test_data_geometry import slow_cells, slow_rich
from tests.test_data_reading import cityscapes, gta5, picture, png
from tests.test_data_streams import same

torch.set_num_threads(1)
BOTH = frozenset({"confidence", "probabilities"})
SIZES = Frames(sizes=(Size(images=1, height=10, width=16), Size(images=3, height=14, width=24)), scale=(0.7, 1.1))
HOW: dict[str, Any] = {"crop": (8, 12), "batch": 4, "seed": 3, "source_frames": SIZES, "target_frames": SIZES}


def npy(array: np.ndarray, **options: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


def soft_of(stem: str, grid: tuple[int, int] = (6, 10)) -> np.ndarray:
    return np.random.default_rng(sum(map(ord, stem))).dirichlet(np.ones(19), grid).transpose(2, 0, 1).astype(np.float16)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels, thirteen times the label as confidence, a grid of half the size, paintings with blue for red."""
    root = tmp_path_factory.mktemp("stored")
    gta5(root, 5)
    cityscapes(root)
    for kind in ("labels", "confidence", "probabilities", "paintings"):
        (root / "stage" / kind).mkdir(parents=True)
    target, source = domain("cityscapes", root), domain("gta5", root)
    for sample in target.samples("train", labelled=True):
        ids = target.label(sample)
        (root / f"stage/labels/{sample.stem}.png").write_bytes(png(ids))
        (root / f"stage/confidence/{sample.stem}.png").write_bytes(png(np.minimum(ids, 18) * 13))
        (root / f"stage/probabilities/{sample.stem}.npy").write_bytes(npy(soft_of(sample.stem)))
    for sample in source.samples("train", labelled=False):
        painted = np.ascontiguousarray(source.image(sample)[..., ::-1])
        (root / f"stage/paintings/{sample.stem}.png").write_bytes(png(painted))
    return root


def stream(root: Path, stored: Path | None = None, **changes: Any) -> PairStream:
    stage = stored or root / "stage"
    given: dict[str, Any] = {"guesses": stage, "asks": BOTH, "paintings": stage / "paintings"} | changes
    return PairStream([domain("gta5", root)], [domain("cityscapes", root)], **(HOW | given))


# --- frames --------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", [False, True])
def test_rows_come_at_their_sizes_and_through_the_gate(root: Path, gate: bool) -> None:
    """Every draw and every file once more, by hand."""
    s = stream(root, source_frames=SIZES.model_copy(update={"gate": gate}))
    heights, tries = ((10, 16), (14, 24), (14, 24), (14, 24)), []
    for t in range(6):
        pair = s[t]
        for row, size in enumerate(heights):
            d, sample = s.sources[index(3, "source", 4 * t + row, 5)]
            chance = np.random.default_rng((3, 1, t, row))
            drawn = [geometry.draw(size, (8, 12), (0.7, 1.1), 0.5, chance) for _ in range(5 if gate else 1)]
            good = [slow_rich(view.label(d.label(sample))) for view in drawn]
            n = good.index(True) if any(good) else len(drawn) - 1
            tries.append(n)
            assert pair.source.label[row].tolist() == drawn[n].label(d.label(sample)).tolist()
            image = (pair.source.image[row].permute(1, 2, 0) * 255).round().int().numpy()
            assert (image == drawn[n].image(d.image(sample))).all()
            d, sample = s.targets[index(3, "target", 4 * t + row, 6)]
            view = geometry.draw(size, (8, 12), (0.7, 1.1), 0.5, np.random.default_rng((3, 2, t, row)))
            image = (pair.target[row].permute(1, 2, 0) * 255).round().int().numpy()
            assert (image == view.image(d.image(sample))).all()
    assert len(tries) == 24


def test_a_gate_that_opens_changes_source_rows_alone(root: Path, tmp_path: Path) -> None:
    """Images of one class in a half: crops of that half alone are drawn again, all else stays."""
    tree = gta5(tmp_path, 4)
    for label in (tree / "labels").iterdir():
        ids = np.full((12, 20), 7, np.uint8)
        ids[:, 12:] = 11
        label.write_bytes(png(ids, palette=True))
    cityscapes(tmp_path)
    rows = {"closed": (0, 0), "open": (0, 0)}
    streams_of = {
        name: stream(
            tmp_path, guesses=None, asks=frozenset(), paintings=None, source_frames=Frames(gate=g), crop=(6, 8)
        )
        for name, g in (("closed", False), ("open", True))
    }
    for t in range(20):
        pairs = {name: s[t] for name, s in streams_of.items()}
        assert torch.equal(pairs["open"].target, pairs["closed"].target)
        for row in range(4):
            if slow_rich(pairs["closed"].source.label[row].numpy()):
                assert torch.equal(pairs["open"].source.image[row], pairs["closed"].source.image[row])
        for name, pair in pairs.items():
            rich = sum(slow_rich(label.numpy()) for label in pair.source.label)
            rows[name] = (rows[name][0] + rich, rows[name][1] + 4)
    assert rows["closed"][0] < 70
    assert rows["open"][0] > 75


def test_workers_together_see_what_one_sees(root: Path) -> None:
    gated = SIZES.model_copy(update={"gate": True})
    one = stream(root, source_frames=gated)
    parts = [stream(root, source_frames=gated, rank=r, world=4) for r in range(4)]
    for t in (0, 7):
        whole, pairs = one[t], [p[t] for p in parts]
        assert whole.guess is not None
        assert torch.equal(whole.source.painted, torch.cat([p.source.painted for p in pairs]))
        assert torch.equal(whole.source.label, torch.cat([p.source.label for p in pairs]))
        for name in whole.guess._fields:
            assert torch.equal(getattr(whole.guess, name), torch.cat([getattr(p.guess, name) for p in pairs]))
    found = list(loader(one, 2, 5, workers=2))
    assert all(same(pair, one[t]) for pair, t in zip(found, range(2, 5), strict=True))


def test_sizes_must_make_a_batch(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"source_frames\.sizes: 4 images in the sizes, 6 in a batch"):
        stream(root, batch=6)
    with pytest.raises(ConfigError, match=r"target_frames\.gate"):
        stream(root, target_frames=Frames(gate=True))


# --- companions ----------------------------------------------------------------------------


def test_all_that_is_stored_moves_with_its_image(root: Path) -> None:
    s = stream(root)
    for t in range(6):
        source, _, guess = s[t]
        assert guess is not None
        assert guess.confidence is not None
        assert guess.probabilities is not None
        assert torch.equal(source.painted, source.image.flip(1))
        assert torch.equal(guess.confidence, guess.label.clamp(max=18) * 13 / 255)
        assert guess.confidence.dtype == guess.probabilities.dtype == torch.float32
        assert guess.confidence.shape == (4, 8, 12)
        assert guess.probabilities.shape == (4, 19, 4, 6)
        for row, size in enumerate(((10, 16), (14, 24), (14, 24), (14, 24))):
            stem = s.targets[index(3, "target", 4 * t + row, 6)].sample.stem
            view = geometry.draw(size, (8, 12), (0.7, 1.1), 0.5, np.random.default_rng((3, 2, t, row)))
            assert (guess.probabilities[row].numpy() == slow_cells(soft_of(stem), (12, 20), view)).all()


def test_one_hot_probabilities_a_pixel_are_the_labels(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "stage", tmp_path / "stage")
    for file in (tmp_path / "stage/probabilities").iterdir():
        ids = np.minimum(np.array(Image.open(tmp_path / f"stage/labels/{file.stem}.png")), 18)
        file.write_bytes(npy((ids == np.arange(19)[:, None, None]).astype(np.float16)))
    own = Frames(scale=(0.7, 1.1))  # large enough for a window: a label that is stretched is resampled twice
    for t in range(4):
        guess = stream(root, tmp_path / "stage", target_frames=own)[t].guess
        assert guess is not None
        assert guess.probabilities is not None
        assert torch.equal(guess.probabilities.argmax(1), guess.label.clamp(max=18))


def test_only_what_is_asked_for_is_opened(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "stage", tmp_path / "stage")
    for kind in ("confidence", "probabilities", "paintings"):
        shutil.rmtree(tmp_path / "stage" / kind)
    pair = stream(root, tmp_path / "stage", asks=frozenset(), paintings=None)[3]
    assert pair.source.painted is None
    assert pair.guess is not None
    assert (pair.guess.confidence, pair.guess.probabilities) == (None, None)
    assert torch.equal(pair.guess.label, stream(root)[3].guess.label)
    assert torch.equal(pair.source.image, stream(root)[3].source.image)
    shutil.rmtree(tmp_path / "stage")
    pair = stream(root, tmp_path / "stage", read=frozenset({"source"}), paintings=None)[3]
    assert pair.guess is None
    pair = stream(root, tmp_path / "stage", read=frozenset({"target"}), guesses=None, asks=frozenset())[3]
    assert pair.source.painted is None


@pytest.mark.parametrize(
    ("kind", "content", "says"),
    [
        ("confidence", png(np.zeros((12, 4), np.uint8)), "4 x 12 pixels"),
        ("confidence", png(picture()), "confidence of mode RGB"),
        ("confidence", png(np.zeros((12, 20), np.uint8), palette=True), "confidence of mode P"),
        ("confidence", png(np.zeros((12, 20), np.uint8))[:-9], "cut short"),
        ("paintings", png(picture((12, 4))), "4 x 12 pixels"),
        ("paintings", png(picture())[:60], "cut short"),
        ("probabilities", npy(soft_of("a"))[:-1], "cannot be read"),
        ("probabilities", npy(soft_of("a")) + b"x", "more than one array"),
        ("probabilities", b"", "cannot be read"),
        ("probabilities", npy(np.array([{}]), allow_pickle=True), "cannot be read: Object arrays cannot be loaded"),
        ("probabilities", npy(soft_of("a").astype(np.float32)), r"float32 of shape \(19, 6, 10\)"),
        ("probabilities", npy(soft_of("a")[:16]), r"float16 of shape \(16, 6, 10\) \(float16 of shape \(19, h, w\)"),
        ("probabilities", npy(soft_of("a")[0]), r"float16 of shape \(6, 10\)"),
        ("probabilities", npy(np.zeros((19, 0, 3), np.float16)), r"shape \(19, 0, 3\)"),
        ("probabilities", npy(soft_of("a") * np.float16(np.nan)), "values outside 0 to 1"),
        ("probabilities", npy(soft_of("a") - np.float16(1)), "values outside 0 to 1"),
    ],
)
def test_damage_is_named(root: Path, tmp_path: Path, kind: str, content: bytes, says: str) -> None:
    shutil.copytree(root / "stage", tmp_path / "stage")
    one = sorted((tmp_path / "stage" / kind).iterdir())[2]
    one.write_bytes(content)
    with pytest.raises(DataError, match=f"{kind}/{one.name}: .*{says}") as found:
        list(loader(stream(root, tmp_path / "stage"), 0, 3))
    assert "\n" not in str(found.value)
    with pytest.raises(DataError) as again:
        list(loader(stream(root, tmp_path / "stage"), 0, 3, workers=1))
    assert str(again.value) == str(found.value)


def test_a_size_that_no_memory_holds_is_damage(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "stage", tmp_path / "stage")
    one = sorted((tmp_path / "stage/probabilities").iterdir())[0]
    one.write_bytes(npy(soft_of("a")).replace(b"(19, 6, 10), }", b"(19, 9999999999, 9999999), }"))
    with pytest.raises(DataError, match=f"{one.name}: cannot be read"):
        list(loader(stream(root, tmp_path / "stage"), 0, 3))


@pytest.mark.parametrize("kind", ["confidence", "probabilities", "paintings"])
def test_missing_files_are_named_at_once(root: Path, tmp_path: Path, kind: str) -> None:
    shutil.copytree(root / "stage", tmp_path / "stage")
    files = sorted((tmp_path / "stage" / kind).iterdir())
    files[1].unlink()
    says = f"{kind}/{files[1].name}: 1 of {len(files)} stored {kind} are missing: {files[1].stem}"
    with pytest.raises(DataError, match=says):
        stream(root, tmp_path / "stage")
    shutil.rmtree(tmp_path / "stage" / kind)
    with pytest.raises(DataError, match=f"{len(files)} of {len(files)} stored {kind} are missing"):
        stream(root, tmp_path / "stage")


def test_grids_of_two_kinds_in_one_batch_are_refused(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "stage", tmp_path / "stage")
    sorted((tmp_path / "stage/probabilities").iterdir())[0].write_bytes(npy(soft_of("a", (3, 5))))
    with pytest.raises(DataError, match="grids of 2 x 3 and 4 x 6 cells in one batch"):
        list(loader(stream(root, tmp_path / "stage"), 0, 3))


def test_what_cannot_be_asked_for(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"asks: found 'confidences' .did you mean 'confidence'"):
        stream(root, asks=frozenset({"confidences"}))
    with pytest.raises(ConfigError, match="asks: confidence, probabilities of no labels"):
        stream(root, guesses=None)


# --- stems ---------------------------------------------------------------------------------


def test_stems_of_two_domains_are_compared_before_anything_is_stored(root: Path, tmp_path: Path) -> None:
    cityscapes(tmp_path)
    here, there = domain("cityscapes", root), domain("cityscapes", tmp_path)
    check_stems([here])
    check_stems([here, domain("gta5", root)])
    check_stems([domain("cityscapes@1/2", root), domain("cityscapes@not-1/2", root)])
    for pair in ([here, there], [here, here], [here, domain("cityscapes@1/2", root)]):
        with pytest.raises(ConfigError, match=r"targets: cityscapes and cityscapes.* share file stems, such as "):
            check_stems(pair)
    folder = tmp_path / "cityscapes/leftImg8bit/train/aachen"
    for image in folder.iterdir():
        image.rename(folder / image.name.upper().replace("_LEFTIMG8BIT.PNG", "_leftImg8bit.png"))
    with pytest.raises(ConfigError, match="share file stems"):
        check_stems([here, there])
    with pytest.raises(ConfigError, match="sources: gta5 and gta5 share file stems, such as 00000"):
        check_stems([domain("gta5", root)] * 2, "source")
    with pytest.raises(ConfigError, match="sources: gta5 and gta5 share file stems"):
        PairStream([domain("gta5", root)] * 2, [here], **HOW, paintings=root / "stage/paintings")
    assert len(PairStream([domain("gta5", root)] * 2, [here], **HOW).sources) == 10


def test_a_labelled_part_as_target_keeps_its_labels_closed(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/cityscapes/gtFine")
    some, others = (domain(f"cityscapes@{part}1/2", tmp_path / "copy") for part in ("", "not-"))
    how = HOW | {"read": frozenset({"target"})}
    for part in (some, others):
        s = PairStream([], [part], **how)
        assert {entry.sample.label for entry in s.targets} == {None}
        assert s[0].target.shape == (4, 3, 8, 12)
    with pytest.raises(DataError, match="gtFine"):
        PairStream([some], [others], **HOW)
