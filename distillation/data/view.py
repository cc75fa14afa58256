"""One picture of a rendered scene, cut around the target as the tracker would cut it."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from distillation.data import drawing
from distillation.data.drawing import Look, Pixels, Pose, random_linear

#: A front layer that would leave less of the target than this is left out.
MIN_VISIBLE = 0.35


class Layer(NamedTuple):
    """alpha None: the layer is a whole photograph, and the background at the same time."""

    image: Pixels
    alpha: Pixels | None
    outline: NDArray[np.float32]
    linear: NDArray[np.float64]


class Neighbour(NamedTuple):
    layer: Layer
    offset: NDArray[np.float64]
    size: float
    in_front: bool
    in_template: bool


class Ground(NamedTuple):
    """The background; the target stands at `place_xy` of it and is `target_px` large there."""

    image: Pixels
    place_xy: NDArray[np.float64]
    target_px: float


class View:
    """One picture of the scene, cut around the target as the tracker would.

    So many parameters because each is drawn apart from the others.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        size_px: int,
        target_px: float,
        centre_xy: NDArray[np.float64],
        change: float,
        role: str,
        look: Look,
    ) -> None:
        self.rng, self.size_px, self.target_px, self.centre_xy = rng, size_px, target_px, centre_xy
        self.change, self.role, self.look = change, role, look

    def draw(
        self, target: Layer | None, ground: Ground, neighbours: list[Neighbour]
    ) -> tuple[Pixels, NDArray[np.float64]]:
        """-> the picture, and the target's box in it (x0, y0, x1, y1 px), clipped to the frame."""
        rng = self.rng
        box = np.zeros(4)
        frame_xyxy = np.array([-np.inf, -np.inf, np.inf, np.inf])
        pose = self._pose(target) if target is not None else None
        if target is not None and pose is not None and target.alpha is None:
            canvas = drawing.warp(target.image, pose.matrix, self.size_px)
        else:
            zoom = self.target_px / ground.target_px
            shift = self.centre_xy - zoom * ground.place_xy
            matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]], [0, 0, 1]])
            canvas = drawing.warp(ground.image, matrix, self.size_px)
            height, width = ground.image.shape[:2]
            frame_xyxy = np.concatenate([shift, shift + zoom * np.array([width, height])])
        for neighbour in neighbours:
            if not neighbour.in_front:
                canvas = self._paste(canvas, neighbour, None)
        covered: NDArray[np.float32] | None = None
        if target is not None and pose is not None:
            box = pose.box_xyxy
            covered = self._target_area(target, pose)
            if target.alpha is not None:
                lit = drawing.relight(target.image, drawing.tone_curve(rng, 0.5 * self.change))
                image = drawing.warp(lit, pose.matrix, self.size_px)
                canvas = drawing.paste(canvas, image, covered)
        for neighbour in neighbours:
            if neighbour.in_front:
                canvas = self._paste(canvas, neighbour, covered)
        blurred_px = self.target_px if self.role != "template" else 0.0
        canvas = drawing.expose(rng, canvas, self.look, self.change, blurred_px)
        inside = np.clip(np.ceil(frame_xyxy), 0, self.size_px).astype(int)
        framed = np.zeros_like(canvas)
        rows, columns = slice(inside[1], inside[3]), slice(inside[0], inside[2])
        framed[rows, columns] = canvas[rows, columns]
        clipped = np.clip(box.reshape(2, 2), frame_xyxy[:2] - 0.5, frame_xyxy[2:] - 0.5)
        return framed, clipped.reshape(4)

    def _pose(self, layer: Layer) -> Pose:
        rng, change = self.rng, self.change
        vary = random_linear(rng, turn=0.2 * change, aspect=0.15 * change)
        tilt = np.clip(rng.normal(0, 0.15 * change, 2), -0.4, 0.4)
        return drawing.pose_outline(
            layer.outline, vary @ layer.linear, tilt, self.target_px, self.centre_xy
        )

    def _target_area(self, target: Layer, pose: Pose) -> NDArray[np.float32]:
        """How much of each pixel the target covers, (size, size) in [0, 1]."""
        alpha = target.alpha
        if alpha is None:
            alpha = np.zeros(target.image.shape[:2], np.uint8)
            cv2.fillConvexPoly(alpha, cv2.convexHull(target.outline).astype(np.int32), 255)
        return drawing.warp(alpha, pose.matrix, self.size_px).astype(np.float32) / 255.0

    def _paste(
        self, canvas: Pixels, neighbour: Neighbour, target_area: NDArray[np.float32] | None
    ) -> Pixels:
        if self.role != "search" and not neighbour.in_template:
            return canvas
        layer = neighbour.layer
        wander = self.rng.normal(0, 0.3 if self.role == "search" else 0.1, 2)
        centre = self.centre_xy + (neighbour.offset + wander) * self.target_px
        vary = random_linear(self.rng, turn=0.1, aspect=0.1)
        pose = drawing.pose_outline(
            layer.outline, vary @ layer.linear, np.zeros(2), neighbour.size * self.target_px, centre
        )
        if pose.box_xyxy[:2].max() >= self.size_px or pose.box_xyxy[2:].min() <= 0:
            return canvas
        assert layer.alpha is not None
        alpha = drawing.warp(layer.alpha, pose.matrix, self.size_px).astype(np.float32) / 255.0
        if target_area is not None:
            visible = float((target_area * (1 - alpha)).sum())
            if visible < MIN_VISIBLE * float(target_area.sum()):
                return canvas
        image = drawing.warp(layer.image, pose.matrix, self.size_px)
        return drawing.paste(canvas, image, alpha)
