"""Real annotated tracks to train on: one zip a track, frames cut around one object.

`manifest.csv` lists them: track (the zip's name), group (tracks of one group share footage) and
weight (how often to draw it) are read here. `NAME.zip` holds the frames' images, and `boxes.csv`:
file, x, y, w, h in pixels of that image, 0-based, and visible, 0 or 1.
"""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tracker.errors import DatasetError
from edge_tracker.rules.crop import Image

#: Decoded frames that a process keeps.
CACHE_BYTES = 2 << 30
#: One group in so many is kept out of training.
VALIDATION_SHARE = 8


@dataclass(frozen=True)
class Track:
    """One object's way through a video.

    images: encoded, in order of time. boxes_xywh: (frames, 4) float64, NaN where the object is
    absent. weight: relative to other tracks.
    """

    name: str
    group: str
    weight: float
    images: tuple[bytes, ...]
    boxes_xywh: NDArray[np.float64]

    @property
    def visible(self) -> NDArray[np.bool_]:
        return np.asarray(~np.isnan(self.boxes_xywh).any(axis=1))


class DecodedFrames:
    """Frames of tracks, decoded; as many as fit into `capacity_bytes` stay."""

    def __init__(self, capacity_bytes: int = CACHE_BYTES) -> None:
        self.capacity_bytes = capacity_bytes
        self._kept: OrderedDict[tuple[str, int], Image] = OrderedDict()
        self._bytes = 0

    def read(self, track: Track, frame: int) -> Image:
        """(height, width, 3) uint8 BGR, not to be written to. Raises DatasetError."""
        key = (track.name, frame)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        decoded = cv2.imdecode(np.frombuffer(track.images[frame], np.uint8), cv2.IMREAD_COLOR)
        if decoded is None:
            raise DatasetError(
                f"track {track.name}: its frame {frame} does not decode: copy its zip again"
            )
        image = np.asarray(decoded, np.uint8)
        self._kept[key] = image
        self._bytes += image.nbytes
        while self._bytes > self.capacity_bytes and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return image


def read_tracks(folder: Path, split: Literal["train", "validation"]) -> list[Track]:
    """All tracks of one split; groups are kept on one side of it.

    Raises DatasetError, naming the file, for a folder without a manifest and for damaged tracks.
    """
    manifest = folder / "manifest.csv"
    try:
        with manifest.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        listed = [(row["track"], row["group"], float(row["weight"])) for row in rows]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{manifest} is not a list of tracks ({type(error).__name__}: {error}): expected "
            "columns track, group and weight beside one zip for each track"
        ) from error
    groups = sorted({group for _, group, _ in listed})
    held_out = set(groups[VALIDATION_SHARE // 2 :: VALIDATION_SHARE])
    wanted = [entry for entry in listed if (entry[1] in held_out) == (split == "validation")]
    tracks = [_read_track(folder, *entry) for entry in wanted]
    tracks = [track for track in tracks if track.visible.any()]
    if not tracks:
        raise DatasetError(
            f"{manifest} lists {len(listed)} tracks of {len(groups)} groups: none is left for "
            f"{split}"
        )
    return tracks


def _read_track(folder: Path, name: str, group: str, weight: float) -> Track:
    path = folder / f"{name}.zip"
    try:
        with zipfile.ZipFile(path) as archive:
            table = io.StringIO(archive.read("boxes.csv").decode("utf-8"))
            rows = list(csv.DictReader(table))
            images = tuple(archive.read(row["file"]) for row in rows)
        boxes = np.array(
            [
                [float(row[side]) for side in "xywh"] if row["visible"] == "1" else [np.nan] * 4
                for row in rows
            ]
        ).reshape(-1, 4)
    except (OSError, zipfile.BadZipFile, zlib.error, KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"track {path} cannot be read ({type(error).__name__}: {error}): copy it again"
        ) from error
    return Track(name, group, weight, images, boxes)
