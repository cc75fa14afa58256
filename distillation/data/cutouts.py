"""Cut-outs: pieces of annotated images, with their outlines, that the renderer pastes over
backgrounds.

Reads two layouts: a folder of `NAME.jpg` beside `NAME.txt` (one instance polygon a line: class,
then x y pairs in [0, 1]), and a folder of images beside `NAME_mask.png` (pixel value = instance
number).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from distillation.data.drawing import as_pixels
from distillation.data.images import image_paths, read_image
from edge_tracker.errors import DatasetError
from edge_tracker.files.untrusted import reading

MASK_SUFFIX = "_mask"
#: Smaller pieces hold too little to be recognised again.
MIN_SIDE_PX = 20
#: Class of the instances in mask folders, which state none: COCO's "person".
MASK_CATEGORY = 0


@dataclass(frozen=True)
class Cutout:
    """One object. Its outline is in pixels of `image`, and its box is the outline's.

    image: (h, w, 3) uint8 BGR; alpha: (h, w) uint8, 255 inside; outline: (n, 2) float32 x, y.
    """

    image: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    outline: NDArray[np.float32]
    category: int


@dataclass(frozen=True)
class Scene:
    """An annotated image: its objects can be tracked where they stand, background and all."""

    image: NDArray[np.uint8]
    outlines: tuple[NDArray[np.float32], ...]


def read_cutouts(folder: Path) -> tuple[list[Cutout], list[Scene]]:
    """All objects of a folder in either layout, and the images they stand in.

    Raises DatasetError for a folder that is in neither layout or has an image that does not decode.
    """
    cutouts: list[Cutout] = []
    scenes: list[Scene] = []
    for path in image_paths(folder):
        if path.stem.endswith(MASK_SUFFIX):
            continue
        image = read_image(path)
        masks = _instance_masks(path, image.shape[:2])
        found = [c for mask, category in masks if (c := _cut(image, mask, category)) is not None]
        cutouts += [cutout for cutout, _ in found]
        if found:
            scenes.append(Scene(image, tuple(outline for _, outline in found)))
    if not cutouts:
        raise DatasetError(
            f"{folder} has no annotated object of at least {MIN_SIDE_PX} px: expected NAME.jpg "
            f"beside NAME.txt with polygons, or NAME.png beside NAME{MASK_SUFFIX}.png"
        )
    return cutouts, scenes


def _instance_masks(path: Path, size: tuple[int, int]) -> list[tuple[NDArray[np.uint8], int]]:
    polygons = path.with_suffix(".txt")
    if polygons.is_file():
        with reading(f"polygons {polygons}", "copy the file again", DatasetError):
            lines = [line for line in polygons.read_text().splitlines() if line.strip()]
        return [_polygon_mask(line, size, polygons) for line in lines]
    mask_path = path.with_name(path.stem + MASK_SUFFIX + ".png")
    if not mask_path.is_file():
        return []
    numbers = cv2.imread(str(mask_path), cv2.IMREAD_GRAYSCALE)
    if numbers is None or numbers.shape != size:
        raise DatasetError(f"{mask_path} does not decode to a mask of {size[1]}x{size[0]} pixels")
    instances = range(1, int(numbers.max()) + 1)
    return [((numbers == i).astype(np.uint8) * 255, MASK_CATEGORY) for i in instances]


def _polygon_mask(line: str, size: tuple[int, int], path: Path) -> tuple[NDArray[np.uint8], int]:
    try:
        category, *coordinates = (float(field) for field in line.split())
        if not coordinates or not np.all(np.abs([category, *coordinates]) < 1e3):
            raise ValueError
        points = np.array(coordinates).reshape(-1, 2) * (size[1], size[0])
    except ValueError as error:
        raise DatasetError(
            f"{path}: {line[:40]!r} is not a polygon; expected a class, then x y pairs in [0, 1]"
        ) from error
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 255)
    return mask, int(category)


def _cut(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], category: int
) -> tuple[Cutout, NDArray[np.float32]] | None:
    """The piece under the mask, and its outline in the whole image; None if it is too small."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return None
    points = np.concatenate(contours)
    x, y, w, h = cv2.boundingRect(points)
    if min(w, h) < MIN_SIDE_PX:
        return None
    # Pixel centres are whole numbers: the object's edge lies half a pixel beyond its outermost.
    hull = cv2.convexHull(points)[:, 0].astype(np.float32)
    centre = hull.mean(axis=0)
    outline = (hull + 0.5 * np.sign(hull - centre)).astype(np.float32)
    piece = np.ascontiguousarray(image[y : y + h, x : x + w])
    alpha = as_pixels(cv2.GaussianBlur(mask[y : y + h, x : x + w], (3, 3), 0))
    offset = np.array([x, y], np.float32)
    return Cutout(piece, alpha, (outline - offset).astype(np.float32), category), outline
