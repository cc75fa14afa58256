"""The tracker behind the interface of `cv2.Tracker`, for code that uses one already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_tracker.rules.crop import Image
from edge_tracker.tracker import EdgeTracker


class Cv2Tracker:
    """Stands in for `cv2.TrackerNano`, `cv2.TrackerVit` and the like: same methods, same results.

    tracker: a bundle's folder, or an EdgeTracker made with the backend and options of your choice;
    it is driven by this object from then on, and closed by whoever made it.

    Where OpenCV raises cv2.error, this raises what EdgeTracker raises, which says what was wrong.
    """

    def __init__(self, tracker: EdgeTracker | str | Path) -> None:
        self._tracker = tracker if isinstance(tracker, EdgeTracker) else EdgeTracker(tracker)
        self._score = 0.0

    def init(self, image: Image, boundingBox: Sequence[float]) -> None:  # noqa: N803 (OpenCV's name)
        """Start on the target in `boundingBox`: x, y, width, height in pixels of a BGR image."""
        self._tracker.init(image, boundingBox)
        self._score = 0.0

    def update(self, image: Image) -> tuple[bool, tuple[int, int, int, int]]:
        """Next BGR image -> whether the target is in view, its x, y, width, height in whole pixels.

        As with OpenCV's trackers, the box is a best guess while the first value is False.
        """
        result = self._tracker.update(image)
        self._score = result.score
        x, y, w, h = result.box
        return result.found, (round(x), round(y), round(w), round(h))

    def getTrackingScore(self) -> float:  # noqa: N802 (OpenCV's name)
        """Score of the last update, a probability; 0 before the first one."""
        return self._score
