"""Formats that annotated frames are written in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_tracker.errors import VideoError
from edge_tracker.video.frames import open_frames
from edge_tracker.video.recording import CODECS, frame_writer, storable_rate


def write(target: Path, count: int = 5, fps: float = 25.0) -> Path:
    """Frames whose brightness tells their index."""
    grey = [np.full((48, 64, 3), 10 * (index + 1), np.uint8) for index in range(count)]
    return write_frames(target, grey, fps)


def write_frames(target: Path, frames: list[np.ndarray], fps: float = 25.0) -> Path:
    height_px, width_px = frames[0].shape[:2]
    with frame_writer(target, fps, width_px, height_px) as write:
        for frame in frames:
            write(frame)
    return target


def indices(source: Path | str) -> list[int]:
    with open_frames(source) as frames:
        return [round(float(frame.mean()) / 10) - 1 for frame in frames]


@pytest.mark.parametrize("suffix", CODECS)
def test_every_ending_reads_back(tmp_path: Path, suffix: str) -> None:
    assert indices(write(tmp_path / f"clip{suffix}")) == [0, 1, 2, 3, 4]
    assert os.listdir(tmp_path) == [f"clip{suffix}"]


@pytest.mark.parametrize("fps", [119.987, 239.847, 90.003, 59.94, 23.976, 1000.0, 0.5])
def test_any_frame_rate_is_stored_nearly_as_it_is(tmp_path: Path, fps: float) -> None:
    with open_frames(write(tmp_path / "clip.mp4", fps=fps)) as source:
        assert source.fps == pytest.approx(fps, rel=1e-3)
        assert source.fps == pytest.approx(storable_rate(fps), abs=1e-3)


def test_a_pattern_makes_a_folder_of_images(tmp_path: Path) -> None:
    write(tmp_path / "frames" / "%04d.png")
    assert os.listdir(tmp_path) == ["frames"]
    assert sorted(os.listdir(tmp_path / "frames")) == [f"{number:04}.png" for number in range(5)]
    assert indices(tmp_path / "frames") == [0, 1, 2, 3, 4]


def test_images_keep_their_size(tmp_path: Path) -> None:
    with frame_writer(tmp_path / "frames" / "%d.png", 25, 64, 48) as write:
        write(np.zeros((20, 30, 3), np.uint8))
    image = cv2.imread(str(tmp_path / "frames" / "0.png"))
    assert image is not None
    assert image.shape == (20, 30, 3)


def test_a_failure_leaves_no_images(tmp_path: Path) -> None:
    def fail() -> None:
        with frame_writer(tmp_path / "frames" / "%04d.png", 25, 64, 48) as write:
            write(np.zeros((48, 64, 3), np.uint8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits file sizes by setrlimit")
@pytest.mark.parametrize("most_bytes", [0, 100, 30_000])
@pytest.mark.parametrize("name", [*(f"out{suffix}" for suffix in CODECS), "out/%d.png"])
def test_a_full_disk_is_named_as_such_and_leaves_nothing(
    tmp_path: Path, name: str, most_bytes: int
) -> None:
    """Whether OpenCV notices when it opens the file, when it closes it, or never."""
    from tests.helpers.full_disk import full_after

    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    target = tmp_path / name
    with full_after(most_bytes), pytest.raises((VideoError, OSError)) as raised:
        write_frames(target, [noise] * 20)
    assert "File too large" in str(raised.value)
    assert str(target.with_name("0.png") if "%" in name else target) in str(raised.value)
    assert os.listdir(tmp_path) == []


def test_a_missing_encoder_is_not_taken_for_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CODECS, ".mp4", "ABCD")
    with pytest.raises(VideoError, match=r"clip\.mp4 cannot be encoded .*no encoder of ABCD"):
        write(tmp_path / "clip.mp4")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("full/%04d.png", "holds something already"),
        ("absent/frames/%04d.png", "does not name a new folder"),
        ("frames/%s.png", "is not a pattern"),
        ("frames/%d%d.png", "is not a pattern"),
        ("clip.gif", "no ending that can be written"),
        ("clip", "no ending that can be written"),
    ],
)
def test_other_names_are_refused_before_any_work(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(ValueError, match=message), frame_writer(tmp_path / name, 25, 64, 48):
        pytest.fail("the block must not run")
    assert os.listdir(tmp_path) == ["full"]
