"""Frames out: a video, or a folder of images, that is whole or not there."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from edge_tracker.errors import VideoError
from edge_tracker.files.atomic_file import replacing
from edge_tracker.files.plain_name import plain_name
from edge_tracker.rules.crop import Image

#: Ending -> codec, each of which the FFmpeg of OpenCV's wheels encodes; H.264 is not among them.
CODECS = {
    ".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".avi": "XVID", ".mkv": "mp4v", ".webm": "VP80",
}  # fmt: skip
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
#: MPEG-4 part 2 holds a frame rate as a fraction whose numerator fits into 16 bits.
MAX_RATE_NUMERATOR = 65535

WriteFrame = Callable[[Image], None]


@contextmanager
def frame_writer(target: Path, fps: float, width_px: int, height_px: int) -> Iterator[WriteFrame]:
    """Give a function that appends a (height, width, 3) uint8 BGR frame.

    target: a video, whose ending says its format (`CODECS`), or images: a pattern such as
    `frames/%06d.jpg`, counted from 0, whose folder does not exist yet or is empty. A video has one
    size: frames of another are scaled to it. It takes its name only once it is complete and can be
    read back.

    Raises ValueError for a name of another ending or a folder that holds something, OSError where
    nothing can be made, VideoError if OpenCV cannot encode or the disk is full.
    """
    suffix = target.suffix.lower()
    if "%" in target.name and suffix in IMAGE_SUFFIXES:
        with _image_writer(target) as write:
            yield write
    elif suffix in CODECS:
        with _video_writer(target, fps, width_px, height_px) as write:
            yield write
    else:
        raise ValueError(
            f"{target} has no ending that can be written: name a video "
            f"({', '.join(CODECS)}), such as {target.with_suffix('.mp4')}, or images, such as "
            f"{target.with_suffix('') / '%06d.jpg'}"
        )


@contextmanager
def _video_writer(target: Path, fps: float, width_px: int, height_px: int) -> Iterator[WriteFrame]:
    codec = CODECS[target.suffix.lower()]
    with replacing(target) as temporary, plain_name(temporary) as name:
        fourcc = cv2.VideoWriter.fourcc(*codec)
        writer = cv2.VideoWriter(name, fourcc, storable_rate(fps), (width_px, height_px))
        if not writer.isOpened():
            _refuse_full_disk(temporary, target)
            raise VideoError(
                f"video {target} cannot be encoded ({width_px}x{height_px} px, {fps} fps): this "
                f"OpenCV has no encoder of {codec}, or not for this size; save images instead, "
                f"such as {target.with_suffix('') / '%06d.jpg'}"
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
        num_readable = _count_readable(name, num_written)
        if num_readable != num_written:
            _refuse_full_disk(temporary, target)
            raise VideoError(
                f"video {target} is not complete: {num_readable} of {num_written} frames were "
                "stored, the disk was probably full"
            )


def _count_readable(name: str, num_written: int) -> int:
    """As announced, if the last of these frames can be read.

    OpenCV reports no failed write, and where the disk was full in the middle, a header may still
    have been filled in at the end.
    """
    video = cv2.VideoCapture(name)
    num_announced = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    video.set(cv2.CAP_PROP_POS_FRAMES, num_written - 1)
    has_last = num_written == 0 or video.grab()
    video.release()
    return num_announced if has_last else min(num_announced, num_written - 1)


def _refuse_full_disk(temporary: Path, target: Path) -> None:
    """OpenCV does not say why it could not write; the system does, if we try."""
    try:
        with temporary.open("ab") as file:
            file.write(bytes(1 << 20))
            os.fsync(file)
    except OSError as error:
        raise VideoError(f"video {target} cannot be written: {error.strerror}") from error


def storable_rate(fps: float) -> float:
    """The frame rate nearest to this one that MPEG-4 part 2 can hold.

    OpenCV writes a rate as thousandths, if it must: 119.987 becomes 119987/1000, which is refused.
    """
    for decimals in (3, 2, 1, 0):
        rate = round(fps, decimals)
        if rate * 10**decimals <= MAX_RATE_NUMERATOR:
            return rate
    raise ValueError(f"{fps} frames per second cannot be stored")


@contextmanager
def _image_writer(pattern: Path) -> Iterator[WriteFrame]:
    if not re.fullmatch(r"[^%]*%(0\d)?d[^%]*", pattern.name):
        raise ValueError(f"{pattern} is not a pattern of images: expected one such as %06d.jpg")
    folder = pattern.parent
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} holds something already: name a new folder for the images")
    if folder.absolute() == Path.cwd() or not folder.absolute().parent.is_dir():
        raise ValueError(
            f"{pattern} does not name a new folder in one that exists: expected such as "
            f"frames/{pattern.name}"
        )
    real = Path(os.path.realpath(folder))
    temporary = real.with_name(f".{uuid.uuid4().hex[:12]}.part")
    try:
        temporary.mkdir()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error
    num_written = 0

    def write(frame: Image) -> None:
        nonlocal num_written
        file = temporary / (pattern.name % num_written)
        encoded = cv2.imencode(pattern.suffix.lower(), frame)[1].tobytes()
        try:
            file.write_bytes(encoded)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder / file.name)) from error
        num_written += 1

    try:
        yield write
        temporary.rename(real)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
