"""One target between two frames, and what a frame makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tracker.backends.graph import Rows
from edge_tracker.errors import EdgeTrackerError
from edge_tracker.options import TrackerOptions
from edge_tracker.rules.boxes import Box, box_from_edges, clip_box
from edge_tracker.rules.crop import Image, crop_square, crop_template
from edge_tracker.rules.decode import decode_edges
from edge_tracker.rules.online_template import OnlineTemplate
from edge_tracker.tracker.engine import Engine


@dataclass(frozen=True)
class TrackResult:
    """Where the target is in one frame.

    box: x, y, width, height in frame pixels, 0-based, x and y the top left corner; always a box,
        also when the target is lost (then the last guess).
    score: the network's confidence, a probability.
    found: False while the target counts as lost (see TrackerOptions.lost_score).
    edge_std_px: standard deviation of the left, top, right and bottom edge's distribution, in frame
        pixels.
    """

    box: Box
    score: float
    found: bool
    edge_std_px: tuple[float, float, float, float]


class Target:
    """What a tracker knows of one target. A frame is `crop`, a run of the search graph on it,
    `conclude` and `observe`, in this order.

    frame: (height, width, 3) uint8 BGR, not kept. box: in frame pixels, checked. row: of the
    engine's memory, this target's own.
    """

    def __init__(
        self, engine: Engine, options: TrackerOptions, frame: Image, box: Box, row: Rows
    ) -> None:
        self.engine, self.options = engine, options
        self.box = box
        self.found = True
        self.row = row
        self.initial_template = self._crop_template(frame, box)
        self.online_template = OnlineTemplate(
            self.initial_template, options.update_interval, options.update_score
        )
        self._frames_below = 0
        self._side_px = 0.0
        self._wait: Callable[[], None] | None = None
        engine.encode(self.initial_template, self.initial_template, row)()

    def crop(self, frame: Image) -> Image:
        """Where to look for it: (search_size_px, search_size_px, 3) uint8 BGR."""
        factor = self.options.search_factor
        if not self.found and self.options.lost_search_factor is not None:
            factor = self.options.lost_search_factor
        size_px = self.engine.bundle.spec.search_size_px
        search, self._side_px = crop_square(frame, self.box, factor, size_px)
        return search

    def collect(self) -> bool:
        """Wait for keys and values of new templates; whether there were any."""
        if self._wait is None:
            return False
        wait, self._wait = self._wait, None
        wait()
        return True

    def conclude(self, frame: Image, edge_probs: NDArray[np.float32], score: float) -> TrackResult:
        """What the search graph found, (4, bins) and a probability, as a box of the frame.

        Raises EdgeTrackerError if they are not finite numbers; the target then stays as it was.
        """
        edges = decode_edges(edge_probs)
        if not (np.isfinite(score) and np.isfinite(edges.mean).all()):
            choice = self.engine.choice
            raise EdgeTrackerError(
                f"the network returned score {score} and edges {edges.mean}, which are not finite "
                f"numbers: check the {choice.precision} artefact on {choice.backend}, or use "
                "another precision"
            )
        height, width = frame.shape[:2]
        box = box_from_edges(edges.mean, self.box, self._side_px)
        self.box = clip_box(box, height, width, self.options.clip_margin_px)
        self._judge(score)
        left, top, right, bottom = (float(std) * self._side_px for std in edges.std)
        return TrackResult(self.box, score, self.found, (left, top, right, bottom))

    def observe(self, frame: Image, score: float) -> bool:
        """Let the frame be a candidate for the online template; whether that has changed."""
        return self.online_template.observe(score, lambda: self._crop_template(frame, self.box))

    def start_encoding(self, online: Image, row: Rows) -> None:
        """Let the template graph run while the caller waits for the next frame."""
        self._wait = self.engine.encode(self.initial_template, online, row)

    def _crop_template(self, frame: Image, box: Box) -> Image:
        return crop_template(frame, box, self.options, self.engine.bundle.spec.template_size_px)

    def _judge(self, score: float) -> None:
        """Lost after some frames of low score in a row, found again at the first high one."""
        self._frames_below = self._frames_below + 1 if score < self.options.lost_score else 0
        if self._frames_below >= self.options.lost_frames:
            self.found = False
        elif score >= self.options.found_score:
            self.found = True
