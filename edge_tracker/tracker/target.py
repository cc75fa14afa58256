"""One target between two frames, and what a frame makes of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_tracker.backends.graph import Rows
from edge_tracker.options import TrackerOptions
from edge_tracker.rules.boxes import Box
from edge_tracker.rules.crop import Image, crop_square, crop_template
from edge_tracker.rules.online_template import OnlineTemplate
from edge_tracker.rules.presence import PresenceFeatures
from edge_tracker.rules.presence_model import PresenceModel
from edge_tracker.tracker.engine import Engine
from edge_tracker.tracker.recovery import Recovery
from edge_tracker.tracker.result import SearchWindow, TrackResult


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
        self._presence_model = engine.bundle.presence
        self._features = PresenceFeatures(frame, box)
        self._frames_below = 0
        self._recovery: Recovery | None = None
        #: Where it was last found; and where it was followed before something else was taken up,
        #: which the next frame has to confirm.
        self._last_place = box
        self._followed: TrackResult | None = None
        self._window = SearchWindow(box, 0.0)
        self._wait: Callable[[], None] | None = None
        engine.encode(self.initial_template, self.initial_template, row)()

    def crop(self, frame: Image) -> Image:
        """Where to look for it: (search_size_px, search_size_px, 3) uint8 BGR."""
        factor = self.options.search_factor
        if not self.found and self.options.lost_search_factor is not None:
            factor = self.options.lost_search_factor
        size_px = self.engine.bundle.spec.search_size_px
        search, side_px = crop_square(frame, self.box, factor, size_px)
        self._window = SearchWindow(self.box, side_px)
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
        margin_px, choice = self.options.clip_margin_px, self.engine.choice
        box, edge_std_px = self._window.place(frame, edge_probs, score, margin_px, choice)
        self.box = box
        presence = None
        if self._presence_model is None:
            self._judge_by_score(score)
        else:
            presence = self._presence_model(self._features.measure(frame, box, score, edge_std_px))
            self._judge_by_presence(presence, self._presence_model)
        result = TrackResult(box, score, self.found, edge_std_px, presence)
        return self._look_elsewhere(frame, result)

    def observe(self, frame: Image, score: float) -> bool:
        """Let the frame be a candidate for the online template; whether that has changed."""
        if self._followed is not None:
            score = 0.0
        return self.online_template.observe(score, lambda: self._crop_template(frame, self.box))

    def start_encoding(self, online: Image, row: Rows) -> None:
        """Let the template graph run while the caller waits for the next frame."""
        self._wait = self.engine.encode(self.initial_template, online, row)

    def close(self) -> None:
        """Give back the engine's memory."""
        if self._recovery is not None:
            self._recovery.close()
            self._recovery = None

    def _crop_template(self, frame: Image, box: Box) -> Image:
        return crop_template(frame, box, self.options, self.engine.bundle.spec.template_size_px)

    def _judge_by_presence(self, presence: float, model: PresenceModel) -> None:
        self.found = presence >= model.found_presence
        self._frames_below = 0 if self.found else self._frames_below + 1
        if self.found:
            self._last_place, self._followed = self.box, None
            self.close()
        elif self._is_to_be_searched_for():
            self._recovery = Recovery(
                self.engine,
                self.options,
                model,
                self.initial_template,
                self._last_place,
            )

    def _look_elsewhere(self, frame: Image, result: TrackResult) -> TrackResult:
        """While the target is lost it is followed as ever. What recovery comes upon is taken up if
        it is more likely, and counts as found once the next frame confirms it.
        """
        if self._recovery is None or result.presence is None:
            return result
        if self._followed is not None:
            followed, self._followed = self._followed, None
            self.box = followed.box
            self._features.move_to(self.box)
            return followed
        best, is_likely = self._recovery.look(frame, self._features)
        if not is_likely or best.presence is None or best.presence <= result.presence:
            return result
        self._followed, self.box = result, best.box
        self._features.move_to(best.box)
        return best

    def _is_to_be_searched_for(self) -> bool:
        is_gone = self._frames_below >= self.options.lost_frames
        return is_gone and self.options.recovery != "off" and self._recovery is None

    def _judge_by_score(self, score: float) -> None:
        """Lost after some frames of low score in a row, found again at the first high one."""
        self._frames_below = self._frames_below + 1 if score < self.options.lost_score else 0
        if self._frames_below >= self.options.lost_frames:
            self.found = False
        elif score >= self.options.found_score:
            self.found = True
