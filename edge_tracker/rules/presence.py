"""What a frame tells, besides the network's score, of whether the target is to be seen."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_tracker.rules.boxes import Box
from edge_tracker.rules.crop import Image, crop_square

#: Of the left, top, right and bottom edge, in pixels.
EdgeStd = tuple[float, float, float, float]
#: Side of the picture of the target that similarity and colours compare.
LOOK_PX = 16
#: Steps of each colour channel in a histogram.
COLOUR_STEPS = 6


class PresenceFeatures:
    """Of one target, from the frame and box where it was given; frames are (height, width, 3) uint8
    BGR and not kept.
    """

    def __init__(self, frame: Image, box: Box) -> None:
        first = _look(frame, box)
        self._first, self._first_colours = _centred(first), _colours(first)
        self._before = box
        self._log_odds_mean: float | None = None

    def measure(
        self, frame: Image, box: Box, score: float, edge_std_px: EdgeStd
    ) -> tuple[float, ...]:
        """`presence_model.FEATURES` of the next frame, in which the target was placed at a box."""
        features = self._features(frame, box, score, edge_std_px, self._before, self._log_odds_mean)
        self._before, self._log_odds_mean = box, features[1]
        return features

    def measure_candidate(
        self, frame: Image, box: Box, score: float, edge_std_px: EdgeStd
    ) -> tuple[float, ...]:
        """As `measure`, of a place where the target may have come back, as if it had been there in
        the frame before, of the size that it had when it was last placed. Changes nothing.
        """
        _, _, w, h = self._before
        middle = box[0] + box[2] / 2, box[1] + box[3] / 2
        before = (middle[0] - w / 2, middle[1] - h / 2, w, h)
        return self._features(frame, box, score, edge_std_px, before, None)

    def move_to(self, box: Box) -> None:
        """Take the target to have been there in the last frame."""
        self._before, self._log_odds_mean = box, None

    def _features(
        self,
        frame: Image,
        box: Box,
        score: float,
        edge_std_px: EdgeStd,
        before: Box,
        log_odds_mean: float | None,
    ) -> tuple[float, ...]:
        score = min(max(score, 1e-6), 1 - 1e-6)
        log_odds = math.log(score / (1 - score))
        mean = log_odds if log_odds_mean is None else (log_odds_mean + log_odds) / 2
        left, top, right, bottom = edge_std_px
        spread = max(max(left, right) / box[2], max(top, bottom) / box[3])
        now = _look(frame, box)
        return (
            log_odds,
            mean,
            math.log(spread + 1e-3),
            *_motion(before, box),
            _similarity(_centred(now), self._first),
            float(np.sqrt(_colours(now) * self._first_colours).sum()),
        )


def _look(frame: Image, box: Box) -> Image:
    return crop_square(frame, box, 1.0, LOOK_PX)[0]


def _motion(before: Box, now: Box) -> tuple[float, float]:
    (x0, y0, w0, h0), (x, y, w, h) = before, now
    way = math.hypot(x + w / 2 - x0 - w0 / 2, y + h / 2 - y0 - h0 / 2) / math.sqrt(w0 * h0)
    return math.log(way + 0.01), math.log(abs(math.log(w * h / (w0 * h0))) + 0.01)


def _centred(image: Image) -> NDArray[np.float64]:
    """Each channel without its mean."""
    pixels = image.astype(float)
    centred: NDArray[np.float64] = pixels - pixels.mean(axis=(0, 1))
    return centred


def _similarity(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Cross-correlation of what is centred, -1 to 1."""
    return float((a * b).sum() / math.sqrt((a**2).sum() * (b**2).sum() + 1e-9))


def _colours(image: Image) -> NDArray[np.float64]:
    """Shares of COLOUR_STEPS cubed colours."""
    steps = image.astype(int) * COLOUR_STEPS // 256
    places = steps @ np.array([COLOUR_STEPS**2, COLOUR_STEPS, 1])
    counts = np.bincount(places.ravel(), minlength=COLOUR_STEPS**3)
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares
