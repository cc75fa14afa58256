"""What a caller gives: choices about tracking, apart from facts of the network; whom to tell; and
checks of both and of other arguments.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NoReturn

#: The largest whole number that JSON's readers agree on.
MOST = 2**53 - 1
#: Told how much is done, of how much (None: nobody knows), and in a few words what is under way.
OnProgress = Callable[[int, int | None, str], None]

#: The least and the most of a side of frames that are rendered to measure with.
RENDERED_SIDES_PX = (64, 16384)

RECOVERIES = ("off", "local", "frame")
MOST_TILES = 64


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
    found_score: ... until a frame scores at least this. Of a bundle that tells presence, as the
        shipped one does, `found` follows from that instead: `lost_score` and `found_score` are not
        looked at.
    lost_search_factor: search factor while lost, to look further around; None keeps
        `search_factor`, as the official tracker does.
    recovery: where to look for a target that has been lost for `lost_frames` frames, besides where
        it is taken to be: "off", nowhere, as the official tracker; "local", around the place where
        it was last found; "frame", in the whole frame. Bundles that do not tell presence keep to
        "off".
    recovery_tiles: at most so many search regions in each of these frames.

    Raises ValueError for a number out of range, TypeError for what is not a number or a count that
    is not whole.
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
    recovery: str = "off"
    recovery_tiles: int = 4

    def __post_init__(self) -> None:
        for name in ("template_factor", "search_factor", "lost_search_factor"):
            if name != "lost_search_factor" or self.lost_search_factor is not None:
                self._set(name, checked_number(name, getattr(self, name), 1, 20))
        for name in ("update_score", "lost_score", "found_score"):
            self._set(name, checked_number(name, getattr(self, name), 0, 1))
        if self.lost_score > self.found_score:
            raise ValueError(
                f"lost_score {self.lost_score} is above found_score {self.found_score}: "
                "the target would be lost and found by the same score"
            )
        checked_name("recovery", self.recovery, RECOVERIES)
        counts = {
            "update_interval": (0, MOST),
            "lost_frames": (1, MOST),
            "clip_margin_px": (1, 16),
            "recovery_tiles": (1, MOST_TILES),
        }
        for name, (least, most) in counts.items():
            self._set(name, checked_whole(name, getattr(self, name), least, most))

    def _set(self, name: str, value: float) -> None:
        """As Python's own number, which JSON takes, where it was NumPy's."""
        object.__setattr__(self, name, value)


# Where something is given: TypeError and ValueError name the argument and its value.


def checked_path(name: str, given: object) -> Path:
    """Of text or anything with a path in text."""
    try:
        path = os.fspath(given)  # type: ignore[call-overload]
    except TypeError:
        path = None
    if not isinstance(path, str):
        raise TypeError(f"{name} is {given!r:.60}: expected a path")
    return Path(path)


def checked_whole(name: str, given: object, least: int, most: int | None = None) -> int:
    """Of any whole number, NumPy's among them; True and False are not numbers here."""
    # NumPy's True is an index for NumPy 1.
    if isinstance(given, bool) or not isinstance(given, Integral):
        raise TypeError(f"{name} is {given!r:.60}: expected a whole number")
    whole = int(given)
    if whole < least or (most is not None and whole > most):
        limits = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"{name} is {whole!r:.60}: expected {limits}")
    return whole


def checked_number(name: str, given: object, least: float, most: float) -> float:
    """Of any real number within limits, NumPy's among them."""
    number = real(name, given)
    if not least <= number <= most:
        raise ValueError(f"{name} is {given!r:.60}: expected {least:g} to {most:g}")
    return number


def checked_positive(name: str, given: object) -> float:
    """Of any finite number above 0."""
    number = real(name, given)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} is {given!r:.60}: expected a number above 0")
    return number


def real(name: str, given: object) -> float:
    """Of any real number; what is too large for a float is infinite."""
    if isinstance(given, bool) or not isinstance(given, Real):
        raise TypeError(f"{name} is {given!r:.60}: expected a number")
    try:
        return float(given)
    except OverflowError:
        return math.inf


def checked_name(name: str, given: object, known: Collection[str]) -> str:
    """One of the names that are known."""
    if not isinstance(given, str) or given not in known:
        raise ValueError(f"{name} {given!r:.60} is unknown: choose {', '.join(known)}")
    return given


def checked_list(name: str, given: object, example: str) -> tuple[Any, ...]:
    """Of anything that can be iterated, but for text, which is hardly meant letter by letter."""
    if isinstance(given, str | bytes):
        refuse_list(name, given, example)
    try:
        return tuple(given)  # type: ignore[arg-type]
    except TypeError:
        refuse_list(name, given, example)


def refuse_list(name: str, given: object, example: str) -> NoReturn:
    raise TypeError(f"{name} is {given!r:.60}: expected a list, such as {example}")


def checked_function(name: str, given: Any) -> Any:
    """Something that can be called."""
    if not callable(given):
        raise TypeError(f"{name} is {given!r:.60}: expected a function")
    return given
