"""Finding and decoding still images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tracker.errors import DatasetError, VideoError
from edge_tracker.video import frames

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def image_paths(folder: Path) -> list[Path]:
    """Images directly in a folder, hidden ones left out, in the order of their names. Raises
    DatasetError if there are none.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    if not paths:
        raise DatasetError(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)})")
    return paths


def read_image(path: Path) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 BGR. Raises DatasetError for a file that is missing or does not
    decode.
    """
    try:
        return frames.read_image(path)
    except VideoError as error:
        raise DatasetError(f"{error}; copy it again, or take it out of the data set") from error
