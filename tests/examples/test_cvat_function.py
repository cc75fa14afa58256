"""The tracking function for CVAT: with stand-ins for the SDK's types, and in CVAT's own agent."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_tracker import Bundle, EdgeTracker
from edge_tracker.video.rendered_clip import render_clip

BOXES = [(100.0, 90.0, 40.0, 50.0), (220.0, 120.5, 60.25, 40.0)]


@dataclass(frozen=True)
class StandInSpec:
    supported_shape_types: set[str]


@dataclass(frozen=True)
class StandInShape:
    type: str
    points: list[float]


class RgbImage:
    """As a PIL image: convertible to RGB, and then an array."""

    def __init__(self, bgr: np.ndarray) -> None:
        self._bgr = bgr
        self.size = bgr.shape[1], bgr.shape[0]

    def convert(self, mode: str) -> np.ndarray:
        assert mode == "RGB"
        return self._bgr[:, :, ::-1]


@pytest.fixture
def frames() -> list[np.ndarray]:
    return [frame.image for frame in render_clip(6, 480, 360)]


@pytest.fixture
def opened(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The example, imported afresh on the cvat_sdk there is by then."""
    sys.modules.pop("examples.cvat_function", None)
    yield importlib.import_module("examples.cvat_function")
    sys.modules.pop("examples.cvat_function", None)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    sdk, functions = ModuleType("cvat_sdk"), ModuleType("cvat_sdk.auto_annotation")
    functions.__dict__.update(TrackingFunctionSpec=StandInSpec, TrackableShape=StandInShape)
    sdk.__dict__["auto_annotation"] = functions
    monkeypatch.setitem(sys.modules, "cvat_sdk", sdk)
    monkeypatch.setitem(sys.modules, "cvat_sdk.auto_annotation", functions)


def followed(bundle: Bundle, frames: list[np.ndarray], box: tuple[float, ...]) -> list[Any]:
    """Corners by EdgeTracker itself, None where the target counts as lost."""
    with EdgeTracker(bundle, backend="onnxruntime", num_threads=1) as tracker:
        tracker.init(frames[0], box)
        results = [tracker.update(frame) for frame in frames[1:]]
    corners = [(x, y, x + w, y + h) for x, y, w, h in (result.box for result in results)]
    return [c if r.found else None for c, r in zip(corners, results, strict=True)]


def shape_points(box: tuple[float, ...]) -> list[float]:
    x, y, w, h = box
    return [x, y, x + w, y + h]


def test_shapes_are_where_trackers_of_their_own_find_them(
    stand_in: None, opened: ModuleType, nano_bundle: Bundle, frames: list[np.ndarray]
) -> None:
    function = opened.create(str(nano_bundle.path), backend="onnxruntime", num_threads=1)
    assert function.spec.supported_shape_types == {"rectangle"}
    first, *others = (function.preprocess_image(None, RgbImage(frame)) for frame in frames)
    np.testing.assert_array_equal(first, frames[0])
    states = [
        function.init_tracking_state(None, first, StandInShape("rectangle", shape_points(box)))
        for box in BOXES
    ]
    found = [[function.track(None, image, state) for state in states] for image in others]
    for column, box in enumerate(BOXES):
        wanted = followed(nano_bundle, frames, box)
        got = [None if row[column] is None else tuple(row[column].points) for row in found]
        assert got == [None if w is None else pytest.approx(w, abs=1e-3) for w in wanted]
        assert {row[column].type for row in found if row[column] is not None} <= {"rectangle"}


def test_a_lost_target_has_no_shape(stand_in: None, opened: ModuleType) -> None:
    lost = SimpleNamespace(update=lambda image: SimpleNamespace(found=False, box=(1, 2, 3, 4)))
    assert opened.TrackingFunction(None).track(None, np.zeros((9, 9, 3), np.uint8), lost) is None


def test_in_cvats_own_agent(
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    trained_or_lively_bundle: Bundle,
) -> None:
    """The demo clip, whole."""
    agent = pytest.importorskip("cvat_cli._internal.agent_driver_tracking", reason="needs cvat-cli")
    pil = pytest.importorskip("PIL.Image")
    opened = request.getfixturevalue("opened")
    bundle = trained_or_lively_bundle
    function = opened.create(str(bundle.path), backend="onnxruntime", num_threads=1)
    numbers = map(str, itertools.count())
    monkeypatch.setattr(agent, "worker_current_function", lambda: function)
    monkeypatch.setattr(agent, "_tracking_states", agent._TrackingStateContainer(), raising=False)
    monkeypatch.setattr(agent, "_tracking_state_id_generator", lambda: next(numbers), raising=False)
    frames = [frame.image for frame in render_clip(240)]
    first, *others = (pil.fromarray(frame[:, :, ::-1].copy()) for frame in frames)
    shapes = [
        agent.cvataa.TrackableShape(type="rectangle", points=shape_points(box)) for box in BOXES
    ]
    states = agent._worker_job_init_tracking(7, first, shapes)
    found = [agent._worker_job_track(7, image, states) for image in others]
    for column, box in enumerate(BOXES):
        wanted = followed(bundle, frames, box)
        got = [None if row[column] is None else tuple(row[column].points) for row in found]
        assert got == [None if w is None else pytest.approx(w, abs=1e-3) for w in wanted]
