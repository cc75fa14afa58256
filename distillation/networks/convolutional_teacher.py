"""A trained convolutional tracker's backbone as a dense teacher of what the search tokens should
say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


class ConvolutionalTeacher:
    """Runs an ONNX backbone (1, 3, S, S) BGR in [0, 255] -> (1, C, G, G), one image at a time."""

    def __init__(self, path: Path, token_grid: int) -> None:
        self.path, self.token_grid = path, token_grid
        session = self._open()
        self.size_px = session.get_inputs()[0].shape[2]
        _, channels, grid, _ = session.get_outputs()[0].shape
        self._cells_per_token = max(1, round(grid / token_grid))
        # Sessions do not travel to other processes: each opens its own.
        self._session: Any = None
        self.channels = channels * self._cells_per_token**2

    def features(self, search: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, H, W, 3) uint8 BGR -> (B, grid * grid, channels): each token's cells, side by side.

        Every cell is normalised over its channels to mean 0 and variance 1.
        """
        if self._session is None:
            self._session = self._open()
        name = self._session.get_inputs()[0].name
        maps = []
        for image in search:
            scaled = cv2.resize(image, (self.size_px, self.size_px)).astype(np.float32)
            maps.append(self._session.run(None, {name: scaled.transpose(2, 0, 1)[None]})[0])
        cells = np.concatenate(maps)
        cells -= cells.mean(axis=1, keepdims=True)
        cells /= cells.std(axis=1, keepdims=True) + 1e-4
        count, channels, grid, _ = cells.shape
        share = self._cells_per_token
        if grid != share * self.token_grid:
            size = (share * self.token_grid,) * 2
            cells = np.stack([_resized(cell_map, size) for cell_map in cells])
        split = cells.reshape(count, channels, self.token_grid, share, self.token_grid, share)
        return np.ascontiguousarray(
            split.transpose(0, 2, 4, 1, 3, 5).reshape(count, self.token_grid**2, -1)
        )

    def _open(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(
            str(self.path), options, providers=["CPUExecutionProvider"]
        )


def _resized(channels: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """(C, G, G) -> (C, *size), between the cells linearly."""
    image = channels.transpose(1, 2, 0)
    resized = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return np.moveaxis(resized, 2, 0)
