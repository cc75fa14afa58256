"""Real tracks: reading them, cutting samples from them, and mixing them with other sources."""

from __future__ import annotations

import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from distillation.data import track_samples
from distillation.data.mixed import MixedSource
from distillation.data.opening import open_source
from distillation.data.sample import Sample
from distillation.data.track_samples import TrackSamples, cut
from distillation.data.tracks import DecodedFrames, read_tracks
from distillation.recipes.recipe import Jitter, RecipeError
from edge_tracker.errors import DatasetError
from tests.helpers.places import SHARED
from tests.helpers.small_training import RECIPE, TRACK_SIZE, write_tracks

TRACKS = SHARED / "data" / "tracks"
JITTER = Jitter(search_factor=3.0, size_sigma=0.2, centre=1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tracks(tmp_path_factory.mktemp("tracks"), tracks=10)


def samples(folder: Path, absent_fraction: float = 0.0, seed: int = 1) -> TrackSamples:
    return TrackSamples(
        read_tracks(folder, "train"),
        template_size_px=32,
        search_size_px=64,
        jitter=JITTER,
        absent_fraction=absent_fraction,
        seed=seed,
    )


def equal(a: Sample, b: Sample) -> bool:
    return all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in zip(a, b, strict=True))


def test_footage_is_on_one_side_of_the_split(folder: Path) -> None:
    train, validation = read_tracks(folder, "train"), read_tracks(folder, "validation")
    assert len(train) + len(validation) == 10
    assert validation
    assert not {t.group for t in train} & {t.group for t in validation}


def test_absent_frames_have_no_box_and_are_not_drawn(folder: Path) -> None:
    track = read_tracks(folder, "train")[0]
    assert track.visible.tolist() == [True, True, False, True]
    assert np.isnan(track.boxes_xywh[2]).all()


def test_a_sample_is_reproducible_and_others_differ(folder: Path) -> None:
    one, again, other = samples(folder), samples(folder), samples(folder, seed=2)
    assert all(equal(one.render(i), again.render(i)) for i in (5, 0, 9))
    assert not equal(one.render(0), other.render(0))
    assert not equal(one.render(0), one.render(1))


def test_the_box_is_where_the_target_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target is the bright square of each frame."""
    for fraction in ("BESIDE_FRACTION", "COVER_FRACTION"):
        monkeypatch.setattr(track_samples, fraction, 0.0)
    source, rng, found = samples(folder), np.random.default_rng(0), 0
    for _ in range(20):
        view, edges = source._search(rng, source.tracks[0], 0, 1.0, True)
        if min(edges) <= 0 or max(edges) >= 1:
            continue
        bright = view.pixels.min(axis=2) > 190
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        inside = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(inside, edges * 64, atol=1.5)
        found += 1
    assert found > 8


def test_samples_without_target_have_no_box(folder: Path) -> None:
    drawn = [samples(folder, absent_fraction=0.5).render(i) for i in range(60)]
    absent = [sample for sample in drawn if not sample.present]
    assert 15 < len(absent) < 45
    assert all(not sample.edges.any() for sample in absent)
    assert all(sample.edges[2] > sample.edges[0] for sample in drawn if sample.present)


def test_beyond_the_frame_is_black_after_every_change_of_light() -> None:
    image = np.full((40, 40, 3), 90, np.uint8)
    view = cut(image, np.array([0.0, 20.0]), 40.0, 1.0, 32)
    lit = view.framed(np.full((32, 32, 3), 200, np.uint8))
    assert not lit[:, :15].any()
    assert (lit[:, 17:] == 200).all()


def test_a_cut_is_centred_and_scaled_about_its_place() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    image[40:60, 30:70] = 255
    rows, columns = (
        np.flatnonzero(cut(image, np.array([50.0, 50.0]), 80.0, 1.0, 160).pixels.any(axis=axis))
        for axis in ((1, 2), (0, 2))
    )
    assert (rows.min() + rows.max()) / 2 == pytest.approx(79.5, abs=0.6)
    assert len(columns) / len(rows) == pytest.approx(2.0, abs=0.1)


def test_decoded_frames_stay_as_long_as_they_fit(folder: Path) -> None:
    track = read_tracks(folder, "train")[0]
    frames = DecodedFrames(capacity_bytes=2 * TRACK_SIZE[0] * TRACK_SIZE[1] * 3)
    first = frames.read(track, 0)
    assert frames.read(track, 0) is first
    frames.read(track, 1)
    frames.read(track, 3)
    assert frames.read(track, 0) is not first
    assert len(frames._kept) == 2


DAMAGED = {
    "no manifest": (
        lambda f: (f / "manifest.csv").unlink(),
        "manifest.csv is not a list of tracks",
    ),
    "no such column": (
        lambda f: (f / "manifest.csv").write_text("track,weight\na,1\n"),
        "expected columns track, group and weight",
    ),
    "no zip": (lambda f: (f / "track1.zip").unlink(), r"track1.zip cannot be read \(FileNotFound"),
    "half a zip": (
        lambda f: (f / "track1.zip").write_bytes((f / "track1.zip").read_bytes()[:200]),
        r"track1.zip cannot be read \(BadZipFile",
    ),
    "a box in words": (
        lambda f: _with_boxes(f / "track1.zip", "file,x,y,w,h,visible\nframes/0.png,a,2,3,4,1\n"),
        r"track1.zip cannot be read \(ValueError",
    ),
}


def _with_boxes(path: Path, table: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("boxes.csv", table)
        archive.writestr("frames/0.png", b"")


@pytest.mark.parametrize(("damage", "says"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_tracks_are_refused_by_name(tmp_path: Path, damage: object, says: str) -> None:
    folder = write_tracks(tmp_path, tracks=3)
    damage(folder)  # type: ignore[operator]
    with pytest.raises(DatasetError, match=says):
        read_tracks(folder, "train")


def test_a_frame_that_does_not_decode_is_named(folder: Path) -> None:
    track = replace(read_tracks(folder, "train")[0], images=(b"no picture",) * 4)
    with pytest.raises(DatasetError, match="its frame 0 does not decode"):
        DecodedFrames().read(track, 0)


class Constant:
    """A source whose samples tell which one it is, and their number."""

    def __init__(self, grey: int) -> None:
        self.grey = grey

    def render(self, index: int) -> Sample:
        image = np.full((2, 2, 3), self.grey, np.uint8)
        return Sample(image, image, image, np.full(4, index, np.float32), True)


def test_sources_are_mixed_by_weight_and_a_sample_by_its_number_alone() -> None:
    mixed = MixedSource([Constant(1), Constant(2)], [3.0, 1.0], seed=5)
    drawn = [mixed.render(i) for i in range(400)]
    share = Counter(int(sample.search[0, 0, 0]) for sample in drawn)
    assert 260 < share[1] < 340
    assert [sample.edges[0] for sample in drawn] == list(range(400))
    again = MixedSource([Constant(1), Constant(2)], [3.0, 1.0], seed=5)
    assert equal(again.render(17), drawn[17])


def test_a_recipe_draws_from_both_kinds(images: Path, folder: Path) -> None:
    recipe = replace(RECIPE, data=("synthetic", "tracks"), data_weights=(1.0, 3.0))
    source = open_source(recipe, {"synthetic": images, "tracks": folder}, "train")
    assert isinstance(source, MixedSource)
    assert source._chances.tolist() == [0.25, 1.0]
    assert source.render(0).search.shape == (64, 64, 3)


def test_weights_must_fit_the_kinds() -> None:
    with pytest.raises(RecipeError, match=r"data_weights are \(1.0,\) for \('synthetic', 'tracks'"):
        replace(RECIPE, data=("synthetic", "tracks"), data_weights=(1.0,))


@pytest.mark.skipif(
    not (SHARED / "data" / "tracks").is_dir(), reason="needs the real tracks in ../shared"
)
def test_real_tracks_give_samples() -> None:
    tracks = read_tracks(SHARED / "data" / "tracks", "train")
    assert len(tracks) > 100
    source = TrackSamples(
        tracks,
        template_size_px=96,
        search_size_px=160,
        jitter=JITTER,
        absent_fraction=0.3,
        seed=1,
    )
    for index in range(20):
        sample = source.render(index)
        assert sample.search.std() > 1
        assert np.isfinite(sample.edges).all()
    assert cv2.mean(source.render(0).template)[0] > 0
