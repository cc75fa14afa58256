"""Several targets in one run: each as if it were tracked alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from edge_tracker import EdgeTracker, Engine, MultiTracker, NotInitialised, TrackerOptions
from edge_tracker.bundle.opening import Bundle
from edge_tracker.rules.boxes import Box
from edge_tracker.rules.crop import Image
from edge_tracker.tracker.multi import FIRST_ROWS, _spans
from edge_tracker.video.rendered_clip import render_clip
from tests.helpers.fake_graphs import FakeNetwork, bundle_without_files

OPTIONS = TrackerOptions(update_interval=5, update_score=0.0)
#: What a batch or a single thread may change in an edge: the order of sums in float32.
AGREEMENT_PX = 0.01


@pytest.fixture(scope="module")
def frames() -> list[Image]:
    return [frame.image for frame in render_clip(40)]


def box_number(number: int) -> Box:
    x, y, w, h = np.random.default_rng(number).integers((0, 0, 30, 30), (500, 350, 120, 120))
    return float(x), float(y), float(w), float(h)


@pytest.fixture(params=["openvino", "onnxruntime"])
def engine(request: pytest.FixtureRequest, nano_bundle: Bundle, cache_dir: Path) -> Engine:
    return Engine(nano_bundle, backend=request.param, num_threads=2, cache_dir=cache_dir)


def test_targets_that_come_and_go_are_tracked_as_alone(engine: Engine, frames: list[Image]) -> None:
    """The fewest at a time is none, the most more than the rows reserved at first."""
    random = np.random.default_rng(5)
    alone: dict[int, EdgeTracker] = {}
    most, seen = 0, 0
    with MultiTracker(engine, options=OPTIONS) as tracker:
        for number, frame in enumerate(frames):
            results = tracker.update(frame)
            assert tuple(results) == tracker.ids == tuple(sorted(alone))
            for name, result in results.items():
                expected = alone[name].update(frame)
                np.testing.assert_allclose(result.box, expected.box, rtol=0, atol=AGREEMENT_PX)
                assert result.score == pytest.approx(expected.score, abs=1e-4)
                # Whatever the last digit did, both look at the same pixels in the next frame.
                alone[name]._target.box = result.box  # type: ignore[union-attr]
                tracker._tracked[tracker._place(name)].target.box = result.box
                seen += 1
            for name in [name for name in alone if random.random() < (0.1 if number < 20 else 0.3)]:
                tracker.remove(name)
                alone.pop(name).close()
            for _ in range(random.integers(0, 3) if number < 20 else 0):
                name = tracker.add(frame, box_number(seen + len(alone)))
                alone[name] = EdgeTracker(engine, options=OPTIONS)
                alone[name].init(frame, box_number(seen + len(alone) - 1))
            most = max(most, len(alone))
    assert most > FIRST_ROWS
    assert not tracker.ids
    engine.close()


def test_rows_are_not_given_away_before_they_are_copied(
    engine: Engine, frames: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if another tracker on the engine reserved some, in its thread, at that moment."""
    copy = engine.copy

    def copy_late(source: Any, target: Any) -> None:
        for _ in range(2):
            assert not np.shares_memory(engine.reserve(FIRST_ROWS), source)
        copy(source, target)

    with MultiTracker(engine) as tracker:
        for number in range(FIRST_ROWS):
            tracker.add(frames[0], box_number(number))
        monkeypatch.setattr(engine, "copy", copy_late)
        tracker.add(frames[0], box_number(FIRST_ROWS))
        assert len(tracker.update(frames[1])) == FIRST_ROWS + 1
    engine.close()


def fake_tracker(
    network: FakeNetwork, monkeypatch: pytest.MonkeyPatch, **choices: Any
) -> MultiTracker:
    monkeypatch.setattr(
        "edge_tracker.tracker.engine.open_graphs", lambda bundle, **_: network.graphs()
    )
    return MultiTracker(bundle_without_files(), options=TrackerOptions(**choices))


def test_all_targets_are_one_run_of_the_search_graph(
    monkeypatch: pytest.MonkeyPatch, frames: list[Image]
) -> None:
    network = FakeNetwork(scores=[0.2])
    tracker = fake_tracker(network, monkeypatch)
    names = [tracker.add(frames[0], box_number(number)) for number in range(5)]
    network.events.clear()
    assert list(tracker.update(frames[1])) == names
    assert network.events == ["search"]
    assert network.searched_with == [f"kv {number}" for number in range(1, 6)]
    tracker.remove(names[1])
    tracker.update(frames[2])
    assert network.events == ["search"] * 2
    assert network.searched_with[5:] == ["kv 1", "kv 5", "kv 3", "kv 4"]


def test_a_graph_that_takes_few_targets_runs_several_times(
    monkeypatch: pytest.MonkeyPatch, frames: list[Image]
) -> None:
    network = FakeNetwork(scores=[0.2], most_targets=3)
    tracker = fake_tracker(network, monkeypatch)
    for number in range(7):
        tracker.add(frames[0], box_number(number))
    network.events.clear()
    assert len(tracker.update(frames[1])) == 7
    assert network.events == ["search"] * 3


def test_new_templates_of_targets_added_together_are_encoded_over_the_frames_before(
    monkeypatch: pytest.MonkeyPatch, frames: list[Image]
) -> None:
    """The best frame comes early, so that none has to be encoded anew at the interval's end."""
    network = FakeNetwork(scores=[0.9] * 8 + [0.6])
    tracker = fake_tracker(network, monkeypatch, update_interval=12)
    for number in range(8):
        tracker.add(frames[0], box_number(number))
    started = []
    for frame in frames[1:20]:
        before = network.events.count("start encoding")
        tracker.update(frame)
        started.append(network.events.count("start encoding") - before)
    assert sum(started[:12]) == 8
    assert max(started) == 1
    assert set(network.searched_with[-8:]) == {f"kv {number}" for number in range(9, 17)}


def test_a_better_frame_after_a_template_was_encoded_ahead_is_encoded_too(
    monkeypatch: pytest.MonkeyPatch, frames: list[Image]
) -> None:
    network = FakeNetwork(scores=[0.6, 0.7, 0.8, 0.9, 0.6])
    tracker = fake_tracker(network, monkeypatch, update_interval=4)
    tracker.add(frames[0], box_number(0))
    for frame in frames[1:6]:
        tracker.update(frame)
    # Of the initial template, of frame 3 ahead, of frame 4 at the interval's end.
    assert network.searched_with == ["kv 1"] * 4 + ["kv 3"]


def test_cameras_are_searched_together_and_those_without_a_frame_wait(
    monkeypatch: pytest.MonkeyPatch, frames: list[Image]
) -> None:
    network = FakeNetwork(scores=[0.2])
    tracker = fake_tracker(network, monkeypatch)
    left = [tracker.add(frames[0], box_number(number)) for number in range(2)]
    right = [tracker.add(frames[9][:200], (40.0, 50.0, 60.0, 70.0))]
    network.events.clear()
    results = tracker.update_many([(frames[10][:200], right), (frames[1], left)])
    assert list(results) == [*right, *left]
    assert network.events == ["search"]
    network.events.clear()
    assert list(tracker.update_many([(frames[2], [left[0]]), (frames[3], right)])) == [
        left[0],
        right[0],
    ]
    assert network.events == ["search"] * 2
    assert network.searched_with[-2:] == ["kv 1", "kv 3"]


def test_what_is_wrong_is_refused_before_anything_moves(
    monkeypatch: pytest.MonkeyPatch, frames: list[Image]
) -> None:
    network = FakeNetwork()
    tracker = fake_tracker(network, monkeypatch)
    name = tracker.add(frames[0], box_number(0))
    network.events.clear()
    wrong: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: tracker.remove(9), KeyError, r"target 9 is not there: the ids are \(1,\)"),
        (lambda: tracker.remove(True), KeyError, "target True is not there"),
        (lambda: tracker.update_many([(frames[0], [9])]), KeyError, "target 9 is not there"),
        (lambda: tracker.update_many([(frames[0], [name, name])]), ValueError, "named twice"),
        (lambda: tracker.update(cast(Image, None)), TypeError, "frame is None"),
        (lambda: tracker.add(frames[0], (0, 0, 0, 5)), ValueError, "has no area"),
    ]
    for call, error, says in wrong:
        with pytest.raises(error, match=says):
            call()
    assert (tracker.ids, network.events) == ((name,), [])
    tracker.close()
    tracker.close()
    assert network.closed == 2
    with pytest.raises(NotInitialised, match="make a new MultiTracker"):
        tracker.update(frames[0])


@pytest.mark.parametrize(
    ("places", "most", "expected"),
    [
        ([], None, []),
        ([0, 1, 2], None, [(0, 3)]),
        ([0, 2, 3, 5], None, [(0, 1), (2, 4), (5, 6)]),
        ([0, 1, 2, 3, 4], 2, [(0, 2), (2, 4), (4, 5)]),
        ([1, 2, 3, 7], 3, [(1, 4), (7, 8)]),
    ],
)
def test_neighbouring_rows_are_one_span(
    places: list[int], most: int | None, expected: list[tuple[int, int]]
) -> None:
    assert list(_spans(places, most)) == expected
