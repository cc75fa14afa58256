"""The numbers by which a bundle tells whether the target is to be seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: What `presence.PresenceFeatures` measures in a frame. log_odds: of the network's score.
#: log_odds_mean: its mean over the frames so far, each weighing half as much as the next.
#: edge_spread: largest standard deviation of an edge, in widths or heights of the box; logarithm.
#: jump: of the centre since the frame before, in sides of the box, sqrt(area); logarithm.
#: scale_jump: of the area; logarithm of the logarithm. similarity: normalised cross-correlation
#: with the target as it was given. colours: Bhattacharyya coefficient of both colour histograms.
FEATURES = (
    "log_odds",
    "log_odds_mean",
    "edge_spread",
    "jump",
    "scale_jump",
    "similarity",
    "colours",
)


@dataclass(frozen=True)
class PresenceModel:
    """A logistic regression; made by `python -m distillation.presence`.

    weights: of FEATURES, in their order. found_presence: from this on the target counts as found.
    false_alarms: share of the found frames that this called lost where the numbers were fitted.
    regained_presence: from this on recovery takes up what it has come upon.

    Raises ValueError for numbers out of range.
    """

    intercept: float
    weights: tuple[float, ...]
    found_presence: float
    false_alarms: float
    regained_presence: float

    def __post_init__(self) -> None:
        if len(self.weights) != len(FEATURES):
            raise ValueError(
                f"presence has {len(self.weights)} weights: expected those of {', '.join(FEATURES)}"
            )
        for number in (self.intercept, *self.weights):
            if not abs(number) <= 1e6:
                raise ValueError(f"presence has the number {number}: expected -1e6 to 1e6")
        for name in ("found_presence", "false_alarms", "regained_presence"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}: expected 0 to 1")

    def __call__(self, features: Sequence[float]) -> float:
        """Values of FEATURES -> probability that the box overlaps the target by more than half."""
        products = (weight * value for weight, value in zip(self.weights, features, strict=True))
        log_odds = min(max(self.intercept + sum(products), -500.0), 500.0)
        return 1 / (1 + math.exp(-log_odds))
