"""EdgeTracker inside the got10k toolkit, whose experiments run and report by themselves.

pip install '.[toolkits]'
python examples/got10k_tracker.py BUNDLE OTB_FOLDER
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from got10k.experiments import ExperimentOTB
from got10k.trackers import Tracker
from numpy.typing import NDArray

from edge_tracker import EdgeTracker, EdgeTrackerError


class Got10kTracker(Tracker):
    """The toolkit hands over PIL images in RGB, and boxes x, y, width, height that count from 1."""

    def __init__(self, tracker: EdgeTracker, name: str = "edge-tracker") -> None:
        super().__init__(name=name, is_deterministic=True)
        self._tracker = tracker

    def init(self, image: Any, box: NDArray[np.float64]) -> None:
        x, y, w, h = box
        self._tracker.init(_as_bgr(image), (x - 1, y - 1, w, h))

    def update(self, image: Any) -> NDArray[np.float64]:
        x, y, w, h = self._tracker.update(_as_bgr(image)).box
        return np.array([x + 1, y + 1, w, h])


def _as_bgr(image: Any) -> NDArray[np.uint8]:
    return np.asarray(image)[:, :, ::-1]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("otb")
    arguments = parser.parse_args(argv)

    with EdgeTracker(arguments.bundle, compute="f32") as edge_tracker:
        tracker = Got10kTracker(edge_tracker)
        experiment = ExperimentOTB(arguments.otb, version=2015)
        experiment.run(tracker)
        experiment.report([tracker.name])


if __name__ == "__main__":
    try:
        main()
    except EdgeTrackerError as error:
        sys.exit(str(error))
