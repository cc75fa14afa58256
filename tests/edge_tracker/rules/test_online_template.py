"""Which crop becomes the online template, frame by frame."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_tracker.rules.online_template import OnlineTemplate

Image = NDArray[np.uint8]
INITIAL = 0


def crop_of(frame: int) -> Image:
    """A crop that tells which frame it was cut from; 0 is the one of `init`."""
    return np.full((1, 1, 3), frame, np.uint8)


def frame_of(crop: Image) -> int:
    return int(crop[0, 0, 0])


def follow(scores: list[float], interval: int) -> list[tuple[int, bool]]:
    """For each frame: the frame that the online template is from, and whether it changed."""
    template = OnlineTemplate(crop_of(INITIAL), interval, threshold=0.5)
    seen = []
    for frame, score in enumerate(scores, start=1):
        changed = template.observe(score, partial(crop_of, frame))
        seen.append((frame_of(template.current), changed))
    return seen


def official_rule(scores: list[float], interval: int) -> list[int]:
    """The official tracker's loop, line by line."""
    online_template = online_max_template = INITIAL
    max_pred_score = -1.0
    online_templates = []
    for frame_id, pred_score in enumerate(scores, start=1):
        if pred_score > 0.5 and pred_score > max_pred_score:
            online_max_template = frame_id
            max_pred_score = pred_score
        if frame_id % interval == 0:
            online_template = online_max_template
            max_pred_score = -1.0
            online_max_template = INITIAL
        online_templates.append(online_template)
    return online_templates


@given(st.lists(st.sampled_from([0.0, 0.4, 0.5, 0.51, 0.7, 0.9, 1.0])), st.integers(1, 6))
def test_online_template_is_the_official_rule_frame_by_frame(
    scores: list[float], interval: int
) -> None:
    templates = [frame for frame, _ in follow(scores, interval)]
    assert templates == official_rule(scores, interval)


@given(st.lists(st.floats(0, 1)), st.integers(1, 6))
def test_change_is_told_exactly_when_there_is_one(scores: list[float], interval: int) -> None:
    seen = follow(scores, interval)
    before = [INITIAL, *(frame for frame, _ in seen)]
    for previous, (frame, changed) in zip(before, seen, strict=False):
        assert changed == (frame != previous)


@pytest.mark.parametrize(
    ("scores", "templates"),
    [
        pytest.param([0.6, 0.9, 0.8], [0, 0, 2], id="the best of the interval, at its end"),
        pytest.param([0.9, 0.9, 0.9], [0, 0, 1], id="the first of equals"),
        pytest.param([0.5, 0.5, 0.5], [0, 0, 0], id="a half is not above a half"),
        pytest.param(
            [0.9, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0], id="none qualified: initial returns"
        ),
        pytest.param([0.9, 0, 0, 0.6, 0, 0], [0, 0, 1, 1, 1, 4], id="each interval by itself"),
        pytest.param([0, 0, 0.7], [0, 0, 3], id="the interval's last frame counts"),
    ],
)
def test_interval_of_three_frames(scores: list[float], templates: list[int]) -> None:
    assert [frame for frame, _ in follow(scores, interval=3)] == templates


def test_only_the_best_so_far_is_cropped() -> None:
    cropped = []

    def crop(frame: int) -> Image:
        cropped.append(frame)
        return crop_of(frame)

    template = OnlineTemplate(crop_of(INITIAL), interval=10, threshold=0.5)
    for frame, score in enumerate([0.4, 0.6, 0.6, 0.55, 0.7, 0.2], start=1):
        template.observe(score, partial(crop, frame))
    assert cropped == [2, 5]


def test_interval_of_zero_keeps_the_initial_template() -> None:
    assert follow([1.0] * 5, interval=0) == [(INITIAL, False)] * 5
