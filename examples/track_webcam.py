"""Track on a camera, a stream or a video, in a window; draw the target's box with the mouse.

    python examples/track_webcam.py BUNDLE            camera 0
    python examples/track_webcam.py BUNDLE clip.mp4

Space or Enter freezes a camera for drawing, Enter accepts the box. Then space pauses, d lets you
draw the target again, q or Esc ends; a video's last frame stays until a key. Windows need
`opencv-python` in place of `opencv-python-headless`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from edge_tracker import EdgeTracker, EdgeTrackerError
from edge_tracker.video.draw import annotate
from edge_tracker.video.frames import open_frames
from edge_tracker.video.window import Viewer, choose_box, require_display


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("source", nargs="?", default="0")
    arguments = parser.parse_args(argv)
    try:
        require_display()
        with (
            EdgeTracker(arguments.bundle) as tracker,
            open_frames(arguments.source, latest=True) as source,
        ):
            source, box = choose_box(source)
            frames = iter(source)
            tracker.init(next(frames), box)
            viewer = Viewer(source)
            for frame in frames:
                result = tracker.update(frame)
                drawn = annotate(
                    frame,
                    result.box,
                    score=result.score,
                    found=result.found,
                    edge_std_px=result.edge_std_px,
                )
                box_again = viewer.show(drawn, frame)
                if viewer.stopped:
                    break
                if box_again is not None:
                    tracker.init(frame, box_again)
            else:
                if not source.live:
                    viewer.keep_last()
    except EdgeTrackerError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
