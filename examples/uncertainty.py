"""Use what the tracker says about itself: act only on boxes that it is sure of.

    python examples/uncertainty.py BUNDLE VIDEO --box X Y W H

The network predicts a distribution for each edge of the box; `TrackResult.edge_std_px` is its
standard deviation. How wide is usual depends on the network and the target, so it is compared with
its own median so far. `TrackResult.found` turns False when the score stays low. Check both against
footage of yours before you rely on them: how much they tell depends on how the network was trained.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from statistics import median

from edge_tracker import EdgeTracker, EdgeTrackerError, TrackResult
from edge_tracker.video.frames import open_frames


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("video")
    parser.add_argument("--box", type=float, nargs=4, required=True, metavar=("X", "Y", "W", "H"))
    parser.add_argument(
        "--limit", type=float, default=1.15, help="unsure above this many times the usual spread"
    )
    arguments = parser.parse_args(argv)

    with EdgeTracker(arguments.bundle) as tracker, open_frames(arguments.video) as source:
        frames = iter(source)
        tracker.init(next(frames), arguments.box)
        spreads: list[float] = []
        for index, frame in enumerate(frames, 1):
            result = tracker.update(frame)
            spreads.append(relative_spread(result))
            unusual = spreads[-1] / median(spreads)
            state = (
                "lost" if not result.found else "unsure" if unusual > arguments.limit else "sure"
            )
            print(f"frame {index}: {state}, score {result.score:.2f}, edges {unusual:.2f} x usual")


def relative_spread(result: TrackResult) -> float:
    """Largest standard deviation of an edge, as a part of the box's side across it."""
    left, top, right, bottom = result.edge_std_px
    _, _, width, height = result.box
    return max(left / width, right / width, top / height, bottom / height)


if __name__ == "__main__":
    try:
        main()
    except EdgeTrackerError as error:
        sys.exit(str(error))
