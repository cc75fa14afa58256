"""Training triplets rendered from still images: a target over a background, seen three times.

The target is a cut-out, a random textured shape, an object where it stands in its own photograph,
or any patch of a photograph. Between the three views it moves, turns, tilts, changes light and may
be blurred or covered; look-alikes stand around it; the frame ends somewhere and is black beyond, as
in the tracker. Views are drawn at the network's resolution straight away, so a sample costs about
two milliseconds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from distillation.data import drawing
from distillation.data.cutouts import Cutout, Scene
from distillation.data.drawing import Pixels, random_linear
from distillation.data.sample import TEMPLATE_FACTOR, Sample
from distillation.data.view import Ground, Layer, Neighbour, View

T = TypeVar("T")

TEXTURE_PX = 96
#: Standard deviation of the grey levels that a patch needs to be a target.
MIN_CONTRAST = 15.0


@dataclass(frozen=True)
class Material:
    """What to render from. Raises ValueError if a part is empty."""

    cutouts: list[Cutout]
    scenes: list[Scene]
    backgrounds: list[Pixels]

    def __post_init__(self) -> None:
        if not (self.cutouts and self.scenes and self.backgrounds):
            raise ValueError(
                f"cannot render from {len(self.cutouts)} cut-outs, {len(self.scenes)} scenes and "
                f"{len(self.backgrounds)} backgrounds: each needs at least one"
            )


class Renderer:
    """Renders sample number i of an endless, reproducible series: the same i is always the same
    sample.
    """

    def __init__(
        self,
        material: Material,
        *,
        template_size_px: int,
        search_size_px: int,
        seed: int,
        absent_fraction: float,
        search_factor: float,
    ) -> None:
        self.material = material
        self.template_size_px = template_size_px
        self.search_size_px = search_size_px
        self.seed = seed
        self.absent_fraction = absent_fraction
        self.search_factor = search_factor
        self._same_category: dict[int, list[Cutout]] = defaultdict(list)
        for cutout in material.cutouts:
            self._same_category[cutout.category].append(cutout)

    def render(self, index: int) -> Sample:
        rng = np.random.default_rng((self.seed, index))
        present = rng.random() >= self.absent_fraction
        change = rng.random() ** 1.5
        target, category = self._target(rng)
        ground = self._ground(rng)
        neighbours = self._neighbours(rng, category)
        look = drawing.draw_look(rng)

        def view(size_px: int, target_px: float, centre: NDArray[np.float64], role: str) -> View:
            return View(rng, size_px, target_px, centre, change, role, look)

        t, s = self.template_size_px, self.search_size_px
        middle = np.array([t / 2, t / 2]) - 0.5
        template, _ = view(t, t / TEMPLATE_FACTOR, middle, "template").draw(
            target, ground, neighbours
        )
        online = template
        if rng.random() < 0.65:
            # The tracker cuts this one around its own prediction, which is now and then far off.
            error = min(rng.exponential(), 3.0)
            size = t / TEMPLATE_FACTOR * np.exp(rng.normal(0, 0.15 * error))
            centre = middle + rng.normal(0, 0.12 * error, 2) * size
            online, _ = view(t, size, centre, "online").draw(target, ground, neighbours)
        target_px, centre = self._search_jitter(rng)
        search_view = view(s, target_px, centre, "search")
        if present:
            search, box = search_view.draw(target, self._search_ground(rng, ground), neighbours)
            edges = np.clip((box + 0.5) / s, 0, 1).astype(np.float32)
        else:
            left = self._without_target(rng, target) or self._search_ground(rng, ground)
            search, _ = search_view.draw(None, left, neighbours)
            edges = np.zeros(4, np.float32)
        return Sample(template, online, search, edges, present)

    def _target(self, rng: np.random.Generator) -> tuple[Layer, int | None]:
        kind = rng.random()
        base = random_linear(rng, turn=0.35 if rng.random() < 0.3 else 0.05, aspect=0.15)
        if rng.random() < 0.5:
            base = base @ np.diag([-1.0, 1.0])
        if kind < 0.45:
            cutout = _pick(rng, self.material.cutouts)
            outline = cutout.outline
            if rng.random() < 0.15:
                outline = _part(rng, outline)
            return Layer(_recolour(rng, cutout.image), cutout.alpha, outline, base), cutout.category
        if kind < 0.6:
            return self._shape(rng), None
        if kind < 0.85:
            scene = _pick(rng, self.material.scenes)
            outline = _pick(rng, scene.outlines)
            if rng.random() < 0.15:
                outline = _part(rng, outline)
            return Layer(scene.image, None, outline, base), None
        return self._patch(rng, base), None

    def _patch(self, rng: np.random.Generator, base: NDArray[np.float64]) -> Layer:
        while True:
            image = _pick(rng, self.material.backgrounds)
            frame = np.array([[0, 0], [image.shape[1], image.shape[0]]], np.float32)
            outline = _part(rng, frame, largest=0.3)
            (x0, y0), (x1, y1) = outline[0].astype(int), np.ceil(outline[2]).astype(int)
            # Sky and walls look the same everywhere: nothing could be found again.
            if image[y0:y1, x0:x1].std() > MIN_CONTRAST:
                return Layer(image, None, outline, base)

    def _shape(self, rng: np.random.Generator) -> Layer:
        source = _pick(rng, self.material.backgrounds)
        side = min(TEXTURE_PX, *source.shape[:2])
        y, x = (int(rng.integers(0, n - side + 1)) for n in source.shape[:2])
        outline = drawing.random_blob(rng, side)
        alpha = np.zeros((side, side), np.uint8)
        cv2.fillPoly(alpha, [np.round(outline).astype(np.int32)], 255)
        texture = _recolour(rng, source[y : y + side, x : x + side])
        linear = random_linear(rng, turn=1.0, aspect=0.3)
        return Layer(drawing.relight(texture, drawing.tone_curve(rng, 1.0)), alpha, outline, linear)

    def _ground(self, rng: np.random.Generator) -> Ground:
        image = _pick(rng, self.material.backgrounds)
        height, width = image.shape[:2]
        target_px = float(np.exp(rng.uniform(np.log(0.05), np.log(0.4)))) * min(height, width)
        place = rng.random(2) * (width, height)
        margin = np.minimum(0.6 * target_px, (width / 2, height / 2))
        place = np.clip(place, margin, np.array([width, height]) - margin)
        return Ground(image, place, target_px)

    def _search_ground(self, rng: np.random.Generator, ground: Ground) -> Ground:
        """Mostly the same place a moment later; sometimes another part of it, or another
        background.
        """
        chance = rng.random()
        if chance < 0.15:
            return self._ground(rng)
        height, width = ground.image.shape[:2]
        moved = ground.place_xy + rng.normal(0, 0.5, 2) * ground.target_px
        if chance < 0.35:
            moved = rng.random(2) * (width, height)
        margin = np.minimum(0.2 * ground.target_px, (width / 2, height / 2))
        return ground._replace(place_xy=np.clip(moved, margin, np.array([width, height]) - margin))

    def _without_target(self, rng: np.random.Generator, target: Layer) -> Ground | None:
        """Another part of the photograph that the target stands in, if it has one."""
        if target.alpha is not None:
            return None
        height, width = target.image.shape[:2]
        low, high = target.outline.min(axis=0), target.outline.max(axis=0)
        target_px = float(np.sqrt((high - low).prod()))
        place = rng.random(2) * (width, height)
        # Outside the search crop, even where that reaches furthest.
        away = np.maximum(low - place, place - high).max()
        if away < 0.7 * self.search_factor * target_px:
            return None
        return Ground(target.image, place, target_px)

    def _neighbours(self, rng: np.random.Generator, category: int | None) -> list[Neighbour]:
        found = []
        for _ in range(int(rng.choice([0, 1, 2, 4], p=[0.3, 0.25, 0.25, 0.2]))):
            if rng.random() < 0.2:
                layer = self._shape(rng)
            else:
                like = category is not None and rng.random() < 0.6
                pool = self._same_category[category] if like and category is not None else None
                cutout = _pick(rng, pool or self.material.cutouts)
                linear = random_linear(rng, turn=0.1, aspect=0.15)
                layer = Layer(_recolour(rng, cutout.image), cutout.alpha, cutout.outline, linear)
            angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 2.3)
            found.append(
                Neighbour(
                    layer,
                    offset=np.array([np.cos(angle), np.sin(angle)]) * distance,
                    size=float(np.exp(rng.normal(0, 0.3))),
                    in_front=rng.random() < 0.3,
                    in_template=rng.random() < 0.5,
                )
            )
        if rng.random() < 0.2:
            angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.7)
            offset = np.array([np.cos(angle), np.sin(angle)]) * distance
            cover = self._shape(rng)
            found.append(Neighbour(cover, offset, float(rng.uniform(0.4, 1.0)), True, False))
        return found

    def _search_jitter(self, rng: np.random.Generator) -> tuple[float, NDArray[np.float64]]:
        """Target size and centre in the search crop.

        Mostly anywhere in it, as the paper has it: a network that learns to expect the middle
        follows its own errors. Else as one frame's motion leaves it.
        """
        size_px = self.search_size_px
        anywhere = rng.random() < 0.7
        target_px = size_px / self.search_factor * np.exp(rng.normal(0, 0.3 if anywhere else 0.12))
        if anywhere:
            offset = rng.uniform(-1, 1, 2) * (size_px / 2 - 0.4 * target_px)
        else:
            offset = rng.normal(0, 0.4, 2) * target_px
        return float(target_px), np.array([size_px / 2, size_px / 2]) - 0.5 + offset


def _part(
    rng: np.random.Generator, outline: NDArray[np.float32], largest: float = 0.7
) -> NDArray[np.float32]:
    """The corners of a random rectangle within an outline's box: a head, a wheel, any patch."""
    low, high = outline.min(axis=0), outline.max(axis=0)
    share = np.exp(rng.uniform(np.log(largest / 4), np.log(largest)) + rng.normal(0, 0.2, 2))
    size = (high - low) * np.minimum(share, 0.9)
    x0, y0 = low + rng.random(2) * (high - low - size)
    x1, y1 = x0 + size[0], y0 + size[1]
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)


def _recolour(rng: np.random.Generator, image: Pixels) -> Pixels:
    if rng.random() < 0.7:
        return image
    return np.ascontiguousarray(image[..., rng.permutation(3)])


def _pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]
