"""From a training checkpoint to a tracked video, in Python rather than on the command line.

    python examples/convert_and_track.py CHECKPOINT VIDEO --box X Y W H

Converting needs PyTorch (the `convert` extra); the folder it makes does not, wherever it is copied.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from converters.convert import convert_checkpoint
from edge_tracker import EdgeTrackerError, MultiTracker
from edge_tracker.video.frames import open_frames
from edge_tracker.video.track import track_video


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--box", type=float, nargs=4, required=True, metavar=("X", "Y", "W", "H"))
    parser.add_argument("--bundle", type=Path, default=Path("my.bundle"))
    parser.add_argument("--save", type=Path, default=Path("tracked.mp4"))
    arguments = parser.parse_args(argv)

    # The video first: that it cannot be read is better known before a minute of converting.
    with open_frames(arguments.video) as source:
        bundle = convert_checkpoint(
            arguments.checkpoint,
            arguments.bundle,
            on_progress=lambda done, total, words: print(f"{done + 1}/{total} {words}"),
        )
        for artefact in bundle.artefacts:
            if artefact.parity is not None:
                print(f"{artefact.name}: edges within {artefact.parity.box_px:.1e} px of PyTorch's")

        # Not TrackerOptions(...) anew: the search factor in the bundle is the one for this network.
        options = replace(bundle.tracker_defaults, update_interval=25)
        with MultiTracker(bundle, options=options) as tracker:
            print("\n".join(tracker.engine.choice.reasons))
            summary = track_video(tracker, source, [tuple(arguments.box)], save=arguments.save)
    print(f"{summary.frames} frames, {summary.frames_lost} lost, in {arguments.save}")


if __name__ == "__main__":
    try:
        main()
    except EdgeTrackerError as error:
        sys.exit(str(error))
