"""The example programs run, on a bundle with random weights and a short rendered clip."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_tracker import Bundle, EdgeTracker, TrackResult, VideoError
from edge_tracker.video.frames import open_frames
from edge_tracker.video.recording import frame_writer
from edge_tracker.video.rendered_clip import render_clip
from examples import (
    convert_and_track,
    replace_cv2_tracker,
    several_targets,
    track_webcam,
    uncertainty,
)
from tests.helpers.places import REPOSITORY
from tests.helpers.screen import Screen

FRAMES = 12
BOX = ["--box", "100", "90", "40", "50"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with frame_writer(path, 30.0, 480, 360) as write:
        for frame in render_clip(FRAMES, 480, 360):
            write(frame.image)
    return path


@pytest.fixture
def bundle(nano_bundle: Bundle) -> str:
    return str(nano_bundle.path)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OpenVINO's compiled models go."""
    monkeypatch.setenv("HOME", str(tmp_path))


def count_frames(video: Path) -> int:
    with open_frames(video) as source:
        return sum(1 for _ in source)


def test_a_checkpoint_is_converted_and_tracks(
    tiny_checkpoint: Path,
    clip: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle, save = tmp_path / "bundle", tmp_path / "tracked.mp4"
    convert_and_track.main(
        [str(tiny_checkpoint), str(clip), *BOX, "--bundle", str(bundle), "--save", str(save)]
    )
    assert count_frames(save) == FRAMES
    printed = capsys.readouterr().out
    assert (bundle / "manifest.json").is_file()
    assert "onnx/fp32: edges within" in printed
    assert f"{FRAMES} frames" in printed


def test_a_cv2_tracker_is_replaced(
    bundle: str, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_cv2_tracker.main([bundle, str(clip), *BOX])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == FRAMES - 1
    assert all(re.fullmatch(r"(True|False)( -?\d+){4} [01]\.\d\d", line) for line in lines)


def test_a_video_that_is_none_ends_the_cv2_example(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        replace_cv2_tracker.main([bundle, str(tmp_path / "none.mp4"), *BOX])
    assert ended.value.code == 1
    assert "none.mp4 cannot be read" in capsys.readouterr().err


def test_several_targets_get_a_box_each(
    bundle: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save = tmp_path / "tracked.mp4"
    several_targets.main(
        [bundle, str(clip), *BOX, "--box", "10", "20", "30", "30", "--save", str(save)]
    )
    assert count_frames(save) == FRAMES
    assert "2 targets" in capsys.readouterr().out


def test_every_frame_is_sure_unsure_or_lost(
    bundle: str, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uncertainty.main([bundle, str(clip), *BOX, "--limit", "0.5"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == FRAMES - 1
    # Nothing is half as wide as its own median, so the first frame is above that limit.
    assert lines[0].startswith("frame 1: unsure, ")
    assert all(re.search(r": (sure|unsure|lost), score ", line) for line in lines)


def test_spread_is_taken_relative_to_the_side_across_the_edge() -> None:
    result = TrackResult((0.0, 0.0, 10.0, 100.0), 0.9, True, (1.0, 5.0, 2.0, 30.0))
    assert uncertainty.relative_spread(result) == pytest.approx(0.3)


@pytest.mark.parametrize(("keys", "num_shown"), [(["", "d", "", "q"], 3), ([""] * 80, 11)])
def test_the_window_shows_every_frame_until_the_user_quits(
    bundle: str, clip: Path, monkeypatch: pytest.MonkeyPatch, keys: list[str], num_shown: int
) -> None:
    screen = Screen(monkeypatch, keys, boxes=[(100, 90, 40, 50), (10, 20, 30, 30)])
    monkeypatch.setattr(track_webcam, "require_display", lambda: None)
    started: list[object] = []
    init = EdgeTracker.init

    def noted(tracker: EdgeTracker, frame: np.ndarray, box: tuple[float, ...]) -> None:
        started.append(box)
        init(tracker, frame, box)

    monkeypatch.setattr(EdgeTracker, "init", noted)
    track_webcam.main([bundle, str(clip)])
    assert len(screen.shown) == num_shown
    assert screen.shown[0].shape == (360, 480, 3)
    assert started == [(100.0, 90.0, 40.0, 50.0), (10.0, 20.0, 30.0, 30.0)][: 1 + ("d" in keys)]


def test_without_a_display_the_reason_is_printed(
    bundle: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def require_display() -> None:
        raise VideoError("no display here")

    monkeypatch.setattr(track_webcam, "require_display", require_display)
    with pytest.raises(SystemExit) as ended:
        track_webcam.main([bundle])
    assert ended.value.code == 1
    assert capsys.readouterr().err == "no display here\n"


def programs(page: str) -> list[str]:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def run_program(bundle: str, clip: Path, tmp_path: Path) -> Callable[[str], str]:
    """Runs a page's program where `make demo` was run, and returns what it prints."""
    (tmp_path / "demo_output").mkdir()
    (tmp_path / "demo_output" / "bundle").symlink_to(bundle)
    (tmp_path / "demo_output" / "clip.mp4").symlink_to(clip)

    def run(program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_program_of_the_readme_prints_each_frame(run_program: Callable[[str], str]) -> None:
    (program,) = programs("README.md")
    assert len(run_program(program).splitlines()) == FRAMES - 1


def test_the_programs_of_the_bundle_page_open_its_graphs(
    run_program: Callable[[str], str],
) -> None:
    compiles, replays_goldens = programs("docs/bundle_format.md")
    assert run_program(compiles) == ""
    assert float(run_program(replays_goldens).split()[0]) < 1e-4


WITH_BOX = (
    "convert_and_track", "several_targets", "replace_cv2_tracker", "uncertainty", "without_package",
)  # fmt: skip
EXAMPLES = (*WITH_BOX, "detect_and_track")


def program(example: str, *words: str) -> subprocess.CompletedProcess[str]:
    box = BOX if example in WITH_BOX else []
    command = [sys.executable, "-m", f"examples.{example}", *words, *box]
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_missing_bundle_or_checkpoint_is_one_line(
    example: str, clip: Path, tmp_path: Path
) -> None:
    finished = program(example, str(tmp_path / "absent"), str(clip))
    assert finished.returncode in (1, 2)
    *usage, said = finished.stderr.splitlines()
    assert "absent" in said
    assert not usage or usage[0].startswith("usage: ")
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_missing_video_is_one_line_before_any_work(
    example: str, bundle: str, nano_checkpoint: Path, tmp_path: Path
) -> None:
    first = str(nano_checkpoint) if example == "convert_and_track" else bundle
    finished = program(example, first, str(tmp_path / "absent.mp4"))
    assert finished.returncode in (1, 2)
    assert finished.stdout == ""
    assert "absent.mp4" in finished.stderr.splitlines()[-1]
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("example", ["got10k_tracker", "vot_tracker"])
def test_a_toolkit_s_example_without_a_bundle_is_one_line(example: str, tmp_path: Path) -> None:
    pytest.importorskip("got10k" if "got10k" in example else "trax", reason="needs the toolkit")
    words = [str(tmp_path / "absent"), *([str(tmp_path)] if "got10k" in example else [])]
    finished = program(example, *words)
    assert finished.returncode == 1
    assert "absent: no such folder" in finished.stderr.splitlines()[-1]
    assert "Traceback" not in finished.stderr
