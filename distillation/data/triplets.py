"""Training triplets from annotated sequences: template, online template, search (paper, section
4.1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distillation.data import drawing
from distillation.data.images import read_image
from distillation.data.sample import Sample
from distillation.data.sequences import TrainingSequence
from distillation.recipes.recipe import Jitter
from edge_tracker.options import TrackerOptions
from edge_tracker.rules.crop import Image, crop_square, crop_template

#: Frames between the template and each of the other two, at most.
MAX_GAP_FRAMES = 200
GREY_FRACTION = 0.05
BRIGHTNESS = 0.2


class Triplets:
    """Sample number i of an endless, reproducible series over sequences: data sets equally often,
    and theirs too.
    """

    def __init__(
        self,
        datasets: list[list[TrainingSequence]],
        *,
        template_size_px: int,
        search_size_px: int,
        jitter: Jitter,
        absent_fraction: float,
        seed: int,
    ) -> None:
        self.datasets = datasets
        self._count = sum(len(sequences) for sequences in datasets)
        self.template_size_px, self.search_size_px = template_size_px, search_size_px
        self.jitter, self.absent_fraction, self.seed = jitter, absent_fraction, seed

    def render(self, index: int) -> Sample:
        rng = np.random.default_rng((self.seed, index))
        sequence = self._draw(rng)
        template_at, online_at, search_at = causal_frames(rng, sequence.visible)
        present = self._count == 1 or rng.random() >= self.absent_fraction
        searched = sequence
        if not present:
            while searched is sequence:
                searched = self._draw(rng)
            search_at = int(rng.choice(np.flatnonzero(searched.visible)))
        templates = [self._template(sequence, at) for at in (template_at, online_at)]
        search, edges = self._search(rng, searched, search_at)
        images = [*templates, search]
        if rng.random() < 0.5:
            images = [np.ascontiguousarray(image[:, ::-1]) for image in images]
            edges = np.array([1 - edges[2], edges[1], 1 - edges[0], edges[3]])
        if rng.random() < GREY_FRACTION:
            images = [drawing.to_grey(image) for image in images]
        light = [rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS) for _ in images]
        images = [
            np.clip(image * gain, 0, 255).astype(np.uint8)
            for image, gain in zip(images, light, strict=True)
        ]
        edges = edges if present else np.zeros(4)
        return Sample(images[0], images[1], images[2], edges.astype(np.float32), present)

    def _draw(self, rng: np.random.Generator) -> TrainingSequence:
        sequences = self.datasets[int(rng.integers(len(self.datasets)))]
        return sequences[int(rng.integers(len(sequences)))]

    def _template(self, sequence: TrainingSequence, frame: int) -> Image:
        image = read_image(sequence.frame_paths[frame])
        box = sequence.boxes_xywh[frame]
        return crop_template(image, box.tolist(), TrackerOptions(), self.template_size_px)

    def _search(
        self, rng: np.random.Generator, sequence: TrainingSequence, frame: int
    ) -> tuple[Image, NDArray[np.float64]]:
        image = read_image(sequence.frame_paths[frame])
        box = sequence.boxes_xywh[frame]
        around = jittered_box(rng, box, self.jitter)
        crop, side_px = crop_square(
            image, around.tolist(), self.jitter.search_factor, self.search_size_px
        )
        return crop, box_in_crop(box, around, side_px, self.search_size_px)


def causal_frames(rng: np.random.Generator, visible: NDArray[np.bool_]) -> tuple[int, int, int]:
    """A template frame, an online-template frame within the gap on either side, a search frame
    after.

    The target is visible in all three; where nothing later is, the search frame is the template's.
    """
    frames = np.flatnonzero(visible)
    template = int(rng.choice(frames))
    near = frames[np.abs(frames - template) <= MAX_GAP_FRAMES]
    later = near[near > template]
    online = int(rng.choice(near))
    search = int(rng.choice(later)) if len(later) else template
    return template, online, search


def jittered_box(
    rng: np.random.Generator, box_xywh: NDArray[np.float64], jitter: Jitter
) -> NDArray[np.float64]:
    """What the tracker might hold for the box: another size, another centre."""
    size = box_xywh[2:] * np.exp(jitter.size_sigma * rng.normal(size=2))
    reach = np.sqrt(size.prod()) * jitter.centre
    centre = box_xywh[:2] + box_xywh[2:] / 2 + reach * (rng.random(2) - 0.5)
    return np.concatenate([centre - size / 2, size])


def box_in_crop(
    box_xywh: NDArray[np.float64], around_xywh: NDArray[np.float64], side_px: float, size_px: int
) -> NDArray[np.float64]:
    """Edges l, t, r, b of a box in the crop around another, in [0, 1]; clipped to the crop."""
    scale = size_px / side_px
    shift = (box_xywh[:2] + box_xywh[2:] / 2) - (around_xywh[:2] + around_xywh[2:] / 2)
    centre = (size_px - 1) / 2 + shift * scale
    half = box_xywh[2:] * scale / 2
    return np.clip(np.concatenate([centre - half, centre + half]) / size_px, 0, 1)
