"""Calibration samples: what the tracker's two graphs are fed, and where it comes from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tracker.bundle.spec import ModelSpec
from edge_tracker.errors import CalibrationError
from edge_tracker.files.atomic_file import replacing
from edge_tracker.files.npz import read_npz
from edge_tracker.files.untrusted import reading

#: Fewer tell too little about the range of an activation.
MIN_SAMPLES = 32
#: Of the tracker's options, those that decide what its crops show.
FACTORS = ("template_factor", "search_factor")
#: Uncompressed: more than anybody records.
MOST_BYTES = 8 << 30


@dataclass(frozen=True)
class CalibrationSamples:
    """N samples. templates: uint8 (N, 2, Ht, Wt, 3) BGR, initial then online; search: uint8
    (N, Hs, Ws, 3) BGR.

    The third thing that a search graph takes, `template_kv`, is not kept: it follows from the
    templates and the weights, and so the samples serve another checkpoint of the same sizes too.

    provenance: plain values that say how the samples were recorded: "sources" name each sequence,
    video and image, and how many samples are from it; "tracker" are the tracker's options, "seed"
    is a whole number.
    """

    templates: NDArray[np.uint8]
    search: NDArray[np.uint8]
    provenance: dict[str, Any]

    def __len__(self) -> int:
        return len(self.search)

    def check_sizes(self, spec: ModelSpec, origin: str | Path) -> None:
        """Raise CalibrationError unless a network of this geometry takes the samples."""
        sizes = (self.templates.shape[2], self.search.shape[1])
        if sizes != (spec.template_size_px, spec.search_size_px):
            raise CalibrationError(
                f"calibration samples {origin} have templates of {sizes[0]} px and search crops of "
                f"{sizes[1]} px, but the network takes {spec.template_size_px} and "
                f"{spec.search_size_px}: record samples with a bundle of this network"
            )

    def save(self, path: Path) -> None:
        """Write one .npz. The same samples always give the same bytes."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                templates=self.templates,
                search=self.search,
                provenance=np.array(json.dumps(self.provenance, sort_keys=True)),
            )


def load_samples(path: Path) -> CalibrationSamples:
    """Read what `save` wrote. Raises CalibrationError for a file that holds no samples."""
    remedy = "record it again: edge-tracker calibrate BUNDLE DIR -o samples.npz"
    with reading(f"calibration samples {path}", remedy, CalibrationError):
        arrays = read_npz(path, ("templates", "search", "provenance"), MOST_BYTES)
        samples = CalibrationSamples(
            arrays["templates"], arrays["search"], json.loads(str(arrays["provenance"]))
        )
    shapes = samples.templates.shape, samples.search.shape
    if (
        samples.templates.dtype != np.uint8
        or samples.search.dtype != np.uint8
        or not _are_crops(*shapes)
        or not _is_provenance(samples.provenance)
    ):
        raise CalibrationError(
            f"calibration samples {path} hold templates {shapes[0]} and search crops {shapes[1]}, "
            f"expected uint8 (N, 2, T, T, 3) and (N, S, S, 3), and where they are from; {remedy}"
        )
    return samples


def _is_provenance(provenance: object) -> bool:
    """Whether it says what `record_sources` writes, as far as that is read again."""
    if not isinstance(provenance, dict):
        return False
    sources, tracker = provenance.get("sources"), provenance.get("tracker")
    return (
        isinstance(provenance.get("seed"), int)
        and isinstance(sources, dict)
        and all(isinstance(count, int) for count in sources.values())
        and isinstance(tracker, dict)
        and all(isinstance(tracker.get(name), (int, float)) for name in FACTORS)
    )


def _are_crops(templates: tuple[int, ...], search: tuple[int, ...]) -> bool:
    return (
        len(templates) == 5
        and len(search) == 4
        and 0 < templates[0] == search[0]
        and templates[1:] == (2, templates[2], templates[2], 3)
        and search[1:] == (search[1], search[1], 3)
    )
