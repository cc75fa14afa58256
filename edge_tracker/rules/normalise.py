"""The one normalisation of the repository: what the network's weights were trained on.

On a device it is part of the graphs (folded into the patch embedding); this array form is for
training and for the reference.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: ImageNet statistics of pixels scaled to 0..1.
MEAN_RGB = (0.485, 0.456, 0.406)
STD_RGB = (0.229, 0.224, 0.225)


def normalise(images_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(..., height, width, 3) uint8 BGR -> (..., 3, height, width) float32 RGB, (x / 255 - mean) /
    std.
    """
    rgb = images_bgr[..., ::-1].astype(np.float32) / np.float32(255)
    scaled = (rgb - np.array(MEAN_RGB, np.float32)) / np.array(STD_RGB, np.float32)
    return np.ascontiguousarray(np.moveaxis(scaled, -1, -3))
