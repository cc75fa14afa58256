"""The demo does what it prints, with its output in a pipe."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_tracker import open_bundle
from edge_tracker.cli import rendered_demo
from edge_tracker.cli.arguments import box_xywh
from edge_tracker.cli.main import main
from edge_tracker.cli.rendered_demo import FILMSTRIP_CELL_PX
from edge_tracker.installing import install_command
from edge_tracker.rules.boxes import box_iou
from edge_tracker.video.draw import FOUND_BGR
from edge_tracker.video.frames import open_frames, read_image
from edge_tracker.video.rendered_clip import render_clip
from tests.helpers.command_line import run_as_program, usage_error
from tests.helpers.places import REPOSITORY

FRAMES = 40
FILES = ("bundle/", "clip.mp4", "tracked.mp4", "filmstrip.png", "boxes.csv")


@dataclass(frozen=True)
class Run:
    output: Path
    printed: str
    warned: str


@pytest.fixture(scope="module")
def run(needs_conversion: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("demo")
    output = folder / "demo_output"
    done = subprocess.run(
        [sys.executable, "-m", "edge_tracker", "demo", "-o", output, "--frames", str(FRAMES)],
        cwd=REPOSITORY,
        env={**os.environ, "HOME": str(folder)},  # OpenVINO's model cache
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Run(output, done.stdout, done.stderr)


def table_cell(printed: str, name: str) -> str:
    return next(line.split("│")[2].strip() for line in printed.splitlines() if f"│ {name}" in line)


def test_the_printed_iou_is_that_of_the_written_boxes(run: Run) -> None:
    truth = [frame.box for frame in render_clip(FRAMES)]
    with (run.output / "boxes.csv").open() as file:
        rows = list(csv.DictReader(file))
    boxes = [box_xywh(",".join(row[column] for column in "xywh")) for row in rows]
    assert len(boxes) == FRAMES
    ious = [box_iou(box, true) for box, true in zip(boxes[1:], truth[1:], strict=True)]
    mean_iou = float(table_cell(run.printed, "mean IoU"))
    assert mean_iou == pytest.approx(np.mean(ious), abs=2e-3)
    # A box that stays where it was given is left behind by the target.
    still = np.mean([box_iou(truth[0], true) for true in truth[1:]])
    assert mean_iou > still + 0.2
    success = float(table_cell(run.printed, "success at IoU 0.5").rstrip("%"))
    assert success == pytest.approx(100 * np.mean(np.array(ious) > 0.5), abs=0.1)


def test_times_and_backend_are_printed(run: Run) -> None:
    median_ms = float(table_cell(run.printed, "update() median").removesuffix(" ms"))
    p95_ms = float(table_cell(run.printed, "update() p95").removesuffix(" ms"))
    assert 0 < median_ms <= p95_ms
    assert re.fullmatch(r"\w+, \w+, fp32 in \w+", table_cell(run.printed, "runs on"))


def test_every_file_is_named_and_whole(run: Run) -> None:
    for name in FILES:
        assert f"{run.output}/{name}" in run.printed
        assert (run.output / name).exists()
    bundle = open_bundle(run.output / "bundle")
    bundle.check_files(list(bundle.manifest["files"]))
    strip = read_image(run.output / "filmstrip.png")
    assert strip.shape[1] > 4 * FILMSTRIP_CELL_PX
    assert (run.output / "filmstrip.png").stat().st_size < 400_000


def test_the_tracked_video_is_the_clip_with_boxes(run: Run) -> None:
    def green_px(frame: np.ndarray) -> int:
        return int((np.abs(frame.astype(int) - FOUND_BGR).max(axis=2) < 60).sum())

    with (
        open_frames(run.output / "clip.mp4") as clip,
        open_frames(run.output / "tracked.mp4") as tracked,
    ):
        pairs = list(zip(clip, tracked, strict=True))
    assert len(pairs) == FRAMES
    for plain, drawn in pairs:
        assert green_px(drawn) > green_px(plain) + 100


def test_a_pipe_gets_no_progress_bar(run: Run) -> None:
    assert run.warned == ""
    assert "\x1b" not in run.printed


def test_a_missing_package_is_named_with_the_remedy(tmp_path: Path) -> None:
    finished = run_as_program(
        "demo", "--output", str(tmp_path / "out"), prelude="sys.modules['torch'] = None"
    )
    assert finished.returncode == 1
    assert "demo needs the Python package torch: " in finished.stderr
    assert finished.stderr.endswith(f"{install_command('convert')}\n")


def test_a_clip_of_one_frame_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--frames: '1' is not" in usage_error(capsys, "demo", "--frames", "1")


def test_figures_of_a_demo_that_was_interrupted_are_not_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = SimpleNamespace(interrupted=True)
    outcome = SimpleNamespace(summary=summary)
    monkeypatch.setattr(rendered_demo, "convert", lambda *_: None)
    monkeypatch.setattr(rendered_demo, "render", lambda *_: [])
    monkeypatch.setattr(rendered_demo, "track", lambda *_: outcome)
    assert main(["demo", "-o", str(tmp_path / "out")]) == 130
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "edge-tracker: interrupted\n")
