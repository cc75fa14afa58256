"""Rounds in which each artefact has its turn, so that a drifting machine slows all alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edge_tracker.backends.graph import CopyTimes
from edge_tracker.backends.record import row_name
from edge_tracker.bundle.manifest import Artefact
from edge_tracker.errors import EdgeTrackerError
from edge_tracker.measure.bench.latency import Pace, StageTimer, TimedUpdate, distribution_of
from edge_tracker.measure.bench.machine import read_state
from edge_tracker.measure.bench.report import BenchSettings, Failure, Round
from edge_tracker.options import OnProgress
from edge_tracker.tracker import EdgeTracker

#: One artefact's turn ends after so many frames or seconds, whichever is first.
ROUND_FRAMES = 50
ROUND_S = 2.0
#: Frames before each turn that are not counted: another artefact has just had the caches.
WARM_UP_FRAMES = 5
#: Copies timed at the end of each turn, between updates.
COPIES = 10


@dataclass
class Subject:
    """One artefact's tracker, and what has been measured of it. compute: the type asked for."""

    artefact: Artefact
    compute: str | None
    tracker: EdgeTracker
    timer: StageTimer
    updates: list[TimedUpdate] = field(default_factory=list)
    init_ms: list[float] = field(default_factory=list)
    copies: list[CopyTimes] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)

    @property
    def name(self) -> str:
        return row_name(self.artefact, self.compute)

    @property
    def measured_ms(self) -> float:
        return sum(update.elapsed_ms for update in self.updates)

    def forget(self) -> None:
        self.updates.clear()
        self.init_ms.clear()
        self.copies.clear()
        self.rounds.clear()


def measure_in_turns(
    subjects: list[Subject], pace: Pace, settings: BenchSettings, on_progress: OnProgress
) -> list[Failure]:
    """Rounds, the order reversed each time, until all have enough; the first round is forgotten.

    A subject that fails is taken out of `subjects`; returns what failed.
    """
    failures = _take_round(subjects, subjects[::-1], pace, settings, on_progress)
    for subject in subjects:
        subject.forget()
    forward = True
    while unfinished := [subject for subject in subjects if not _has_enough(subject, settings)]:
        order = unfinished if forward else unfinished[::-1]
        failures += _take_round(subjects, order, pace, settings, on_progress)
        forward = not forward
    return failures


def _take_round(
    subjects: list[Subject],
    order: Sequence[Subject],
    pace: Pace,
    settings: BenchSettings,
    on_progress: OnProgress,
) -> list[Failure]:
    failures = []
    for subject in order:
        on_progress(*_progress(subject, settings), f"measuring {subject.name}")
        try:
            _take_turn(subject, pace, settings)
        except EdgeTrackerError as error:
            failures.append(Failure(subject.name, str(error)))
            subjects.remove(subject)
    return failures


def _take_turn(subject: Subject, pace: Pace, settings: BenchSettings) -> None:
    tracker, timer = subject.tracker, subject.timer
    subject.init_ms.append(timer.time_init(tracker, pace.frame(0), pace.first_box))
    for index in range(1, 1 + WARM_UP_FRAMES):
        timer.time_update(tracker, pace.frame(index))
    turn: list[TimedUpdate] = []
    while len(turn) < ROUND_FRAMES and sum(u.elapsed_ms for u in turn) < 1e3 * ROUND_S:
        index = 1 + WARM_UP_FRAMES + len(turn)
        turn.append(timer.time_update(tracker, pace.frame(index)))
        subject.updates.append(turn[-1])
        if _has_enough(subject, settings):
            break
    for _ in range(COPIES):
        if (times := tracker.time_copies()) is not None:
            subject.copies.append(times)
    p50_ms = distribution_of([update.elapsed_ms for update in turn]).p50
    subject.rounds.append(Round(p50_ms, len(turn), read_state()))


def _has_enough(subject: Subject, settings: BenchSettings) -> bool:
    done, wanted = _progress(subject, settings)
    return done >= wanted


def _progress(subject: Subject, settings: BenchSettings) -> tuple[int, int]:
    """Updates of those wanted, or milliseconds where a duration is wanted."""
    if settings.iterations is not None:
        return len(subject.updates), settings.iterations
    return int(subject.measured_ms), round(1e3 * settings.duration_s)
