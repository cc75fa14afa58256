"""The array form of the normalisation that the graphs carry inside."""

from __future__ import annotations

import numpy as np
import pytest

from edge_tracker.rules.normalise import normalise


@pytest.mark.parametrize(
    ("bgr", "rgb"),
    [
        ((255, 0, 0), (-0.485 / 0.229, -0.456 / 0.224, (1 - 0.406) / 0.225)),
        ((0, 255, 0), (-0.485 / 0.229, (1 - 0.456) / 0.224, -0.406 / 0.225)),
        ((0, 0, 255), ((1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225)),
    ],
    ids=["blue", "green", "red"],
)
def test_bgr_pixels_become_standardised_rgb_planes(
    bgr: tuple[int, int, int], rgb: tuple[float, float, float]
) -> None:
    image = np.full((2, 5, 3), bgr, np.uint8)
    planes = normalise(image)
    assert planes.dtype == np.float32
    assert planes.shape == (3, 2, 5)
    for plane, value in zip(planes, rgb, strict=True):
        np.testing.assert_allclose(plane, value, rtol=1e-5)


def test_leading_axes_stay_in_front() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 6, 3), np.uint8)
    planes = normalise(images)
    assert planes.shape == (2, 3, 3, 4, 6)
    np.testing.assert_array_equal(planes[1, 2], normalise(images[1, 2]))
