"""A bundle's golden cases: inputs, and PyTorch's outputs for them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tracker.bundle.contract import EDGE_PROBS, SCORE, SEARCH, TEMPLATES
from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import BundleError
from edge_tracker.files.npz import read_npz
from edge_tracker.files.untrusted import reading

GOLDEN = "golden.npz"
MOST_BYTES = 1 << 30


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
    remedy = "copy the bundle again, or convert the checkpoint anew"
    names = tuple(field.name for field in fields(Golden))
    with reading(f"bundle {bundle.path}: {GOLDEN}", remedy, BundleError):
        arrays = read_npz(bundle.path / GOLDEN, names, MOST_BYTES)
    cases = arrays["score"].size
    for tensor in (TEMPLATES, SEARCH, EDGE_PROBS, SCORE):
        name, dtype, shape = tensor.name, tensor.dtype, tensor.shape(bundle.spec, cases)
        array = arrays[name]
        if cases == 0 or array.shape != shape or array.dtype != dtype:
            raise BundleError(
                f"bundle {bundle.path}: {name} in {GOLDEN} has shape {array.shape} of "
                f"{array.dtype}, expected {shape} of {dtype} with at least one case; "
                "convert the checkpoint anew"
            )
    return Golden(**arrays)
