"""Several targets in one video: one EdgeTracker per target, all fed the same frames.

    python examples/several_targets.py BUNDLE VIDEO --box X Y W H --box X Y W H

Each tracker is a single-object tracker with its own templates and runs the network on its own
crop: time per frame grows with the number of targets, and nothing keeps two of them from settling
on the same object.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from edge_tracker import EdgeTracker, open_bundle
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

    bundle = open_bundle(arguments.bundle)
    with ExitStack() as stack:
        source = stack.enter_context(open_frames(arguments.video))
        height_px, width_px = source.first_frame.shape[:2]
        write = stack.enter_context(frame_writer(arguments.save, source.fps, width_px, height_px))
        trackers = [stack.enter_context(EdgeTracker(bundle)) for _ in arguments.box]
        for tracker, box in zip(trackers, arguments.box, strict=True):
            tracker.init(source.first_frame, box)
        for frame in source:
            # On the first frame too: that costs one update and spares a special case.
            results = [tracker.update(frame) for tracker in trackers]
            drawn = frame
            for result in results:
                drawn = annotate(drawn, result.box, score=result.score, found=result.found)
            write(drawn)
    print(f"{len(trackers)} targets tracked, in {arguments.save}")


if __name__ == "__main__":
    main()
