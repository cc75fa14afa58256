"""The tracker: one target, or several, one frame after the other."""

from __future__ import annotations

from edge_tracker.tracker.engine import Engine
from edge_tracker.tracker.multi import MultiTracker
from edge_tracker.tracker.result import TrackResult
from edge_tracker.tracker.single import STAGES, EdgeTracker

__all__ = ["STAGES", "EdgeTracker", "Engine", "MultiTracker", "TrackResult"]
