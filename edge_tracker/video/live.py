"""A live source read by a thread of its own, so that whoever waits for a frame can be interrupted,
and can have the newest one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

import cv2
import numpy as np

from edge_tracker.rules.crop import Image

#: Frames that are read ahead where each one counts.
AHEAD = 4
#: How long to wait for a read that does not return before it is left behind.
CLOSE_S = 2.0


class LiveFrames:
    """Frames of a camera, stream or pipe, (height, width, 3) uint8 BGR each, to be iterated once.

    opened: what cv2.VideoCapture takes. latest: give the newest frame each time, and drop those
    that came while nobody asked; else every frame waits for its turn, and the source for us.
    fps: frames per second as the source says, once there is a first frame; 0 where it does not.

    The thread ends with `close`, or with the process if the source never returns.
    """

    def __init__(self, opened: str | int, latest: bool) -> None:
        self.fps = 0.0
        self.dropped = 0
        self._opened = opened
        self._waiting: deque[Image] = deque()
        self._most = 1 if latest else AHEAD
        self._latest = latest
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._thread = threading.Thread(target=self._read, name="edge_tracker-live", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Image]:
        while (frame := self.next()) is not None:
            yield frame

    def next(self) -> Image | None:
        """Wait for a frame and take it; None once the source has ended."""
        with self._changed:
            # With a limit, so that signals are handled meanwhile.
            while not self._waiting and not self._ended:
                self._changed.wait(0.2)
            if not self._waiting:
                return None
            frame = self._waiting.popleft()
            self._changed.notify_all()
            return frame

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(CLOSE_S)

    def _read(self) -> None:
        capture = cv2.VideoCapture(self._opened)
        try:
            while not self._closed:
                readable, frame = capture.read()
                if not readable:
                    return
                self.fps = capture.get(cv2.CAP_PROP_FPS)
                self._hand_out(np.asarray(frame, np.uint8))
        finally:
            capture.release()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _hand_out(self, frame: Image) -> None:
        with self._changed:
            if self._latest and self._waiting:
                self._waiting.clear()
                self.dropped += 1
            while len(self._waiting) >= self._most and not self._closed:
                self._changed.wait()
            self._waiting.append(frame)
            self._changed.notify_all()
