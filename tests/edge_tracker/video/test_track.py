"""A whole video through the tracker: what is written, and how it ends."""

from __future__ import annotations

import csv
import io
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_tracker import Bundle, EdgeTracker, Engine, MultiTracker, TrackResult
from edge_tracker.errors import VideoError
from edge_tracker.rules.boxes import Box
from edge_tracker.video.draw import TARGETS_BGR
from edge_tracker.video.frames import FrameSource, open_frames
from edge_tracker.video.track import (
    CSV_COLUMNS,
    Results,
    annotate_results,
    least_sure,
    track_video,
)

BOX = (50.0, 60.5, 40.0, 30.0)
OTHER = (150.0, 20.0, 60.0, 70.0)


@pytest.fixture(scope="module")
def engine(nano_bundle: Bundle, cache_dir: Path) -> Iterator[Engine]:
    with Engine(nano_bundle, cache_dir=cache_dir) as engine:
        yield engine


@pytest.fixture(scope="module")
def tracker(engine: Engine) -> MultiTracker:
    return MultiTracker(engine)


def noise(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (240, 320, 3), dtype=np.uint8) for _ in range(count)]


def recorded(frames: list[np.ndarray], path: Path, announced: int | None = None) -> FrameSource:
    return FrameSource("clip", path, 25.0, announced or len(frames), frames[0], iter(frames))


def live(frames: list[np.ndarray]) -> FrameSource:
    return FrameSource("camera 0", None, 30.0, None, frames[0], iter(frames))


def interrupt_at(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, as the terminal sends it, during the update number `index`."""
    update = MultiTracker.update
    calls = iter(range(1, 1000))

    def interrupted(tracker: MultiTracker, frame: np.ndarray) -> dict[int, TrackResult]:
        if next(calls) == index:
            signal.raise_signal(signal.SIGINT)
        return update(tracker, frame)

    monkeypatch.setattr(MultiTracker, "update", interrupted)


def test_rows_are_the_given_box_and_then_the_trackers_results(
    engine: Engine, tracker: MultiTracker, tmp_path: Path
) -> None:
    frames = noise(6)
    alone = EdgeTracker(engine)
    alone.init(frames[0], BOX)
    expected = [alone.update(frame) for frame in frames[1:]]

    summary = track_video(
        tracker, recorded(frames, tmp_path / "clip"), [BOX], csv_path=tmp_path / "b.csv"
    )

    with (tmp_path / "b.csv").open(newline="") as file:
        header, first, *rows = csv.reader(file)
    assert tuple(header) == CSV_COLUMNS
    assert [float(cell) for cell in first[:-1]] == [0, *BOX, 1, 1, 0, 0, 0, 0, 1]
    assert {row[-1] for row in (first, *rows)} == {""}, "this bundle does not tell presence"
    for index, (row, result) in enumerate(zip(rows, expected, strict=True), start=1):
        values = [*result.box, result.score, float(result.found), *result.edge_std_px, 1]
        assert [float(cell) for cell in row[:-1]] == pytest.approx([index, *values], abs=1e-3)
    assert summary.frames == 6
    assert summary.ended is None
    assert summary.frames_lost == sum(not result.found for result in expected)
    assert summary.mean_score == pytest.approx(np.mean([result.score for result in expected]))


def test_times_are_of_the_updates(tracker: MultiTracker, tmp_path: Path) -> None:
    summary = track_video(tracker, recorded(noise(12), tmp_path / "clip"), [BOX])
    assert summary.update_ms_median is not None
    assert summary.update_ms_p95 is not None
    assert summary.update_fps is not None
    assert 0 < summary.update_ms_median <= summary.update_ms_p95 < 5000
    assert math.isfinite(summary.update_fps)


def test_lost_frames_are_counted_and_marked(
    tracker: MultiTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = iter(
        TrackResult((10, 20, 30, 40), score, score > 0.5, (1, 2, 3, 4)) for score in (0.9, 0.2, 0.1)
    )
    monkeypatch.setattr(
        MultiTracker, "update", lambda tracker, frame: {tracker.ids[0]: next(results)}
    )
    summary = track_video(
        tracker, recorded(noise(4), tmp_path / "clip"), [BOX], csv_path=tmp_path / "b.csv"
    )
    assert summary.frames_lost == 2
    assert summary.mean_score == pytest.approx(0.4)
    last = (tmp_path / "b.csv").read_text().splitlines()[-1]
    assert last == "3,10.000,20.000,30.000,40.000,0.1000,0,1.000,2.000,3.000,4.000,1,"


def test_several_targets_have_a_number_each_and_rows_of_their_own(
    engine: Engine, tracker: MultiTracker, tmp_path: Path
) -> None:
    frames = noise(4)
    expected = {}
    for number, box in enumerate((BOX, OTHER), start=1):
        alone = EdgeTracker(engine)
        alone.init(frames[0], box)
        expected[number] = [box, *(alone.update(frame).box for frame in frames[1:])]
    rows_path = tmp_path / "b.csv"

    # Twice, as the tracker's ids go on, and the numbers begin anew.
    for _ in range(2):
        source = recorded(frames, tmp_path / "clip")
        summary = track_video(tracker, source, [BOX, OTHER], csv_path=rows_path)
        with rows_path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [(row["frame"], row["target"]) for row in rows] == [
            (str(frame), target) for frame in range(4) for target in "12"
        ]
        for row in rows:
            found = [float(row[name]) for name in "xywh"]
            assert found == pytest.approx(expected[int(row["target"])][int(row["frame"])], abs=0.01)
        assert (summary.targets, summary.frames) == (2, 4)


def test_several_targets_are_drawn_in_colours_of_their_own() -> None:
    grey = np.full((240, 320, 3), 128, np.uint8)
    one = TrackResult(BOX, 0.9, True, (0.0, 0.0, 0.0, 0.0))
    other = TrackResult(OTHER, 0.9, False, (0.0, 0.0, 0.0, 0.0))

    def colours(results: Results) -> list[bool]:
        drawn = annotate_results(grey, results)
        return [bool((drawn == colour).all(axis=2).any()) for colour in TARGETS_BGR]

    assert colours({1: one, 2: other}) == [True, True, False, False, False, False]
    assert not any(colours({1: one}))
    assert (grey == 128).all()


def test_the_video_shows_every_frame_annotated(tracker: MultiTracker, tmp_path: Path) -> None:
    grey = [np.full((240, 320, 3), 128, np.uint8)] * 5
    track_video(tracker, recorded(grey, tmp_path / "clip"), [BOX], save=tmp_path / "out.mp4")
    assert os.listdir(tmp_path) == ["out.mp4"]
    with open_frames(tmp_path / "out.mp4") as source:
        assert source.fps == 25.0
        annotated = [frame.std() for frame in source]
    assert len(annotated) == 5
    assert min(annotated) > 1


def test_a_single_frame_has_no_times(tracker: MultiTracker, tmp_path: Path) -> None:
    summary = track_video(tracker, recorded(noise(1), tmp_path / "clip"), [BOX])
    assert summary.frames == 1
    assert summary.update_fps is summary.update_ms_median is summary.mean_score is None


def test_frames_may_change_size(tracker: MultiTracker, tmp_path: Path) -> None:
    frames = [*noise(2), np.zeros((120, 400, 3), np.uint8)]
    source = recorded(frames, tmp_path / "clip")
    assert track_video(tracker, source, [BOX], save=tmp_path / "out.mp4").frames == 3


def test_a_frame_too_small_to_track_in_is_named(tracker: MultiTracker, tmp_path: Path) -> None:
    source = recorded([*noise(2), np.zeros((8, 8, 3), np.uint8)], tmp_path / "clip")
    with pytest.raises(VideoError, match="clip, frame 2 from 0: frame has shape"):
        track_video(tracker, source, [BOX])


def test_an_early_end_is_reported(tracker: MultiTracker, tmp_path: Path) -> None:
    summary = track_video(tracker, recorded(noise(3), tmp_path / "clip", announced=10), [BOX])
    assert summary.ended == "clip ended after 3 of 10 frames"
    ended = track_video(tracker, live(noise(3)), [BOX]).ended
    assert ended is not None
    assert ended.startswith("camera 0 ended after 3 frames, which are kept; if it dropped out, ")


def test_the_watcher_sees_each_frame_and_can_stop(tracker: MultiTracker, tmp_path: Path) -> None:
    seen: list[int] = []

    def watch(index: int, frame: np.ndarray, results: Results) -> dict[int, Box] | None:
        assert frame.shape == (240, 320, 3)
        assert list(results) == [1]
        seen.append(index)
        return {} if index < 3 else None

    summary = track_video(
        tracker,
        recorded(noise(9), tmp_path / "clip"),
        [BOX],
        save=tmp_path / "out.mp4",
        on_frame=watch,
    )
    assert seen == [0, 1, 2, 3]
    assert summary.frames == 4
    assert summary.ended == "stopped by the user after 4 of 9 frames"
    assert (tmp_path / "out.mp4").exists()


def test_the_watcher_can_start_a_target_anew(
    engine: Engine, tracker: MultiTracker, tmp_path: Path
) -> None:
    """The other one goes on as it was; numbers, rows and tracker are those of the new box."""
    frames, new_box = noise(6), (200.0, 100.0, 50.0, 40.0)
    alone = [EdgeTracker(engine) for _ in range(3)]
    for single, box, first in zip(alone, (BOX, OTHER, new_box), (0, 0, 2), strict=True):
        single.init(frames[first], box)
    others = [OTHER, *(alone[1].update(frame).box for frame in frames[1:])]
    before = [BOX, alone[0].update(frames[1]).box]
    after = [new_box, *(alone[2].update(frame).box for frame in frames[3:])]

    def watch(index: int, frame: np.ndarray, results: Results) -> dict[int, Box]:
        assert list(results) == [1, 2]
        return {1: new_box} if index == 2 else {}

    rows_path = tmp_path / "b.csv"
    source = recorded(frames, tmp_path / "clip")
    summary = track_video(tracker, source, [BOX, OTHER], csv_path=rows_path, on_frame=watch)
    assert (summary.drawn_again, summary.targets, len(tracker.ids)) == (1, 2, 2)
    with rows_path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[4]["score"]) == 1.0
    for target, expected in (("1", before + after), ("2", others)):
        boxes = [[float(row[name]) for name in "xywh"] for row in rows if row["target"] == target]
        np.testing.assert_allclose(boxes, expected, atol=0.01)


def test_the_least_sure_target_is_a_lost_one_if_there_is_any() -> None:
    def result(score: float, found: bool) -> TrackResult:
        return TrackResult(BOX, score, found, (0.0, 0.0, 0.0, 0.0))

    assert least_sure({1: result(0.2, True), 2: result(0.4, False)}) == 2
    assert least_sure({1: result(0.9, True), 2: result(0.4, True)}) == 2


def test_ctrl_c_in_a_video_keeps_what_was_tracked(
    tracker: MultiTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(3, monkeypatch)
    source = recorded(noise(9), tmp_path / "clip")
    save, csv_path = tmp_path / "o.mp4", tmp_path / "b.csv"
    summary = track_video(tracker, source, [BOX], save=save, csv_path=csv_path)
    assert summary.interrupted
    assert summary.ended == "interrupted after 3 of 9 frames, which are kept"
    assert len(csv_path.read_text().splitlines()) == 1 + 3
    with open_frames(save) as kept:
        assert kept.num_frames == 3


def test_ctrl_c_before_the_first_frame_leaves_no_files(
    tracker: MultiTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(MultiTracker, "add", interrupted)
    source = recorded(noise(9), tmp_path / "clip")
    with pytest.raises(KeyboardInterrupt):
        track_video(tracker, source, [BOX], save=tmp_path / "o.mp4", csv_path=tmp_path / "b.csv")
    assert os.listdir(tmp_path) == []


def test_rows_reach_a_stream_or_pipe_at_once(tracker: MultiTracker, tmp_path: Path) -> None:
    class Stream(io.StringIO):
        def flush(self) -> None:
            flushed.append(self.getvalue().count("\n"))

    flushed: list[int] = []
    track_video(tracker, live(noise(3)), [BOX], csv_path=Stream())
    assert flushed == [1, 2, 3, 4]


def test_ctrl_c_stops_a_camera_and_keeps_its_files(
    tracker: MultiTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(3, monkeypatch)
    save, csv_path = tmp_path / "o.mp4", tmp_path / "b.csv"
    summary = track_video(tracker, live(noise(9)), [BOX], save=save, csv_path=csv_path)
    assert summary.ended == "interrupted after 3 frames, which are kept"
    assert not summary.interrupted
    assert len(csv_path.read_text().splitlines()) == 1 + 3
    with open_frames(save) as source:
        assert source.num_frames == 3


def test_a_failure_on_the_way_leaves_the_old_files(tracker: MultiTracker, tmp_path: Path) -> None:
    old = tmp_path / "b.csv"
    old.write_text("old")
    frames = [*noise(2), np.zeros((240, 320, 3), np.float32)]
    with pytest.raises(TypeError, match="float32"):
        track_video(tracker, recorded(frames, tmp_path / "clip"), [BOX], csv_path=old)
    assert old.read_text() == "old"
    assert os.listdir(tmp_path) == ["b.csv"]


def test_outputs_may_not_be_the_source_or_each_other(tracker: MultiTracker, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"precious")
    again = tmp_path / "sub" / ".." / "clip.mp4"
    (tmp_path / "sub").mkdir()
    with pytest.raises(ValueError, match=r"clip\.mp4 is .*clip\.mp4, which is read"):
        track_video(tracker, recorded(noise(2), clip), [BOX], save=again)
    with pytest.raises(ValueError, match=r"clip\.mp4 is .*clip\.mp4, which is read"):
        track_video(tracker, recorded(noise(2), clip), [BOX], csv_path=clip)
    both = tmp_path / "out.mp4"
    with pytest.raises(ValueError, match=r"out\.mp4 is .*out\.mp4, which is written too"):
        track_video(tracker, recorded(noise(2), clip), [BOX], save=both, csv_path=both)
    assert clip.read_bytes() == b"precious"
