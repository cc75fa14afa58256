"""Where the time of an update goes, told by a clock that only sleeps move."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_tracker import EdgeTracker, TrackerOptions
from edge_tracker.measure.bench.latency import (
    Pace,
    StageTimer,
    TimedUpdate,
    distribution_of,
    interval_ranks,
    least_count,
    timing_overhead_us,
)
from edge_tracker.rules.crop import crop_template
from edge_tracker.tracker import STAGES, engine, result, single, target
from tests.helpers.fake_graphs import FakeNetwork, bundle_without_files
from tests.helpers.slow_networks import FakeClock, SlowNetwork

BOX = (100.0, 80.0, 40.0, 40.0)
FRAME = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)


def timed_tracker(
    network: SlowNetwork, monkeypatch: pytest.MonkeyPatch
) -> tuple[EdgeTracker, StageTimer]:
    monkeypatch.setattr(engine, "open_graphs", lambda bundle, **options: network.graphs())
    timer = StageTimer(network.clock)
    options = TrackerOptions(update_interval=10, update_score=0.0)
    timed = EdgeTracker(bundle_without_files(), options=options, on_stage=timer)
    timed.init(FRAME, BOX)
    return timed, timer


def slow_down(
    name: str, milliseconds: float, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Insert a sleep into a function that the tracker calls."""
    module = single if hasattr(single, name) else result
    original = getattr(module, name)

    def slowed(*arguments: object) -> object:
        clock.sleep(milliseconds / 1e3)
        return original(*arguments)

    monkeypatch.setattr(module, name, slowed)


def updates_of(
    network: SlowNetwork, monkeypatch: pytest.MonkeyPatch, count: int = 30
) -> list[TimedUpdate]:
    timed, timer = timed_tracker(network, monkeypatch)
    return [timer.time_update(timed, FRAME) for _ in range(count)]


def total_by_stage(updates: list[TimedUpdate]) -> dict[str, float]:
    return {stage: sum(u.stages_ms.get(stage, 0.0) for u in updates) for stage in STAGES}


def test_a_slow_search_graph_shows_in_its_stage_only(monkeypatch: pytest.MonkeyPatch) -> None:
    updates = updates_of(SlowNetwork(wait_ms=0.0), monkeypatch)
    expected = dict.fromkeys(STAGES, 0.0) | {"search_graph": 30 * 10.0}
    assert total_by_stage(updates) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("function", "stage"),
    [("as_bgr", "crop"), ("decode_edges", "decode"), ("clip_box", "decode")],
)
def test_an_inserted_sleep_shows_in_its_stage_only(
    function: str, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = SlowNetwork(wait_ms=0.0)
    before = total_by_stage(updates_of(network, monkeypatch))
    slow_down(function, 4.0, network.clock, monkeypatch)
    after = total_by_stage(updates_of(network, monkeypatch))
    assert after == pytest.approx(before | {stage: before[stage] + 30 * 4.0})


def test_a_refresh_shows_where_it_is_started_and_where_it_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = SlowNetwork(wait_ms=3.0)
    timed, timer = timed_tracker(network, monkeypatch)

    def crop_slowly(*arguments: Any) -> NDArray[np.uint8]:
        network.clock.sleep(0.002)
        return crop_template(*arguments)

    monkeypatch.setattr(target, "crop_template", crop_slowly)
    updates = [timer.time_update(timed, FRAME) for _ in range(30)]
    assert [i for i, u in enumerate(updates) if u.after_refresh] == [10, 20]
    assert updates[10].stages_ms["template_wait"] == pytest.approx(3.0)
    # The first frame of each interval is the best so far, as all score alike.
    cropped = [i for i, u in enumerate(updates) if u.stages_ms["template_refresh"] > 1]
    assert cropped == [0, 10, 20]


def test_stages_add_up_to_the_update_in_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr(engine, "open_graphs", lambda bundle, **options: FakeNetwork().graphs())
    timer = StageTimer(time.perf_counter)
    timed = EdgeTracker(bundle_without_files(), on_stage=timer)
    timed.init(FRAME, BOX)
    updates = [timer.time_update(timed, FRAME) for _ in range(100)]
    covered = np.median([sum(u.stages_ms.values()) / u.elapsed_ms for u in updates])
    assert 0.95 < covered <= 1.0


def test_rare_spikes_show_in_p99_and_not_in_p50(monkeypatch: pytest.MonkeyPatch) -> None:
    network = SlowNetwork(wait_ms=0.0, search_ms=lambda i: 15.0 if i % 50 == 49 else 10.0)
    updates = updates_of(network, monkeypatch, count=500)
    figures = distribution_of([update.elapsed_ms for update in updates])
    assert figures.p50 == pytest.approx(10.0)
    assert figures.p95 == pytest.approx(10.0)
    assert figures.p99 == pytest.approx(15.0)
    assert figures.max == pytest.approx(15.0)


def test_an_update_that_nobody_times_leaves_the_last_timed_one_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = SlowNetwork()
    timed, timer = timed_tracker(network, monkeypatch)
    update = timer.time_update(timed, FRAME)
    network.clock.sleep(1.0)
    timed.update(FRAME)
    assert sum(update.stages_ms.values()) == pytest.approx(10.0)


def test_timing_costs_microseconds() -> None:
    import time

    assert 0 < timing_overhead_us(time.perf_counter) < 200
    ticks: Iterator[float] = (1e-6 * tick for tick in range(10**6))
    # Start, two ends, one for each stage, and the end itself.
    assert timing_overhead_us(lambda: next(ticks)) == pytest.approx(len(STAGES) + 3)


def test_distribution() -> None:
    expected = {
        "count": 4, "mean": 2.5, "std": 1.25**0.5, "min": 1.0, "p50": 2.5, "p90": 3.7,
        "p95": 3.85, "p99": 3.97, "max": 4.0,
    }  # fmt: skip
    figures = asdict(distribution_of([4.0, 1.0, 3.0, 2.0]))
    assert figures.pop("intervals") == dict.fromkeys(("p50", "p90", "p95", "p99"))
    assert figures == pytest.approx(expected)
    with pytest.raises(ValueError, match="at least one"):
        distribution_of([])


@pytest.mark.parametrize(
    ("count", "percentile", "ranks"),
    [
        # Of a table of sign-test intervals: for 20 values the 6th and the 15th, for 10 the 2nd
        # and the 9th, for 6 the outermost.
        (20, 50, (5, 14)),
        (10, 50, (1, 8)),
        (6, 50, (0, 5)),
        (5, 50, None),
        (367, 99, None),
    ],
)
def test_a_percentiles_interval_is_of_order_statistics(
    count: int, percentile: int, ranks: tuple[int, int] | None
) -> None:
    assert interval_ranks(count, percentile) == ranks


@pytest.mark.parametrize("percentile", [50, 90, 95, 99])
def test_the_least_count_is_the_first_with_an_interval(percentile: int) -> None:
    least = least_count(percentile)
    assert interval_ranks(least, percentile) is not None
    assert interval_ranks(least - 1, percentile) is None


@pytest.mark.parametrize("percentile", [50, 99])
def test_an_interval_holds_the_percentile_as_often_as_it_says(percentile: int) -> None:
    random = np.random.default_rng(0)
    truth = -np.log(1 - percentile / 100)  # of the exponential distribution
    held = []
    for _ in range(1000):
        figures = distribution_of(random.exponential(size=600).tolist())
        ends = figures.intervals[f"p{percentile}"]
        assert ends is not None
        held.append(ends[0] <= truth <= ends[1])
    assert 0.93 < np.mean(held) < 0.99


def test_intervals_of_ten_minutes_of_a_camera_are_exact_enough() -> None:
    low, high = interval_ranks(18_000, 50) or (0, 0)
    # The normal approximation: 1.96 standard deviations of sqrt(18000) / 2.
    assert (low, high) == (9000 - 132, 9000 + 131)


def test_frames_go_forth_and_back() -> None:
    frames = [np.full((64, 64, 3), i, np.uint8) for i in range(4)]
    pace = Pace(frames, BOX)
    order = [int(pace.frame(i)[0, 0, 0]) for i in range(12)]
    assert order == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1]
    assert pace.frame(10**6) is frames[2]
    assert Pace(frames[:1], BOX).frame(5) is frames[0]
