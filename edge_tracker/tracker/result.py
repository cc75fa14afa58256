"""What a tracker says of one target in one frame, and how it comes from the search graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tracker.backends.graph import BackendChoice
from edge_tracker.errors import EdgeTrackerError
from edge_tracker.rules.boxes import Box, box_from_edges, clip_box
from edge_tracker.rules.crop import Image
from edge_tracker.rules.decode import decode_edges
from edge_tracker.rules.presence import EdgeStd


@dataclass(frozen=True)
class TrackResult:
    """Where the target is in one frame.

    box: x, y, width, height in frame pixels, 0-based, x and y the top left corner; always a box,
        also when the target is lost (then the last guess).
    score: the network's confidence, a probability.
    found: False while the target counts as lost: in frames of low presence where the bundle tells
        it, else by the score alone (see TrackerOptions.lost_score).
    edge_std_px: standard deviation of the left, top, right and bottom edge's distribution, in frame
        pixels.
    presence: probability that the box overlaps the target by more than half, told by the score and
        by what else the frame shows; None where the bundle has no numbers for it.
    """

    box: Box
    score: float
    found: bool
    edge_std_px: EdgeStd
    presence: float | None = None


@dataclass(frozen=True)
class SearchWindow:
    """A search region: its square of the frame has this side and the middle of this box."""

    around: Box
    side_px: float

    def place(
        self,
        frame: Image,
        edge_probs: NDArray[np.float32],
        score: float,
        clip_margin_px: int,
        choice: BackendChoice,
    ) -> tuple[Box, EdgeStd]:
        """What the search graph found in it, (4, bins) and a probability, as a box of the frame,
        and the standard deviations of its edges.

        choice: of the backend, for the message. Raises EdgeTrackerError if they are not finite
        numbers.
        """
        edges = decode_edges(edge_probs)
        if not (np.isfinite(score) and np.isfinite(edges.mean).all()):
            raise EdgeTrackerError(
                f"the network returned score {score} and edges {edges.mean}, which are not finite "
                f"numbers: check the {choice.precision} artefact on {choice.backend}, or use "
                "another precision"
            )
        height, width = frame.shape[:2]
        box = box_from_edges(edges.mean, self.around, self.side_px)
        left, top, right, bottom = (float(std) * self.side_px for std in edges.std)
        return clip_box(box, height, width, clip_margin_px), (left, top, right, bottom)
