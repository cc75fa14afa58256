"""edge-tracker track: follow a target through a video."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from edge_tracker.backends.choice import backend_names
from edge_tracker.backends.record import COMPUTES
from edge_tracker.bundle.manifest import PRECISIONS
from edge_tracker.cli.arguments import (
    Subparsers,
    add_json_option,
    add_placement_options,
    add_subcommand,
    box_xywh,
)

if TYPE_CHECKING:
    from edge_tracker.backends.graph import BackendChoice
    from edge_tracker.rules.crop import Image
    from edge_tracker.tracker import TrackResult
    from edge_tracker.video.track import TrackSummary

EXAMPLES = """\
  edge-tracker track small.bundle clip.mp4 --box 310,170,60,80 --save tracked.mp4
  edge-tracker track small.bundle frames/ --box 310,170,60,80 --csv boxes.csv --json summary.json
  edge-tracker track small.bundle 0 --show            draw the box with the mouse, camera 0
  edge-tracker track small.bundle rtsp://10.0.0.7/live --show --backend openvino --device GPU

A box that starts outside the frame needs an equals sign: --box=-5,10,40,40
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = add_subcommand(
        subparsers,
        "track",
        run,
        summary="follow a target through a video, camera or folder of images",
        description="Follow the target in a box on the first frame, to the end of SOURCE: a video "
        "file, a folder of images (in natural order), a camera's index or a stream's address. "
        "Ctrl-C and SIGTERM stop it, and what was tracked is kept.",
        examples=EXAMPLES,
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument(
        "--box",
        type=box_xywh,
        metavar="X,Y,W,H",
        help="target on the first frame: left, top, width, height in pixels",
    )
    parser.add_argument(
        "--show",
        action="store_true",
        help="watch in a window (q or Esc stops); without --box, draw the box with the mouse",
    )
    parser.add_argument("--save", type=Path, metavar="MP4", help="video with the boxes drawn in")
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="box, score and edge_std of each frame"
    )
    parser.add_argument(
        "--backend", choices=("auto", *backend_names()), default="auto", help="(default: auto)"
    )
    parser.add_argument("--precision", choices=PRECISIONS, help="which of the bundle's models")
    parser.add_argument(
        "--compute",
        choices=("auto", *COMPUTES),
        help="type of floating-point arithmetic, where the machine has it; auto: the fastest that "
        "the bundle's golden cases prove (default: what the model is made for, f32 on a CPU)",
    )
    add_placement_options(parser)
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.box is None and not arguments.show:
        arguments.usage_error("no target: give --box X,Y,W,H, or --show to draw it with the mouse")
    _silence_opencv()
    from edge_tracker.cli.printing import progress_bar, write_json
    from edge_tracker.tracker import EdgeTracker
    from edge_tracker.video import window
    from edge_tracker.video.frames import open_frames
    from edge_tracker.video.track import annotate_result, track_video

    if arguments.show:
        window.require_display()
    with (
        EdgeTracker(
            arguments.bundle,
            backend=arguments.backend,
            device=arguments.device,
            precision=arguments.precision,
            num_threads=arguments.threads,
            compute=arguments.compute,
        ) as tracker,
        open_frames(arguments.source) as source,
        progress_bar("tracking") as show,
    ):
        box = arguments.box
        if box is None:
            source, box = window.choose_box(source)

        def on_frame(index: int, frame: Image, result: TrackResult) -> bool:
            state = "" if result.found else "lost "
            show(index + 1, source.num_frames, f"{state}{result.score:.2f}")
            return not arguments.show or window.show(annotate_result(frame, result))

        summary = track_video(
            tracker, source, box, save=arguments.save, csv_path=arguments.csv, on_frame=on_frame
        )
        choice = tracker.choice
    if arguments.json is not None:
        write_json(
            arguments.json,
            {"backend": dataclasses.asdict(choice), **dataclasses.asdict(summary)},
        )
    _print(summary, choice)
    return 130 if summary.interrupted else 0


def _silence_opencv() -> None:
    """Failures to read or write a video are ours to report, in one line."""
    # OpenCV and the FFmpeg inside it take this from nowhere else; -8 is FFmpeg's AV_LOG_QUIET.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def _print(summary: TrackSummary, choice: BackendChoice) -> None:
    from edge_tracker.cli.printing import print_table

    rows = [
        ("source", summary.source),
        ("backend", f"{choice.backend}, {choice.device}, {choice.precision} in {choice.compute}"),
        ("frames", str(summary.frames)),
        ("frames lost", str(summary.frames_lost)),
    ]
    if summary.mean_score is not None:
        rows += [
            ("mean score", f"{summary.mean_score:.3f}"),
            ("update() median", f"{summary.update_ms_median:.2f} ms"),
            ("update() p95", f"{summary.update_ms_p95:.2f} ms"),
            ("update() rate", f"{summary.update_fps:.1f} frames/s"),
        ]
    if summary.ended is not None:
        rows.append(("note", summary.ended))
    print_table("Tracked", ("", ""), rows)
