"""What the tracker accepts as a frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

MIN_FRAME_SIDE_PX = 16


def as_bgr(frame: object) -> NDArray[np.uint8]:
    """A user's frame as (height, width, 3) uint8 BGR; the same memory where it already is that.

    Grey frames, (height, width) or (height, width, 1), get three equal channels; BGRA loses its
    alpha. Read-only and non-contiguous arrays are fine. Raises TypeError for anything but a uint8
    array, ValueError for another shape.
    """
    if frame is None:
        raise TypeError("frame is None: the camera or video returned no image")
    if not isinstance(frame, np.ndarray):
        raise TypeError(
            f"frame is a {type(frame).__name__}: expected a NumPy array, "
            "(height, width, 3) uint8 BGR"
        )
    if frame.dtype != np.uint8:
        raise TypeError(
            f"frame has dtype {frame.dtype}: expected uint8, 0 to 255 "
            "(scale floats and cast them first)"
        )
    channels = frame.shape[2] if frame.ndim == 3 else 1
    if frame.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ValueError(
            f"frame has shape {frame.shape}: expected (height, width, 3) BGR, (height, width) grey "
            "or (height, width, 4) BGRA"
        )
    if min(frame.shape[:2]) < MIN_FRAME_SIDE_PX:
        raise ValueError(
            f"frame has shape {frame.shape}: each side must be at least {MIN_FRAME_SIDE_PX} px"
        )
    if channels == 1:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_GRAY2BGR), np.uint8)
    if channels == 4:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_BGRA2BGR), np.uint8)
    return np.ascontiguousarray(frame)
