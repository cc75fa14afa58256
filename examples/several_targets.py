"""Several targets in one video, by one network that is compiled once.

    python examples/several_targets.py BUNDLE VIDEO --box X Y W H --box X Y W H

Each target is tracked by its own templates and crop: time per frame grows with their number, and
nothing keeps two of them from settling on the same object.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_tracker import EdgeTrackerError, MultiTracker
from edge_tracker.video.draw import annotate
from edge_tracker.video.frames import open_frames
from edge_tracker.video.recording import frame_writer


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("video")
    parser.add_argument(
        "--box", type=float, nargs=4, action="append", required=True, metavar=("X", "Y", "W", "H")
    )
    parser.add_argument("--save", type=Path, default=Path("tracked.mp4"))
    arguments = parser.parse_args(argv)

    with open_frames(arguments.video) as source, MultiTracker(arguments.bundle) as tracker:
        height_px, width_px = source.first_frame.shape[:2]
        for box in arguments.box:
            tracker.add(source.first_frame, box)
        with frame_writer(arguments.save, source.fps, width_px, height_px) as write:
            for frame in source:
                # On the first frame too: that costs one update and spares a special case.
                drawn = frame
                for number, result in tracker.update(frame).items():
                    drawn = annotate(
                        drawn, result.box, score=result.score, found=result.found, number=number
                    )
                write(drawn)
        print(f"{len(tracker.ids)} targets tracked, in {arguments.save}")


if __name__ == "__main__":
    try:
        main()
    except EdgeTrackerError as error:
        sys.exit(str(error))
