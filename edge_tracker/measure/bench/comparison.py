"""Two reports of `bench`, an old and a new one, set against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_tracker.backends import choice
from edge_tracker.errors import EdgeTrackerError
from edge_tracker.files.untrusted import short

#: What is compared, and in which part of an artefact's entry it is.
_FIGURES = (("update", "p50"), ("update", "p95"), ("update", "p99"), ("init", "p50"))

Interval = tuple[float, float]


@dataclass(frozen=True)
class Ratio:
    """One figure in an old and a new report. Intervals: 95 %, None where too few were measured or
    the report is of a version that wrote none.
    """

    artefact: str
    figure: str
    old: float
    new: float
    old_interval: Interval | None
    new_interval: Interval | None

    @property
    def ratio(self) -> float:
        return self.new / self.old

    @property
    def verdict(self) -> str:
        """Whether chance alone may explain the difference."""
        if self.old_interval is None or self.new_interval is None:
            return "not known"
        if self.new_interval[1] < self.old_interval[0]:
            return "faster"
        if self.new_interval[0] > self.old_interval[1]:
            return "slower"
        return "within chance"


@dataclass(frozen=True)
class Comparison:
    """differences: of the two measurements' circumstances, which the ratios then contain too."""

    ratios: tuple[Ratio, ...]
    differences: tuple[str, ...]


def compare_reports(old: Mapping[str, Any], new: Mapping[str, Any]) -> Comparison:
    """Set a report against an older one, both as JSON, artefact by artefact.

    Raises EdgeTrackerError if one is no such report, or if they have no artefact in common.
    """
    then, now = _read("older", old), _read("newer", new)
    ratios = tuple(
        Ratio(
            name,
            figure,
            then.figures[name][figure],
            now.figures[name][figure],
            then.intervals[name][figure],
            now.intervals[name][figure],
        )
        for name in now.figures
        if name in then.figures
        for figure in now.figures[name]
    )
    if not ratios:
        raise EdgeTrackerError(
            f"the reports have no artefact in common: {', '.join(then.figures) or 'none'} then, "
            f"{', '.join(now.figures) or 'none'} now"
        )
    circumstances = {**then.circumstances, **now.circumstances}
    return Comparison(
        ratios,
        tuple(
            f"{name}: {before} then, {after} now"
            for name in circumstances
            if (before := then.circumstances.get(name)) != (after := now.circumstances.get(name))
        ),
    )


@dataclass(frozen=True)
class _Side:
    """What of one report is compared: milliseconds by artefact and figure."""

    figures: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, Interval | None]]
    circumstances: dict[str, Any]


def _read(which: str, report: Mapping[str, Any]) -> _Side:
    try:
        entries = {str(entry["name"]): entry for entry in report["artefacts"]}
        machine, settings = report["machine"], report["settings"]
        circumstances = {
            "CPU": machine["cpu"]["model"],
            "usable cores": machine["cpu"]["usable_cores"],
            "threads": settings["num_threads"],
            "frame": f"{settings['frame_width']}x{settings['frame_height']}",
            "checkpoint": report["source_sha256"][:12],
            "power mode": report["power_mode"],
            "edge-tracker": machine["edge_tracker"],
        } | {
            package["module"]: package["version"]
            for package in machine["packages"]
            if package["module"] in _that_compute()
        }
        return _Side(
            {
                name: {f"{part} {key}": float(entry[part][key]) for part, key in _FIGURES}
                for name, entry in entries.items()
            },
            {
                name: {f"{part} {key}": _interval(entry[part], key) for part, key in _FIGURES}
                for name, entry in entries.items()
            },
            circumstances,
        )
    except Exception as error:  # what is in a wrong place may be of any type
        raise EdgeTrackerError(
            f"the {which} report was not written by bench --json "
            f"({type(error).__name__}: {short(str(error))})"
        ) from error


def _interval(figures: Mapping[str, Any], key: str) -> Interval | None:
    ends = figures.get("intervals", {}).get(key)
    if ends is None:
        return None
    low, high = ends
    return float(low), float(high)


def _that_compute() -> set[str]:
    """Packages whose version changes latency."""
    return {"numpy", "cv2"}.union(*(backend.packages for backend in choice.BACKENDS))
