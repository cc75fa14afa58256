"""A target that goes away and comes back: who looks for it, where, and how it is taken up again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tracker import EdgeTracker, MultiTracker, TrackerOptions
from edge_tracker.backends.graph import Graphs
from edge_tracker.rules.boxes import Box
from edge_tracker.rules.crop import Image
from edge_tracker.rules.presence_model import FEATURES, PresenceModel
from edge_tracker.tracker import engine, recovery
from edge_tracker.tracker.recovery import STEP_SIDES, tiles_around
from tests.helpers.fake_graphs import FakeNetwork, FakeSearchGraph, bundle_without_files, two_bins

#: Presence is the score.
BY_SCORE = PresenceModel(
    intercept=0.0,
    weights=tuple(float(name == "log_odds") for name in FEATURES),
    found_presence=0.5,
    false_alarms=0.05,
    regained_presence=0.8,
)
OPTIONS = TrackerOptions(search_factor=3.0, lost_frames=2, update_interval=0)
HEIGHT, WIDTH, SIDE = 360, 640, 40
HOME: Box = (300.0, 160.0, SIDE, SIDE)
NEAR: Box = (420.0, 160.0, SIDE, SIDE)
FAR: Box = (40.0, 30.0, SIDE, SIDE)


def frame_with(*boxes: Box) -> Image:
    frame = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    for x, y, w, h in boxes:
        frame[int(y) : int(y + h), int(x) : int(x + w)] = 255
    return frame


class WhiteFinder(FakeNetwork):
    """Finds what is white in a search region, and is sure of it if all of it is in there."""

    def graphs(self) -> Graphs:
        graphs = super().graphs()
        return replace(graphs, search=WhiteFinderSearch(self))


@dataclass
class WhiteFinderSearch(FakeSearchGraph):
    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        self.network.events.append(f"search {len(inputs['search'])}")
        probs, scores = [], []
        for crop, row in zip(inputs["search"], inputs["template_kv"].read(), strict=True):
            self.network.searched_with.append(row)
            size = len(crop)
            places = np.argwhere(crop[..., 0] > 200)
            edges, score = (1 / 3, 1 / 3, 2 / 3, 2 / 3), 0.1
            if len(places):
                (top, left), (bottom, right) = places.min(axis=0), places.max(axis=0) + 1
                edges = (left / size, top / size, right / size, bottom / size)
                inside = min(left, top) > 0 and max(right, bottom) < size
                score = 0.95 if inside else 0.3
            probs.append(np.stack([two_bins(edge, 64) for edge in edges]))
            scores.append(score)
        return {"edge_probs": np.stack(probs), "score": np.array(scores, np.float32)}


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> WhiteFinder:
    network = WhiteFinder()
    monkeypatch.setattr(engine, "open_graphs", lambda *args, **kwargs: network.graphs())
    return network


def tracker_with(presence: PresenceModel | None = BY_SCORE, **options: Any) -> EdgeTracker:
    return EdgeTracker(bundle_without_files(replace(OPTIONS, **options), presence))


def searched(network: FakeNetwork) -> list[int]:
    """Search regions of each run."""
    return [int(event.split()[1]) for event in network.events if event.startswith("search")]


def test_a_target_out_of_sight_is_lost_at_once_and_searched_for_after_some_frames(
    network: WhiteFinder,
) -> None:
    with tracker_with(recovery="local", recovery_tiles=4) as tracker:
        tracker.init(frame_with(HOME), HOME)
        assert tracker.update(frame_with(HOME)).found
        results = [tracker.update(frame_with()) for _ in range(5)]
    assert [result.found for result in results] == [False] * 5
    # Found, lost for one frame, and then followed and searched for in each.
    assert searched(network) == [1, 1, *[1, 4] * 4]
    np.testing.assert_allclose(results[-1].box, HOME, atol=3)
    assert results[-1].presence == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize(
    ("where", "place", "is_regained"),
    [("off", NEAR, False), ("local", NEAR, True), ("local", FAR, False), ("frame", FAR, True)],
)
def test_what_comes_back_is_found_where_one_looks(
    network: WhiteFinder, where: str, place: Box, is_regained: bool
) -> None:
    with tracker_with(recovery=where) as tracker:
        tracker.init(frame_with(HOME), HOME)
        for _ in range(4):
            tracker.update(frame_with())
        results = [tracker.update(frame_with(place)) for _ in range(40)]
    assert results[-1].found == is_regained
    if is_regained:
        np.testing.assert_allclose(results[-1].box, place, atol=6)
        first = next(index for index, result in enumerate(results) if result.found)
        # The frame before proposed it.
        np.testing.assert_allclose(results[first - 1].box, place, atol=6)
        assert not results[first - 1].found
        assert searched(network)[-1] == 1


def test_what_the_next_frame_does_not_confirm_is_given_up(network: WhiteFinder) -> None:
    with tracker_with(recovery="local") as tracker:
        tracker.init(frame_with(HOME), HOME)
        for _ in range(3):
            tracker.update(frame_with())
        while (proposed := tracker.update(frame_with(NEAR))).presence < 0.8:  # type: ignore[operator]
            pass
        np.testing.assert_allclose(proposed.box, NEAR, atol=6)
        # Something is there again, and too little of it.
        x, y, w, h = NEAR
        unconfirmed = tracker.update(frame_with((x, y, w, 4 * h)))
        after = tracker.update(frame_with())
    # A box and the figures that were measured with it.
    assert (unconfirmed.score, unconfirmed.presence) == (after.score, after.presence)
    np.testing.assert_allclose(unconfirmed.edge_std_px, after.edge_std_px, rtol=0.02)
    # As if nothing had been there: it is followed from where it was lost.
    np.testing.assert_allclose(after.box, HOME, atol=6)
    assert not after.found


@pytest.mark.parametrize(("tiles", "most", "expected"), [(7, None, 7), (7, 3, 3), (1, 9, 1)])
def test_no_frame_looks_at_more_than_it_may(
    network: WhiteFinder, tiles: int, most: int | None, expected: int
) -> None:
    network.most_targets = most
    with tracker_with(recovery="frame", recovery_tiles=tiles) as tracker:
        tracker.init(frame_with(HOME), HOME)
        for _ in range(30):
            tracker.update(frame_with())
    assert searched(network)[1:] == [1, expected] * 29


def test_places_to_look_at_are_counted_out_once_for_each_size_of_frame(
    network: WhiteFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[tuple[int, int]] = []

    def counting(place: Box, height: int, width: int, options: TrackerOptions) -> list[Box]:
        counted.append((height, width))
        return tiles_around(place, height, width, options)

    monkeypatch.setattr(recovery, "tiles_around", counting)
    with tracker_with(recovery="frame") as tracker:
        tracker.init(frame_with(HOME), HOME)
        for _ in range(9):
            tracker.update(frame_with())
        for _ in range(3):
            tracker.update(frame_with()[:300])
    assert counted == [(HEIGHT, WIDTH), (300, WIDTH)]


def test_it_is_looked_for_with_the_initial_template(network: WhiteFinder) -> None:
    with tracker_with(recovery="local", update_interval=2, update_score=0.5) as tracker:
        tracker.init(frame_with(HOME), HOME)
        for _ in range(5):
            tracker.update(frame_with(HOME))
        for _ in range(4):
            tracker.update(frame_with())
    initial = network.templates[0][0]
    number = int(network.searched_with[-1].removeprefix("kv "))
    assert (network.templates[number - 1] == np.stack([initial, initial])).all()
    assert any((pair[0] != pair[1]).any() for pair in network.templates)


def test_memory_is_given_back(network: WhiteFinder) -> None:
    with tracker_with(recovery="local") as tracker:
        tracker.init(frame_with(HOME), HOME)
        for _ in range(10):
            for frame in (*[frame_with()] * 4, *[frame_with(HOME)] * 3):
                tracker.update(frame)
        tracker.init(frame_with(HOME), HOME)
    assert network.reserved == [1, 4]


def test_bundles_that_do_not_tell_presence_are_tracked_as_ever(network: WhiteFinder) -> None:
    with tracker_with(None, recovery="frame") as tracker:
        tracker.init(frame_with(HOME), HOME)
        results = [tracker.update(frame_with()) for _ in range(4)]
    assert [result.presence for result in results] == [None] * 4
    assert [result.found for result in results] == [True, False, False, False]
    assert searched(network) == [1] * 4


def test_presence_changes_no_box(network: WhiteFinder) -> None:
    boxes = []
    for presence in (None, BY_SCORE):
        with tracker_with(presence) as tracker:
            tracker.init(frame_with(HOME), HOME)
            frames = [frame_with(*([HOME] if index % 3 else [])) for index in range(12)]
            boxes.append([tracker.update(frame).box for frame in frames])
    assert boxes[0] == boxes[1]


def test_of_several_targets_each_is_looked_for_by_itself(network: WhiteFinder) -> None:
    other: Box = (100.0, 250.0, SIDE, SIDE)
    frames = [frame_with(other), *[frame_with(other)] * 3, *[frame_with(other, NEAR)] * 12]
    options = replace(OPTIONS, recovery="local")
    with MultiTracker(engine.Engine(bundle_without_files(options, BY_SCORE))) as tracker:
        gone = tracker.add(frame_with(HOME, other), HOME)
        stays = tracker.add(frame_with(HOME, other), other)
        results = [tracker.update(frame) for frame in frames]
        tracker.remove(gone)
        assert tracker.update(frames[-1])[stays].found
    assert all(result[stays].found for result in results)
    assert not results[3][gone].found
    assert results[-1][gone].found
    np.testing.assert_allclose(results[-1][gone].box, NEAR, atol=6)


@given(
    st.tuples(
        st.floats(0, WIDTH - 1), st.floats(0, HEIGHT - 1), st.floats(10, 90), st.floats(10, 90)
    ),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_tiles_of_the_whole_frame_leave_nothing_out(box: Box, right: float, down: float) -> None:
    others = tiles_around(box, HEIGHT, WIDTH, replace(OPTIONS, recovery="frame"))
    tiles = [box, *others]
    x, y = right * (WIDTH - 1), down * (HEIGHT - 1)
    side = np.sqrt(box[2] * box[3]) * OPTIONS.search_factor + 1
    nearest = min(
        max(abs(tile[0] + tile[2] / 2 - x), abs(tile[1] + tile[3] / 2 - y)) for tile in tiles
    )
    # Within half of a step, but at the frame's border, which tiles' middles do not pass.
    assert nearest <= STEP_SIDES * side
