"""EdgeTracker as a tracker of the VOT toolkit, which starts it and talks TraX with it.

pip install '.[toolkits]'

In the workspace's trackers.ini:

    [edge_tracker]
    label = EdgeTracker
    protocol = trax
    command = python /path/to/examples/vot_tracker.py /path/to/BUNDLE
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import trax

from edge_tracker import EdgeTracker, EdgeTrackerError
from edge_tracker.video.frames import read_image


def serve(tracker: EdgeTracker) -> None:
    """Answer the toolkit until it quits. TraX counts pixels from 0, as EdgeTracker does."""
    with trax.Server(
        [trax.Region.RECTANGLE], [trax.Image.PATH], tracker_name="edge-tracker"
    ) as server:
        while True:
            request = server.wait()
            if request.type == trax.TraxStatus.QUIT:
                return
            frame = read_image(request.image["color"].path())
            if request.type == trax.TraxStatus.INITIALIZE:
                region, _ = request.objects[0]
                tracker.init(frame, region.bounds())
                server.status([(region, {})])
            else:
                result = tracker.update(frame)
                confidence = {"confidence": result.score}
                server.status([(trax.Rectangle.create(*result.box), confidence)])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    arguments = parser.parse_args(argv)
    with EdgeTracker(arguments.bundle, compute="f32") as tracker:
        serve(tracker)


if __name__ == "__main__":
    try:
        main()
    except EdgeTrackerError as error:
        sys.exit(str(error))
