"""Frames in, from a video file, camera, stream or folder of images."""

from __future__ import annotations

import dataclasses
import math
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob as find_paths
from glob import has_magic
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from edge_tracker.errors import VideoError
from edge_tracker.files.plain_name import plain_name
from edge_tracker.files.what_is_it import kind_of_file
from edge_tracker.rules.crop import Image
from edge_tracker.video.live import LiveFrames

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
#: Frames per second where the source does not say: folders of images, some cameras and streams.
DEFAULT_FPS = 30.0


@dataclass(frozen=True)
class FrameSource:
    """Frames in order, to be iterated once: each (height, width, 3) uint8 BGR, owned by the caller.

    name: what was opened, for messages.
    path: file or folder, None for cameras, streams and pipes.
    fps: nominal frames per second.
    num_frames: as announced, None where unknown; a damaged video may hold fewer.
    first_frame: the frame that iteration starts with, ahead of time; later ones may differ in size.
    dropped: how many frames of a live source were passed over so far, as newer ones were there.

    Iterating raises VideoError naming the file when an image of a folder cannot be read.
    """

    name: str
    path: Path | None
    fps: float
    num_frames: int | None
    first_frame: Image
    frames: Iterator[Image]
    dropped: Callable[[], int] = lambda: 0

    def __iter__(self) -> Iterator[Image]:
        return self.frames

    @property
    def live(self) -> bool:
        """True for cameras, streams and pipes, which end when somebody stops them."""
        return self.path is None


@contextmanager
def open_frames(source: str | Path | int, *, latest: bool = False) -> Iterator[FrameSource]:
    """Open a video file, a folder of images (2 before 10), a camera index, a stream or a pipe.

    Images may also be given by a pattern, `frames/%06d.jpg` or `frames/*.jpg`. A string of digits
    is a camera unless a file has that name; a string with "://" is a stream's address, one with
    " ! " a GStreamer pipeline. latest: of a live source, always give the newest frame, and drop
    those that came meanwhile; without a meaning for files.

    Raises VideoError, naming the source, if it yields no frame.
    """
    text, path = str(source), Path(str(source))
    if path.is_dir() and not isinstance(source, int):
        yield _open_folder(path)
        return
    if isinstance(source, int) or (re.fullmatch(r"\d{1,4}", text) and not path.exists()):
        with _open_live(int(text), f"camera {text}", latest) as frames:
            yield frames
    elif path.exists() and stat.S_ISREG(path.stat().st_mode):
        with _open_file(path) as frames:
            yield frames
    elif path.exists():
        with plain_name(path) as name, _open_live(name, text, latest) as frames:
            yield frames
    elif "://" in text or " ! " in text:
        with _open_live(text, f"stream {text}", latest) as frames:
            yield frames
    elif images := _images_of_pattern(text):
        yield _open_images(text, Path(text).parent, images)
    else:
        raise VideoError(
            f"{text} does not exist: give a video file, a folder of images, a pattern such as "
            "frames/%06d.jpg, a camera index such as 0, or a stream's address"
        )


def select_frames(
    source: FrameSource, start_s: float = 0.0, end_s: float | None = None, every: int = 1
) -> FrameSource:
    """The source from one time to another, or every n-th frame of it; times by its nominal rate.

    Raises ValueError for times in the wrong order, VideoError where nothing is left.
    """
    if end_s is not None and end_s <= start_s:
        raise ValueError(f"the end, {end_s} s, is not after the start, {start_s} s")
    first = round(start_s * source.fps)
    last = None if end_s is None else max(round(end_s * source.fps), first + 1)
    frames = islice(source.frames, first, last, every)
    first_frame = next(frames, None)
    if first_frame is None:
        count = source.num_frames
        length = "" if count is None else f": it is {count / source.fps:g} s long"
        raise VideoError(f"{source.name} has no frame at {start_s:g} s{length}")
    count = source.num_frames
    if count is not None:
        count = len(range(first, count if last is None else min(last, count), every))
    return dataclasses.replace(
        source,
        fps=source.fps / every,
        num_frames=count,
        first_frame=first_frame,
        frames=_with_first(first_frame, frames),
    )


@contextmanager
def _open_file(path: Path) -> Iterator[FrameSource]:
    with plain_name(path) as name:
        capture = cv2.VideoCapture(name)
        try:
            # Sizes and counts in headers lie; a decoded frame does not.
            readable, first_frame = capture.read()
            if not readable:
                raise VideoError(f"{path} cannot be opened as video: {_remedy_of_file(path)}")
            announced = capture.get(cv2.CAP_PROP_FRAME_COUNT)
            yield FrameSource(
                name=str(path),
                path=path,
                fps=_nominal(capture.get(cv2.CAP_PROP_FPS)),
                num_frames=int(announced) if 0 < announced < 2**40 else None,
                first_frame=np.asarray(first_frame, np.uint8),
                frames=_with_first(np.asarray(first_frame, np.uint8), _captured(capture)),
            )
        finally:
            capture.release()


@contextmanager
def _open_live(opened: str | int, name: str, latest: bool) -> Iterator[FrameSource]:
    frames = LiveFrames(opened, latest)
    try:
        first_frame = frames.next()
        if first_frame is None:
            raise VideoError(f"{name} cannot be opened as video: {_remedy_of_live(opened)}")
        yield FrameSource(
            name=name,
            path=None,
            fps=_nominal(frames.fps),
            num_frames=None,
            first_frame=first_frame,
            frames=_with_first(first_frame, iter(frames)),
            dropped=lambda: frames.dropped,
        )
    finally:
        frames.close()


def _nominal(fps: float) -> float:
    return fps if math.isfinite(fps) and 0 < fps <= 1000 else DEFAULT_FPS


def _remedy_of_file(path: Path) -> str:
    kind = kind_of_file(path)
    if kind in ("text", "checkpoint", "model"):
        return f"it is a {kind}{' file' if kind == 'text' else ''}; give a video"
    return (
        "it is damaged, not a video, or in a codec that this OpenCV cannot decode; "
        f"try `ffmpeg -i {path.name} -c:v libx264 out.mp4` and open out.mp4"
    )


def _remedy_of_live(opened: str | int) -> str:
    if isinstance(opened, int):
        return "check that it is plugged in, not used by another program, and that you may read it"
    return "check the address, the network, and that this OpenCV build has FFmpeg or GStreamer"


def _with_first(first_frame: Image, others: Iterator[Image]) -> Iterator[Image]:
    # A copy, because the caller owns each frame and first_frame is handed out as well.
    yield first_frame.copy()
    yield from others


def _captured(capture: cv2.VideoCapture) -> Iterator[Image]:
    while True:
        readable, frame = capture.read()
        if not readable:
            return
        yield np.asarray(frame, np.uint8)


def _images_of_pattern(text: str) -> list[Path]:
    """Images by a pattern of the shell or of printf, in natural order; none where it is neither."""
    folder, name = Path(text).parent, Path(text).name
    found: Sequence[str | Path] = ()
    if printf := re.fullmatch(r"([^%]*)%(0\d+)?d([^%]*)", name):
        before, width, after = printf.groups()
        digits = rf"\d{{{int(width)},}}" if width else r"\d+"
        wanted = re.compile(f"{re.escape(before)}{digits}{re.escape(after)}")
        found = [path for path in folder.glob("*") if wanted.fullmatch(path.name)]
    elif has_magic(text):
        found = find_paths(text)
    images = [Path(path) for path in found if is_image_name(Path(path).name)]
    return sorted(images, key=lambda path: natural_key(str(path)))


def _open_folder(folder: Path) -> FrameSource:
    images = sorted(
        (path for path in folder.iterdir() if is_image_name(path.name)),
        key=lambda path: natural_key(path.name),
    )
    if not images and (folder / "manifest.json").is_file():
        raise VideoError(f"{folder} holds no images: it is a bundle, which comes before the source")
    if not images:
        inner = [child.name for child in sorted(folder.iterdir()) if child.is_dir()]
        hint = f"; did you mean one of its folders ({', '.join(inner[:3])})?" if inner else ""
        raise VideoError(
            f"folder {folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}){hint}"
        )
    return _open_images(str(folder), folder, images)


def _open_images(name: str, folder: Path, images: Sequence[Path]) -> FrameSource:
    return FrameSource(
        name=name,
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
        other = (
            cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED) if image is None and encoded.size else None
        )
    except (OSError, cv2.error) as error:
        raise VideoError(f"image {path} cannot be read: {error}") from error
    if other is not None:
        raise VideoError(f"image {path} holds {other.dtype} values: convert it to 8 bits a channel")
    if image is None:
        raise VideoError(
            f"image {path} cannot be decoded: it is damaged, empty or not an image; replace or "
            "remove it"
        )
    return np.asarray(image, np.uint8)
