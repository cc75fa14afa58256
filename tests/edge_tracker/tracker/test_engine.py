"""One compiled network for several trackers."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_tracker import EdgeTracker, Engine, NotInitialised, TrackerOptions, TrackResult
from edge_tracker.bundle.opening import Bundle
from edge_tracker.rules.boxes import Box
from edge_tracker.video.rendered_clip import ClipFrame, render_clip
from tests.helpers.fake_graphs import FakeNetwork, bundle_without_files

OPTIONS = TrackerOptions(update_interval=4, update_score=0.0)
BOXES: Sequence[Box] = ((200, 189, 79, 79), (60, 60, 50, 40), (300, 100, 60, 90))


@pytest.fixture(scope="module")
def clip() -> list[ClipFrame]:
    return list(render_clip(14))


@pytest.fixture(params=["openvino", "onnxruntime"])
def engine(request: pytest.FixtureRequest, nano_bundle: Bundle, cache_dir: Path) -> Engine:
    return Engine(nano_bundle, backend=request.param, num_threads=2, cache_dir=cache_dir)


def follow(engine: Engine, clip: Sequence[ClipFrame], box: Box) -> list[TrackResult]:
    with EdgeTracker(engine, options=OPTIONS) as tracker:
        tracker.init(clip[0].image, box)
        return [tracker.update(frame.image) for frame in clip[1:]]


def test_trackers_in_threads_of_their_own_track_as_alone_to_the_bit(
    engine: Engine, clip: list[ClipFrame]
) -> None:
    alone = [follow(engine, clip, box) for box in BOXES]
    with ThreadPoolExecutor(len(BOXES)) as threads:
        together = list(threads.map(lambda box: follow(engine, clip, box), BOXES))
    assert together == alone
    assert alone[0] != alone[1]
    engine.close()


def test_trackers_taking_turns_do_not_disturb_each_other(
    engine: Engine, clip: list[ClipFrame]
) -> None:
    alone = [follow(engine, clip, box) for box in BOXES]
    trackers = [EdgeTracker(engine, options=OPTIONS) for _ in BOXES]
    for tracker, box in zip(trackers, BOXES, strict=True):
        tracker.init(clip[0].image, box)
    frames = [[tracker.update(frame.image) for tracker in trackers] for frame in clip[1:]]
    assert [list(of_one) for of_one in zip(*frames, strict=True)] == alone
    engine.close()


def fake_engine(monkeypatch: pytest.MonkeyPatch, network: FakeNetwork) -> Engine:
    monkeypatch.setattr(
        "edge_tracker.tracker.engine.open_graphs", lambda bundle, **choices: network.graphs()
    )
    return Engine(bundle_without_files())


def test_memory_of_a_closed_tracker_goes_to_the_next(
    monkeypatch: pytest.MonkeyPatch, clip: list[ClipFrame]
) -> None:
    network = FakeNetwork(scores=[0.9])
    engine = fake_engine(monkeypatch, network)
    for _ in range(5):
        follow(engine, clip[:6], BOXES[0])
    assert network.reserved == [1]
    assert network.closed == 0


def test_a_tracker_that_is_refused_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    network = FakeNetwork()
    engine = fake_engine(monkeypatch, network)
    with pytest.raises(TypeError, match="on_stage"):
        EdgeTracker(engine, on_stage=5)  # type: ignore[arg-type]
    assert network.reserved == []


def test_who_opened_the_engine_closes_it(
    monkeypatch: pytest.MonkeyPatch, clip: list[ClipFrame]
) -> None:
    network = FakeNetwork(scores=[0.9])
    with fake_engine(monkeypatch, network) as engine:
        tracker = EdgeTracker(engine, options=TrackerOptions(update_interval=1))
        tracker.init(clip[0].image, BOXES[0])
        tracker.update(clip[1].image)
        EdgeTracker(engine).close()
        assert network.closed == 0
    assert network.closed == 2
    with pytest.raises(NotInitialised, match="this engine was closed: open another Engine"):
        tracker.update(clip[2].image)
    tracker.close()


def test_what_is_chosen_for_an_engine_is_not_chosen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fake_engine(monkeypatch, FakeNetwork())
    with pytest.raises(ValueError, match="backend and num_threads cannot be chosen for one"):
        EdgeTracker(engine, backend="openvino", num_threads=1)
