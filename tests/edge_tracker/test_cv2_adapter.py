"""Cv2Tracker can take the place of one of OpenCV's trackers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_tracker import Bundle, Cv2Tracker, EdgeTracker, NotInitialised
from edge_tracker.tracker import TrackResult

BOX = (50, 60, 40, 30)


@pytest.fixture
def bundle(nano_bundle: Bundle, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(cache_dir))
    return nano_bundle.path


@pytest.fixture
def frame() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)


def run_as_opencv_code_does(tracker: cv2.Tracker | Cv2Tracker, frame: np.ndarray) -> list[object]:
    """A loop as it stands in programs that use OpenCV's trackers."""
    started = tracker.init(frame, BOX)
    ok, box = tracker.update(frame)
    x, y, w, h = box
    cv2.rectangle(frame.copy(), (x, y), (x + w, y + h), (0, 255, 0))
    cv2.rectangle(frame.copy(), box, (0, 255, 0))
    return [started, type(ok), [type(value) for value in box]]


def test_it_behaves_as_opencvs_own(bundle: Path, frame: np.ndarray) -> None:
    ours = Cv2Tracker(bundle)
    theirs = cv2.TrackerMIL.create()
    assert run_as_opencv_code_does(ours, frame) == run_as_opencv_code_does(theirs, frame)


def test_it_gives_the_trackers_results_in_whole_pixels(bundle: Path, frame: np.ndarray) -> None:
    adapter = Cv2Tracker(str(bundle))
    with EdgeTracker(bundle) as tracker:
        tracker.init(frame, BOX)
        adapter.init(frame, list(BOX))
        for shift in range(1, 8):
            moved = np.roll(frame, shift, axis=1)
            expected = tracker.update(moved)
            ok, box = adapter.update(moved)
            assert ok is expected.found
            assert box == tuple(round(value) for value in expected.box)
            assert adapter.getTrackingScore() == expected.score


def test_the_score_is_zero_until_the_first_update(bundle: Path, frame: np.ndarray) -> None:
    adapter = Cv2Tracker(bundle)
    assert adapter.getTrackingScore() == 0.0
    adapter.init(frame, BOX)
    assert adapter.getTrackingScore() == 0.0
    adapter.update(frame)
    assert adapter.getTrackingScore() > 0.0
    adapter.init(frame, BOX)
    assert adapter.getTrackingScore() == 0.0


def test_a_tracker_of_ones_own_making_is_used(bundle: Path, frame: np.ndarray) -> None:
    with EdgeTracker(bundle, backend="onnxruntime") as tracker:
        adapter = Cv2Tracker(tracker)
        adapter.init(frame, BOX)
        assert adapter.update(frame)[0] is True
    with pytest.raises(NotInitialised):
        adapter.update(frame)


def test_a_lost_target_is_not_ok(
    bundle: Path, frame: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = Cv2Tracker(bundle)
    adapter.init(frame, BOX)
    lost = TrackResult((1.6, -2.4, 10.5, 11.5), 0.07, False, (1.0, 1.0, 1.0, 1.0))
    monkeypatch.setattr(EdgeTracker, "update", lambda tracker, image: lost)
    assert adapter.update(frame) == (False, (2, -2, 10, 12))
    assert adapter.getTrackingScore() == 0.07


def test_mistakes_are_named(bundle: Path, frame: np.ndarray) -> None:
    adapter = Cv2Tracker(bundle)
    with pytest.raises(NotInitialised, match="call init"):
        adapter.update(frame)
    with pytest.raises(ValueError, match="no area"):
        adapter.init(frame, (50, 60, 0, 30))
    with pytest.raises(TypeError, match="frame is None"):
        adapter.init(None, BOX)  # type: ignore[arg-type]
