"""The one decoding of the repository: edge distributions to edges and their uncertainty."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Edges(NamedTuple):
    """Both float64, last axis left, top, right, bottom, as fractions of the search crop's side."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]


def decode_edges(edge_probs: NDArray[np.float32]) -> Edges:
    """(..., 4, bins) distributions -> expectation and standard deviation, each (..., 4).

    Bin i of n stands for the coordinate i / n (paper, eq. 3): the last bin is not the far border.
    """
    probs = edge_probs.astype(np.float64)
    coordinates = np.arange(probs.shape[-1]) / probs.shape[-1]
    mean = probs @ coordinates
    variance = probs @ coordinates**2 - mean**2
    return Edges(mean, np.sqrt(np.maximum(variance, 0.0)))
