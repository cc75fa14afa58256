"""The adapters in examples/, driven by the real toolkits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_tracker import Bundle, EdgeTracker
from edge_tracker.video.rendered_clip import ClipFrame, render_clip
from tests.helpers.places import REPOSITORY

FRAMES = 6


@pytest.fixture(scope="module")
def clip() -> list[ClipFrame]:
    return list(render_clip(FRAMES, 320, 240))


@pytest.fixture(scope="module")
def images(clip: list[ClipFrame], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("frames")
    paths = [folder / f"{number:04d}.png" for number in range(1, FRAMES + 1)]
    for path, frame in zip(paths, clip, strict=True):
        cv2.imwrite(str(path), frame.image)
    return paths


@pytest.fixture
def boxes(nano_bundle: Bundle, clip: list[ClipFrame]) -> np.ndarray:
    """What EdgeTracker itself answers."""
    with EdgeTracker(nano_bundle, backend="onnxruntime", num_threads=1) as tracker:
        tracker.init(clip[0].image, clip[0].box)
        return np.array([tracker.update(frame.image).box for frame in clip[1:]])


def test_got10k_toolkit_gets_the_tracker_own_boxes_counted_from_one(
    nano_bundle: Bundle, clip: list[ClipFrame], images: list[Path], boxes: np.ndarray
) -> None:
    pytest.importorskip("got10k", reason="needs edge-tracker[toolkits]")
    from examples.got10k_tracker import Got10kTracker

    from_one = np.array((1.0, 1.0, 0.0, 0.0))
    first = from_one + clip[0].box
    with EdgeTracker(nano_bundle, backend="onnxruntime", num_threads=1) as tracker:
        answered, times_s = Got10kTracker(tracker).track([str(path) for path in images], first)
    np.testing.assert_allclose(answered[1:] - from_one, boxes, atol=1e-9)
    np.testing.assert_array_equal(answered[0], first)
    assert (times_s > 0).all()


def test_trax_client_gets_the_trackers_own_boxes(
    nano_bundle: Bundle, clip: list[ClipFrame], images: list[Path], boxes: np.ndarray
) -> None:
    trax = pytest.importorskip("trax", reason="needs edge-tracker[toolkits]")
    from trax.client import Client

    script = (
        "from edge_tracker import EdgeTracker\n"
        "from examples.vot_tracker import serve\n"
        f"with EdgeTracker({str(nano_bundle.path)!r}, backend='onnxruntime', num_threads=1) as t:\n"
        "    serve(t)\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, cwd=REPOSITORY
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        streams = (process.stdin.fileno(), process.stdout.fileno())
        client = Client(stream=streams, log=lambda text: None)
        assert client.tracker_name == "edge-tracker"
        regions: list[Any] = [(trax.Rectangle.create(*clip[0].box), {})]
        client.initialize({"color": trax.FileImage.create(str(images[0]))}, regions, {})
        answered = []
        for path in images[1:]:
            objects, _ = client.frame({"color": trax.FileImage.create(str(path))}, {}, [])
            region, properties = objects[0]
            answered.append(region.bounds())
            assert 0 <= float(properties.get("confidence")) <= 1
        client.quit()
        assert process.wait(timeout=30) == 0
    # TraX writes numbers with four decimals at least.
    np.testing.assert_allclose(np.array(answered), boxes, atol=1e-3)
