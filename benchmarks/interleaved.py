"""Timing of several things in turn, so that a drifting machine slows all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def time_in_turn(
    subjects: Mapping[str, Callable[[], object]],
    rounds: int,
    warm_up: int = 10,
    untimed_first: bool = False,
) -> dict[str, list[float]]:
    """Milliseconds of each call of each subject, in the order of the rounds.

    untimed_first: each is called twice in its turn, and timed the second time; for subjects of
    several libraries, whose threads spin on for more work while the next subject runs.
    """
    times_ms: dict[str, list[float]] = {name: [] for name in subjects}
    for index in range(warm_up + rounds):
        for name, call in subjects.items():
            if untimed_first:
                call()
            start = time.perf_counter()
            call()
            if index >= warm_up:
                times_ms[name].append(1e3 * (time.perf_counter() - start))
    return times_ms


def median_ratio(slow_ms: list[float], fast_ms: list[float]) -> float:
    """Median over the rounds of slow / fast."""
    return statistics.median(slow / fast for slow, fast in zip(slow_ms, fast_ms, strict=True))


def median_difference(more_ms: list[float], less_ms: list[float]) -> float:
    """Median over the rounds of more - less."""
    return statistics.median(more - less for more, less in zip(more_ms, less_ms, strict=True))
