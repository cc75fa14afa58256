"""Reading one annotated sequence: its frames, and a box for each."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tracker.errors import DatasetError, VideoError
from edge_tracker.files.untrusted import reading
from edge_tracker.measure.evaluation.box_lines import numbers_of, read_box_lines
from edge_tracker.measure.evaluation.layouts import SequenceFolder
from edge_tracker.rules.boxes import MOST_PX, Box
from edge_tracker.rules.crop import Image
from edge_tracker.video.frames import is_image_name, natural_key, read_image

Boxes = NDArray[np.float64]

#: The number that each layout's files give the first pixel (sources: docs/evaluation.md).
FIRST_PIXEL = {
    "otb": 1, "lasot": 1, "got10k": 1, "uav123": 1, "trackingnet": 0, "vot": 0, "plain": 0,
}  # fmt: skip
# Test sets of which only the first box is public: results for their servers can be made.
_WITHHELD = ("got10k", "trackingnet")


@dataclass(frozen=True)
class AnnotatedSequence:
    """Frames and ground truth of one sequence.

    frames: image files in order. truth_xywh: (frames, 4) float64, x, y, width, height in frame
    pixels, 0-based; NaN where the target is absent; a single row where the rest is withheld.
    overlap_bound_xyxy: the rectangle outside which overlaps do not count, for layouts whose
    official metric has one. truth: the file, for messages.
    """

    name: str
    layout: str
    frames: tuple[Path, ...]
    truth_xywh: Boxes
    overlap_bound_xyxy: Box | None
    truth: Path

    @property
    def first_box(self) -> Box:
        x, y, w, h = (float(value) for value in self.truth_xywh[0])
        return x, y, w, h

    @property
    def withheld(self) -> bool:
        return len(self.truth_xywh) < len(self.frames)

    def read_frame(self, index: int) -> Image:
        """One frame, (height, width, 3) uint8 BGR; DatasetError naming file and line."""
        try:
            return read_image(self.frames[index])
        except VideoError as error:
            raise DatasetError(
                f"sequence {self.name}, line {index + 1} of {self.truth.name}: {error}"
            ) from error


def read_sequence(found: SequenceFolder, max_frames: int | None = None) -> AnnotatedSequence:
    """Read a sequence's annotation and list its frames; at most the first `max_frames`.

    Raises DatasetError naming the sequence, and the file and line where there is one, if they do
    not fit together, cannot be understood, or hold nothing to evaluate.
    """
    images = _images(found)
    lines = _lines(found)
    if found.image_range is not None and len(images) != len(lines):
        images = images[slice(*found.image_range)]
    withheld = len(lines) == 1 and len(images) > 1 and found.layout in _WITHHELD
    if not withheld:
        _check_counts(found, lines, images)
    boxes = np.array([_box(found, index, line) for index, line in enumerate(lines)])
    boxes[:, :2] -= FIRST_PIXEL[found.layout]
    # -1,-1,-1,-1 and 0,0,0,0 are how GOT-10k and LaSOT write an absent target.
    boxes[~(boxes[:, 2:] > 0).all(axis=1)] = np.nan
    if np.isnan(boxes[0]).any():
        raise DatasetError(
            f"sequence {found.name}: line 1 of {found.truth} is {lines[0]!r}, not a box: one "
            "pass starts from the first frame's box; begin the sequence where the target is visible"
        )
    if not withheld:
        boxes[_absent(found, len(boxes))] = np.nan
        boxes = boxes[:max_frames]
        if np.isnan(boxes[1:]).any(axis=1).all():
            raise DatasetError(
                f"sequence {found.name}: {found.truth} shows the target in no frame after the first"
                f" (of {len(boxes)}): there is nothing to evaluate"
            )
    sequence = AnnotatedSequence(
        found.name, found.layout, tuple(images[:max_frames]), boxes, None, found.truth
    )
    if found.layout != "got10k":
        return sequence
    height, width = sequence.read_frame(0).shape[:2]
    # The toolkit clips to 0..width, in boxes that count from 1.
    bound = (-1.0, -1.0, width - 1.0, height - 1.0)
    return replace(sequence, overlap_bound_xyxy=bound)


def _images(found: SequenceFolder) -> list[Path]:
    if not found.images.is_dir():
        raise DatasetError(f"sequence {found.name}: its folder of images {found.images} is missing")
    images = [path for path in found.images.iterdir() if is_image_name(path.name)]
    if not images:
        raise DatasetError(f"sequence {found.name}: {found.images} holds no images")
    return sorted(images, key=lambda path: natural_key(path.name))


def _lines(found: SequenceFolder) -> list[str]:
    if not found.truth.is_file():
        raise DatasetError(f"sequence {found.name}: its ground truth {found.truth} is missing")
    with reading(
        f"sequence {found.name}: ground truth {found.truth}", "copy it again", DatasetError
    ):
        lines = read_box_lines(found.truth)
    if not lines:
        raise DatasetError(f"sequence {found.name}: ground truth {found.truth} is empty")
    return lines


def _check_counts(found: SequenceFolder, lines: list[str], images: list[Path]) -> None:
    counts = f"sequence {found.name}: {found.truth} has {len(lines)} lines for {len(images)} frames"
    if len(lines) < len(images):
        missing = images[len(lines)].name
        raise DatasetError(
            f"{counts}: line {len(lines) + 1}, for {missing}, is missing; "
            "complete the file, or remove the frames that have no box"
        )
    if len(lines) > len(images):
        raise DatasetError(
            f"{counts}: line {len(images) + 1} has no frame, the last is {images[-1].name}; "
            "complete the images, or remove the lines that have none"
        )


def _box(found: SequenceFolder, index: int, line: str) -> Boxes:
    """x, y, width, height of one line, pixels counted as in the file."""
    reason = ""
    try:
        numbers = np.array(numbers_of(line))
    except ValueError as error:
        numbers = np.empty(0)
        reason = f" ({error})"
    if len(numbers) in (4, 8) and not (np.abs(numbers) > MOST_PX).any():
        if np.isnan(numbers).any():
            return np.full(4, np.nan)
        return numbers if len(numbers) == 4 else rectangle_of_polygon(numbers)
    raise DatasetError(
        f"sequence {found.name}: line {index + 1} of {found.truth} is {line[:60]!r}: expected "
        f"x,y,width,height or the eight coordinates of a polygon's corners{reason}"
    )


def rectangle_of_polygon(corners_xy: Boxes) -> Boxes:
    """Four corners, (8,) x, y, x, y, ... -> the upright rectangle x, y, width, height, (4,).

    Its centre is the corners' mean, its aspect ratio that of the bounding box, its area the
    product of the first two sides; one pixel is added to its sides. This is the rule by which the
    got10k and pysot toolkits start trackers on VOT.
    """
    corners = corners_xy.reshape(4, 2)
    extent = corners.max(axis=0) - corners.min(axis=0)
    sides = np.linalg.norm(corners[0] - corners[1]) * np.linalg.norm(corners[1] - corners[2])
    area = extent.prod()
    size = extent * (np.sqrt(sides / area) if area > 0 else 0.0) + 1
    return np.concatenate([corners.mean(axis=0) - size / 2, size])


def _absent(found: SequenceFolder, frames: int) -> NDArray[np.bool_]:
    """Frames in which the layout's own flags say that nothing of the target can be seen."""
    folder = found.truth.parent
    absent = np.zeros(frames, bool)
    if found.layout == "lasot":
        for name in ("full_occlusion.txt", "out_of_view.txt"):
            absent |= _flags(found, folder / name, frames) == 1
    elif found.layout == "got10k":
        if (folder / "cover.label").is_file():
            absent |= _flags(found, folder / "cover.label", frames, default=1) == 0
        else:
            absent |= _flags(found, folder / "absence.label", frames) == 1
    return absent


def _flags(found: SequenceFolder, file: Path, frames: int, default: int = 0) -> NDArray[np.int64]:
    if not file.is_file():
        return np.full(frames, default)
    with reading(f"sequence {found.name}: {file}", "copy it again", DatasetError):
        parts = file.read_text(encoding="utf-8").replace(",", " ").split()
    if len(parts) != frames or not all(re.fullmatch("[0-9]{1,3}", part) for part in parts):
        raise DatasetError(
            f"sequence {found.name}: {file} has {len(parts)} flags for {frames} frames, or some "
            "that are not whole numbers: copy it again"
        )
    return np.array([int(part) for part in parts])
