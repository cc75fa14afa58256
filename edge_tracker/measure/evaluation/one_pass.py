"""One pass of one tracker over one sequence: started on the first box, never helped afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tracker.errors import DatasetError
from edge_tracker.measure.evaluation.contenders import OpenTracker
from edge_tracker.measure.evaluation.ground_truth import AnnotatedSequence, Boxes
from edge_tracker.tracker import TrackResult

#: Decimals of a pixel that result files keep; boxes are rounded at once, so that metrics are the
#: same whether they come from the run or from its files.
RESULT_DECIMALS = 3
CONFIDENCE_DECIMALS = 6


@dataclass(frozen=True)
class Trajectory:
    """boxes_xywh: (frames, 4) in frame pixels, 0-based, row 0 the box that was given.

    times_s: (frames,), seconds that `init` and each `update` took, reading the frame left out; 0
    for frames that a live camera's tracker would not have seen.

    confidences, found: (frames,) float64 and bool; presence, or the score where the bundle does not
    tell presence, and whether the target counts as found. None of trackers that tell boxes alone.
    """

    boxes_xywh: Boxes
    times_s: NDArray[np.float64]
    confidences: NDArray[np.float64] | None = None
    found: NDArray[np.bool_] | None = None

    @property
    def frames_skipped(self) -> int:
        return int((self.times_s[1:] == 0).sum())

    @property
    def update_times_ms(self) -> NDArray[np.float64]:
        times_ms: NDArray[np.float64] = 1000 * self.times_s[1:]
        return times_ms[times_ms > 0]


def follow(
    tracker: OpenTracker,
    sequence: AnnotatedSequence,
    camera_fps: float | None = None,
    clock_s: Callable[[], float] = time.perf_counter,
) -> Trajectory:
    """Track a sequence from its first box.

    camera_fps: frames arrive at this rate, on a simulated clock that runs while the tracker does.
    One that arrives while the tracker is busy is skipped, and keeps the box of the frame before.

    Raises DatasetError for a frame that cannot be read or tracked in and a first box that cannot be
    tracked, and what the tracker raises.
    """
    num_frames = len(sequence.frames)
    boxes = np.empty((num_frames, 4))
    times_s = np.zeros(num_frames)
    confidences, found = np.ones(num_frames), np.ones(num_frames, bool)
    tells_more = False
    first_frame = sequence.read_frame(0)
    try:
        # Once for nothing: the first runs of a network set up memory and threads.
        tracker.init(first_frame, sequence.first_box)
        tracker.update(first_frame)
        started_s = clock_s()
        tracker.init(first_frame, sequence.first_box)
    except ValueError as error:
        raise DatasetError(
            f"sequence {sequence.name}: line 1 of {sequence.truth.name} cannot be tracked: {error}"
        ) from error
    times_s[0] = clock_s() - started_s
    boxes[0] = sequence.first_box
    ready_s = times_s[0]
    for index in range(1, num_frames):
        if camera_fps is not None and index / camera_fps < ready_s:
            boxes[index] = boxes[index - 1]
            confidences[index], found[index] = confidences[index - 1], found[index - 1]
            continue
        frame = sequence.read_frame(index)
        started_s = clock_s()
        try:
            result = tracker.update(frame)
        except ValueError as error:
            raise DatasetError(
                f"sequence {sequence.name}: {sequence.frames[index].name} cannot be tracked in: "
                f"{error}"
            ) from error
        times_s[index] = clock_s() - started_s
        if isinstance(result, TrackResult):
            tells_more = True
            told = result.score if result.presence is None else result.presence
            boxes[index], confidences[index], found[index] = result.box, told, result.found
        else:
            boxes[index] = result
        if camera_fps is not None:
            ready_s = index / camera_fps + times_s[index]
    boxes, confidences = boxes.round(RESULT_DECIMALS), confidences.round(CONFIDENCE_DECIMALS)
    return Trajectory(boxes, times_s, *((confidences, found) if tells_more else ()))
