"""Telling a caller which step of a conversion is under way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

_log = logging.getLogger("edge_tracker.converters")

#: Called with a step's text, its number from 0, and how many there are; again while it gets on.
OnStep = Callable[[str, int, int], None]


class Progress:
    def __init__(self, steps: Sequence[str], on_step: OnStep | None) -> None:
        self._steps = steps
        self._on_step = on_step
        self._number = -1

    def step(self) -> None:
        """The next step begins."""
        self._number += 1
        _log.info("%s", self._steps[self._number])
        self.detail("")

    def detail(self, words: str) -> None:
        """How far the step is."""
        if self._on_step is not None:
            text = self._steps[self._number] + (f": {words}" if words else "")
            self._on_step(text, self._number, len(self._steps))
