"""The shipped network's way through the rendered clip, box by box, is that of the stored file.

The file is of ONNX Runtime, written by the code before several trackers could share an engine. One
more is for OpenCV 5, whose warpAffine draws one in seven hundred of the clip's values differently;
crops of the same image are the same in both. How a file is written:

    python -m tests.edge_tracker.tracker.test_golden_trajectory BUNDLE
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_tracker import EdgeTracker
from edge_tracker.bundle.opening import Bundle, open_bundle
from edge_tracker.options import TrackerOptions
from edge_tracker.video.rendered_clip import ClipFrame, render_clip
from tests.helpers.places import REPOSITORY

#: OpenCV 4 draws the same clip in 4.6 and in 4.13.
OPENCV = int(cv2.__version__.split(".")[0])
GOLDEN = Path(__file__).with_suffix(".opencv5.csv" if OPENCV >= 5 else ".csv")
SHIPPED = REPOSITORY / "edge_tracker" / "models" / "edge_nano.safetensors"
FRAMES = 90
#: What another processor's sums, and another OpenCV's rendering, may move an edge.
AGREEMENT_PX = 0.1


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    convert = pytest.importorskip(
        "converters.convert", reason="needs PyTorch", exc_type=ImportError
    )
    folder = tmp_path_factory.mktemp("shipped") / "bundle"
    bundle: Bundle = convert.convert_checkpoint(
        SHIPPED, folder, targets=["onnx"], precisions=["fp32"]
    )
    return bundle


@cache
def clip() -> list[ClipFrame]:
    return list(render_clip(FRAMES))


def trajectory(bundle: Bundle, options: TrackerOptions) -> np.ndarray:
    """(frames - 1, 5): x, y, w, h, score."""
    first, *others = clip()
    with EdgeTracker(bundle, backend="onnxruntime", num_threads=1, options=options) as tracker:
        tracker.init(first.image, first.box)
        results = [tracker.update(frame.image) for frame in others]
    return np.array([[*result.box, result.score] for result in results])


def test_the_way_is_the_stored_one(shipped: Bundle) -> None:
    found = trajectory(shipped, shipped.tracker_defaults)
    expected = np.loadtxt(GOLDEN, delimiter=",")
    np.testing.assert_allclose(found[:, :4], expected[:, :4], rtol=0, atol=AGREEMENT_PX)
    np.testing.assert_allclose(found[:, 4], expected[:, 4], rtol=0, atol=0.01)


@pytest.mark.parametrize("changed", [{"update_interval": 20}, {"search_factor": 3.1}])
def test_another_rule_leads_elsewhere(shipped: Bundle, changed: dict[str, float]) -> None:
    options = replace(shipped.tracker_defaults, **changed)  # type: ignore[arg-type]
    expected = np.loadtxt(GOLDEN, delimiter=",")
    apart_px = np.abs(trajectory(shipped, options) - expected)[:, :4].max()
    assert apart_px > 3 * AGREEMENT_PX


if __name__ == "__main__":
    golden = open_bundle(sys.argv[1])
    np.savetxt(GOLDEN, trajectory(golden, golden.tracker_defaults), fmt="%.4f", delimiter=",")
