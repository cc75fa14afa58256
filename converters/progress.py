"""Telling a caller which step of a conversion is under way."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from edge_tracker.options import OnProgress

_log = logging.getLogger("edge_tracker.converters")


class Progress:
    """The steps of one conversion. `on_progress` is told the number of each from 0, how many there
    are and its text; again while it gets on.
    """

    def __init__(self, steps: Sequence[str], on_progress: OnProgress) -> None:
        self._steps = steps
        self._on_progress = on_progress
        self._number = -1

    def step(self) -> None:
        """The next step begins."""
        self._number += 1
        _log.info("%s", self._steps[self._number])
        self.detail("")

    def detail(self, words: str) -> None:
        """How far the step is."""
        text = self._steps[self._number] + (f": {words}" if words else "")
        self._on_progress(self._number, len(self._steps), text)
