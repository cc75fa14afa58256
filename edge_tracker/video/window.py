"""The preview window: drawing the first box with the mouse, and watching."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import sys

import cv2

from edge_tracker.errors import VideoError
from edge_tracker.installing import pip_command
from edge_tracker.rules.boxes import Box
from edge_tracker.rules.crop import Image
from edge_tracker.video.frames import FrameSource

TITLE = "edge-tracker"
QUIT_KEYS = (27, ord("q"))
FREEZE_KEYS = (13, 32)


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
    x, y, w, h = cv2.selectROI(TITLE, frame, showCrosshair=False)
    if w == 0 or h == 0:
        raise VideoError("no box was drawn: drag a rectangle around the target, then press Enter")
    return source, (float(x), float(y), float(w), float(h))


def show(frame: Image) -> bool:
    """Show a frame; False once the user pressed q or Esc, or closed the window."""
    cv2.imshow(TITLE, frame)
    pressed = cv2.waitKey(1) & 0xFF
    return pressed not in QUIT_KEYS and cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 1
