"""A camera of 100 frames/s, on a clock that only sleeps and updates move."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_tracker.measure.bench.camera import CameraRun, play_camera
from edge_tracker.measure.bench.latency import Pace
from edge_tracker.measure.bench.machine import EnergyCounter, MachineState
from tests.helpers.measured_artefacts import QUIET
from tests.helpers.slow_networks import FakeClock

BOX = (4.0, 4.0, 8.0, 8.0)


def play(update_ms: Callable[[int], float], frames: int = 40) -> Any:
    clock = FakeClock()
    seen: list[int] = []
    pace = Pace([np.full((16, 16, 3), i, np.uint8) for i in range(frames)], BOX)

    def update(frame: NDArray[np.uint8]) -> None:
        clock.sleep(update_ms(len(seen)) / 1e3)
        seen.append(int(frame[0, 0, 0]))

    def observe(passed: int) -> MachineState:
        return QUIET

    return play_camera(update, pace, 100.0, frames, clock, clock.sleep, observe), seen


def test_a_fast_tracker_sees_every_frame_in_time() -> None:
    run, seen = play(lambda i: 4.0)
    assert seen == list(range(40))
    assert (run.dropped, run.deadline_misses) == (0, 0)
    assert run.latency.max == pytest.approx(4.0, abs=0.1)


def test_a_slow_tracker_drops_frames_and_takes_the_newest() -> None:
    run, seen = play(lambda i: 25.0, frames=43)
    assert seen[:5] == [0, 2, 5, 7, 10]
    assert run.dropped == 43 - len(seen)
    assert run.deadline_misses == len(seen)
    # Alternately a new frame, and one that is 5 ms old already.
    assert run.latency.min == pytest.approx(25.0, abs=0.1)
    assert run.latency.max == pytest.approx(30.0, abs=0.1)


def test_one_slow_update_costs_one_deadline_and_the_frames_in_between() -> None:
    run, seen = play(lambda i: 35.0 if i == 9 else 4.0)
    assert seen == [*range(10), *range(12, 40)]
    assert run.dropped == 2
    assert run.deadline_misses == 1
    assert run.latency.max == pytest.approx(35.0, abs=0.1)


@pytest.mark.parametrize(("update_ms", "missed"), [(9.5, False), (10.5, True)])
def test_a_deadline_is_the_time_between_frames(update_ms: float, missed: bool) -> None:
    run, seen = play(lambda i: update_ms if i == 5 else 1.0)
    assert run.deadline_misses == missed
    assert len(seen) + run.dropped == 40


def play_long(update_ms: float, states: Callable[[int], Mapping[str, Any]]) -> CameraRun:
    """22 seconds; `states`: what each look at the machine finds, by its number."""
    clock = FakeClock()
    looks: list[int] = []

    def observe(passed: int) -> MachineState:
        looks.append(passed)
        return replace(QUIET, **states(len(looks) - 1))

    pace = Pace([np.zeros((16, 16, 3), np.uint8)], BOX)
    run = play_camera(
        lambda frame: clock.sleep(update_ms / 1e3),
        pace, 100.0, 2200, clock, clock.sleep, observe,
    )  # fmt: skip
    assert looks[0] == 0
    assert looks[-1] == 2200
    return run


def test_a_run_is_cut_into_stretches_with_the_machine_at_their_ends() -> None:
    run = play_long(4.0, lambda look: {"cpu_mhz": 2000.0 - 100 * look})
    assert [stretch.until_s for stretch in run.course] == pytest.approx(
        [5, 10, 15, 20, 22], abs=0.05
    )
    assert [stretch.state.cpu_mhz for stretch in run.course] == [1900, 1800, 1700, 1600, 1500]
    assert sum(stretch.latency.count for stretch in run.course) == 2200
    assert run.energy_per_frame_mj is None


def test_stretches_know_their_dropped_frames() -> None:
    run = play_long(25.0, lambda look: {})
    assert sum(stretch.dropped for stretch in run.course) == run.dropped > 0


def test_energy_is_integrated_over_the_run() -> None:
    # From 5 to 15 W in steps at the ends of the stretches: trapezia of 5 s each, and one of 2 s.
    run = play_long(4.0, lambda look: {"power_w": {"VDD_IN": 5.0 + 2 * look}})
    expected_j = 5 * (6 + 8 + 10 + 12) + 2 * 14
    assert run.energy_per_frame_mj == pytest.approx(1e3 * expected_j / 2200, rel=0.01)


def test_an_energy_counter_may_start_again() -> None:
    def states(look: int) -> Mapping[str, Any]:
        return {"energy": {"package-0": EnergyCounter((90.0 + 7 * look) % 100, 100.0)}}

    run = play_long(4.0, states)
    assert [stretch.energy_j for stretch in run.course] == pytest.approx([7.0] * 5)
    assert run.energy_per_frame_mj == pytest.approx(1e3 * 35 / 2200)
