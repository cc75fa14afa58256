"""Several targets: MultiTracker against as many EdgeTrackers on the same engine, frame by frame."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np

from edge_tracker.measure.bench.latency import Clock, Pace, distribution_of
from edge_tracker.measure.bench.report import BenchSettings, SeveralTargets
from edge_tracker.rules.boxes import Box
from edge_tracker.tracker import EdgeTracker, MultiTracker

#: Frames that are not counted: memory is reserved in them, and what runs several targets compiled.
WARM_UP_FRAMES = 5


def measure_several(
    single: EdgeTracker, targets: int, pace: Pace, settings: BenchSettings, clock: Clock
) -> SeveralTargets:
    """Track so many targets on `single`'s engine, with its options; it is not used itself.

    As many frames as `settings` says, or seconds of both together. Raises EdgeTrackerError.
    """
    several_ms: list[float] = []
    singles_ms: list[float] = []
    with ExitStack() as trackers:
        several = trackers.enter_context(MultiTracker(single.engine, options=single.options))
        singles = []
        for box in boxes_of(pace.first_box, targets):
            tracker = EdgeTracker(single.engine, options=single.options)
            singles.append(trackers.enter_context(tracker))
            singles[-1].init(pace.frame(0), box)
            several.add(pace.frame(0), box)
        index = 0
        while not _has_enough(several_ms, singles_ms, settings):
            index += 1
            frame = pace.frame(index)
            started_s = clock()
            for tracker in singles:
                tracker.update(frame)
            between_s = clock()
            several.update(frame)
            ended_s = clock()
            if index > WARM_UP_FRAMES:
                singles_ms.append(1e3 * (between_s - started_s))
                several_ms.append(1e3 * (ended_s - between_s))
    ratio = float(np.median(np.divide(several_ms, singles_ms)))
    return SeveralTargets(targets, distribution_of(several_ms), distribution_of(singles_ms), ratio)


def boxes_of(first: Box, count: int) -> list[Box]:
    """The first box, and others of its size around it."""
    x, y, w, h = first
    others = ((x + 37.0 * (place - 3), y + 23.0 * (place % 3), w, h) for place in range(1, count))
    return [first, *others]


def _has_enough(several_ms: list[float], singles_ms: list[float], settings: BenchSettings) -> bool:
    if settings.iterations is not None:
        return len(several_ms) >= settings.iterations
    return sum(several_ms) + sum(singles_ms) >= 1e3 * settings.duration_s
