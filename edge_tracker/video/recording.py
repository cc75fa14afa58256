"""Frames out, as an mp4 file that is whole or not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from edge_tracker.errors import VideoError
from edge_tracker.files.atomic_file import replacing
from edge_tracker.rules.crop import Image


@contextmanager
def mp4_writer(
    target: Path, fps: float, width_px: int, height_px: int
) -> Iterator[Callable[[Image], None]]:
    """Give a function that appends a (height, width, 3) uint8 BGR frame to an mp4 (codec mp4v).

    A video has one size: frames of another are scaled to it. The file takes its name only once it
    is complete and can be read back. Raises ValueError for a name that does not end in .mp4,
    OSError where no file can be made, VideoError if OpenCV cannot encode or the disk is full.
    """
    if target.suffix.lower() != ".mp4":
        raise ValueError(
            f"video {target} must be named .mp4, for example {target.with_suffix('.mp4')}"
        )
    with replacing(target) as temporary:
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(temporary), fourcc, fps, (width_px, height_px))
        if not writer.isOpened():
            raise VideoError(
                f"video {target} cannot be encoded ({width_px}x{height_px} px, {fps} fps): this "
                "OpenCV has no mp4v encoder; install opencv-python, which brings one"
            )
        num_written = 0

        def write(frame: Image) -> None:
            nonlocal num_written
            if frame.shape[:2] != (height_px, width_px):
                writer.write(cv2.resize(frame, (width_px, height_px), interpolation=cv2.INTER_AREA))
            else:
                writer.write(frame)
            num_written += 1

        try:
            yield write
        finally:
            writer.release()
        # OpenCV reports no failed write: a full disk shows only in what can be read back.
        written = cv2.VideoCapture(str(temporary))
        num_readable = int(written.get(cv2.CAP_PROP_FRAME_COUNT)) if written.isOpened() else 0
        written.release()
        if num_readable != num_written:
            raise VideoError(
                f"video {target} is not complete: {num_readable} of {num_written} frames were "
                "stored, the disk is probably full"
            )
