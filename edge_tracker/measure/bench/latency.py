"""Latency: one tracker timed stage by stage, and percentiles of these times."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from edge_tracker.rules.boxes import Box
from edge_tracker.rules.crop import Image
from edge_tracker.tracker import STAGES, EdgeTracker

#: Returns seconds.
Clock = Callable[[], float]


PERCENTILES = (50, 90, 95, 99)
#: That a percentile lies below its interval has this probability, and above it the same.
_TAIL = 0.025


@dataclass(frozen=True)
class Distribution:
    """Of milliseconds. std is the population's; percentiles are interpolated linearly.

    intervals: for each percentile by name ("p50") the two order statistics between which it lies
    with a probability of at least 95 %, whatever the distribution, if the values are independent
    (a drift makes them narrower than they should be); None where the values are too few for it.
    """

    count: int
    mean: float
    std: float
    min: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    intervals: Mapping[str, tuple[float, float] | None]


def distribution_of(values_ms: Sequence[float]) -> Distribution:
    """Raises ValueError for no values."""
    if not values_ms:
        raise ValueError("no values: a distribution needs at least one")
    values = np.sort(np.asarray(values_ms, np.float64))
    p50, p90, p95, p99 = (float(value) for value in np.percentile(values, PERCENTILES))
    intervals: dict[str, tuple[float, float] | None] = {}
    for percentile in PERCENTILES:
        ranks = interval_ranks(len(values), percentile)
        ends = (float(values[ranks[0]]), float(values[ranks[1]])) if ranks else None
        intervals[f"p{percentile}"] = ends
    return Distribution(
        count=len(values),
        mean=float(values.mean()),
        std=float(values.std()),
        min=float(values[0]),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        max=float(values[-1]),
        intervals=intervals,
    )


@lru_cache
def interval_ranks(count: int, percentile: int) -> tuple[int, int] | None:
    """Places, from 0, of the sorted values that enclose a percentile with at least 95 %.

    How many of `count` values lie below it is binomial. None if they are too few: not even the
    smallest or the largest is far enough out.
    """
    below = percentile / 100
    number = np.arange(count + 1)
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, count + 1)))))
    log_chance = log_factorial[-1] - log_factorial - log_factorial[::-1]
    log_chance += number * math.log(below) + (count - number) * math.log(1 - below)
    at_most = np.cumsum(np.exp(log_chance))
    low = int(np.searchsorted(at_most, _TAIL, side="right")) - 1
    high = int(np.searchsorted(at_most, 1 - _TAIL))
    return (low, high) if low >= 0 and high < count else None


def least_count(percentile: int) -> int:
    """So many values, at the least, give a percentile of 50 or more its interval."""
    return math.ceil(math.log(_TAIL) / math.log(percentile / 100))


@dataclass(frozen=True)
class TimedUpdate:
    """One `update()`. stages_ms: those of tracker.STAGES that happened in it."""

    elapsed_ms: float
    stages_ms: dict[str, float]

    @property
    def after_refresh(self) -> bool:
        """Whether this frame was the first to use a new online template."""
        return "template_wait" in self.stages_ms


class StageTimer:
    """Times the updates of the one tracker whose `on_stage` it is."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_s = 0.0
        self._stages_ms: dict[str, float] = {}

    def __call__(self, stage: str) -> None:
        now_s = self._clock()
        self._stages_ms[stage] = 1e3 * (now_s - self._last_s)
        self._last_s = now_s

    def time_init(self, tracker: EdgeTracker, frame: Image, box: Box) -> float:
        """Milliseconds of `init`."""
        started_s = self._clock()
        tracker.init(frame, box)
        return 1e3 * (self._clock() - started_s)

    def time_update(self, tracker: EdgeTracker, frame: Image) -> TimedUpdate:
        self._stages_ms = {}
        started_s = self._last_s = self._clock()
        tracker.update(frame)
        elapsed_ms = 1e3 * (self._clock() - started_s)
        # A copy: the tracker's next update may be one that nobody times.
        return TimedUpdate(elapsed_ms, dict(self._stages_ms))


def timing_overhead_us(clock: Clock, repeats: int = 1000) -> float:
    """What timing adds to one update: median over repeats of timing an empty one."""
    timer = StageTimer(clock)
    spent_us = []
    for _ in range(repeats):
        started_s = clock()
        clock()
        for stage in STAGES:
            timer(stage)
        clock()
        spent_us.append(1e6 * (clock() - started_s))
    return float(np.median(spent_us))


@dataclass(frozen=True)
class Pace:
    """Frames cycled forth and back, so that the target never jumps, and its box in the first."""

    frames: Sequence[Image]
    first_box: Box

    def frame(self, index: int) -> Image:
        turn = 2 * (len(self.frames) - 1)
        return self.frames[turn // 2 - abs(turn // 2 - index % turn)] if turn else self.frames[0]
