"""What passes as a frame."""

from __future__ import annotations

import numpy as np
import pytest

from edge_tracker.rules.frame import as_bgr

BGR = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


def test_bgr_frame_passes_without_a_copy() -> None:
    assert as_bgr(BGR) is BGR


@pytest.mark.parametrize("grey", [BGR[..., 0], BGR[..., :1]], ids=["2-D", "one channel"])
def test_grey_frame_gets_three_equal_channels(grey: np.ndarray) -> None:
    expected = np.repeat(grey.reshape(24, 32, 1), 3, axis=2)
    np.testing.assert_array_equal(as_bgr(grey), expected)


def test_bgra_frame_loses_its_alpha() -> None:
    alpha = np.full((24, 32, 1), 9, np.uint8)
    np.testing.assert_array_equal(as_bgr(np.concatenate([BGR, alpha], axis=2)), BGR)


@pytest.mark.parametrize("view", [BGR[::-1], BGR[:, ::-1], BGR[..., ::-1], BGR.transpose(1, 0, 2)])
def test_non_contiguous_frame_keeps_its_pixels(view: np.ndarray) -> None:
    assert not view.flags.c_contiguous
    np.testing.assert_array_equal(as_bgr(view), view)


def test_read_only_frame_passes() -> None:
    frame = BGR.copy()
    frame.flags.writeable = False
    np.testing.assert_array_equal(as_bgr(frame), BGR)


@pytest.mark.parametrize(
    ("frame", "error", "says"),
    [
        (None, TypeError, "frame is None: the camera or video returned no image"),
        (BGR.tolist(), TypeError, "frame is a list: expected a NumPy array"),
        ("frame.jpg", TypeError, "frame is a str"),
        (BGR.astype(np.float32), TypeError, "dtype float32: expected uint8"),
        (np.full(BGR.shape, np.nan), TypeError, "dtype float64: expected uint8"),
        (BGR.astype(np.uint16), TypeError, "dtype uint16"),
        (BGR > 3, TypeError, "dtype bool"),
        (np.empty((0, 0, 3), np.uint8), ValueError, r"\(0, 0, 3\): each side must be at least 16"),
        (BGR[:15], ValueError, r"\(15, 32, 3\): each side must be at least 16"),
        (BGR[:, :15], ValueError, "each side must be at least 16"),
        (BGR[..., :2], ValueError, r"\(24, 32, 2\): expected \(height, width, 3\) BGR"),
        (np.zeros((24, 32, 5), np.uint8), ValueError, r"\(24, 32, 5\)"),
        (np.zeros((24, 32, 0), np.uint8), ValueError, r"\(24, 32, 0\)"),
        (BGR[None], ValueError, r"\(1, 24, 32, 3\)"),
        (BGR[0, :, 0], ValueError, r"\(32,\)"),
        (np.uint8(3), TypeError, "frame is a uint8"),
    ],
)
def test_what_is_no_frame_is_refused_by_name(
    frame: object, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        as_bgr(frame)
