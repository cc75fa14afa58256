"""A whole video through the tracker: boxes to CSV, annotated frames to a video, and a summary."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np

from edge_tracker.errors import VideoError
from edge_tracker.files.atomic_file import is_written_into, replacing
from edge_tracker.files.outputs import refuse_overlap
from edge_tracker.rules.boxes import Box
from edge_tracker.rules.crop import Image
from edge_tracker.tracker import MultiTracker, TrackResult
from edge_tracker.video.draw import annotate
from edge_tracker.video.frames import FrameSource
from edge_tracker.video.recording import frame_writer

CSV_COLUMNS = (
    "frame", "x", "y", "w", "h", "score", "found", "std_left", "std_top", "std_right", "std_bottom",
    "target", "presence",
)  # fmt: skip


#: By the target's number.
Results = Mapping[int, TrackResult]
#: Told index, frame (not annotated) and results by number, the given boxes included. Answers with
#: boxes, by number, on which targets are to start anew in this frame, or with None to stop there.
OnFrame = Callable[[int, Image, Results], Mapping[int, Box] | None]


@dataclass(frozen=True)
class TrackSummary:
    """How a video went. Times are of `update()` alone, of all targets together, without reading,
    drawing or writing.

    frames: how many, the first included, on which the tracker was started. targets: how many.
    ended: why tracking stopped short of the announced frames, None if it did not. interrupted: it
    was Ctrl-C or a signal, before the end of a file.
    dropped: frames of a live source that were passed over, as newer ones were there.
    drawn_again: how often a target was started anew on the way.
    The rest is about the frames after the first; None where there are none. frames_lost: of each
    target, summed.
    """

    source: str
    frames: int
    targets: int
    announced_frames: int | None
    ended: str | None
    interrupted: bool
    dropped: int
    drawn_again: int
    update_fps: float | None
    update_ms_median: float | None
    update_ms_p95: float | None
    mean_score: float | None
    frames_lost: int


def track_video(
    tracker: MultiTracker,
    source: FrameSource,
    boxes_frame_xywh: Sequence[Box],
    *,
    save: Path | None = None,
    csv_path: Path | TextIO | None = None,
    on_frame: OnFrame | None = None,
) -> TrackSummary:
    """Track the targets in boxes of the source's first frame to the source's end.

    tracker: its targets so far are forgotten, those of this video are left in it.
    save: where annotated frames go, as for `frame_writer`. csv_path: one row per frame and target,
    who are numbered from 1 in the order of the boxes; those of frame 0 are the given boxes with
    score 1. Both take their names only when complete; a failure leaves neither.
    A stream, device or pipe is given each row at once.

    on_frame: called with each frame before its results are written; a box that it gives is the
    target's result in that frame, with score 1.

    KeyboardInterrupt (Ctrl-C) ends tracking, and what was tracked is kept; before the first frame
    it is raised.

    Raises ValueError where an output is, contains or lies inside the source or the other output.
    """
    _refuse_outputs(source, save, csv_path)
    targets = _Targets(tracker, source.name)
    frames = 0
    ended: str | None = None
    interrupted = False
    with ExitStack() as outputs:
        # Both are opened before the first frame: if they cannot be written, that is known at once.
        height_px, width_px = source.first_frame.shape[:2]
        write_frame = (
            outputs.enter_context(frame_writer(save, source.fps, width_px, height_px))
            if save
            else None
        )
        write_rows = outputs.enter_context(_csv_writer(csv_path)) if csv_path else None
        try:
            for frame in source:
                if frames == 0:
                    targets.forget_all()
                    results = targets.start(frame, dict(enumerate(boxes_frame_xywh, start=1)))
                else:
                    results = targets.update(frame)
                again = {} if on_frame is None else on_frame(frames, frame, results)
                if again:
                    results = {**results, **targets.start(frame, again)}
                if write_rows is not None:
                    write_rows(frames, results)
                if write_frame is not None:
                    write_frame(annotate_results(frame, results))
                frames += 1
                if again is None:
                    ended = f"stopped by the user after {_of_announced(frames, source)} frames"
                    break
            else:
                ended = _early_end(frames, source)
        except KeyboardInterrupt:
            if frames == 0:
                raise
            interrupted = not source.live
            ended = f"interrupted after {_of_announced(frames, source)} frames, which are kept"
    return TrackSummary(
        source=source.name,
        frames=frames,
        targets=len(boxes_frame_xywh),
        announced_frames=source.num_frames,
        ended=ended,
        interrupted=interrupted,
        dropped=source.dropped(),
        drawn_again=targets.starts - len(boxes_frame_xywh),
        update_fps=1000 / float(np.mean(targets.update_ms)) if targets.update_ms else None,
        update_ms_median=float(np.median(targets.update_ms)) if targets.update_ms else None,
        update_ms_p95=float(np.percentile(targets.update_ms, 95)) if targets.update_ms else None,
        mean_score=float(np.mean(targets.scores)) if targets.scores else None,
        frames_lost=targets.frames_lost,
    )


def annotate_results(frame_bgr: Image, results: Results) -> Image:
    """A copy of the frame with results drawn into it; where there are several targets, each in a
    colour of its own and with its number.
    """
    drawn = frame_bgr.copy() if not results else frame_bgr
    for number, result in results.items():
        drawn = annotate(
            drawn,
            result.box,
            score=result.score,
            found=result.found,
            edge_std_px=result.edge_std_px,
            number=number if len(results) > 1 else None,
        )
    return drawn


def least_sure(results: Results) -> int:
    """The number of the target that is likeliest to be lost."""
    return min(results, key=lambda number: (results[number].found, results[number].score))


@dataclass
class _Targets:
    """Of one video, by number; the tracker knows them by ids that change when one starts anew.

    source: the video's name, for messages.
    """

    tracker: MultiTracker
    source: str
    ids: dict[int, int] = field(default_factory=dict)
    starts: int = 0
    update_ms: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    frames_lost: int = 0

    def forget_all(self) -> None:
        for name in self.tracker.ids:
            self.tracker.remove(name)

    def start(self, frame: Image, boxes_frame_xywh: Mapping[int, Box]) -> Results:
        results = {}
        for number, box in boxes_frame_xywh.items():
            started = self.tracker.add(frame, box)
            if number in self.ids:
                self.tracker.remove(self.ids[number])
            self.ids[number] = started
            self.starts += 1
            x, y, w, h = (float(value) for value in box)
            results[number] = TrackResult((x, y, w, h), 1.0, True, (0.0, 0.0, 0.0, 0.0))
        return results

    def update(self, frame: Image) -> Results:
        started_s = time.perf_counter()
        try:
            found = self.tracker.update(frame)
        except ValueError as error:
            number = len(self.update_ms) + 1
            raise VideoError(f"{self.source}, frame {number} from 0: {error}") from error
        self.update_ms.append(1000 * (time.perf_counter() - started_s))
        self.scores += [result.score for result in found.values()]
        self.frames_lost += sum(not result.found for result in found.values())
        return {number: found[name] for number, name in self.ids.items()}


def _refuse_outputs(source: FrameSource, save: Path | None, csv_to: Path | TextIO | None) -> None:
    rows_path = csv_to if isinstance(csv_to, Path) else None
    for target in (save, rows_path):
        if target is not None:
            refuse_overlap(target, [source.path])
    if save is not None:
        refuse_overlap(save, [rows_path], role="which is written too")


def _early_end(frames: int, source: FrameSource) -> str | None:
    if source.live:
        again = "which are kept; if it dropped out, start again once it is back"
        return f"{source.name} ended after {frames} frames, {again}"
    if source.num_frames is None or frames >= source.num_frames:
        return None
    return f"{source.name} ended after {_of_announced(frames, source)} frames"


def _of_announced(frames: int, source: FrameSource) -> str:
    return str(frames) if source.num_frames is None else f"{frames} of {source.num_frames}"


@contextmanager
def _csv_writer(target: Path | TextIO) -> Iterator[Callable[[int, Results], None]]:
    with ExitStack() as stack:
        at_once = not isinstance(target, Path) or is_written_into(target)
        if isinstance(target, Path):
            path = target if at_once else stack.enter_context(replacing(target))
            opened = path.open("a" if at_once else "w", newline="", encoding="utf-8")
            target = stack.enter_context(opened)
        file = target
        rows = csv.writer(file, lineterminator="\n")

        def write_row(*cells: object) -> None:
            rows.writerow(cells)
            if at_once:
                file.flush()

        write_row(*CSV_COLUMNS)

        def write_results(index: int, results: Results) -> None:
            for number, result in results.items():
                box = [f"{value:.3f}" for value in result.box]
                stds = [f"{value:.3f}" for value in result.edge_std_px]
                presence = "" if result.presence is None else f"{result.presence:.4f}"
                seen = f"{result.score:.4f}", int(result.found)
                write_row(index, *box, *seen, *stds, number, presence)

        yield write_results
