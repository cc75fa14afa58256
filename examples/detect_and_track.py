"""A detector now and then, the tracker between: targets that come and go.

    python examples/detect_and_track.py BUNDLE VIDEO --every 10 --save tracked.mp4

In each tenth frame what the detector finds, and no target covers yet, becomes a target; targets
that are lost, and that it does not find, are given up. OpenCV's detector of circles, which finds
the disc of the demo clip, stands here for yours: any function from a frame to boxes will do.
`boxes_of` and `as_detections` are for those that speak `supervision.Detections`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_tracker import EdgeTrackerError, MultiTracker, TrackResult
from edge_tracker.rules.boxes import Box, box_iou
from edge_tracker.video.draw import annotate
from edge_tracker.video.frames import open_frames
from edge_tracker.video.recording import frame_writer

Detector = Callable[[np.ndarray], Sequence[Box]]
#: A detection that overlaps a target by more than this is of that target.
SAME_IOU = 0.3


def find_circles(frame: np.ndarray) -> list[Box]:
    """(height, width, 3) uint8 BGR -> x, y, width, height of each circle."""
    grey = cv2.medianBlur(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), 5)
    circles = cv2.HoughCircles(
        grey, cv2.HOUGH_GRADIENT_ALT, 1.5, 40, param1=300, param2=0.95, minRadius=15, maxRadius=80
    )
    if circles is None:
        return []
    found = circles.reshape(-1, circles.shape[-1])[:, :3].astype(float)
    return [(x - radius, y - radius, 2 * radius, 2 * radius) for x, y, radius in found]


class DetectAndTrack:
    """detector: asked in the first frame and every `every`-th after it."""

    def __init__(self, tracker: MultiTracker, detector: Detector, every: int) -> None:
        self.tracker, self.detector, self.every = tracker, detector, every
        self.frames = 0

    def update(self, frame: np.ndarray) -> dict[int, TrackResult]:
        """Targets of the next frame by their number, new ones where they were detected."""
        results = self.tracker.update(frame) if self.tracker.ids else {}
        if self.frames % self.every == 0:
            self._detect(frame, results)
        self.frames += 1
        return results

    def _detect(self, frame: np.ndarray, results: dict[int, TrackResult]) -> None:
        seen = set()
        for box in self.detector(frame):
            same = [name for name, result in results.items() if box_iou(box, result.box) > SAME_IOU]
            seen.update(same)
            if not same:
                name = self.tracker.add(frame, box)
                results[name] = TrackResult(box, 1.0, True, (0.0, 0.0, 0.0, 0.0))
                seen.add(name)
        for name in [name for name, result in results.items() if not result.found]:
            if name not in seen:
                self.tracker.remove(name)
                del results[name]


def boxes_of(detections: Any) -> list[Box]:
    """supervision.Detections, x1, y1, x2, y2 each -> x, y, width, height."""
    return [(x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2 in detections.xyxy.tolist()]


def as_detections(results: Mapping[int, TrackResult]) -> Any:
    """supervision.Detections of what was tracked: tracker_id is the target's number, confidence its
    presence, or its score in a bundle that does not tell presence.
    """
    import supervision

    rows = [result.box for result in results.values()]
    corners = np.array([(x, y, x + w, y + h) for x, y, w, h in rows], float).reshape(-1, 4)
    told = [r.score if r.presence is None else r.presence for r in results.values()]
    return supervision.Detections(
        xyxy=corners, confidence=np.array(told, float), tracker_id=np.array([*results], int)
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("video")
    parser.add_argument("--every", type=int, default=10, metavar="N", help="(default: 10)")
    parser.add_argument("--save", type=Path, default=Path("tracked.mp4"))
    arguments = parser.parse_args(argv)

    names: set[int] = set()
    with open_frames(arguments.video) as source, MultiTracker(arguments.bundle) as tracker:
        targets = DetectAndTrack(tracker, find_circles, arguments.every)
        height_px, width_px = source.first_frame.shape[:2]
        with frame_writer(arguments.save, source.fps, width_px, height_px) as write:
            for frame in source:
                drawn = frame
                for name, result in targets.update(frame).items():
                    names.add(name)
                    drawn = annotate(
                        drawn, result.box, score=result.score, found=result.found, number=name
                    )
                write(drawn)
    print(f"{len(names)} targets tracked through {targets.frames} frames, in {arguments.save}")


if __name__ == "__main__":
    try:
        main()
    except EdgeTrackerError as error:
        sys.exit(str(error))
