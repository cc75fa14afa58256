"""Drawing one view of a rendered scene: warp, paste, and the faults of cameras and codecs."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Matrix = NDArray[np.float64]


class Look(NamedTuple):
    """Faults that all views of a sample share."""

    grey: bool
    lower_by: float
    jpeg_quality: int | None
    noise: float


class Pose(NamedTuple):
    """Where a layer stands in a view.

    matrix: (3, 3) homography from the layer's pixels to the view's; box_xyxy: the layer's outline
    there.
    """

    matrix: Matrix
    box_xyxy: NDArray[np.float64]


def pose_outline(
    outline: NDArray[np.float32],
    linear: Matrix,
    tilt: NDArray[np.float64],
    size_px: float,
    centre_xy: NDArray[np.float64],
) -> Pose:
    """Distort an outline, then scale and shift it: the root of its box's area becomes `size_px`.

    linear: (2, 2) rotation, shear, aspect; tilt: (2,) perspective, relative change of depth over
    the outline's extent.
    """
    low, high = outline.min(axis=0), outline.max(axis=0)
    extent = float(max(high - low))
    to_unit = np.eye(3)
    to_unit[:2] /= extent
    to_unit[:2, 2] = -(low + high) / (2 * extent)
    distort = np.eye(3)
    distort[:2, :2] = linear
    distort[2, :2] = tilt
    matrix = distort @ to_unit
    points = _transform(outline, matrix)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = size_px / np.sqrt(np.prod(high - low))
    place = np.diag([scale, scale, 1.0])
    place[:2, 2] = centre_xy - scale * (low + high) / 2
    half = scale * (high - low) / 2
    return Pose(place @ matrix, np.concatenate([centre_xy - half, centre_xy + half]))


def _transform(points: NDArray[np.float32], matrix: Matrix) -> NDArray[np.float64]:
    homogeneous = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(homogeneous[:, :2] / homogeneous[:, 2:])


def as_pixels(image: object) -> Pixels:
    """What OpenCV returns, with its type said: uint8 in, uint8 out."""
    return np.asarray(image, np.uint8)


def warp(image: Pixels, matrix: Matrix, size_px: int) -> Pixels:
    """Pixels of the view; black where the layer does not reach."""
    return as_pixels(cv2.warpPerspective(image, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR))


def paste(canvas: Pixels, image: Pixels, alpha: NDArray[np.float32]) -> Pixels:
    """alpha: (h, w) in [0, 1], 1 where the image covers the canvas."""
    return as_pixels(cv2.blendLinear(image, canvas, alpha, 1.0 - alpha))


def tone_curve(rng: np.random.Generator, strength: float) -> Pixels:
    """A lookup table, (1, 256, 3): random gain per channel, contrast, brightness and gamma."""
    gain = np.exp(rng.normal(0, 0.25 * strength) + rng.normal(0, 0.08 * strength, 3))
    gamma = np.exp(rng.normal(0, 0.25 * strength))
    lift = rng.normal(0, 25 * strength)
    levels = (np.arange(256) / 255.0) ** gamma
    curve = levels[:, None] * gain * 255.0 + lift
    return as_pixels(np.clip(curve, 0, 255)[None])


def relight(image: Pixels, curve: Pixels) -> Pixels:
    return as_pixels(cv2.LUT(image, curve))


def motion_blur(image: Pixels, length_px: float, angle: float) -> Pixels:
    reach = int(np.ceil(length_px / 2))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    step = np.array([np.cos(angle), np.sin(angle)]) * length_px / 2
    start, end = (np.round(reach - step), np.round(reach + step))
    cv2.line(kernel, start.astype(int).tolist(), end.astype(int).tolist(), 1.0)
    return as_pixels(cv2.filter2D(image, -1, kernel / kernel.sum()))


def lower_resolution(image: Pixels, factor: float) -> Pixels:
    """As if the target had been `factor` times smaller in the frame."""
    size = image.shape[0]
    small = max(8, round(size / factor))
    shrunk = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    return as_pixels(cv2.resize(shrunk, (size, size)))


def camera_noise(image: Pixels, sigma: float, rng: np.random.Generator) -> Pixels:
    grain = rng.standard_normal(image.shape, dtype=np.float32) * sigma
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def jpeg(image: Pixels, quality: int) -> Pixels:
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return as_pixels(cv2.imdecode(encoded, cv2.IMREAD_COLOR))


def to_grey(image: Pixels) -> Pixels:
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return as_pixels(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))


def random_blob(rng: np.random.Generator, side_px: int) -> NDArray[np.float32]:
    """A smooth closed outline or a polygon of few corners, (n, 2), within a square of that side."""
    corners = 64 if rng.random() < 0.7 else int(rng.integers(3, 8))
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radius = np.ones(corners)
    for harmonic in range(1, 6):
        amplitude = rng.normal(0, 0.35 / harmonic)
        radius += amplitude * np.cos(harmonic * angles + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.15, None)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None]
    low, high = points.min(axis=0), points.max(axis=0)
    return np.asarray((points - low) / (high - low) * (side_px - 1), np.float32)


def random_linear(rng: np.random.Generator, *, turn: float, aspect: float) -> NDArray[np.float64]:
    """(2, 2): a random rotation, sigma `turn` radians, after a random aspect and shear."""
    angle = rng.normal(0, turn)
    stretch = rng.normal(0, aspect) / 2
    cos, sin = np.cos(angle), np.sin(angle)
    shear = np.array([[1.0, rng.normal(0, aspect / 3)], [0.0, 1.0]])
    rotation = np.array([[cos, -sin], [sin, cos]])
    return np.asarray(rotation @ np.diag([np.exp(stretch), np.exp(-stretch)]) @ shear)


def draw_look(rng: np.random.Generator) -> Look:
    return Look(
        grey=rng.random() < 0.2,
        lower_by=float(np.exp(rng.uniform(0.1, 1.2))) if rng.random() < 0.3 else 1.0,
        jpeg_quality=int(rng.integers(20, 80)) if rng.random() < 0.25 else None,
        noise=float(rng.uniform(2, 12)) if rng.random() < 0.2 else 0.0,
    )


def expose(
    rng: np.random.Generator, picture: Pixels, look: Look, change: float, target_px: float
) -> Pixels:
    """A picture as a camera and a codec leave it. target_px: of the target, 0 for no motion."""
    picture = relight(picture, tone_curve(rng, 0.2 + 0.8 * change))
    if look.grey:
        picture = to_grey(picture)
    if look.lower_by > 1.0:
        picture = lower_resolution(picture, look.lower_by)
    if target_px and rng.random() < 0.12:
        length = rng.uniform(0.1, 0.6) * target_px
        picture = motion_blur(picture, length, rng.uniform(0, np.pi))
    if look.noise > 0:
        picture = camera_noise(picture, look.noise, rng)
    if look.jpeg_quality is not None:
        picture = jpeg(picture, look.jpeg_quality)
    return picture
