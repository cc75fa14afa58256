"""Boxes: from the edges that the network predicts to the frame, and the tracker's clipping rule."""

from __future__ import annotations

import math
from collections.abc import Iterable

from numpy.typing import ArrayLike

Box = tuple[float, float, float, float]
#: A file of boxes with a larger number is not one.
MOST_PX = 1e6


def box_from_edges(
    edges_crop_ltrb: Iterable[float], previous_frame_xywh: Box, side_px: float
) -> Box:
    """Edges as fractions of the search square's side -> box x, y, w, h in frame pixels.

    The square is taken to be centred exactly on the previous box, as the official tracker does, not
    on the whole pixels at which it was cut.
    """
    x, y, w, h = previous_frame_xywh
    left, top, right, bottom = (float(edge) * side_px for edge in edges_crop_ltrb)
    return (
        x + 0.5 * w - 0.5 * side_px + left,
        y + 0.5 * h - 0.5 * side_px + top,
        right - left,
        bottom - top,
    )


def clip_box(box_xywh: Box, frame_height: int, frame_width: int, margin_px: int) -> Box:
    """Keep at least `margin_px` of the box inside the frame, and each side at least that long."""
    x, y, w, h = box_xywh
    x1, x2 = _clip_span(x, x + w, frame_width, margin_px)
    y1, y2 = _clip_span(y, y + h, frame_height, margin_px)
    return x1, y1, max(float(margin_px), x2 - x1), max(float(margin_px), y2 - y1)


def _clip_span(low: float, high: float, length: int, margin_px: int) -> tuple[float, float]:
    return (
        min(max(0.0, low), float(length - margin_px)),
        min(max(float(margin_px), high), float(length)),
    )


def checked_box(box_xywh: ArrayLike, frame_height: int, frame_width: int) -> Box:
    """A user's box as floats.

    Raises ValueError unless it is four finite numbers with positive width and height that meet the
    frame, and TypeError if it is not a sequence of numbers.
    """
    try:
        x, y, w, h = (float(value) for value in box_xywh)  # type: ignore[union-attr, arg-type]
    except TypeError as error:
        raise TypeError(
            f"box is {box_xywh!r}: expected four numbers x, y, width, height"
        ) from error
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"box is {box_xywh!r}: expected four numbers x, y, width, height"
        ) from error
    box = x, y, w, h
    if not all(math.isfinite(value) for value in box):
        raise ValueError(
            f"box {box} has numbers that are not finite: give x, y, width, height in pixels"
        )
    if w <= 0 or h <= 0:
        raise ValueError(f"box {box} has no area: width and height must be above 0")
    if x >= frame_width or y >= frame_height or x + w <= 0 or y + h <= 0:
        raise ValueError(
            f"box {box} lies outside the frame of {frame_width}x{frame_height} px: "
            "give the target's x, y, width, height in pixels of this frame"
        )
    if w > 4 * frame_width or h > 4 * frame_height:
        raise ValueError(
            f"box {box} is more than four times the frame of {frame_width}x{frame_height} px"
        )
    return box


def box_iou(a_xywh: Box, b_xywh: Box) -> float:
    """Intersection over union of two boxes, 0 where they do not meet."""
    ax, ay, aw, ah = a_xywh
    bx, by, bw, bh = b_xywh
    overlap_w = min(ax + aw, bx + bw) - max(ax, bx)
    overlap_h = min(ay + ah, by + bh) - max(ay, by)
    if overlap_w <= 0 or overlap_h <= 0:
        return 0.0
    overlap = overlap_w * overlap_h
    return overlap / (aw * ah + bw * bh - overlap)
