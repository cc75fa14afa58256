"""The crop, bit for bit the official rule before resizing."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_tracker.options import TrackerOptions
from edge_tracker.rules.crop import crop_square, crop_template, crop_window, cut_window

Image = NDArray[np.uint8]
Box = tuple[float, float, float, float]


def literal_crop(frame: Image, box_frame_xywh: Box, factor: float) -> Image:
    """The official rule, one pixel after the other."""
    height, width = frame.shape[:2]
    x, y, w, h = box_frame_xywh
    side = math.ceil(math.sqrt(w * h) * factor)
    x1 = round(x + 0.5 * w - side * 0.5)
    x2 = x1 + side
    y1 = round(y + 0.5 * h - side * 0.5)
    y2 = y1 + side
    x1_padding = max(0, -x1)
    x2_padding = max(x2 - width + 1, 0)
    y1_padding = max(0, -y1)
    y2_padding = max(y2 - height + 1, 0)
    crop = np.zeros((side, side, 3), np.uint8)
    for row in range(y1_padding, side - y2_padding):
        for column in range(x1_padding, side - x2_padding):
            crop[row, column] = frame[y1 + row, x1 + column]
    return crop


def numbered_frame(height: int, width: int) -> Image:
    """No two pixels alike, and none of them black."""
    number = np.arange(height * width).reshape(height, width)
    channels = [number % 251 + 1, number // 251 % 251 + 1, np.full_like(number, 7)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def cut(frame: Image, box: Box, factor: float) -> Image:
    return cut_window(frame, crop_window(box, factor))


FRAME = numbered_frame(40, 50)


@pytest.mark.parametrize("factor", [2.0, 4.5])
@pytest.mark.parametrize(
    "box",
    [
        pytest.param((20, 15, 4, 5), id="inside"),
        pytest.param((-2, 15, 6, 5), id="across the left border"),
        pytest.param((20, -3, 6, 5), id="across the top border"),
        pytest.param((47, 15, 6, 5), id="across the right border"),
        pytest.param((20, 38, 6, 5), id="across the bottom border"),
        pytest.param((-2, -2, 5, 5), id="across a corner"),
        pytest.param((47, 37, 6, 6), id="across the far corner"),
        pytest.param((-60, 10, 5, 5), id="outside, left"),
        pytest.param((90, 10, 5, 5), id="outside, right"),
        pytest.param((10, -60, 5, 5), id="outside, above"),
        pytest.param((10, 90, 5, 5), id="outside, below"),
        pytest.param((25, 20, 1, 1), id="one pixel"),
        pytest.param((0, 0, 1, 1), id="one pixel in the corner"),
        pytest.param((49, 39, 1, 1), id="one pixel in the far corner"),
        pytest.param((-10, -10, 80, 70), id="larger than the frame"),
        pytest.param((0, 0, 50, 40), id="the frame"),
        pytest.param((20.25, 15.5, 4.4, 5.1), id="between pixels"),
        pytest.param((20, 15, 0.01, 0.01), id="a speck"),
    ],
)
def test_crop_is_the_official_rule_pixel_by_pixel(box: Box, factor: float) -> None:
    np.testing.assert_array_equal(cut(FRAME, box, factor), literal_crop(FRAME, box, factor))


@given(
    height=st.integers(16, 40),
    width=st.integers(16, 40),
    x=st.floats(-60, 60),
    y=st.floats(-60, 60),
    w=st.floats(0.1, 30),
    h=st.floats(0.1, 30),
    factor=st.sampled_from([1.0, 2.0, 4.5]),
)
def test_crop_is_the_official_rule_for_any_box(
    height: int, width: int, x: float, y: float, w: float, h: float, factor: float
) -> None:
    frame, box = numbered_frame(height, width), (x, y, w, h)
    np.testing.assert_array_equal(cut(frame, box, factor), literal_crop(frame, box, factor))


@pytest.mark.parametrize(("x", "last_column_is_black"), [(39, False), (40, True), (41, True)])
def test_frame_s_last_column_is_black_as_soon_as_the_window_ends_there(
    x: int, last_column_is_black: bool
) -> None:
    """The "+1" that weights were trained with: a window that ends at the border loses a column."""
    window = crop_window((x, 10, 10, 10), 1.0)
    pixels = cut_window(FRAME, window)
    visible = pixels.any(axis=(0, 2))
    expected = np.arange(x, x + 10) < 49 if last_column_is_black else np.full(10, True)
    np.testing.assert_array_equal(visible, expected)


def test_half_pixels_round_to_even_as_python_does() -> None:
    assert crop_window((0.5, 1.5, 2, 2), 1.0) == (0, 2, 2)
    assert crop_window((-0.5, 2.5, 2, 2), 1.0) == (0, 2, 2)


def test_side_is_the_root_of_the_area_rounded_up() -> None:
    assert crop_window((0, 0, 4, 9), 2.0).side_px == 12
    assert crop_window((0, 0, 4, 9.01), 2.0).side_px == 13


def test_resizing_is_opencv_s_default() -> None:
    box = (20, 15, 9, 7)
    crop, side_px = crop_square(FRAME, box, 4.5, 64)
    literal = literal_crop(FRAME, box, 4.5)
    np.testing.assert_array_equal(crop, cv2.resize(literal, (64, 64)))
    assert side_px == literal.shape[0]


@pytest.mark.parametrize("size_px", [10, 64])
def test_crop_belongs_to_the_caller(size_px: int) -> None:
    """Also where the window needs no padding and no resizing: cameras reuse their buffers."""
    frame = FRAME.copy()
    crop, side_px = crop_square(frame, (20, 15, 5, 5), 2.0, size_px)
    assert side_px == 10
    assert not np.shares_memory(crop, frame)
    crop[:] = 0
    np.testing.assert_array_equal(frame, FRAME)


@pytest.mark.parametrize("box", [(5, 5, 0, 4), (5, 5, 1e-200, 1e-200)])
def test_box_without_area_is_refused(box: Box) -> None:
    with pytest.raises(ValueError, match="too small to crop: its area is 0"):
        crop_window(box, 2.0)


def test_a_template_is_cut_by_the_options_factor() -> None:
    box = (30.0, 20.0, 12.0, 8.0)
    template = crop_template(FRAME, box, TrackerOptions(template_factor=3.0), 48)
    np.testing.assert_array_equal(template, crop_square(FRAME, box, 3.0, 48)[0])
