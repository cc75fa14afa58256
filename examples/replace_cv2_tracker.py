"""Existing OpenCV code with its tracker swapped: one line changes.

python examples/replace_cv2_tracker.py BUNDLE VIDEO --box X Y W H
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import cv2

from edge_tracker import Cv2Tracker, EdgeTrackerError


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("video")
    parser.add_argument("--box", type=int, nargs=4, required=True, metavar=("X", "Y", "W", "H"))
    arguments = parser.parse_args(argv)

    # Was: tracker = cv2.TrackerNano.create(parameters)
    tracker = Cv2Tracker(arguments.bundle)

    capture = cv2.VideoCapture(arguments.video)
    readable, frame = capture.read()
    if not readable:
        parser.exit(1, f"{arguments.video} cannot be read as video\n")
    tracker.init(frame, tuple(arguments.box))
    while True:
        readable, frame = capture.read()
        if not readable:
            break
        found, (x, y, w, h) = tracker.update(frame)
        print(found, x, y, w, h, f"{tracker.getTrackingScore():.2f}")
    capture.release()


if __name__ == "__main__":
    try:
        main()
    except EdgeTrackerError as error:
        sys.exit(str(error))
