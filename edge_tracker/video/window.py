"""The preview window: drawing boxes with the mouse, and watching."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import re
import sys
from contextlib import suppress
from time import monotonic

import cv2

from edge_tracker.errors import VideoError
from edge_tracker.installing import pip_command
from edge_tracker.rules.boxes import Box
from edge_tracker.rules.crop import Image
from edge_tracker.video.frames import FrameSource

TITLE = "edge-tracker: space pauses, d draws a box again, q ends"
QUIT_KEYS = (27, ord("q"))
PAUSE_KEY, DRAW_KEY = ord(" "), ord("d")
FREEZE_KEYS = (13, 32)
#: How long to wait for a key before the window is looked at again.
POLL_MS = 50


def require_display() -> None:
    """Raise VideoError, with the remedy, where no window can be shown."""
    gui = re.search(r"GUI:[ \t]*(\S*)", cv2.getBuildInformation())
    if gui is not None and gui[1].upper() == "NONE":
        raise VideoError(
            "--show needs windows, and this OpenCV is a headless build: "
            f"{pip_command('uninstall', 'opencv-python-headless')} && "
            f"{pip_command('install', 'opencv-python')}"
        )
    # Asked first, because Qt and GTK end the whole process where there is no display.
    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        raise VideoError(
            "--show needs a display, and neither DISPLAY nor WAYLAND_DISPLAY is set: "
            "run it in a desktop session or with `ssh -X`, or leave --show out and use --save"
        )


def choose_box(source: FrameSource) -> tuple[FrameSource, Box]:
    """Let the user draw the target's box; the source then starts at the frame it was drawn on.

    A live source plays until the space bar or Enter freezes it. Raises VideoError if no box was
    drawn.
    """
    frame = source.first_frame
    if source.live:
        for frame in source.frames:
            cv2.imshow(TITLE, frame)
            if cv2.waitKey(1) & 0xFF in FREEZE_KEYS:
                break
        source = dataclasses.replace(
            source, first_frame=frame, frames=itertools.chain([frame], source.frames)
        )
    box = _draw_box(frame)
    if box is None:
        raise VideoError("no box was drawn: drag a rectangle around the target, then press Enter")
    return source, box


class Viewer:
    """The window while a video is tracked.

    A file plays at its own rate, or slower where more than that is asked of the machine; no frame
    is left out. A live source is shown as it comes. Space pauses and goes on, d lets a box be drawn
    again, q, Esc or closing the window ends.

    stopped: whether the user has ended it.
    """

    def __init__(self, source: FrameSource) -> None:
        self.stopped = False
        self._period_s = 0.0 if source.live else 1 / source.fps
        self._due_s = -math.inf

    def show(self, drawn: Image, frame: Image) -> Box | None:
        """Show `drawn` until the next frame is due; the box that the user drew meanwhile on
        `frame`, the same one with nothing drawn into it.
        """
        cv2.imshow(TITLE, drawn)
        box, paused = None, False
        while True:
            pressed = self._wait_for_key(POLL_MS if paused else self._remaining_ms())
            if self.stopped:
                return None
            if pressed == DRAW_KEY:
                box = _draw_box(frame) or box
            elif pressed == PAUSE_KEY:
                paused = not paused
            elif not paused and monotonic() >= self._due_s:
                break
        # Time that was lost, to tracking or to a pause, is not made up for by haste.
        is_late = monotonic() - self._due_s > self._period_s
        self._due_s = (monotonic() if is_late else self._due_s) + self._period_s
        return box

    def keep_last(self) -> None:
        """Leave the last frame of a file where it is until a key is pressed."""
        with suppress(KeyboardInterrupt):
            while not self.stopped and self._wait_for_key(POLL_MS) < 0:
                pass

    def _remaining_ms(self) -> int:
        return round(1000 * min(max(0.001, self._due_s - monotonic()), POLL_MS / 1000))

    def _wait_for_key(self, most_ms: int) -> int:
        """Its code, negative where none was pressed."""
        pressed = cv2.waitKey(most_ms)
        pressed = pressed & 0xFF if pressed >= 0 else -1
        closed = cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1
        self.stopped = self.stopped or closed or pressed in QUIT_KEYS
        return pressed


def _draw_box(frame: Image) -> Box | None:
    """Let the user draw a box; None where there is none."""
    try:
        drawn = cv2.selectROI(TITLE, frame, showCrosshair=False, printNotice=False)
    except cv2.error:  # before OpenCV 4.9, which prints its notice
        drawn = cv2.selectROI(TITLE, frame, showCrosshair=False)
    x, y, w, h = (float(value) for value in drawn)
    return (x, y, w, h) if w > 0 and h > 0 else None
