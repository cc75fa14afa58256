"""A camera played to a tracker: latency from capture to box, and what it does to the machine."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_tracker.measure.bench.latency import Clock, Distribution, Pace, distribution_of
from edge_tracker.measure.bench.machine import MachineState, energy_between_j
from edge_tracker.rules.crop import Image

#: The machine is looked at so often. It takes about a millisecond, between two frames.
STRETCH_S = 5.0

#: Given how many frames have passed, returns what the machine is like.
Observe = Callable[[int], MachineState]


@dataclass(frozen=True)
class Stretch:
    """Some seconds of a camera's run. until_s: since its start. state: at the end of the stretch.
    energy_j: of the whole machine, or of its processors; None where it is not counted.
    """

    until_s: float
    latency: Distribution
    dropped: int
    energy_j: float | None
    state: MachineState


@dataclass(frozen=True)
class CameraRun:
    """A camera that delivers a frame each 1 / fps seconds, whether the tracker is ready or not.

    Of the frames that came while it was busy, the tracker takes the newest; the others are dropped.
    latency: from a frame's capture to its box, waiting included: what a user sees. A deadline is
    missed where that is longer than the time between frames. course: stretches of STRETCH_S, the
    last one shorter.
    """

    fps: float
    frames: int
    dropped: int
    deadline_misses: int
    latency: Distribution
    course: tuple[Stretch, ...]

    @property
    def energy_per_frame_mj(self) -> float | None:
        """Of the frames that the camera delivered, the pauses between them included."""
        counted = [stretch.energy_j for stretch in self.course if stretch.energy_j is not None]
        return 1e3 * sum(counted) / self.frames if len(counted) == len(self.course) else None


def play_camera(
    update: Callable[[Image], object],
    pace: Pace,
    fps: float,
    frames: int,
    clock: Clock,
    sleep: Callable[[float], None],
    observe: Observe,
) -> CameraRun:
    """Play `frames` frames of a camera to `update`.

    So many parameters because two are a clock of the tests, and one looks at the machine.
    """
    period_s = 1 / fps
    latencies_ms: list[float] = []
    dropped = 0
    next_frame = 0
    started_s = clock()
    course = _Course(started_s, observe(0))
    while next_frame < frames:
        since_start_s = clock() - started_s
        newest = min(math.floor(since_start_s / period_s), frames - 1)
        if newest < next_frame:
            # At least so long that the clock moves.
            sleep(max(next_frame * period_s - since_start_s, 5e-5))
            continue
        course.dropped += newest - next_frame
        dropped += newest - next_frame
        update(pace.frame(newest))
        now_s = clock()
        latencies_ms.append(1e3 * (now_s - started_s - newest * period_s))
        course.latencies_ms.append(latencies_ms[-1])
        next_frame = newest + 1
        if now_s - course.since_s >= STRETCH_S or next_frame == frames:
            course.end_stretch(now_s, observe(next_frame))
    return CameraRun(
        fps=fps,
        frames=frames,
        dropped=dropped,
        deadline_misses=sum(latency > 1e3 * period_s for latency in latencies_ms),
        latency=distribution_of(latencies_ms),
        course=tuple(course.stretches),
    )


@dataclass
class _Course:
    """The stretches that have ended, and the one under way since `since_s` on the clock."""

    started_s: float
    state: MachineState
    since_s: float = field(init=False)
    latencies_ms: list[float] = field(default_factory=list)
    dropped: int = 0
    stretches: list[Stretch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.since_s = self.started_s

    def end_stretch(self, now_s: float, state: MachineState) -> None:
        self.stretches.append(
            Stretch(
                until_s=now_s - self.started_s,
                latency=distribution_of(self.latencies_ms),
                dropped=self.dropped,
                energy_j=energy_between_j(self.state, state, now_s - self.since_s),
                state=state,
            )
        )
        self.since_s, self.state = now_s, state
        self.latencies_ms, self.dropped = [], 0
