"""The C++ program in examples/cpp is built, and its boxes are the tracker's.

Its twin that needs no compiler: test_without_package.py, the same rules in Python.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_tracker import Bundle, EdgeTracker
from edge_tracker.video.rendered_clip import render_clip
from tests.helpers.places import REPOSITORY, SHARED

SOURCES = REPOSITORY / "examples" / "cpp"
SEQUENCES = [
    SHARED / "data" / "sequences" / name
    for name in ("otb_girl", "tld_pedestrian2", "uav_wakeboard7")
]
#: OpenVINO computes the same on both sides. Its sums in float32 may come in another order.
SAME_PX = 0.01
FRAMES = 120


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("needs CMake and a C++ compiler")
    openvino = pytest.importorskip("openvino.utils", reason="needs edge-tracker[openvino]")
    cmake_path: str = openvino.get_cmake_path()
    build = tmp_path_factory.mktemp("cpp")
    found = subprocess.run(
        ["cmake", f"-S{SOURCES}", f"-B{build}", f"-DOpenVINO_DIR={cmake_path}"],
        capture_output=True,
        text=True,
        check=False,
    )
    for package in ("OpenCV", "nlohmann_json"):
        if f"{package}Config.cmake" in found.stderr:
            pytest.skip(f"needs {package}'s headers: docs/cpp.md says how to install them")
    assert found.returncode == 0, found.stderr
    built = subprocess.run(["cmake", "--build", build], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return build / "track"


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(program), *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def same_rows(program: Path, bundle: Path, images: str, count: int, box: Sequence[float]) -> None:
    """Boxes, scores, whether found, and spread of every frame after the first.

    images: a pattern of files, from number 0.
    """
    read = (cv2.imread(images % index) for index in range(count))
    frames = [frame.astype(np.uint8, copy=False) for frame in read if frame is not None]
    assert len(frames) == count
    done = run(program, bundle, images, *box, 1)
    assert done.returncode == 0, done.stderr
    rows = np.loadtxt(done.stdout.splitlines(), delimiter=",", skiprows=1)
    np.testing.assert_array_equal(rows[:, 0], np.arange(count))
    np.testing.assert_allclose(rows[0, 1:5], box, atol=1e-6)
    with EdgeTracker(bundle, backend="openvino", num_threads=1, compute="f32") as tracker:
        tracker.init(frames[0], box)
        for row, frame in zip(rows[1:], frames[1:], strict=True):
            result = tracker.update(frame)
            np.testing.assert_allclose(row[1:5], result.box, rtol=0, atol=SAME_PX)
            np.testing.assert_allclose(row[5], result.score, rtol=0, atol=1e-3)
            assert row[6] == result.found
            np.testing.assert_allclose(row[7:], result.edge_std_px, rtol=0, atol=SAME_PX)


# JPEG: FFmpeg, where OpenCV has it, decodes to other pixels than OpenCV's own reader.
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_boxes_are_the_trackers_on_the_demo_clip(
    program: Path, trained_or_lively_bundle: Bundle, tmp_path: Path, ending: str
) -> None:
    clip = list(render_clip(240, 480, 360))
    images = str(tmp_path / f"%06d.{ending}")
    for index, frame in enumerate(clip):
        cv2.imwrite(images % index, frame.image)
    same_rows(program, trained_or_lively_bundle.path, images, len(clip), clip[0].box)


@pytest.mark.skipif(not SEQUENCES[0].is_dir(), reason=f"no annotated video in {SEQUENCES[0]}")
@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda folder: folder.name)
def test_boxes_are_the_trackers_on_real_video(
    program: Path, trained_bundle: Bundle, tmp_path: Path, sequence: Path
) -> None:
    files = sorted((sequence / "img").glob("*.jpg"))[:FRAMES]
    for index, file in enumerate(files):
        (tmp_path / f"{index:06d}.jpg").symlink_to(file.resolve())
    box = np.loadtxt(sequence / "groundtruth.txt", delimiter=",")[0]
    same_rows(program, trained_bundle.path, str(tmp_path / "%06d.jpg"), len(files), box.tolist())


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ((), 2, "usage: "),
        (("{bundle}", "none.mp4", 1, 2, 30, 30), 1, "none.mp4 cannot be read as a video"),
        (("{here}", "{here}/%03d.png", 1, 2, 30, 30), 1, "manifest.json cannot be read"),
        (("{bundle}", "{here}/%03d.png", 1, 2, 0, 30), 1, "the box has no area"),
    ],
)
def test_what_fails_is_named(
    program: Path,
    trained_or_lively_bundle: Bundle,
    tmp_path: Path,
    arguments: Sequence[object],
    status: int,
    words: str,
) -> None:
    cv2.imwrite(str(tmp_path / "000.png"), np.zeros((64, 64, 3), np.uint8))
    places = {"bundle": trained_or_lively_bundle.path, "here": tmp_path}
    done = run(program, *(str(argument).format(**places) for argument in arguments))
    assert done.returncode == status
    assert words in done.stderr
    assert done.stdout == ""
