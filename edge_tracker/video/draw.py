"""Pictures for people: a tracked box drawn into a frame, and a filmstrip of frames."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from edge_tracker.rules.boxes import Box
from edge_tracker.rules.crop import Image

Colour = tuple[int, int, int]
Point = tuple[float, float]

# Bright for dark video, with a dark rim for light video. Solid and dashed tell them apart where
# colours do not.
FOUND_BGR: Colour = (120, 255, 60)
LOST_BGR: Colour = (0, 150, 255)
TRUTH_BGR: Colour = (255, 255, 255)
#: Where there are several targets, each has one: told apart by people of any colour vision (Okabe
#: and Ito, Color Universal Design, 2008). Dashes and a word say that it is lost.
TARGETS_BGR: tuple[Colour, ...] = (
    (233, 180, 86), (0, 159, 230), (66, 228, 240), (167, 121, 204), (115, 158, 0), (0, 94, 213),
)  # fmt: skip
RIM_BGR: Colour = (20, 20, 20)
TEXT_BGR: Colour = (255, 255, 255)
PAPER_BGR: Colour = (250, 250, 250)
INK_BGR: Colour = (40, 40, 40)

FONT = cv2.FONT_HERSHEY_SIMPLEX
# Coordinates go to OpenCV in 1/16 px, so that a slow target does not jump from pixel to pixel.
SHIFT = 4
# Far outside any frame, yet inside OpenCV's 32 bits once shifted.
FAR_PX = 100_000.0


def annotate(
    frame_bgr: Image,
    box_frame_xywh: Box,
    *,
    score: float | None = None,
    found: bool = True,
    edge_std_px: Sequence[float] | None = None,
    number: int | None = None,
) -> Image:
    """A copy of the frame with the box, its score, and one error bar on each edge.

    frame_bgr: (height, width, 3) uint8 BGR, any size; lines and text grow with it.
    box_frame_xywh: in frame pixels; it may reach outside.
    found: False draws a dashed orange box labelled "lost" in place of a solid green one.
    number: of this target among several, from 1; the label has it, and it chooses the colour.
    edge_std_px: standard deviation of the left, top, right and bottom edge in frame pixels, drawn
        as a thin bar of that length from the edge's middle outwards. Zeros, as of a box that was
        given, are left out.
    """
    canvas: Image = frame_bgr.copy()
    line_px = line_width_px(canvas)
    colour = FOUND_BGR if found else LOST_BGR
    if number is not None:
        colour = TARGETS_BGR[(number - 1) % len(TARGETS_BGR)]
    x, y, w, h = box_frame_xywh
    corners = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
    segments = list(zip(corners, corners[1:] + corners[:1], strict=True))
    if not found:
        segments = [dash for segment in segments for dash in _dashes(*segment, 6.0 * line_px)]
    _draw_segments(canvas, segments, colour, line_px)
    if edge_std_px is not None and any(edge_std_px):
        bars = _error_bars(box_frame_xywh, edge_std_px, cap_px=2.0 * line_px)
        _draw_segments(canvas, bars, colour, max(1, line_px // 2))
    words = [] if number is None else [str(number)]
    words += ([] if found else ["lost"]) + ([] if score is None else [f"{score:.2f}"])
    if words:
        _draw_label(canvas, " ".join(words), box_frame_xywh, colour, line_px)
    return canvas


def mark_truth(frame_bgr: Image, box_frame_xywh: Box) -> Image:
    """A copy of the frame with white marks on the corners of a ground truth box.

    frame_bgr: (height, width, 3) uint8 BGR, any size. Corners alone, so that a tracked box which
    fits does not hide them, nor they it.
    """
    canvas: Image = frame_bgr.copy()
    x, y, w, h = box_frame_xywh
    arm_px = min(w, h) / 4
    marks: list[tuple[Point, Point]] = []
    for corner_x, inward_x in ((x, arm_px), (x + w, -arm_px)):
        for corner_y, inward_y in ((y, arm_px), (y + h, -arm_px)):
            corner = (corner_x, corner_y)
            marks.append((corner, (corner_x + inward_x, corner_y)))
            marks.append((corner, (corner_x, corner_y + inward_y)))
    _draw_segments(canvas, marks, TRUTH_BGR, line_width_px(canvas))
    return canvas


def line_width_px(frame: Image) -> int:
    """Width of lines that suits a frame: 1 px at 240p, 3 at 720p, 9 at 4K."""
    height_px, width_px = frame.shape[:2]
    return max(1, round(min(int(height_px), int(width_px)) / 240))


def _draw_segments(
    canvas: Image, segments: Sequence[tuple[Point, Point]], colour: Colour, line_px: int
) -> None:
    rim_px = max(1, line_px // 2)
    for line_colour, thickness in ((RIM_BGR, line_px + 2 * rim_px), (colour, line_px)):
        for start, end in segments:
            cv2.line(canvas, _fixed(start), _fixed(end), line_colour, thickness, cv2.LINE_AA, SHIFT)


def _fixed(point: Point) -> tuple[int, int]:
    x, y = (round(min(max(value, -FAR_PX), FAR_PX) * 2**SHIFT) for value in point)
    return x, y


def _dashes(start: Point, end: Point, dash_px: float) -> list[tuple[Point, Point]]:
    """A line as dashes and gaps of about equal length, with a dash at each end."""
    length = math.dist(start, end)
    # A box of thousands of dashes is a solid one, and slow.
    count = min(2 * round(length / (2 * dash_px)) + 1, 999)
    points = [
        (
            start[0] + (end[0] - start[0]) * index / count,
            start[1] + (end[1] - start[1]) * index / count,
        )
        for index in range(count + 1)
    ]
    return [(points[index], points[index + 1]) for index in range(0, count, 2)]


def _error_bars(
    box_frame_xywh: Box, edge_std_px: Sequence[float], cap_px: float
) -> list[tuple[Point, Point]]:
    """Bars from the middle of each edge, outwards only, so that the target itself stays visible."""
    x, y, w, h = box_frame_xywh
    left, top, right, bottom = edge_std_px
    middle_x, middle_y = x + w / 2, y + h / 2
    bars: list[tuple[Point, Point]] = []
    for edge_x, end_x in ((x, x - left), (x + w, x + w + right)):
        bars.append(((edge_x, middle_y), (end_x, middle_y)))
        bars.append(((end_x, middle_y - cap_px), (end_x, middle_y + cap_px)))
    for edge_y, end_y in ((y, y - top), (y + h, y + h + bottom)):
        bars.append(((middle_x, edge_y), (middle_x, end_y)))
        bars.append(((middle_x - cap_px, end_y), (middle_x + cap_px, end_y)))
    return bars


def _draw_label(
    canvas: Image, text: str, box_frame_xywh: Box, colour: Colour, line_px: int
) -> None:
    """White on a dark plate: above the box, else below, else inside."""
    height, width = canvas.shape[:2]
    text_height_px = max(9, round(min(height, width) / 32))
    (text_width_px, _), scale, thickness = _measure(text, text_height_px)
    pad_px = max(2, text_height_px // 3)
    plate_w, plate_h = text_width_px + 2 * pad_px + 2 * line_px, text_height_px + 2 * pad_px
    x, y, _, h = box_frame_xywh
    gap_px = 2 * line_px
    top = y - gap_px - plate_h
    if top < 0:
        top = y + h + gap_px if y + h + gap_px + plate_h <= height else y + gap_px
    left_px = round(min(max(x - line_px, 0), width - plate_w))
    top_px = round(min(max(top, 0), height - plate_h))
    plate = (left_px, top_px, plate_w, plate_h)
    cv2.rectangle(canvas, plate, RIM_BGR, cv2.FILLED)
    cv2.rectangle(canvas, (left_px, top_px, 2 * line_px, plate_h), colour, cv2.FILLED)
    origin = (left_px + 2 * line_px + pad_px, top_px + pad_px + text_height_px)
    cv2.putText(canvas, text, origin, FONT, scale, TEXT_BGR, thickness, cv2.LINE_AA)


def _measure(text: str, height_px: int) -> tuple[tuple[int, int], float, int]:
    """Size in px, font scale and stroke of a text whose capitals are `height_px` high."""
    thickness = max(1, round(height_px / 12))
    scale = cv2.getFontScaleFromHeight(FONT, height_px, thickness)
    (width_px, text_height_px), _ = cv2.getTextSize(text, FONT, scale, thickness)
    return (width_px, text_height_px), scale, thickness


def filmstrip(
    frames_bgr: Sequence[Image],
    captions: Sequence[str],
    *,
    columns: int = 4,
    cell_width_px: int = 360,
) -> Image:
    """One picture of frames in rows, each above its caption; (height, width, 3) uint8 BGR.

    frames_bgr: each (height, width, 3) uint8 BGR; scaled to fit cells of the first frame's shape,
    never stretched.
    captions: one per frame, in ASCII (OpenCV's fonts hold nothing else); shrunk where too long.

    Raises ValueError without frames, for another number of captions, or for sizes too small.
    """
    if not frames_bgr or len(frames_bgr) != len(captions):
        raise ValueError(
            f"a filmstrip needs frames and as many captions: got {len(frames_bgr)} frames and "
            f"{len(captions)} captions"
        )
    if columns < 1 or cell_width_px < 32:
        raise ValueError(
            f"columns is {columns} and cell_width_px {cell_width_px}: expected at least 1 and 32"
        )
    columns = min(columns, len(frames_bgr))
    rows = math.ceil(len(frames_bgr) / columns)
    first_height, first_width = frames_bgr[0].shape[:2]
    cell_height_px = max(1, round(cell_width_px * first_height / first_width))
    text_height_px = max(9, cell_width_px // 30)
    gap_px = max(4, cell_width_px // 30)
    caption_px = 2 * text_height_px + gap_px
    step_x, step_y = cell_width_px + gap_px, cell_height_px + caption_px
    sheet = np.full((rows * step_y + gap_px, columns * step_x + gap_px, 3), PAPER_BGR, np.uint8)
    for index, (frame, caption) in enumerate(zip(frames_bgr, captions, strict=True)):
        left = gap_px + index % columns * step_x
        top = gap_px + index // columns * step_y
        cell = sheet[top : top + cell_height_px, left : left + cell_width_px]
        _fit_into(cell, frame)
        (width_px, _), scale, thickness = _measure(caption, text_height_px)
        scale *= min(1.0, cell_width_px / max(1, width_px))
        origin = (left, top + cell_height_px + round(1.6 * text_height_px))
        cv2.putText(sheet, caption, origin, FONT, scale, INK_BGR, thickness, cv2.LINE_AA)
    return sheet


def _fit_into(cell: Image, frame: Image) -> None:
    cell_height, cell_width = cell.shape[:2]
    factor = min(cell_width / frame.shape[1], cell_height / frame.shape[0])
    width = min(cell_width, max(1, round(frame.shape[1] * factor)))
    height = min(cell_height, max(1, round(frame.shape[0] * factor)))
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    left, top = (cell_width - width) // 2, (cell_height - height) // 2
    cell[:] = RIM_BGR
    cell[top : top + height, left : left + width] = cv2.resize(
        frame, (width, height), interpolation=interpolation
    )
