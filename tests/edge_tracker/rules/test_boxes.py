"""Boxes between the search crop and the frame, and the tracker's clipping."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tracker.rules.boxes import Box, box_from_edges, box_iou, checked_box, clip_box

places = st.floats(-1000, 1000)
lengths = st.floats(0.5, 1000)
boxes = st.tuples(places, places, lengths, lengths)


def test_edges_are_fractions_of_a_square_around_the_previous_box() -> None:
    previous = (100.0, 60.0, 20.0, 10.0)  # centre (110, 65)
    box = box_from_edges((0.25, 0.5, 0.75, 0.625), previous, side_px=80)
    assert box == (90.0, 65.0, 40.0, 10.0)


def test_square_is_centred_on_the_box_and_not_on_whole_pixels() -> None:
    previous = (10.3, 20.7, 5.5, 7.1)
    x, y, w, h = box_from_edges((0.5, 0.5, 0.5, 0.5), previous, side_px=31)
    assert (x, y) == pytest.approx((10.3 + 2.75, 20.7 + 3.55))
    assert (w, h) == (0, 0)


@given(boxes, st.floats(1, 500))
def test_box_that_the_network_sees_where_it_was_stays(previous: Box, side_px: float) -> None:
    _, _, w, h = previous
    half_w, half_h = w / side_px / 2, h / side_px / 2
    edges = (0.5 - half_w, 0.5 - half_h, 0.5 + half_w, 0.5 + half_h)
    assert box_from_edges(edges, previous, side_px) == pytest.approx(previous, abs=1e-6)


def official_clip_box(box: Box, height: int, width: int, margin: int) -> Box:
    x1, y1, w, h = box
    x2, y2 = x1 + w, y1 + h
    x1 = min(max(0, x1), width - margin)
    x2 = min(max(margin, x2), width)
    y1 = min(max(0, y1), height - margin)
    y2 = min(max(margin, y2), height)
    return x1, y1, max(margin, x2 - x1), max(margin, y2 - y1)


@given(boxes, st.integers(16, 400), st.integers(16, 400))
def test_clipping_is_the_official_rule(box: Box, height: int, width: int) -> None:
    assert clip_box(box, height, width, 10) == official_clip_box(box, height, width, 10)


@given(boxes, st.integers(16, 400), st.integers(16, 400))
def test_clipped_box_touches_the_frame_and_has_ten_pixels_a_side(
    box: Box, height: int, width: int
) -> None:
    x, y, w, h = clip_box(box, height, width, 10)
    assert 0 <= x <= width - 10
    assert 0 <= y <= height - 10
    assert 10 <= w <= width
    assert 10 <= h <= height
    assert clip_box((x, y, w, h), height, width, 10) == pytest.approx((x, y, w, h))


@pytest.mark.parametrize(
    ("box", "clipped"),
    [
        pytest.param((20, 30, 40, 25), (20, 30, 40, 25), id="inside"),
        pytest.param((-5, 30, 40, 25), (0, 30, 35, 25), id="left"),
        pytest.param((20, -5, 40, 25), (20, 0, 40, 20), id="top"),
        pytest.param((80, 30, 40, 25), (80, 30, 20, 25), id="right"),
        pytest.param((20, 60, 40, 25), (20, 60, 40, 20), id="bottom"),
        pytest.param((300, 300, 40, 25), (90, 70, 10, 10), id="far outside"),
        pytest.param((-300, -300, 40, 25), (0, 0, 10, 10), id="far outside, top left"),
        pytest.param((20, 30, 1, 1), (20, 30, 10, 10), id="one pixel"),
        pytest.param((20, 30, -4, -4), (20, 30, 10, 10), id="edges crossed"),
    ],
)
def test_clipping_at_each_border_of_an_80_by_100_frame(box: Box, clipped: Box) -> None:
    assert clip_box(box, 80, 100, 10) == clipped


@pytest.mark.parametrize(
    "box", [(1, 2, 3, 4), [1.0, 2.0, 3.0, 4.0], np.array([1, 2, 3, 4]), iter((1, 2, 3, 4))]
)
def test_user_s_box_may_be_any_four_numbers(box: Any) -> None:
    assert checked_box(box, 100, 100) == (1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize(
    ("box", "error", "says"),
    [
        ((1, 2, 0, 4), ValueError, r"box \(1.0, 2.0, 0.0, 4.0\) has no area"),
        ((1, 2, 3, -4), ValueError, "has no area"),
        ((math.nan, 2, 3, 4), ValueError, "not finite"),
        ((1, 2, math.inf, 4), ValueError, "not finite"),
        ((1, -math.inf, 3, 4), ValueError, "not finite"),
        ((1, 2, 3, 10**400), ValueError, "expected four numbers"),
        ((100, 2, 3, 4), ValueError, "outside the frame of 100x80 px"),
        ((1, 80, 3, 4), ValueError, "outside the frame of 100x80 px"),
        ((-3, 2, 3, 4), ValueError, "outside the frame of 100x80 px"),
        ((1, -4, 3, 4), ValueError, "outside the frame of 100x80 px"),
        ((0, 0, 401, 4), ValueError, "more than four times the frame"),
        ((0, 0, 4, 321), ValueError, "more than four times the frame"),
        ((1, 2, 3), ValueError, r"box is \(1, 2, 3\): expected four numbers"),
        ((1, 2, 3, 4, 5), ValueError, "expected four numbers"),
        ("1,2,3,4", ValueError, "expected four numbers"),
        ((1, 2, "wide", 4), ValueError, "expected four numbers"),
        (None, TypeError, "box is None: expected four numbers"),
        (7, TypeError, "expected four numbers"),
        ((1, 2, None, 4), TypeError, "expected four numbers"),
        ((1, 2, 3, 4j), TypeError, "expected four numbers"),
    ],
)
def test_what_is_no_box_is_refused_by_name(box: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        checked_box(box, 80, 100)


@given(boxes, boxes)
def test_iou_is_symmetric_and_a_share(a: Box, b: Box) -> None:
    assert box_iou(a, b) == pytest.approx(box_iou(b, a))
    assert 0 <= box_iou(a, b) <= 1 + 1e-9
    assert box_iou(a, a) == pytest.approx(1)


def test_iou_of_a_box_that_slides_away_falls_to_zero() -> None:
    ious = [box_iou((0, 0, 10, 10), (step, 0, 10, 10)) for step in range(12)]
    assert ious[5] == pytest.approx(1 / 3)
    assert ious[10:] == [0, 0]
    assert all(nearer > farther for nearer, farther in pairwise(ious[:11]))
