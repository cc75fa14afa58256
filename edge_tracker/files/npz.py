"""Arrays of an .npz file, no larger than it is allowed to make them."""

from __future__ import annotations

import math
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray


def read_npz(path: Path, names: tuple[str, ...], most_bytes: int) -> dict[str, NDArray[Any]]:
    """The arrays of these names. Raises ValueError where one is missing, holds objects, or all
    together take more than `most_bytes`, before that is taken; else whatever NumPy and zipfile
    raise for damaged files.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
        warnings.simplefilter("error")  # of headers that Python 2 wrote
        present = archive.namelist()
        left = most_bytes
        for name in names:
            entry = f"{name}.npy"
            if present.count(entry) != 1:
                raise ValueError(f"it holds {present.count(entry)} arrays {name!r}, expected one")
            with archive.open(entry) as file:
                left -= _size_bytes(file)
                if left < 0:
                    raise ValueError(f"its arrays take more than {most_bytes} bytes")
            with archive.open(entry) as file:
                arrays[name] = np.asarray(npy.read_array(file, allow_pickle=False))
    return arrays


def _size_bytes(file: Any) -> int:
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"an array of it has format {version}")
    shape, _, dtype = read(file)
    if dtype.hasobject or not all(0 <= length < 2**40 for length in shape):
        raise ValueError(f"an array of it has shape {str(shape)[:60]} of {dtype}")
    return math.prod(shape) * dtype.itemsize
