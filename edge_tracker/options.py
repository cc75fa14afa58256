"""What a caller gives: choices about tracking, apart from facts of the network; whom to tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: Told how much is done, of how much (None: nobody knows), and in a few words what is under way.
OnProgress = Callable[[int, int | None, str], None]


def tell_nobody(done: int, total: int | None, words: str) -> None:
    """An OnProgress of a caller who does not listen."""


@dataclass(frozen=True)
class TrackerOptions:
    """How to track. The defaults give the official tracker's trajectory.

    template_factor, search_factor: side of the square crop over sqrt(box area).
    update_interval: frames between changes of the online template (official presets: video demo 25,
        LaSOT 200, TrackingNet 25, GOT-10k 10 to 15, VOT 10); 0 keeps the initial template for ever.
    update_score: a frame must score above this for its crop to become the online template.
    clip_margin_px: at least so much of the box stays inside the frame.
    lost_score, lost_frames: after so many frames in a row with a score under `lost_score` the
        target counts as lost (`TrackResult.found` is False) ...
    found_score: ... until a frame scores at least this.
    lost_search_factor: search factor while lost, to look further around; None keeps
        `search_factor`, as the official tracker does.

    Raises ValueError for a number out of range, TypeError for a count that is not whole.
    """

    template_factor: float = 2.0
    search_factor: float = 4.5
    update_interval: int = 25
    update_score: float = 0.5
    clip_margin_px: int = 10
    lost_score: float = 0.3
    lost_frames: int = 5
    found_score: float = 0.5
    lost_search_factor: float | None = None

    def __post_init__(self) -> None:
        factors = [self.template_factor, self.search_factor]
        if self.lost_search_factor is not None:
            factors.append(self.lost_search_factor)
        for factor in factors:
            if not 1.0 <= factor <= 20.0:
                raise ValueError(f"crop factor {factor!r:.40} is out of range: expected 1 to 20")
        for name in ("update_score", "lost_score", "found_score"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}: expected a probability, 0 to 1")
        if self.lost_score > self.found_score:
            raise ValueError(
                f"lost_score {self.lost_score} is above found_score {self.found_score}: "
                "the target would be lost and found by the same score"
            )
        for name in ("update_interval", "lost_frames", "clip_margin_px"):
            if type(getattr(self, name)) is not int:
                raise TypeError(f"{name} is {getattr(self, name)!r}: expected a whole number")
        counts_fit = 0 <= self.update_interval < 2**53 and 1 <= self.lost_frames < 2**53
        if not counts_fit or not 1 <= self.clip_margin_px <= 16:
            raise ValueError(
                f"update_interval {self.update_interval!r:.20} must be at least 0, lost_frames "
                f"{self.lost_frames!r:.20} at least 1, clip_margin_px {self.clip_margin_px} 1 to 16"
            )
