"""OpenCV's windows, a user in front of them, and a clock that goes while they are waited for."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from edge_tracker.video import window


class Screen:
    """keys: what is pressed at one look for a key after the other, "" for nothing; the window is
    closed when they have run out. boxes: what is drawn, one drawing after the other.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        keys: Sequence[str],
        boxes: Sequence[tuple[int, int, int, int]] = (),
    ) -> None:
        self.shown: list[np.ndarray] = []
        #: Of each frame in `shown`, on the screen's clock.
        self.times_s: list[float] = []
        self.now_s = 100.0
        self._keys = list(keys)
        self._boxes = list(boxes)
        self._open = True
        monkeypatch.setattr(window, "require_display", lambda: None)
        monkeypatch.setattr(window, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(cv2, "imshow", self._show)
        monkeypatch.setattr(cv2, "waitKey", self._wait)
        monkeypatch.setattr(cv2, "getWindowProperty", lambda title, which: float(self._open))
        monkeypatch.setattr(cv2, "selectROI", lambda *positional, **named: self._boxes.pop(0))

    @property
    def keys_left(self) -> int:
        return len(self._keys)

    def _show(self, title: str, frame: np.ndarray) -> None:
        self.shown.append(frame)
        self.times_s.append(self.now_s)

    def _wait(self, most_ms: int) -> int:
        self.now_s += most_ms / 1000
        if not self._keys:
            self._open = False
            return -1
        key = self._keys.pop(0)
        return ord(key) if key else -1
