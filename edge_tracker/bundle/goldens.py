"""A bundle's golden cases: inputs, and PyTorch's outputs for them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tracker.bundle.contract import EDGE_PROBS, SCORE, SEARCH, TEMPLATES
from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import BundleError

GOLDEN = "golden.npz"


@dataclass(frozen=True)
class Golden:
    """N cases. templates uint8 (N, 2, Ht, Wt, 3) BGR; search uint8 (N, Hs, Ws, 3) BGR; edge_probs
    float32 (N, 4, bins), rows left, top, right, bottom; score float32 (N,), probabilities.
    """

    templates: NDArray[np.uint8]
    search: NDArray[np.uint8]
    edge_probs: NDArray[np.float32]
    score: NDArray[np.float32]

    def save(self, path: Path) -> None:
        np.savez_compressed(path, **vars(self))


def load_golden(bundle: Bundle) -> Golden:
    """The bundle's golden cases; BundleError if they are missing, damaged or of another network."""
    bundle.check_files([GOLDEN])
    try:
        with np.load(bundle.path / GOLDEN, allow_pickle=False) as arrays:
            golden = Golden(**arrays)
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise BundleError(
            f"bundle {bundle.path}: {GOLDEN} is not readable ({error}); copy the bundle again, or "
            "convert the checkpoint anew"
        ) from error
    spec, cases = bundle.spec, len(golden.search)
    for tensor in (TEMPLATES, SEARCH, EDGE_PROBS, SCORE):
        name, shape = tensor.name, tensor.shape(spec, cases)
        if cases == 0 or getattr(golden, name).shape != shape:
            raise BundleError(
                f"bundle {bundle.path}: {name} in {GOLDEN} has shape {getattr(golden, name).shape},"
                f" expected {shape} with at least one case; convert the checkpoint anew"
            )
    return golden
