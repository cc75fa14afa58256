"""Which crop serves as the online template, decided as the official tracker does."""

from __future__ import annotations

from collections.abc import Callable

from edge_tracker.rules.crop import Image


class OnlineTemplate:
    """Memory of the best crop in the current interval of frames.

    At the end of each interval the best crop that scored above the threshold becomes the online
    template; if there was none, the initial template returns.
    """

    def __init__(self, initial: Image, interval: int, threshold: float) -> None:
        self.current = initial
        self._initial = initial
        self._interval = interval
        self._threshold = threshold
        self._start_interval()

    def _start_interval(self) -> None:
        self._frames = 0
        self._best = self._initial
        self._best_score = self._threshold

    @property
    def best(self) -> Image:
        """The crop that becomes the online template if no later frame of the interval is better."""
        return self._best

    @property
    def frames_left(self) -> int:
        """Of this interval; 0 where templates never change."""
        return self._interval - self._frames

    def observe(self, score: float, crop: Callable[[], Image]) -> bool:
        """Count one frame, cropping it only if it is the best so far; True if `current` changed."""
        if self._interval == 0:
            return False
        self._frames += 1
        if score > self._best_score:
            self._best, self._best_score = crop(), score
        if self._frames < self._interval:
            return False
        changed = self._best is not self.current
        self.current = self._best
        self._start_interval()
        return changed
