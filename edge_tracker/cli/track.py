"""edge-tracker track: follow targets through a video."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping, Sequence
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
    int_from,
    is_stdout,
    positive_float,
    positive_int,
    seconds,
)
from edge_tracker.options import RECOVERIES

if TYPE_CHECKING:
    from edge_tracker.backends.graph import BackendChoice
    from edge_tracker.rules.boxes import Box
    from edge_tracker.rules.crop import Image
    from edge_tracker.video.track import Results, TrackSummary

EXAMPLES = """\
  edge-tracker track small.bundle clip.mp4 --box 310,170,60,80 --save tracked.mp4
  edge-tracker track small.bundle frames/ --box 310,170,60,80 --csv boxes.csv --json summary.json
  edge-tracker track small.bundle 0 --show            draw the box with the mouse, camera 0
  edge-tracker track small.bundle rtsp://10.0.0.7/live --show --backend openvino --device GPU
  edge-tracker track small.bundle clip.mp4 --box 310,170,60,80 --box 20,30,50,90 --save tracked.mp4
  edge-tracker track small.bundle 0 --box 310 170 60 80 --csv - | your-program
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = add_subcommand(
        subparsers,
        "track",
        run,
        summary="follow targets through a video, camera or folder of images",
        description="Follow the targets in boxes on the first frame, to the end of SOURCE: a video "
        "file, a folder of images (in natural order), a camera's index or a stream's address. "
        "Ctrl-C and SIGTERM stop it, and what was tracked is kept.",
        examples=EXAMPLES,
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument(
        "--box",
        type=box_xywh,
        action="append",
        metavar="X,Y,W,H",
        help="target on the first frame: left, top, width, height in pixels; spaces do as well; "
        "again for each further target",
    )
    parser.add_argument(
        "--show",
        action="store_true",
        help="watch in a window, a file at its own rate: space pauses, d lets you draw a target "
        "again, q or Esc ends; without --box, draw the box with the mouse",
    )
    parser.add_argument(
        "--save",
        type=_video_or_folder,
        metavar="VIDEO",
        help="frames with the boxes drawn in: .mp4, .avi, .mkv, .webm, or a new folder/ of images",
    )
    parser.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="box, score and edge_std of each frame and target; - is standard output, at once",
    )
    _add_frame_options(parser)
    parser.add_argument(
        "--backend", choices=("auto", *backend_names()), default="auto", help="(default: auto)"
    )
    parser.add_argument("--precision", choices=PRECISIONS, help="which of the bundle's models")
    parser.add_argument(
        "--compute",
        choices=("auto", *COMPUTES),
        default="auto",
        help="type of floating-point arithmetic, where the machine has it (default: auto, the "
        "fastest that the bundle's golden cases prove)",
    )
    add_placement_options(parser)
    add_json_option(parser)


def _add_frame_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--start", type=seconds, default=0.0, metavar="S", help="begin S seconds into the source"
    )
    parser.add_argument("--end", type=seconds, metavar="S", help="end S seconds into the source")
    parser.add_argument(
        "--every", type=positive_int, default=1, metavar="N", help="take each N-th frame only"
    )
    parser.add_argument(
        "--latest",
        action="store_true",
        help="of a camera or stream take the newest frame, and drop those that came meanwhile",
    )
    parser.add_argument(
        "--search-factor", type=positive_float, metavar="F", help="width of the search region, in "
        "widths of the target (default: what the bundle says)",
    )  # fmt: skip
    parser.add_argument(
        "--recovery", choices=RECOVERIES, help="where to look for a lost target: where it is taken "
        "to be, around its last place, or in the whole frame (default: what the bundle says, off)",
    )  # fmt: skip
    parser.add_argument(
        "--update-interval", type=int_from(0), metavar="N", help="frames between changes of the "
        "online template, 0 for none (default: what the bundle says)",
    )  # fmt: skip


def _video_or_folder(text: str) -> Path:
    """Argument type: a folder, told by a slash at its end, stands for images in it."""
    return Path(text, "%06d.jpg") if text.endswith("/") or Path(text).is_dir() else Path(text)


def run(arguments: argparse.Namespace) -> int:
    if arguments.box is None and not arguments.show:
        arguments.usage_error("no target: give --box X,Y,W,H, or --show to draw it with the mouse")
    _silence_opencv()
    from edge_tracker.bundle.opening import open_bundle
    from edge_tracker.cli.printing import progress_bar, standard_output, write_json
    from edge_tracker.tracker import Engine, MultiTracker
    from edge_tracker.video import window
    from edge_tracker.video.frames import open_frames, select_frames
    from edge_tracker.video.track import annotate_results, least_sure, track_video

    if arguments.show:
        window.require_display()
    bundle = open_bundle(arguments.bundle)
    names = ("search_factor", "update_interval", "recovery")
    chosen = {name: getattr(arguments, name) for name in names}
    given = {name: value for name, value in chosen.items() if value is not None}
    options = dataclasses.replace(bundle.tracker_defaults, **given)
    rows = standard_output() if is_stdout(arguments.csv) else arguments.csv
    with (
        Engine(
            bundle,
            backend=arguments.backend,
            device=arguments.device,
            precision=arguments.precision,
            num_threads=arguments.threads,
            compute=arguments.compute,
        ) as engine,
        MultiTracker(engine, options=options) as tracker,
        open_frames(arguments.source, latest=arguments.latest) as source,
        progress_bar("tracking") as show,
    ):
        if (arguments.start, arguments.end, arguments.every) != (0.0, None, 1):
            source = select_frames(source, arguments.start, arguments.end, arguments.every)
        boxes = arguments.box
        if boxes is None:
            source, box = window.choose_box(source)
            boxes = [box]

        viewer = window.Viewer(source) if arguments.show else None

        def on_frame(index: int, frame: Image, results: Results) -> Mapping[int, Box] | None:
            words = [f"{'' if r.found else 'lost '}{r.score:.2f}" for r in results.values()]
            show(index + 1, source.num_frames, ", ".join(words))
            if viewer is None:
                return {}
            box = viewer.show(annotate_results(frame, results), frame)
            if viewer.stopped:
                return None
            return {} if box is None else {least_sure(results): box}

        summary = track_video(
            tracker, source, boxes, save=arguments.save, csv_path=rows, on_frame=on_frame
        )
        choice = engine.choice
    if arguments.json is not None:
        write_json(
            arguments.json,
            {"backend": dataclasses.asdict(choice), **dataclasses.asdict(summary)},
        )
    _print(summary, choice, [arguments.save, arguments.csv, arguments.json])
    if viewer is not None and not source.live and not summary.interrupted:
        viewer.keep_last()
    return 130 if summary.interrupted else 0


def _silence_opencv() -> None:
    """Failures to read or write a video are ours to report, in one line."""
    # OpenCV and the FFmpeg inside it take this from nowhere else; -8 is FFmpeg's AV_LOG_QUIET.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def _print(summary: TrackSummary, choice: BackendChoice, written: Sequence[Path | None]) -> None:
    from edge_tracker.cli.printing import print_table

    rows = [
        ("source", summary.source),
        ("backend", f"{choice.backend}, {choice.device}, {choice.precision} in {choice.compute}"),
        ("targets", str(summary.targets)),
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
    if summary.drawn_again:
        rows.append(("drawn again", str(summary.drawn_again)))
    if summary.dropped:
        rows.append(("frames dropped", str(summary.dropped)))
    rows += [("written", str(path)) for path in written if path and not is_stdout(path)]
    if summary.ended is not None:
        rows.append(("note", summary.ended))
    print_table("Tracked", ("", ""), rows)
