"""MultiTracker: several targets, which come and go, in one run of the search graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from edge_tracker.bundle.opening import Bundle
from edge_tracker.errors import NotInitialised
from edge_tracker.options import TrackerOptions, checked_list, refuse_list
from edge_tracker.rules.boxes import checked_box
from edge_tracker.rules.crop import Image
from edge_tracker.rules.frame import as_bgr
from edge_tracker.tracker.engine import Engine
from edge_tracker.tracker.result import TrackResult
from edge_tracker.tracker.single import checked_options
from edge_tracker.tracker.target import Target

#: Rows of memory that are reserved at first; doubled when they are full.
FIRST_ROWS = 8


@dataclass
class _Tracked:
    """A target, its number, and the template whose keys and values are in its second row."""

    name: int
    target: Target
    ahead: Image | None = None


class MultiTracker:
    """Tracks several targets with one converted network.

        with Engine("bundle") as engine, MultiTracker(engine) as tracker:
            ids = [tracker.add(frame, box) for box in boxes]
            results = tracker.update(next_frame)  # {id: TrackResult}

    Each target is tracked as an EdgeTracker of its own would track it; nothing keeps two of them
    from settling on one object. Targets added together would change their online templates in the
    same frame: one frame before each encodes the likely template of one of them, so that few are
    left to encode then.

    engine: an Engine, or what that takes; whoever opened it closes it.
    options: how to track each; by default what the bundle says.

    Not safe for use from several threads at once; trackers on one engine are, each in its thread.
    Raises BundleError, BackendUnavailable, ValueError, TypeError.
    """

    def __init__(
        self, engine: Engine | str | Path | Bundle, *, options: TrackerOptions | None = None
    ) -> None:
        checked = checked_options(options)
        self._owned = ExitStack()
        if not isinstance(engine, Engine):
            engine = self._owned.enter_context(Engine(engine))
        self.engine = engine
        self.options = engine.bundle.tracker_defaults if checked is None else checked
        #: In the order of their rows, which are side by side from the first.
        self._tracked: list[_Tracked] = []
        self._next_name = 1
        self._capacity = FIRST_ROWS
        self._rows, self._ahead_rows = (self.engine.reserve(FIRST_ROWS) for _ in range(2))
        self._closed = False

    @property
    def ids(self) -> tuple[int, ...]:
        """Of the targets there are, in the order in which they were added."""
        return tuple(sorted(tracked.name for tracked in self._tracked))

    def add(self, frame: Image, box: Sequence[float]) -> int:
        """Start on one more target; returns its id, which is never used twice.

        frame, box: as for EdgeTracker.init, and so is what is raised.
        """
        self._refuse_closed()
        frame = as_bgr(frame)
        box_frame_xywh = checked_box(box, frame.shape[0], frame.shape[1])
        place = len(self._tracked)
        if place == self._capacity:
            self._grow()
        row = self._rows[place : place + 1]
        target = Target(self.engine, self.options, frame, box_frame_xywh, row)
        self._tracked.append(_Tracked(self._next_name, target))
        self._next_name += 1
        return self._tracked[-1].name

    def remove(self, name: int) -> None:
        """Forget a target; the others go on as they were. Raises KeyError for an id that is not
        there.
        """
        self._refuse_closed()
        place = self._place(name)
        self._collect()
        self._tracked[place].target.close()
        last = self._tracked.pop()
        if last.name != name:
            # It moves into the gap, so that the rows in use stay side by side.
            row = self._rows[place : place + 1]
            self.engine.copy(last.target.row, row)
            last.target.row, last.ahead = row, None
            self._tracked[place] = last

    def update(self, frame: Image) -> dict[int, TrackResult]:
        """Find every target in the next frame: id -> where it is.

        frame: as for EdgeTracker.update, and so is what is raised.
        """
        return self.update_many([(frame, self.ids)])

    def update_many(self, frames: Iterable[tuple[Image, Iterable[int]]]) -> dict[int, TrackResult]:
        """Find targets in the next frames of several cameras: pairs of a frame and the ids of the
        targets in it. Targets that are not named stay as they are.

        Raises KeyError for an id that is not there, ValueError for one that is named twice,
        TypeError for what is not pairs, and what EdgeTracker.update does.
        """
        self._refuse_closed()
        frame_of: dict[int, Image] = {}
        for frame, names in _pairs(frames):
            bgr = as_bgr(frame)
            for name in names:
                place = self._place(name)
                if place in frame_of:
                    raise ValueError(f"target {name} is named twice: it is in one frame at a time")
                frame_of[place] = bgr
        self._collect()
        results: dict[int, TrackResult] = {}
        for first, last in _spans(sorted(frame_of), self.engine.most_targets):
            places = range(first, last)
            crops = [self._tracked[place].target.crop(frame_of[place]) for place in places]
            outputs = self.engine.search(np.stack(crops), self._rows[first:last])
            for place, edge_probs, score in zip(
                places, outputs["edge_probs"], outputs["score"], strict=True
            ):
                tracked = self._tracked[place]
                results[place] = tracked.target.conclude(frame_of[place], edge_probs, float(score))
        encoding = [
            self._use_online_template(place)
            for place, result in results.items()
            if self._tracked[place].target.observe(frame_of[place], result.score)
        ]
        if not any(encoding):
            self._encode_one_ahead()
        return {self._tracked[place].name: results[place] for place in frame_of}

    def close(self) -> None:
        """Free the backend, unless others use it. Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        self._collect()
        for tracked in self._tracked:
            tracked.target.close()
        self._tracked.clear()
        self._release()
        self._owned.close()

    def __enter__(self) -> MultiTracker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise NotInitialised("this tracker was closed: make a new MultiTracker")

    def _place(self, name: int) -> int:
        is_number = isinstance(name, int | np.integer) and not isinstance(name, bool)
        for place, tracked in enumerate(self._tracked):
            if is_number and tracked.name == name:
                return place
        raise KeyError(f"target {name} is not there: the ids are {self.ids}")

    def _collect(self) -> None:
        for tracked in self._tracked:
            tracked.target.collect()

    def _use_online_template(self, place: int) -> bool:
        """The template of a target has changed; whether the template graph had to be started."""
        tracked = self._tracked[place]
        target = tracked.target
        if tracked.ahead is target.online_template.current:
            self.engine.copy(self._ahead_rows[place : place + 1], target.row)
            return False
        target.start_encoding(target.online_template.current, target.row)
        return True

    def _encode_one_ahead(self) -> None:
        """Of the targets whose interval ends soon, start on the likely template of the next."""
        soon = []
        for place, tracked in enumerate(self._tracked):
            online = tracked.target.online_template
            is_soon = 0 < online.frames_left <= len(self._tracked)
            if is_soon and online.best is not tracked.ahead and online.best is not online.current:
                soon.append((online.frames_left, place))
        if soon:
            _, place = min(soon)
            tracked = self._tracked[place]
            tracked.ahead = tracked.target.online_template.best
            tracked.target.start_encoding(tracked.ahead, self._ahead_rows[place : place + 1])

    def _grow(self) -> None:
        """Twice the rows."""
        self._collect()
        capacity = 2 * self._capacity
        rows, ahead_rows = (self.engine.reserve(capacity) for _ in range(2))
        count = len(self._tracked)
        self.engine.copy(self._rows[:count], rows[:count])
        self.engine.copy(self._ahead_rows[:count], ahead_rows[:count])
        # Not before: another tracker on this engine may reserve them at once.
        self._release()
        self._rows, self._ahead_rows, self._capacity = rows, ahead_rows, capacity
        for place, tracked in enumerate(self._tracked):
            tracked.target.row = self._rows[place : place + 1]

    def _release(self) -> None:
        for rows in (self._rows, self._ahead_rows):
            self.engine.release(rows, self._capacity)


def _pairs(frames: object) -> Iterator[tuple[Image, Iterable[int]]]:
    example = "[(frame, ids)]"
    for pair in checked_list("frames", frames, example):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            refuse_list("frames", frames, example)
        yield pair[0], checked_list("ids", pair[1], "[1, 2]")


def _spans(places: Sequence[int], most: int | None) -> Iterator[tuple[int, int]]:
    """Neighbouring places, in rising order, as spans (first, end) of at most `most`."""
    first = 0
    for index in range(1, len(places) + 1):
        ends = index == len(places) or places[index] != places[index - 1] + 1
        if ends or index - first == most:
            yield places[first], places[index - 1] + 1
            first = index
