"""Real annotated video: the tracker runs on every sequence, and both backends go the same way.

Twin on a rendered clip, which always runs: test_backends.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_tracker import EdgeTracker
from edge_tracker.bundle.opening import Bundle
from edge_tracker.rules.boxes import box_iou
from edge_tracker.rules.crop import crop_window
from edge_tracker.video.frames import read_image
from tests.helpers.places import SHARED

SEQUENCES = SHARED / "data" / "sequences"
FRAMES = 50
AGREEMENT_IOU = 0.99
TIE_PX = 0.01
NAMES = sorted(folder.name for folder in SEQUENCES.glob("*")) if SEQUENCES.is_dir() else []
needs_sequences = pytest.mark.skipif(not NAMES, reason=f"no annotated video in {SEQUENCES}")


@needs_sequences
@pytest.mark.parametrize("name", NAMES or ["absent"])
def test_backends_agree_on_the_first_frames(
    trained_bundle: Bundle, cache_dir: Path, name: str
) -> None:
    folder = SEQUENCES / name
    first_box = np.loadtxt(folder / "groundtruth.txt", delimiter=",")[0]
    images = [read_image(file) for file in sorted((folder / "img").glob("*.jpg"))[:FRAMES]]
    boxes = {}
    factor = trained_bundle.tracker_defaults.search_factor
    for backend in ("openvino", "onnxruntime"):
        with EdgeTracker(
            trained_bundle, backend=backend, num_threads=2, cache_dir=cache_dir, compute="f32"
        ) as tracker:
            tracker.init(images[0], first_box)
            boxes[backend] = [tracker.update(image).box for image in images[1:]]
    for openvino_box, reference_box in zip(*boxes.values(), strict=True):
        assert box_iou(openvino_box, reference_box) > AGREEMENT_IOU
        windows = {crop_window(box, factor) for box in (openvino_box, reference_box)}
        if len(windows) == 2:
            # The official rule rounds to whole pixels: on a tie the two look at other pixels from
            # here on, and a network that has lost its target multiplies that.
            np.testing.assert_allclose(openvino_box, reference_box, rtol=0, atol=TIE_PX)
            break
