"""docs/bundle_format.md is enough to write a tracker: the one written from it answers as
EdgeTracker does.
"""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_tracker import Bundle, EdgeTracker
from edge_tracker.options import TrackerOptions
from edge_tracker.rules.boxes import Box
from edge_tracker.rules.crop import crop_square
from edge_tracker.video.frames import read_image
from edge_tracker.video.rendered_clip import render_clip
from examples import without_package
from tests.helpers.places import REPOSITORY, SHARED

SEQUENCES = [
    SHARED / "data" / "sequences" / name
    for name in ("otb_girl", "tld_pedestrian2", "uav_wakeboard7")
]
#: The same graphs in the same runtime: only the arithmetic around them could differ.
SAME_PX = 1e-9


def same_boxes(bundle: Path, frames: list[np.ndarray], first_box: Box) -> None:
    plain = without_package.Tracker(bundle)
    plain.init(frames[0], first_box)
    with EdgeTracker(bundle, backend="onnxruntime") as tracker:
        tracker.init(frames[0], first_box)
        for index, frame in enumerate(frames[1:], 1):
            plain.update(frame)
            result = tracker.update(frame)
            np.testing.assert_allclose(plain.box, result.box, rtol=0, atol=SAME_PX)
            assert (index, plain.score, plain.found) == (index, result.score, result.found)
            assert (plain.presence is None) == (result.presence is None)
            assert plain.presence == pytest.approx(result.presence, abs=1e-9)


def with_options(bundle: Bundle, copy: Path, **options: object) -> Path:
    shutil.copytree(bundle.path, copy)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["tracker"] |= options
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return copy


def test_nothing_of_the_package_is_imported() -> None:
    tree = ast.parse((REPOSITORY / "examples" / "without_package.py").read_text(encoding="utf-8"))
    modules = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [a.name for a in node.names]
        )
    }
    assert modules - {"__future__", "argparse", "collections", "json", "math", "pathlib"} == {
        "cv2",
        "numpy",
        "onnxruntime",
    }


def test_boxes_are_the_trackers_on_the_demo_clip(trained_or_lively_bundle: Bundle) -> None:
    clip = list(render_clip(240, 480, 360))
    same_boxes(trained_or_lively_bundle.path, [frame.image for frame in clip], clip[0].box)


@pytest.mark.parametrize(
    "options",
    [
        {"update_interval": 3, "update_score": 0.0},
        {"update_interval": 2, "update_score": 0.6, "template_factor": 3.0},
        {"update_interval": 0, "clip_margin_px": 3},
        {
            "lost_score": 0.99,
            "found_score": 0.99,
            "lost_frames": 2,
            "lost_search_factor": 6.0,
            "search_factor": 2.5,
        },
    ],
)
def test_every_option_means_the_same(
    trained_or_lively_bundle: Bundle, tmp_path: Path, options: dict[str, object]
) -> None:
    bundle = with_options(trained_or_lively_bundle, tmp_path / "bundle", **options)
    clip = list(render_clip(30, 160, 120))
    same_boxes(bundle, [frame.image for frame in clip], clip[0].box)


def test_the_page_states_every_option_and_its_default() -> None:
    page = (REPOSITORY / "docs" / "bundle_format.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| `")]
    stated = {row[0].strip(" `"): row[2].strip(" `") for row in rows if len(row) == 4}
    defaults = vars(TrackerOptions())
    assert {name: stated.get(name) for name in defaults} == {
        name: "null" if value is None else str(value) for name, value in defaults.items()
    }


@pytest.mark.parametrize(
    "box",
    [
        (20.0, 20.0, 20.0, 20.0),
        (-15.0, 3.0, 20.0, 20.0),
        (60.0, 45.0, 30.0, 17.0),
        # Ends exactly at the right and bottom border.
        (60.0, 40.0, 20.0, 20.0),
        # One pixel away from it.
        (59.0, 39.0, 20.0, 20.0),
        # A corner on a half, which goes to the even number.
        (10.5, 11.5, 10.0, 10.0),
        (200.0, 10.0, 10.0, 10.0),
        (3.2, 4.7, 0.9, 0.7),
    ],
)
@pytest.mark.parametrize("factor", [1.0, 2.0, 4.5])
def test_crops_are_equal_at_every_border(
    box: tuple[float, float, float, float], factor: float
) -> None:
    frame = np.random.default_rng(0).integers(1, 256, (60, 80, 3), np.uint8)
    expected, side_px = crop_square(frame, box, factor, 64)
    plain, side = without_package.crop(frame, box, factor, 64)
    assert side == side_px
    np.testing.assert_array_equal(plain, expected)


@pytest.mark.skipif(not SEQUENCES[0].is_dir(), reason=f"no annotated video in {SEQUENCES[0]}")
@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda folder: folder.name)
def test_boxes_are_the_trackers_on_real_video(trained_bundle: Bundle, sequence: Path) -> None:
    images = sorted((sequence / "img").glob("*.jpg"))[:60]
    x, y, w, h = np.loadtxt(sequence / "groundtruth.txt", delimiter=",")[0].tolist()
    frames = [read_image(path) for path in images]
    same_boxes(trained_bundle.path, frames, (x, y, w, h))


def test_the_program_prints_a_line_per_frame(
    trained_or_lively_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index, frame in enumerate(render_clip(4, 160, 120)):
        cv2.imwrite(str(tmp_path / f"{index:03d}.png"), frame.image)
    box = ["--box", "60", "40", "30", "30"]
    without_package.main([str(trained_or_lively_bundle.path), str(tmp_path / "%03d.png"), *box])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "0,60.0000,40.0000,30.0000,30.0000,1.0000,1"
    assert [line.split(",")[0] for line in lines] == ["0", "1", "2", "3"]
