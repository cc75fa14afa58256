"""Looking for a target that has gone: in tiles around its last place, the nearest first."""

from __future__ import annotations

import math

import numpy as np

from edge_tracker.options import TrackerOptions
from edge_tracker.rules.boxes import Box
from edge_tracker.rules.crop import Image, crop_square, crop_window
from edge_tracker.rules.presence import PresenceFeatures
from edge_tracker.rules.presence_model import PresenceModel
from edge_tracker.tracker.engine import Engine
from edge_tracker.tracker.result import SearchWindow, TrackResult

#: Tiles of "local" have their middles within so many sides of a tile from the last place.
LOCAL_SIDES = 2.0
#: Neighbouring tiles are so many sides apart, so that each place is well inside one.
STEP_SIDES = 0.5


class Recovery:
    """Of one target, while it is gone: looked for with its initial template alone.

    last_place: its box when it was last found. Each frame looks there, and at the next of the other
    tiles, of which the first follows the last.
    """

    def __init__(
        self,
        engine: Engine,
        options: TrackerOptions,
        presence_model: PresenceModel,
        initial_template: Image,
        last_place: Box,
    ) -> None:
        self._engine, self._options = engine, options
        self._presence_model = presence_model
        self._last_place = last_place
        self._most = min(options.recovery_tiles, engine.most_targets or options.recovery_tiles)
        self._looked = 0
        self._frame_size_px = (0, 0)
        self._other_tiles: list[Box] = []
        self._rows = engine.reserve(self._most)
        engine.encode(initial_template, initial_template, self._rows[:1])()
        for row in range(1, self._most):
            engine.copy(self._rows[:1], self._rows[row : row + 1])

    def look(self, frame: Image, features: PresenceFeatures) -> tuple[TrackResult, bool]:
        """-> the best of what the tiles of a frame hold, not found yet, and whether it is likely
        the target. frame: (height, width, 3) uint8 BGR.
        """
        factor, margin_px = self._options.search_factor, self._options.clip_margin_px
        size_px = self._engine.bundle.spec.search_size_px
        tiles = [self._last_place, *self._next_tiles(frame)]
        regions = [crop_square(frame, tile, factor, size_px) for tile in tiles]
        crops = np.stack([crop for crop, _ in regions])
        outputs = self._engine.search(crops, self._rows[: len(tiles)])
        results = []
        for index, tile in enumerate(tiles):
            window, score = SearchWindow(tile, regions[index][1]), float(outputs["score"][index])
            box, edge_std_px = window.place(
                frame, outputs["edge_probs"][index], score, margin_px, self._engine.choice
            )
            presence = self._presence_model(
                features.measure_candidate(frame, box, score, edge_std_px)
            )
            results.append(TrackResult(box, score, False, edge_std_px, presence))
        best = max(results, key=_presence)
        return best, _presence(best) >= self._presence_model.regained_presence

    def close(self) -> None:
        """Give the engine's memory back."""
        self._engine.release(self._rows, self._most)

    def _next_tiles(self, frame: Image) -> list[Box]:
        height, width = frame.shape[:2]
        if (height, width) != self._frame_size_px:
            # Of a small target in a large frame they are many thousands.
            self._frame_size_px = (height, width)
            self._other_tiles = tiles_around(self._last_place, height, width, self._options)
        others = self._other_tiles
        count = min(self._most - 1, len(others))
        chosen = [others[(self._looked + i) % len(others)] for i in range(count)]
        self._looked += count
        return chosen


def tiles_around(place: Box, height: int, width: int, options: TrackerOptions) -> list[Box]:
    """Boxes of the size of `place`, one in the middle of each tile of a frame, but for that around
    `place` itself; the nearest first.
    """
    x, y, w, h = place
    step_px = STEP_SIDES * crop_window(place, options.search_factor).side_px
    tiles = []
    for row in _steps(y + h / 2, height, step_px):
        for column in _steps(x + w / 2, width, step_px):
            sides = STEP_SIDES * math.hypot(column, row)
            if sides and (options.recovery == "frame" or sides <= LOCAL_SIDES):
                tiles.append((sides, (x + column * step_px, y + row * step_px, w, h)))
    return [tile for _, tile in sorted(tiles)]


def _presence(result: TrackResult) -> float:
    return result.presence or 0.0


def _steps(start_px: float, length_px: int, step_px: float) -> range:
    """How many steps may be gone from a place, so that one stays inside the frame's length."""
    return range(-int(start_px // step_px), int((length_px - start_px) // step_px) + 1)
