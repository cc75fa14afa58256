"""Kinds of files, and what those are told who give one in another's place."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edge_tracker.bundle.opening import open_bundle
from edge_tracker.errors import BundleError, CheckpointError, VideoError
from edge_tracker.files.what_is_it import kind_of_file
from edge_tracker.video.frames import open_frames
from edge_tracker.video.recording import frame_writer
from mixformerv2.checkpoint import read_checkpoint


@pytest.fixture
def files(tmp_path: Path) -> Path:
    torch.save({"net": {"a": torch.zeros(2)}}, tmp_path / "checkpoint.pth.tar")
    with frame_writer(tmp_path / "video.mp4", 25, 64, 48) as write:
        write(np.zeros((48, 64, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "text.mp4").write_text("é" * 3000)
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08")
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "other").write_bytes(bytes(99))
    return tmp_path


def test_files_are_known_by_their_first_bytes(files: Path) -> None:
    for path in files.iterdir():
        expected = {"other": None, "manifest": "text"}.get(path.stem, path.name.split(".")[0])
        assert kind_of_file(path) == expected
    assert kind_of_file(files) is None
    assert kind_of_file(files / "absent") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("checkpoint.pth.tar", r"is a checkpoint: .*convert .*checkpoint\.pth\.tar -o .*\.bundle"),
        ("video.mp4", "is a video: the bundle comes first"),
        ("manifest.json", "is a file of a bundle: give the folder"),
        ("other", "is a file, not a bundle's folder"),
        ("absent", "no such folder; make one with"),
    ],
)
def test_what_is_given_as_a_bundle(files: Path, name: str, message: str) -> None:
    with pytest.raises(BundleError, match=message) as raised:
        open_bundle(files / name)
    # No command that would write over what is there.
    assert f"-o {files / name}" not in str(raised.value) or name == "absent"


def test_what_is_given_as_a_video(files: Path) -> None:
    for given, message in (
        (files / "text.mp4", "it is a text file"),
        (files / "checkpoint.pth.tar", "it is a checkpoint"),
    ):
        with pytest.raises(VideoError, match=message), open_frames(given):
            pass
    (files / "image.png").unlink()
    with pytest.raises(VideoError, match="it is a bundle, which comes before"), open_frames(files):
        pass


def test_what_is_given_as_a_checkpoint(files: Path) -> None:
    with pytest.raises(CheckpointError, match="is a model that was converted already"):
        read_checkpoint(files / "model.onnx")
