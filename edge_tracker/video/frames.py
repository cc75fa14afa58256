"""Frames in, from a video file, camera, stream or folder of images."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge_tracker.errors import VideoError
from edge_tracker.rules.crop import Image

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
#: Frames per second where the source does not say: folders of images, some cameras and streams.
DEFAULT_FPS = 30.0


@dataclass(frozen=True)
class FrameSource:
    """Frames in order, to be iterated once: each (height, width, 3) uint8 BGR, owned by the caller.

    name: what was opened, for messages.
    path: file or folder, None for cameras and streams.
    fps: nominal frames per second.
    num_frames: as announced, None where unknown; a damaged video may hold fewer.
    first_frame: the frame that iteration starts with, ahead of time; later ones may differ in size.

    Iterating raises VideoError naming the file when an image of a folder cannot be read.
    """

    name: str
    path: Path | None
    fps: float
    num_frames: int | None
    first_frame: Image
    frames: Iterator[Image]

    def __iter__(self) -> Iterator[Image]:
        return self.frames

    @property
    def live(self) -> bool:
        """True for cameras and streams, which end when somebody stops them."""
        return self.path is None


@contextmanager
def open_frames(source: str | Path | int) -> Iterator[FrameSource]:
    """Open a video file, a folder of images (2 before 10), a camera index or a stream.

    A string of digits is a camera unless a file has that name; a string with "://" is a stream's
    address, one with " ! " a GStreamer pipeline. Raises VideoError, naming the source, if it yields
    no frame.
    """
    text, path = str(source), Path(str(source))
    if path.is_dir() and not isinstance(source, int):
        yield _open_folder(path)
        return
    opened: str | int = text
    file: Path | None = None
    if isinstance(source, int) or (re.fullmatch(r"\d{1,4}", text) and not path.exists()):
        opened, name = int(text), f"camera {text}"
    elif path.exists():
        name, file = text, path
    elif "://" in text or " ! " in text:
        name = f"stream {text}"
    else:
        raise VideoError(
            f"{text} does not exist: give a video file, a folder of images, a camera index such as "
            "0, or a stream's address"
        )
    with _open_capture(opened, name, file) as frames:
        yield frames


@contextmanager
def _open_capture(opened: str | int, name: str, path: Path | None) -> Iterator[FrameSource]:
    capture = cv2.VideoCapture(opened)
    try:
        # Sizes and counts in headers lie; a decoded frame does not.
        readable, first_frame = capture.read()
        if not readable:
            raise VideoError(f"{name} cannot be opened as video: {_opening_remedy(opened, path)}")
        fps = capture.get(cv2.CAP_PROP_FPS)
        announced = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        yield FrameSource(
            name=name,
            path=path,
            fps=fps if math.isfinite(fps) and 0 < fps <= 1000 else DEFAULT_FPS,
            num_frames=int(announced) if path is not None and 0 < announced < 2**40 else None,
            first_frame=np.asarray(first_frame, np.uint8),
            frames=_captured_frames(capture, np.asarray(first_frame, np.uint8)),
        )
    finally:
        capture.release()


def _opening_remedy(opened: str | int, path: Path | None) -> str:
    if path is not None:
        return (
            "it is damaged, not a video, or in a codec that this OpenCV cannot decode; "
            f"try `ffmpeg -i {path.name} -c:v libx264 out.mp4` and open out.mp4"
        )
    if isinstance(opened, int):
        return "check that it is plugged in, not used by another program, and that you may read it"
    return "check the address, the network, and that this OpenCV build has FFmpeg or GStreamer"


def _captured_frames(capture: cv2.VideoCapture, first_frame: Image) -> Iterator[Image]:
    # A copy, because the caller owns each frame and first_frame is handed out as well.
    yield first_frame.copy()
    while True:
        readable, frame = capture.read()
        if not readable:
            return
        yield np.asarray(frame, np.uint8)


def _open_folder(folder: Path) -> FrameSource:
    images = sorted(
        (path for path in folder.iterdir() if is_image_name(path.name)),
        key=lambda path: natural_key(path.name),
    )
    if not images:
        inner = [child.name for child in sorted(folder.iterdir()) if child.is_dir()]
        hint = f"; did you mean one of its folders ({', '.join(inner[:3])})?" if inner else ""
        raise VideoError(
            f"folder {folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}){hint}"
        )
    return FrameSource(
        name=str(folder),
        path=folder,
        fps=DEFAULT_FPS,
        num_frames=len(images),
        first_frame=read_image(images[0]),
        frames=(read_image(image) for image in images),
    )


def is_image_name(name: str) -> bool:
    """True for the images that OpenCV reads, hidden files left out."""
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sorting key by which frame2 comes before frame10."""
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def read_image(path: Path) -> Image:
    """One image file as (height, width, 3) uint8 BGR; VideoError naming it where it is none."""
    try:
        # Not cv2.imread: it fails without a reason, and on paths outside ASCII on some systems.
        encoded = np.fromfile(path, np.uint8)
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    except (OSError, cv2.error) as error:
        raise VideoError(f"image {path} cannot be read: {error}") from error
    if image is None:
        raise VideoError(
            f"image {path} cannot be decoded: it is damaged, empty or not an image; replace or "
            "remove it"
        )
    return np.asarray(image, np.uint8)
