"""Inputs of both graphs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_tracker.bundle.spec import ModelSpec


def random_images(spec: ModelSpec, batch: int, seed: int = 0) -> dict[str, NDArray[np.uint8]]:
    """`templates` (batch, 2, Ht, Wt, 3) and `search` (batch, Hs, Ws, 3), uint8 BGR."""
    random = np.random.default_rng(seed)
    template, search = spec.template_size_px, spec.search_size_px
    return {
        "templates": random.integers(0, 256, (batch, 2, template, template, 3), np.uint8),
        "search": random.integers(0, 256, (batch, search, search, 3), np.uint8),
    }
