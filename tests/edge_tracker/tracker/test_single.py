"""The tracking loop, with graphs that say what the test tells them to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_tracker import EdgeTracker, EdgeTrackerError, NotInitialised, TrackerOptions
from edge_tracker.rules.boxes import box_from_edges, clip_box
from edge_tracker.rules.crop import crop_square
from mixformerv2.geometries import NANO
from tests.helpers.fake_graphs import STILL, FakeNetwork, bundle_without_files

Image = NDArray[np.uint8]
MakeTracker = Callable[..., EdgeTracker]
OPEN_GRAPHS = "edge_tracker.tracker.engine.open_graphs"
BOX = (100.0, 80.0, 40.0, 40.0)


def frame_number(number: int, height: int = 240, width: int = 320) -> Image:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def tracker_of(monkeypatch: pytest.MonkeyPatch) -> MakeTracker:
    """A tracker whose graphs are a fake network's."""

    def make(network: FakeNetwork, **choices: Any) -> EdgeTracker:
        monkeypatch.setattr(OPEN_GRAPHS, lambda bundle, **options: network.graphs())
        return EdgeTracker(bundle_without_files(), options=TrackerOptions(**choices))

    return make


# One frame.


def test_first_box_is_cropped_twice_its_size_as_both_templates(tracker_of: MakeTracker) -> None:
    network = FakeNetwork()
    tracker_of(network).init(frame_number(0), BOX)
    expected, _ = crop_square(frame_number(0), BOX, 2.0, NANO.template_size_px)
    initial, online = network.templates[0]
    np.testing.assert_array_equal(initial, expected)
    np.testing.assert_array_equal(online, expected)
    assert network.events == ["start encoding", "encoded"]


def test_search_region_is_four_and_a_half_times_the_last_box(tracker_of: MakeTracker) -> None:
    moved = (0.3, 0.45, 0.5, 0.7)
    network = FakeNetwork(edges_ltrb=[moved])
    tracker = tracker_of(network)
    tracker.init(frame_number(0), BOX)
    box = BOX
    for number in (1, 2, 3):
        result = tracker.update(frame_number(number))
        expected, side_px = crop_square(frame_number(number), box, 4.5, NANO.search_size_px)
        np.testing.assert_array_equal(network.searches[-1], expected)
        box = clip_box(box_from_edges(moved, box, side_px), 240, 320, 10)
        assert result.box == pytest.approx(box, abs=1e-3)
        box = result.box


def test_result_says_score_and_uncertainty_in_frame_pixels(tracker_of: MakeTracker) -> None:
    network = FakeNetwork(scores=[0.75], edges_ltrb=[(16.5 / 64, 0.25, 0.75, 0.75)])
    tracker = tracker_of(network)
    tracker.init(frame_number(0), BOX)
    result = tracker.update(frame_number(1))
    assert result.score == 0.75
    assert result.found is True
    side_px = math.ceil(40 * 4.5)
    assert result.edge_std_px == pytest.approx((0.5 / 64 * side_px, 0, 0, 0), abs=1e-4)
    assert all(type(value) is float for value in (*result.box, *result.edge_std_px, result.score))


def test_box_that_leaves_the_frame_is_clipped_and_the_next_window_is_around_the_clipped_one(
    tracker_of: MakeTracker,
) -> None:
    network = FakeNetwork(edges_ltrb=[(0.0, 0.45, 0.1, 0.55), STILL])
    tracker = tracker_of(network)
    tracker.init(frame_number(0), (5, 80, 40, 40))
    clipped = tracker.update(frame_number(1)).box
    assert clipped[0] == 0
    assert clipped[2] == 10
    tracker.update(frame_number(2))
    expected, _ = crop_square(frame_number(2), clipped, 4.5, NANO.search_size_px)
    np.testing.assert_array_equal(network.searches[1], expected)


def test_frame_size_may_change_between_frames(tracker_of: MakeTracker) -> None:
    network = FakeNetwork()
    tracker = tracker_of(network)
    tracker.init(frame_number(0), BOX)
    x, y, w, h = tracker.update(frame_number(1, height=50, width=60)).box
    assert x + w <= 60
    assert y + h <= 50
    tracker.update(frame_number(2, height=500, width=700))


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        pytest.param(lambda f: f[..., 0], lambda f: f[..., [0, 0, 0]], id="grey"),
        pytest.param(lambda f: np.dstack([f, f[..., 0]]), lambda f: f, id="BGRA"),
        pytest.param(lambda f: f[:, ::-1], lambda f: f[:, ::-1].copy(), id="not contiguous"),
        pytest.param(lambda f: np.frombuffer(f.tobytes(), np.uint8).reshape(f.shape), lambda f: f,
                     id="read-only"),
    ],
)  # fmt: skip
def test_other_kinds_of_frames_are_tracked_as_their_bgr_form(
    tracker_of: MakeTracker, given: Callable[[Image], Image], seen: Callable[[Image], Image]
) -> None:
    given_network, seen_network = FakeNetwork(), FakeNetwork()
    for network, form in ((given_network, given), (seen_network, seen)):
        tracker = tracker_of(network)
        tracker.init(form(frame_number(0)), BOX)
        tracker.update(form(frame_number(1)))
    np.testing.assert_array_equal(given_network.templates, seen_network.templates)
    np.testing.assert_array_equal(given_network.searches, seen_network.searches)


def test_frames_are_neither_changed_nor_kept(tracker_of: MakeTracker) -> None:
    """Cameras write the next frame into the same buffer."""
    steady, reused = FakeNetwork(), FakeNetwork()
    buffer = np.empty_like(frame_number(0))
    for network in (steady, reused):
        tracker = tracker_of(network, update_interval=2)
        for number in range(6):
            frame = frame_number(number)
            if network is reused:
                buffer[:] = frame
                frame = buffer
            if number == 0:
                tracker.init(frame, BOX)
            else:
                tracker.update(frame)
            np.testing.assert_array_equal(frame, frame_number(number))
    np.testing.assert_array_equal(steady.templates, reused.templates)


# The online template.


def test_refresh_starts_after_the_result_and_is_collected_before_the_next_search(
    tracker_of: MakeTracker,
) -> None:
    network = FakeNetwork(scores=[0.6, 0.9, 0.7, 0.9])
    tracker = tracker_of(network, update_interval=3)
    tracker.init(frame_number(0), BOX)
    for number in (1, 2, 3):
        tracker.update(frame_number(number))
    assert network.events[2:] == ["search", "search", "search", "start encoding"]
    tracker.update(frame_number(4))
    assert network.events[5:] == ["start encoding", "encoded", "search"]
    assert network.searched_with == ["kv 1", "kv 1", "kv 1", "kv 2"]
    tracker.update(frame_number(5))
    assert network.events[8:] == ["search"]
    assert network.searched_with[-1] == "kv 2"


def test_online_template_is_cut_around_the_box_found_in_the_best_frame(
    tracker_of: MakeTracker,
) -> None:
    network = FakeNetwork(scores=[0.6, 0.9, 0.7], edges_ltrb=[(0.3, 0.4, 0.55, 0.6)])
    tracker = tracker_of(network, update_interval=3)
    tracker.init(frame_number(0), BOX)
    results = [tracker.update(frame_number(number)) for number in (1, 2, 3)]
    initial, online = network.templates[-1]
    np.testing.assert_array_equal(initial, network.templates[0][0])
    expected, _ = crop_square(frame_number(2), results[1].box, 2.0, NANO.template_size_px)
    np.testing.assert_array_equal(online, expected)


def test_initial_template_returns_after_an_interval_without_a_qualified_frame(
    tracker_of: MakeTracker,
) -> None:
    network = FakeNetwork(scores=[0.9, 0.9, 0.4, 0.5, 0.4, 0.4])
    tracker = tracker_of(network, update_interval=2)
    tracker.init(frame_number(0), BOX)
    for number in range(1, 7):
        tracker.update(frame_number(number))
    refreshes = [(np.array_equal(a, b)) for a, b in network.templates]
    assert refreshes == [
        True,
        False,
        True,
    ]  # of init, of frame 2, back to the initial; then no more
    assert network.events.count("start encoding") == 1 + 2


def test_no_refresh_without_a_change(tracker_of: MakeTracker) -> None:
    network = FakeNetwork(scores=[0.5])
    tracker = tracker_of(network, update_interval=1)
    tracker.init(frame_number(0), BOX)
    for number in range(1, 9):
        tracker.update(frame_number(number))
    assert network.events == ["start encoding", "encoded"] + ["search"] * 8


@given(st.lists(st.sampled_from([0.1, 0.5, 0.6, 0.8]), max_size=12), st.integers(1, 4))
def test_each_search_uses_the_template_that_the_official_rule_gives(
    scores: list[float], interval: int
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        network = FakeNetwork(scores=scores or [0.0])
        monkeypatch.setattr(OPEN_GRAPHS, lambda *_, **__: network.graphs())
        options = TrackerOptions(update_interval=interval)
        tracker = EdgeTracker(bundle_without_files(), options=options)
        tracker.init(frame_number(0), BOX)
        boxes = {
            frame: tracker.update(frame_number(frame)).box for frame in range(1, len(scores) + 1)
        }

    # The frame that the online template is from, when frame 1, 2, ... is searched; 0 is `init`.
    online, best, best_score = 0, 0, -1.0
    expected = []
    for frame, score in enumerate(scores, start=1):
        expected.append(online)
        if score > 0.5 and score > best_score:
            best, best_score = frame, score
        if frame % interval == 0:
            online, best, best_score = best, 0, -1.0
    used = [network.templates[int(kv.split()[1]) - 1][1] for kv in network.searched_with]
    for template, frame in zip(used, expected, strict=True):
        box = boxes[frame] if frame else BOX
        crop, _ = crop_square(frame_number(frame), box, 2.0, NANO.template_size_px)
        np.testing.assert_array_equal(template, crop)


# Lost and found.


def found_after(tracker: EdgeTracker, frames: int) -> list[bool]:
    tracker.init(frame_number(0), BOX)
    return [tracker.update(frame_number(1)).found for _ in range(frames)]


def test_target_is_lost_after_frames_in_a_row_and_found_at_the_first_high_score(
    tracker_of: MakeTracker,
) -> None:
    scores = [0.2, 0.2, 0.4, 0.2, 0.2, 0.2, 0.4, 0.4, 0.5, 0.2]
    tracker = tracker_of(FakeNetwork(scores=scores), lost_frames=3, update_interval=0)
    expected = [True, True, True, True, True, False, False, False, True, True]
    assert found_after(tracker, 10) == expected


def test_score_between_the_two_thresholds_changes_nothing(tracker_of: MakeTracker) -> None:
    tracker = tracker_of(FakeNetwork(scores=[0.4]), lost_frames=1, update_interval=0)
    assert found_after(tracker, 20) == [True] * 20
    tracker = tracker_of(FakeNetwork(scores=[0.1, 0.4]), lost_frames=1, update_interval=0)
    assert found_after(tracker, 20) == [False] * 20


def test_window_is_wider_while_lost_if_so_chosen(tracker_of: MakeTracker) -> None:
    network = FakeNetwork(scores=[0.1, 0.1, 0.1, 0.6, 0.6], edges_ltrb=[STILL])
    tracker = tracker_of(network, lost_frames=2, lost_search_factor=7.0, update_interval=0)
    boxes = [BOX]
    tracker.init(frame_number(0), BOX)
    for number in range(1, 6):
        boxes.append(tracker.update(frame_number(number)).box)
    for number, factor in enumerate([4.5, 4.5, 7.0, 7.0, 4.5], start=1):
        frame, box = frame_number(number), boxes[number - 1]
        expected, _ = crop_square(frame, box, factor, NANO.search_size_px)
        np.testing.assert_array_equal(network.searches[number - 1], expected)


def test_lost_target_does_not_change_the_official_window_by_default(
    tracker_of: MakeTracker,
) -> None:
    low, high = FakeNetwork(scores=[0.0]), FakeNetwork(scores=[0.5])
    for network in (low, high):
        tracker = tracker_of(network, lost_frames=1)
        tracker.init(frame_number(0), BOX)
        for number in range(1, 8):
            tracker.update(frame_number(number))
    np.testing.assert_array_equal(low.searches, high.searches)


# What may not be given, and what it leaves behind.

NO_FRAMES = [
    pytest.param(None, TypeError, id="None"),
    pytest.param([[1, 2, 3]], TypeError, id="list"),
    pytest.param(np.zeros((240, 320, 3), np.float32), TypeError, id="float"),
    pytest.param(np.full((240, 320, 3), np.nan), TypeError, id="NaN"),
    pytest.param(np.empty((0, 320, 3), np.uint8), ValueError, id="empty"),
    pytest.param(np.zeros((240, 320, 2), np.uint8), ValueError, id="two channels"),
]
NO_BOXES = [
    pytest.param((100, 80, 0, 40), id="no width"),
    pytest.param((100, 80, 40, -1), id="negative height"),
    pytest.param((math.nan, 80, 40, 40), id="NaN"),
    pytest.param((100, 80, math.inf, 40), id="infinite"),
    pytest.param((320, 80, 40, 40), id="outside"),
    pytest.param((100, 80, 1e-200, 1e-200), id="without area"),
    pytest.param((1, 2, 3), id="three numbers"),
]


def trajectory(tracker: EdgeTracker, frames: range) -> list[object]:
    return [tracker.update(frame_number(number)) for number in frames]


@pytest.mark.parametrize(("frame", "error"), NO_FRAMES)
def test_refused_frame_leaves_the_tracker_as_it_was(
    tracker_of: MakeTracker, frame: Any, error: type[Exception]
) -> None:
    networks = FakeNetwork(scores=[0.2, 0.6, 0.9]), FakeNetwork(scores=[0.2, 0.6, 0.9])
    results = []
    for network in networks:
        tracker = tracker_of(network, update_interval=2, lost_frames=2)
        tracker.init(frame_number(0), BOX)
        trajectory(tracker, range(1, 3))
        if network is networks[1]:
            with pytest.raises(error, match="frame"):
                tracker.update(frame)
            with pytest.raises(error, match="frame"):
                tracker.init(frame, BOX)
        results.append(trajectory(tracker, range(3, 7)))
    assert results[0] == results[1]
    assert networks[0].events == networks[1].events
    np.testing.assert_array_equal(networks[0].searches, networks[1].searches)


@pytest.mark.parametrize("box", NO_BOXES)
def test_refused_box_leaves_the_tracker_on_its_target(tracker_of: MakeTracker, box: Any) -> None:
    network = FakeNetwork()
    tracker = tracker_of(network)
    tracker.init(frame_number(0), BOX)
    before = tracker.update(frame_number(1))
    with pytest.raises(ValueError, match="box"):
        tracker.init(frame_number(2), box)
    after = tracker.update(frame_number(2))
    assert after.box == pytest.approx(before.box, abs=0.5)
    assert network.events[2:] == ["search", "search"]


def test_refused_first_box_is_no_init(tracker_of: MakeTracker) -> None:
    tracker = tracker_of(FakeNetwork())
    with pytest.raises(ValueError, match="box"):
        tracker.init(frame_number(0), (0, 0, 0, 0))
    with pytest.raises(NotInitialised, match="update was called before init"):
        tracker.update(frame_number(1))


def test_update_before_init_is_refused(tracker_of: MakeTracker) -> None:
    with pytest.raises(NotInitialised, match=r"call init\(frame, box\) first"):
        tracker_of(FakeNetwork()).update(frame_number(0))


def test_init_twice_restarts_as_if_new(tracker_of: MakeTracker) -> None:
    other_box = (200.0, 30.0, 25.0, 60.0)
    restarted, fresh = FakeNetwork(scores=[0.1, 0.1, 0.9, 0.8]), FakeNetwork(scores=[0.9, 0.8])
    tracker = tracker_of(restarted, update_interval=2, lost_frames=1)
    tracker.init(frame_number(0), BOX)
    trajectory(tracker, range(1, 3))
    tracker.init(frame_number(7), other_box)
    results = trajectory(tracker, range(8, 12))
    tracker = tracker_of(fresh, update_interval=2, lost_frames=1)
    tracker.init(frame_number(7), other_box)
    assert trajectory(tracker, range(8, 12)) == results
    np.testing.assert_array_equal(restarted.templates[1:], fresh.templates)


def test_init_drops_a_refresh_that_is_under_way(tracker_of: MakeTracker) -> None:
    network = FakeNetwork(scores=[0.9])
    tracker = tracker_of(network, update_interval=1)
    tracker.init(frame_number(0), BOX)
    tracker.update(frame_number(1))
    assert network.events[-1] == "start encoding"
    tracker.init(frame_number(2), BOX)
    tracker.update(frame_number(3))
    assert network.searched_with == ["kv 1", "kv 3"]


@pytest.mark.parametrize(("score", "edge"), [(math.nan, 0.5), (0.9, math.nan)])
def test_network_that_returns_no_numbers_is_an_error_and_moves_nothing(
    tracker_of: MakeTracker, score: float, edge: float
) -> None:
    network = FakeNetwork(scores=[0.9, score, 0.9], edges_ltrb=[STILL, (edge,) * 4, STILL])
    tracker = tracker_of(network)
    tracker.init(frame_number(0), BOX)
    before = tracker.update(frame_number(1))
    with pytest.raises(
        EdgeTrackerError, match="are not finite numbers: check the fp32 artefact on fake"
    ):
        tracker.update(frame_number(2))
    assert tracker.update(frame_number(1)).box == pytest.approx(before.box, abs=0.5)


def test_close_twice_is_harmless_and_use_after_close_is_refused(tracker_of: MakeTracker) -> None:
    network = FakeNetwork()
    tracker = tracker_of(network)
    tracker.init(frame_number(0), BOX)
    tracker.close()
    tracker.close()
    assert network.closed == 2  # each of the two graphs once
    for use in (
        lambda: tracker.update(frame_number(1)),
        lambda: tracker.init(frame_number(0), BOX),
        tracker.time_copies,
    ):
        with pytest.raises(NotInitialised, match="was closed: make a new EdgeTracker"):
            use()


def test_with_block_closes_also_when_it_raises(tracker_of: MakeTracker) -> None:
    network = FakeNetwork()
    with pytest.raises(ZeroDivisionError), tracker_of(network):
        raise ZeroDivisionError
    assert network.closed == 2


def test_options_default_to_the_bundle_s(monkeypatch: pytest.MonkeyPatch) -> None:
    network, options = FakeNetwork(), TrackerOptions(update_interval=7)
    monkeypatch.setattr(OPEN_GRAPHS, lambda *_, **__: network.graphs())
    assert EdgeTracker(bundle_without_files(options)).options == options
    assert EdgeTracker(bundle_without_files(options), options=TrackerOptions()).options != options


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({"template_factor": 0.5}, "template_factor is 0.5: expected 1 to 20"),
        ({"search_factor": math.nan}, "search_factor is nan"),
        ({"lost_search_factor": 30.0}, "lost_search_factor is 30.0"),
        ({"update_score": 1.5}, "update_score is 1.5: expected 0 to 1"),
        ({"lost_score": 0.7}, "lost_score 0.7 is above found_score 0.5"),
        ({"update_interval": -1}, "update_interval is -1: expected 0 to"),
        ({"lost_frames": 0}, "lost_frames is 0"),
        ({"clip_margin_px": 0}, "clip_margin_px is 0"),
    ],
)
def test_options_out_of_range_are_refused(choice: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TrackerOptions(**choice)
