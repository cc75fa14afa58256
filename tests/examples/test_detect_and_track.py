"""A detector now and then: who is a new target, who is given up, and supervision's detections."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_tracker import MultiTracker, TrackResult
from edge_tracker.bundle.opening import Bundle
from edge_tracker.rules.boxes import Box, box_iou
from edge_tracker.video.rendered_clip import render_clip
from examples import detect_and_track
from examples.detect_and_track import DetectAndTrack, as_detections, boxes_of, find_circles

STILL = (0.0, 0.0, 0.0, 0.0)
FRAME = np.zeros((64, 64, 3), np.uint8)


class FakeTracker:
    """Targets stay where they were added; those in `lost` are not found."""

    def __init__(self) -> None:
        self.boxes: dict[int, Box] = {}
        self.lost: set[int] = set()
        self.next = 1

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(self.boxes)

    def add(self, frame: np.ndarray, box: Box) -> int:
        self.boxes[self.next] = box
        self.next += 1
        return self.next - 1

    def remove(self, name: int) -> None:
        del self.boxes[name]

    def update(self, frame: np.ndarray) -> dict[int, TrackResult]:
        return {
            name: TrackResult(box, 0.9, name not in self.lost, STILL)
            for name, box in self.boxes.items()
        }


def targets_of(tracker: Any, detected: list[list[Box]], every: int) -> DetectAndTrack:
    rounds = iter(detected)
    return DetectAndTrack(tracker, lambda frame: next(rounds), every)


def test_the_detector_is_asked_now_and_then_and_what_is_covered_is_not_new() -> None:
    here, near, there = (0.0, 0.0, 10.0, 10.0), (1.0, 0.0, 10.0, 10.0), (40.0, 0.0, 10.0, 10.0)
    targets = targets_of(FakeTracker(), [[here], [near, there], []], every=3)
    assert [[*targets.update(FRAME)] for _ in range(7)] == [[1]] * 3 + [[1, 2]] * 4


def test_who_is_lost_and_not_detected_is_given_up() -> None:
    one, two, three = ((float(x), 0.0, 10.0, 10.0) for x in (0, 20, 40))
    tracker = FakeTracker()
    targets = targets_of(tracker, [[one, two, three], [two]], every=2)
    assert [*targets.update(FRAME)] == [1, 2, 3]
    tracker.lost = {1, 2}
    assert [*targets.update(FRAME)] == [1, 2, 3]
    assert [*targets.update(FRAME)] == [2, 3]
    assert tracker.ids == (2, 3)


def test_the_disc_of_the_clip_is_detected_and_followed(trained_bundle: Bundle) -> None:
    overlaps = []
    with MultiTracker(trained_bundle) as tracker:
        targets = DetectAndTrack(tracker, find_circles, every=10)
        for frame in render_clip(60):
            boxes = [result.box for result in targets.update(frame.image).values()]
            overlaps.append(max([0.0, *(box_iou(box, frame.box) for box in boxes)]))
    assert np.mean(overlaps) > 0.8
    assert min(overlaps) > 0.5


def test_the_program_runs(
    trained_or_lively_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    (tmp_path / "clip").mkdir()
    for index, frame in enumerate(render_clip(12)):
        cv2.imwrite(str(tmp_path / "clip" / f"{index:03d}.png"), frame.image)
    save = tmp_path / "tracked.mp4"
    bundle = str(trained_or_lively_bundle.path)
    detect_and_track.main([bundle, str(tmp_path / "clip"), "--every", "5", "--save", str(save)])
    assert "tracked through 12 frames" in capsys.readouterr().out
    assert save.stat().st_size > 0


def detections_of(results: dict[int, TrackResult]) -> None:
    detections = as_detections(results)
    np.testing.assert_allclose(detections.xyxy.reshape(-1, 4), [[1, 2, 4, 6], [5, 5, 6, 7]])
    np.testing.assert_allclose(detections.confidence, [0.7, 0.4])
    assert detections.tracker_id.tolist() == [3, 8]
    assert boxes_of(detections) == [(1, 2, 3, 4), (5, 5, 1, 2)]


RESULTS = {
    3: TrackResult((1.0, 2.0, 3.0, 4.0), 0.9, True, STILL, presence=0.7),
    8: TrackResult((5.0, 5.0, 1.0, 2.0), 0.4, True, STILL),
}


def test_detections_of_supervision() -> None:
    pytest.importorskip("supervision", reason="needs supervision")
    detections_of(RESULTS)
    assert len(as_detections({})) == 0


def test_detections_of_what_stands_for_supervision(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("supervision")
    module.Detections = lambda **fields: SimpleNamespace(**fields)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "supervision", module)
    detections_of(RESULTS)
