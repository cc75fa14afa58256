"""Training samples from real tracks: crops of three frames, varied as a camera and a tracker vary
them.

Another track's object may be pasted beside the target or over a part of it. Where the target is to
be absent, the crop is of another track, of another place in the frame, or the target is hidden
under something else: what the score has to tell from found.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from distillation.data import drawing
from distillation.data.drawing import Pixels
from distillation.data.sample import TEMPLATE_FACTOR, Sample
from distillation.data.tracks import DecodedFrames, Track
from distillation.recipes.recipe import Jitter

Vector = NDArray[np.float64]

#: Shares of the samples: another object beside the target, and over a part of it.
BESIDE_FRACTION = 0.3
COVER_FRACTION = 0.12
#: Of the samples without target: the crop of another track, of another place in the frame.
ANOTHER_TRACK, ANOTHER_PLACE = 0.35, 0.35
#: One draw of a search frame in so many is from anywhere in the track, not near the template.
MAX_STRETCH = 0.1


class TrackSamples:
    """Sample number i of an endless, reproducible series: the same i is always the same sample."""

    def __init__(
        self,
        tracks: list[Track],
        *,
        template_size_px: int,
        search_size_px: int,
        jitter: Jitter,
        absent_fraction: float,
        seed: int,
    ) -> None:
        self.tracks = tracks
        weights = np.array([_group_share(track, tracks) for track in tracks])
        self._chances = np.cumsum(weights) / weights.sum()
        self.template_size_px, self.search_size_px = template_size_px, search_size_px
        self.jitter, self.absent_fraction, self.seed = jitter, absent_fraction, seed
        self._frames = DecodedFrames()

    def render(self, index: int) -> Sample:
        rng = np.random.default_rng((self.seed, index))
        track = self._draw(rng)
        frames = rng.choice(np.flatnonzero(track.visible), 3)
        template_at, online_at, search_at = (int(frame) for frame in frames)
        # Applied to all three alike: the box stays the object's box.
        stretch = float(np.exp(rng.uniform(-MAX_STRETCH, MAX_STRETCH)))
        mirrored = bool(rng.random() < 0.5)
        look = drawing.draw_look(rng)
        change = float(rng.random() ** 1.5)

        template = self._template(track, template_at, stretch, np.zeros(2), 1.0)
        online = template
        if rng.random() < 0.75:
            error = min(rng.exponential(), 3.0)
            off = rng.normal(0, 0.1 * error, 2)
            online = self._template(
                track, online_at, stretch, off, float(np.exp(rng.normal(0, 0.12 * error)))
            )
        present = bool(rng.random() >= self.absent_fraction)
        search, edges = self._search(rng, track, search_at, stretch, present)
        views = [
            view.framed(drawing.expose(rng, view.pixels, look, change, blur_px))
            for view, blur_px in (
                (template, 0.0),
                (online, self.template_size_px / TEMPLATE_FACTOR),
                (search, self.search_size_px / self.jitter.search_factor),
            )
        ]
        if mirrored:
            views = [np.ascontiguousarray(view[:, ::-1]) for view in views]
            edges = np.array([1 - edges[2], edges[1], 1 - edges[0], edges[3]])
        if not present:
            edges = np.zeros(4)
        return Sample(views[0], views[1], views[2], edges.astype(np.float32), present)

    def _draw(self, rng: np.random.Generator) -> Track:
        return self.tracks[int(np.searchsorted(self._chances, rng.random(), side="right"))]

    def _template(self, track: Track, frame: int, stretch: float, off: Vector, grown: float) -> Cut:
        centre, size = _centre_and_size(track.boxes_xywh[frame])
        side = np.sqrt(size.prod())
        image = self._frames.read(track, frame)
        return cut(
            image,
            centre + off * side,
            TEMPLATE_FACTOR * side * grown,
            stretch,
            self.template_size_px,
        )

    def _search(
        self, rng: np.random.Generator, track: Track, frame: int, stretch: float, present: bool
    ) -> tuple[Cut, Vector]:
        """-> the crop and the target's edges in it, in [0, 1]; meaningless if not `present`."""
        how = rng.random()
        if not present and how < ANOTHER_TRACK and len(self.tracks) > 1:
            other = track
            while other is track:
                other = self._draw(rng)
            track, frame = other, int(rng.choice(np.flatnonzero(other.visible)))
        image = self._frames.read(track, frame)
        centre, size = _centre_and_size(track.boxes_xywh[frame])
        root = float(np.sqrt(size.prod()))
        spread = self.jitter.size_sigma * (1.0 if rng.random() < 0.5 else 0.4)
        side = self.jitter.search_factor * root * float(np.exp(rng.normal(0, spread)))
        reach = self.jitter.centre if rng.random() < 0.7 else 0.35 * self.jitter.centre
        looked_at = centre + rng.uniform(-0.5, 0.5, 2) * reach * root
        hidden = not present and how >= ANOTHER_TRACK
        if hidden and how < ANOTHER_TRACK + ANOTHER_PLACE:
            away = _place_without(rng, image, centre, size, side)
            if away is not None:
                looked_at, hidden = away, False
        px = self.search_size_px
        view = cut(image, looked_at, side, stretch, px)
        crop = view.pixels
        scale = px / side
        middle = px / 2 + (centre - looked_at) * scale * _stretched(stretch)
        half = size * scale * _stretched(stretch) / 2
        box = np.concatenate([middle - half, middle + half])
        if hidden:
            crop = self._paste_other(rng, track, crop, middle, 2.3 * half)
        elif rng.random() < COVER_FRACTION and present:
            crop = self._cover(rng, track, crop, middle, half)
        if rng.random() < BESIDE_FRACTION:
            angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(1.2, 2.2)
            place = middle + np.array([np.cos(angle), np.sin(angle)]) * far * 2 * half
            crop = self._paste_other(rng, track, crop, place, 2 * half * np.exp(rng.normal(0, 0.2)))
        return view._replace(pixels=crop), np.clip(box / px, 0, 1)

    def _cover(
        self, rng: np.random.Generator, track: Track, crop: Pixels, middle: Vector, half: Vector
    ) -> Pixels:
        """Something over a part of the target: from one side, never all of it."""
        size = 2 * half * rng.uniform(0.5, 1.0, 2)
        direction = rng.normal(size=2)
        direction /= np.abs(direction).max()
        return self._paste_other(rng, track, crop, middle + direction * half, size)

    def _paste_other(
        self, rng: np.random.Generator, track: Track, crop: Pixels, middle: Vector, size: Vector
    ) -> Pixels:
        """Another object, with a soft border, over `size` pixels around a place of the crop."""
        other = self._draw(rng)
        if other is track and rng.random() < 0.8:
            other = self._draw(rng)
        frame = int(rng.choice(np.flatnonzero(other.visible)))
        (x, y), (w, h) = (middle - size / 2), size
        source = other.boxes_xywh[frame]
        matrix = np.array(
            [[w / source[2], 0, x - source[0] * w / source[2]],
             [0, h / source[3], y - source[1] * h / source[3]]]
        )  # fmt: skip
        px = crop.shape[0]
        patch = cv2.warpAffine(self._frames.read(other, frame), matrix, (px, px))
        outline = drawing.random_blob(rng, 256) if rng.random() < 0.5 else _ROUNDED
        alpha = np.zeros((px, px), np.float32)
        points = np.round((outline / 256 * size + (x, y)) * 16).astype(np.int32)
        cv2.fillPoly(alpha, [points], 1.0, shift=4)
        alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), 1.0), np.float32)
        return drawing.paste(crop, drawing.as_pixels(patch), alpha)


class Cut(NamedTuple):
    """A square of a frame, and where the frame lies in it: x0, y0, x1, y1 px, beyond is black."""

    pixels: Pixels
    frame_xyxy: NDArray[np.int64]

    def framed(self, pixels: Pixels) -> Pixels:
        """What became of the pixels, black again beyond the frame."""
        x0, y0, x1, y1 = self.frame_xyxy
        framed = np.zeros_like(pixels)
        framed[y0:y1, x0:x1] = pixels[y0:y1, x0:x1]
        return framed


def cut(image: Pixels, centre_xy: Vector, side_px: float, stretch: float, size_px: int) -> Cut:
    """The square of that side around a place; its content is `stretch` times as wide as it was."""
    scale = size_px / side_px * _stretched(stretch)
    # Pixel centres: the crop's middle, (size - 1) / 2, is where the place goes.
    shift = (size_px - 1) / 2 - (centre_xy - 0.5) * scale
    matrix = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
    pixels = drawing.as_pixels(cv2.warpAffine(image, matrix, (size_px, size_px)))
    height, width = image.shape[:2]
    ends = np.concatenate([shift, shift + scale * (width - 1, height - 1)])
    frame = np.clip(np.round(ends + np.array([0, 0, 1, 1])), 0, size_px).astype(np.int64)
    return Cut(pixels, frame)


_ROUNDED = np.array(
    [[128 + 126 * np.sign(c) * abs(c) ** 0.5, 128 + 126 * np.sign(s) * abs(s) ** 0.5]
     for c, s in ((np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 40, endpoint=False))],
    np.float32,
)  # fmt: skip


def _stretched(stretch: float) -> Vector:
    return np.array([np.sqrt(stretch), 1 / np.sqrt(stretch)])


def _centre_and_size(box_xywh: Vector) -> tuple[Vector, Vector]:
    return box_xywh[:2] + box_xywh[2:] / 2, box_xywh[2:]


def _place_without(
    rng: np.random.Generator, image: Pixels, centre: Vector, size: Vector, side: float
) -> Vector | None:
    """Somewhere in the frame from where the crop does not reach the target; None if rare."""
    height, width = image.shape[:2]
    for _ in range(4):
        place = rng.random(2) * (width, height)
        if (np.abs(place - centre) > side / 2 * 1.12 + size / 2).any():
            return place
    return None


def _group_share(track: Track, tracks: list[Track]) -> float:
    return track.weight / sum(other.group == track.group for other in tracks)
