"""EdgeTracker as a tracking function of CVAT, run by its agent. See docs/cvat.md."""

from __future__ import annotations

from typing import Any

import cvat_sdk.auto_annotation as cvataa
import numpy as np
from numpy.typing import NDArray

from edge_tracker import EdgeTracker, Engine


class TrackingFunction:
    """Each shape has a tracker of its own as its state; all share one compiled network."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.spec = cvataa.TrackingFunctionSpec(supported_shape_types={"rectangle"})

    def preprocess_image(self, context: Any, image: Any) -> NDArray[np.uint8]:
        """A PIL image of any mode -> (height, width, 3) uint8 BGR."""
        return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])

    def init_tracking_state(
        self, context: Any, pp_image: NDArray[np.uint8], shape: cvataa.TrackableShape
    ) -> EdgeTracker:
        left, top, right, bottom = shape.points
        tracker = EdgeTracker(self._engine)
        tracker.init(pp_image, (left, top, right - left, bottom - top))
        return tracker

    def track(
        self, context: Any, pp_image: NDArray[np.uint8], state: EdgeTracker
    ) -> cvataa.TrackableShape | None:
        """None while the target counts as lost; it may be found again in a later frame."""
        result = state.update(pp_image)
        if not result.found:
            return None
        x, y, w, h = result.box
        return cvataa.TrackableShape(type="rectangle", points=[x, y, x + w, y + h])


def create(bundle: str, backend: str = "auto", num_threads: int | None = None) -> TrackingFunction:
    """What the agent calls, with its -p parameters."""
    return TrackingFunction(Engine(bundle, backend=backend, num_threads=num_threads))
