"""What calibration samples can be recorded from: a folder's sequences, videos and images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_tracker.errors import CalibrationError, DatasetError
from edge_tracker.measure.evaluation.box_lines import numbers_of, read_box_lines
from edge_tracker.measure.evaluation.ground_truth import read_sequence
from edge_tracker.measure.evaluation.layouts import MixedLayouts, SequenceFolder, find_sequences
from edge_tracker.rules.boxes import Box
from edge_tracker.rules.crop import Image
from edge_tracker.video.frames import IMAGE_SUFFIXES, natural_key, open_frames, read_image

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})

#: Frames with the box that is known of each, or None.
Frames = Iterator[tuple[Image, Box | None]]


@dataclass(frozen=True)
class Source:
    """One sequence, video or image to record from; the first box of `frames` is always known.

    kind: "sequence", "video" or "image". frames: opens it, and raises EdgeTrackerError for what
    cannot be read.
    """

    name: str
    kind: str
    frames: Callable[[], Frames]


def find_sources(folder: Path) -> list[Source]:
    """Everything in a folder that samples can be recorded from, in natural order.

    Annotated sequences in any layout that `edge-tracker eval` reads; videos and images beside a
    text file of the same name, with boxes as x,y,width,height lines: of a video its first line is
    the target in the first frame, of an image each line is a target.

    A video without its text file warns. Raises CalibrationError for a missing folder, or one with
    nothing to record from, and DatasetError for one that mixes layouts.
    """
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        raise CalibrationError(f"{folder} {state}: give a folder to record from")
    sequences = _sequences(folder)
    sources = [sequence_source(found) for found in sequences]
    # What lies in a sequence's folder is of that sequence, which may be held back.
    taken = {found.images.resolve() for found in sequences}
    taken |= {found.truth.parent.resolve() for found in sequences} - {folder.resolve()}
    for path in sorted(folder.rglob("*"), key=lambda path: natural_key(str(path))):
        suffix, boxes = path.suffix.lower(), path.with_suffix(".txt")
        if path.name.startswith(".") or taken & set(path.resolve().parents):
            continue
        name = path.relative_to(folder).as_posix()
        if not boxes.is_file():
            if suffix in VIDEO_SUFFIXES:
                warnings.warn(
                    f"{name} is left out: its target's x,y,width,height in the first frame is "
                    f"expected in {boxes.name} beside it",
                    RuntimeWarning,
                    stacklevel=2,
                )
            continue
        if suffix in VIDEO_SUFFIXES:
            sources.append(Source(name, "video", _video_opener(path, boxes)))
        elif suffix in IMAGE_SUFFIXES:
            sources.append(Source(name, "image", _image_opener(path, boxes)))
    if not sources:
        raise CalibrationError(
            f"folder {folder} holds nothing to record from: expected annotated sequences as for "
            "`edge-tracker eval`, or videos and images, each with a .txt of the same name beside "
            "it that holds x,y,width,height of its target"
        )
    return sources


def has_sequences(folder: Path) -> bool:
    """Whether there are annotated ones. Raises DatasetError for a folder that mixes layouts."""
    return bool(_sequences(folder))


def sequence_source(found: SequenceFolder) -> Source:
    def frames() -> Frames:
        sequence = read_sequence(found)
        for index, row in enumerate(sequence.truth_xywh):
            x, y, w, h = (float(value) for value in row)
            yield sequence.read_frame(index), None if x != x else (x, y, w, h)

    return Source(found.name, "sequence", frames)


def _sequences(folder: Path) -> Sequence[SequenceFolder]:
    try:
        return find_sequences(folder)
    except MixedLayouts:
        raise
    except DatasetError:
        # No sequence at all is no fault here.
        return ()


def _video_opener(video: Path, boxes: Path) -> Callable[[], Frames]:
    def frames() -> Frames:
        first_box = _read_boxes(boxes)[0]
        with open_frames(video) as images:
            for index, image in enumerate(images):
                yield image, first_box if index == 0 else None

    return frames


def _image_opener(image: Path, boxes: Path) -> Callable[[], Frames]:
    def frames() -> Frames:
        content = read_image(image)
        for box in _read_boxes(boxes):
            yield content, box

    return frames


def _read_boxes(path: Path) -> list[Box]:
    try:
        lines = read_box_lines(path)
    except (OSError, UnicodeError) as error:
        raise CalibrationError(
            f"{path} cannot be read ({error}): expected x,y,width,height in pixels, as text"
        ) from error
    boxes: list[Box] = []
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            x, y, w, h = numbers_of(line)
        except ValueError as error:
            raise CalibrationError(
                f"line {number + 1} of {path} is {line[:60]!r}: expected x,y,width,height in pixels"
                f" ({error})"
            ) from error
        boxes.append((x, y, w, h))
    if not boxes:
        raise CalibrationError(f"{path} is empty: expected x,y,width,height of the target")
    return boxes
