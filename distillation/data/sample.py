"""One training sample, as every source of them gives it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_tracker.options import TrackerOptions

#: Side of the template's crop over the root of the box's area.
TEMPLATE_FACTOR = TrackerOptions.template_factor


class Sample(NamedTuple):
    """template, online_template: (Ht, Wt, 3), search: (Hs, Ws, 3), uint8 BGR.

    edges: (4,) float32 left, top, right, bottom of the target in the search crop, in [0, 1]; zeros
    if `present` is False.
    """

    template: NDArray[np.uint8]
    online_template: NDArray[np.uint8]
    search: NDArray[np.uint8]
    edges: NDArray[np.float32]
    present: bool


class SampleSource(Protocol):
    """An endless, reproducible series: the same index is always the same sample."""

    def render(self, index: int) -> Sample: ...
