"""A rendered clip with known ground truth: for demonstrations and checks where no annotated video
is at hand.

A patterned disc wanders, turns, grows and shrinks over a panning textured background, among still
shapes of other colours; the light changes and a pole passes in front of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tracker.rules.boxes import Box
from edge_tracker.rules.crop import Image

_PATCH_PX = 192


@dataclass(frozen=True)
class ClipFrame:
    """image: (height, width, 3) uint8 BGR. box: x, y, width, height of the whole target, also where
    it is hidden.
    """

    image: Image
    box: Box


def render_clip(
    frames: int = 150, width: int = 480, height: int = 360, seed: int = 0
) -> Iterator[ClipFrame]:
    """Frames of the clip, the same for the same arguments on the same OpenCV.

    Raises ValueError for sizes too small to show anything.
    """
    if frames < 1 or min(width, height) < 64:
        raise ValueError(
            f"clip of {frames} frames of {width}x{height} px: expected at least 1 of 64x64"
        )
    random = np.random.default_rng(seed)
    scene = _scene(random, 2 * width, 2 * height)
    patch, mask = _target(random)
    period = max(frames, 240)
    for index in range(frames):
        turn = 2 * math.pi * index / period
        pan_x = round(0.45 * width * (1 + math.cos(turn)))
        pan_y = round(0.45 * height * (1 + math.sin(turn)))
        image = scene[pan_y : pan_y + height, pan_x : pan_x + width].copy()
        # The target's path is a Lissajous figure around the middle of the frame.
        centre_x = width * (0.5 + 0.32 * math.sin(2 * turn))
        centre_y = height * (0.5 + 0.28 * math.sin(turn + 0.5))
        diameter = 0.22 * min(width, height) * (1 + 0.35 * math.sin(1.5 * turn))
        box = _paste(
            image, patch, mask, (centre_x, centre_y), diameter, angle_deg=40 * math.sin(turn)
        )
        _draw_pole(image, position=2.4 * index / period - 0.4)
        light = 1 + 0.2 * math.sin(2.5 * turn)
        noise = random.normal(0, 3, image.shape)
        yield ClipFrame(np.clip(image * light + noise, 0, 255).astype(np.uint8), box)


def _scene(random: np.random.Generator, width: int, height: int) -> Image:
    """Texture of several scales in muted colours, with still shapes in it."""
    slope = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    far = np.array((150, 140, 120), np.float32)
    near = np.array((70, 95, 85), np.float32)
    scene = np.broadcast_to(far + (near - far) * slope, (height, width, 3)).copy()
    for cells, contrast in ((5, 22), (16, 14), (60, 10)):
        coarse = random.normal(0, contrast, (cells, cells * width // height, 1))
        tint = random.normal(0, contrast / 4, (cells, cells * width // height, 3))
        texture = (coarse + tint).astype(np.float32)
        scene += cv2.resize(texture, (width, height), interpolation=cv2.INTER_CUBIC)
    image: Image = np.clip(scene, 0, 255).astype(np.uint8)
    for _ in range(24):
        centre = (int(random.integers(0, width)), int(random.integers(0, height)))
        axes = (int(random.integers(8, 40)), int(random.integers(8, 40)))
        colour = tuple(int(value) for value in random.integers(50, 170, 3))
        angle_deg = float(random.uniform(0, 180))
        cv2.ellipse(image, centre, axes, angle_deg, 0, 360, colour, -1, cv2.LINE_AA)
    return image


def _target(random: np.random.Generator) -> tuple[Image, NDArray[np.float32]]:
    """A disc in two colours with spots, and its mask 0..1."""
    size = _PATCH_PX
    patch: Image = np.full((size, size, 3), (40, 90, 235), np.uint8)
    cv2.rectangle(patch, (0, size // 2), (size, size), (230, 230, 240), -1)
    for _ in range(9):
        centre = (int(random.integers(20, size - 20)), int(random.integers(20, size - 20)))
        cv2.circle(patch, centre, int(random.integers(8, 22)), (60, 40, 20), -1, cv2.LINE_AA)
    cv2.circle(patch, (size // 2, size // 2), size // 2 - 5, (20, 20, 20), 10, cv2.LINE_AA)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    mask = np.clip(size / 2 - np.hypot(x, y), 0, 1).astype(np.float32)
    return patch, mask


def _paste(
    image: Image,
    patch: Image,
    mask: NDArray[np.float32],
    centre_xy: tuple[float, float],
    diameter: float,
    angle_deg: float,
) -> Box:
    """Draw the target in place; returns its box."""
    centre_x, centre_y = centre_xy
    height, width = image.shape[:2]
    middle = (_PATCH_PX - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), angle_deg, diameter / _PATCH_PX)
    matrix[:, 2] += np.array((centre_x - middle, centre_y - middle))
    colours = cv2.warpAffine(patch, matrix, (width, height), flags=cv2.INTER_AREA)
    alpha = cv2.warpAffine(mask, matrix, (width, height))[..., None]
    image[:] = (alpha * colours + (1 - alpha) * image).astype(np.uint8)
    return centre_x - diameter / 2, centre_y - diameter / 2, diameter, diameter


def _draw_pole(image: Image, position: float) -> None:
    """An upright bar; `position` 0..1 is left to right across the frame."""
    height, width = image.shape[:2]
    x = round(position * width)
    cv2.rectangle(image, (x, 0), (x + width // 28, height), (70, 85, 95), -1)
