"""edge_tracker: the MixFormerV2 single-object tracker, deployed.

Importing this package loads neither PyTorch nor any backend, and names load what they need on first
use.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edge_tracker.version import __version__

# ONNX Runtime (1.32) reports to its maker what it is used for, unless this is set when it is
# imported. Who wants it sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from edge_tracker.bundle.opening import Bundle, open_bundle
    from edge_tracker.cv2_adapter import Cv2Tracker
    from edge_tracker.errors import (
        BackendUnavailable,
        BundleError,
        CalibrationError,
        CheckpointError,
        DatasetError,
        EdgeTrackerError,
        EngineMismatch,
        Int8Refused,
        NotInitialised,
        VideoError,
    )
    from edge_tracker.measure.bench.benchmark import benchmark
    from edge_tracker.measure.evaluation.evaluate import evaluate
    from edge_tracker.measure.evaluation.result import Evaluation
    from edge_tracker.measure.verify import verify
    from edge_tracker.options import TrackerOptions
    from edge_tracker.tracker import EdgeTracker, Engine, MultiTracker, TrackResult

__all__ = [
    "BackendUnavailable",
    "Bundle",
    "BundleError",
    "CalibrationError",
    "CheckpointError",
    "Cv2Tracker",
    "DatasetError",
    "EdgeTracker",
    "EdgeTrackerError",
    "Engine",
    "EngineMismatch",
    "Evaluation",
    "Int8Refused",
    "MultiTracker",
    "NotInitialised",
    "TrackResult",
    "TrackerOptions",
    "VideoError",
    "__version__",
    "benchmark",
    "evaluate",
    "open_bundle",
    "verify",
]

_HOME = {
    "Bundle": "bundle.opening",
    "Cv2Tracker": "cv2_adapter",
    "EdgeTracker": "tracker",
    "Engine": "tracker",
    "Evaluation": "measure.evaluation.result",
    "MultiTracker": "tracker",
    "TrackResult": "tracker",
    "TrackerOptions": "options",
    "benchmark": "measure.bench.benchmark",
    "evaluate": "measure.evaluation.evaluate",
    "open_bundle": "bundle.opening",
    "verify": "measure.verify",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        home = import_module(f"{__name__}.{_HOME.get(name, 'errors')}")
    except ModuleNotFoundError as error:
        if error.name != "cv2":
            raise
        from edge_tracker.installing import install_command

        remedy = install_command("opencv-headless")
        raise ModuleNotFoundError(f"{name} needs OpenCV: {remedy}", name="cv2") from error
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)
