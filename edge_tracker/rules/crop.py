"""The one crop of the repository: a square around a box, resized to the network's input.

Follows the official tracker's `sample_target` bit for bit, its off-by-one included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tracker.options import TrackerOptions

Image = NDArray[np.uint8]


class CropWindow(NamedTuple):
    """A square of the frame, in whole pixels; it may reach outside the frame."""

    x1: int
    y1: int
    side_px: int


def crop_window(box_frame_xywh: Sequence[float], factor: float) -> CropWindow:
    """The square that holds `factor` squared times the box's area, centred on the box.

    Raises ValueError for a box so small that the square is empty.
    """
    x, y, w, h = box_frame_xywh
    side_px = math.ceil(math.sqrt(w * h) * factor)
    if side_px < 1:
        raise ValueError(f"box {tuple(box_frame_xywh)} is too small to crop: its area is {w * h}")
    return CropWindow(
        round(x + 0.5 * w - side_px * 0.5), round(y + 0.5 * h - side_px * 0.5), side_px
    )


def cut_window(frame: Image, window: CropWindow) -> Image:
    """Pixels of the window, (side, side, 3) uint8; a view of the frame where no padding is needed.

    Outside the frame is black. So is the frame's last column as soon as the window ends at it or
    beyond, and its last row likewise: the weights were trained with that.
    """
    height, width = frame.shape[:2]
    x1, y1, side = window
    left, top = max(0, -x1), max(0, -y1)
    right = max(0, x1 + side - width + 1)
    bottom = max(0, y1 + side - height + 1)
    if not (left or top or right or bottom):
        return frame[y1 : y1 + side, x1 : x1 + side]
    padded = np.zeros((side, side, 3), np.uint8)
    if left + right < side and top + bottom < side:
        padded[top : side - bottom, left : side - right] = frame[
            y1 + top : y1 + side - bottom, x1 + left : x1 + side - right
        ]
    return padded


def crop_square(
    frame: Image, box_frame_xywh: Sequence[float], factor: float, size_px: int
) -> tuple[Image, float]:
    """Cut the square around a box and resize it bilinearly.

    frame: (height, width, 3) uint8 BGR. Returns the crop, (size_px, size_px, 3) uint8 BGR, owned by
    the caller, and the side of the square in frame pixels, so that side / size_px is the crop's
    scale.
    """
    window = crop_window(box_frame_xywh, factor)
    pixels = cut_window(frame, window)
    resized = np.asarray(cv2.resize(pixels, (size_px, size_px)), np.uint8)
    return resized, float(window.side_px)


def crop_template(
    frame: Image, box_frame_xywh: Sequence[float], options: TrackerOptions, size_px: int
) -> Image:
    """The template of the target in a box, (size_px, size_px, 3) uint8 BGR, owned by the caller.

    frame: as for `crop_square`. size_px: the network's `template_size_px`.
    """
    return crop_square(frame, box_frame_xywh, options.template_factor, size_px)[0]
