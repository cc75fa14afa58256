"""The whole path in a minute: render a clip, convert the shipped checkpoint, track, measure, draw.

The clip is rendered, so the true box of every frame is known.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edge_tracker.backends.graph import BackendChoice
from edge_tracker.cli.printing import print_table, progress_bar
from edge_tracker.rules.boxes import Box, box_iou
from edge_tracker.tracker import Engine, MultiTracker
from edge_tracker.video.draw import annotate, filmstrip, mark_truth
from edge_tracker.video.frames import open_frames
from edge_tracker.video.recording import frame_writer
from edge_tracker.video.rendered_clip import render_clip
from edge_tracker.video.track import Results, TrackSummary, track_video

if TYPE_CHECKING:
    from edge_tracker.bundle.opening import Bundle
    from edge_tracker.rules.crop import Image

CHECKPOINT = Path(__file__).parents[1] / "models" / "edge_nano.safetensors"
FPS = 30.0
FILMSTRIP_FRAMES = 8
FILMSTRIP_CELL_PX = 184


@dataclass(frozen=True)
class Outcome:
    """ious: of the frames after the first, on which the box is given."""

    ious: Sequence[float]
    summary: TrackSummary
    choice: BackendChoice


def run(output: Path, frames: int, backend: str) -> None:
    """Write the bundle, the clip, the tracked clip, a strip of its frames and the boxes into the
    folder `output`, and print how well and how fast it tracked. KeyboardInterrupt while tracking
    keeps what there is, prints nothing, and is raised.
    """
    output.mkdir(parents=True, exist_ok=True)
    bundle = convert(CHECKPOINT, output / "bundle")
    truth = render(output / "clip.mp4", frames)
    outcome = track(bundle, truth, output, backend)
    if outcome.summary.interrupted:
        raise KeyboardInterrupt
    report(bundle, outcome)
    x, y, w, h = (round(value) for value in truth[0])
    print(f"""
{output}/bundle/          the converted network
{output}/clip.mp4         the rendered clip
{output}/tracked.mp4      the same, tracked: green box the tracker's, white corners the truth
{output}/filmstrip.png    {FILMSTRIP_FRAMES} frames of it
{output}/boxes.csv        box, score and uncertainty of every frame

The same on the command line, where a video of yours may stand for the clip:
  {_interpreter()} -m edge_tracker track {output}/bundle {output}/clip.mp4 --box {x},{y},{w},{h}""")


def _interpreter() -> str:
    """This Python as one would type it here; the virtual environment may not be active."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def convert(checkpoint: Path, output: Path) -> Bundle:
    from converters.convert import convert_checkpoint

    with progress_bar("converting") as show:
        return convert_checkpoint(checkpoint, output, on_progress=show)


def render(path: Path, frames: int) -> list[Box]:
    """Write the clip; returns the true box of every frame."""
    truth = []
    with ExitStack() as stack:
        show = stack.enter_context(progress_bar("rendering"))
        write = None
        for frame in render_clip(frames):
            if write is None:
                height_px, width_px = frame.image.shape[:2]
                write = stack.enter_context(frame_writer(path, FPS, width_px, height_px))
            write(frame.image)
            truth.append(frame.box)
            show(len(truth), frames, "")
    return truth


def track(bundle: Bundle, truth: Sequence[Box], output: Path, backend: str) -> Outcome:
    shown_frames = {round(index) for index in np.linspace(0, len(truth) - 1, FILMSTRIP_FRAMES)}
    pictures: list[Image] = []
    captions: list[str] = []
    ious: list[float] = []
    with (
        Engine(bundle, backend=backend) as engine,
        MultiTracker(engine) as tracker,
        open_frames(output / "clip.mp4") as clip,
        frame_writer(output / "tracked.mp4", clip.fps, *clip.first_frame.shape[1::-1]) as write,
        progress_bar("tracking") as show,
    ):

        def on_frame(index: int, frame: Image, results: Results) -> Mapping[int, Box]:
            result = results[1]
            iou = box_iou(result.box, truth[index])
            marked = mark_truth(frame, truth[index])
            drawn = annotate(marked, result.box, score=result.score, found=result.found)
            write(drawn)
            if index in shown_frames:
                pictures.append(drawn)
                captions.append(f"frame {index}  " + (f"IoU {iou:.2f}" if index else "given box"))
            if index:
                ious.append(iou)
            show(index + 1, len(truth), f"IoU {iou:.2f}")
            return {}

        summary = track_video(
            tracker, clip, [truth[0]], csv_path=output / "boxes.csv", on_frame=on_frame
        )
        choice = engine.choice
    strip = filmstrip(pictures, captions, cell_width_px=FILMSTRIP_CELL_PX)
    cv2.imencode(".png", strip)[1].tofile(output / "filmstrip.png")
    return Outcome(ious, summary, choice)


def report(bundle: Bundle, outcome: Outcome) -> None:
    choice, summary = outcome.choice, outcome.summary
    ious = np.array(outcome.ious)
    rows = [
        ("network", bundle.source.checkpoint),
        ("runs on", f"{choice.backend}, {choice.device}, {choice.precision} in {choice.compute}"),
        ("frames tracked", f"{len(ious)}"),
        ("mean IoU", f"{ious.mean():.3f}"),
        ("success at IoU 0.5", f"{(ious > 0.5).mean():.1%}"),
        ("update() median", f"{summary.update_ms_median:.2f} ms"),
        ("update() p95", f"{summary.update_ms_p95:.2f} ms"),
    ]
    rows += [
        (
            f"{artefact.name} against PyTorch",
            f"edges within {artefact.parity.box_px:.1e} px of the search crop",
        )
        for artefact in bundle.artefacts
        if artefact.parity is not None
    ]
    print_table("Rendered clip, tracked", ("", ""), rows)
