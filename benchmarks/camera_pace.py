"""What a tracker costs at a camera's pace: CPU time of the whole process for each frame.

The rendered clip is tracked twice, frame upon frame, and at the pace of a camera with a pause after
each frame, in which a backend's threads may rest or not.

    [taskset -c 0] python -m benchmarks.camera_pace BUNDLE [--backend onnxruntime] [--fps 30]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from edge_tracker import EdgeTracker
from edge_tracker.backends.choice import backend_names
from edge_tracker.video.rendered_clip import ClipFrame, render_clip

WARM_UP = 10


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", choices=("auto", *backend_names()), default="onnxruntime")
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(arguments)

    clip = list(render_clip(WARM_UP + options.frames))
    with EdgeTracker(
        options.bundle, backend=options.backend, num_threads=options.threads
    ) as tracker:
        for words, pause_s in (("frame upon frame", 0.0), ("at its pace", 1 / options.fps)):
            print(f"{words:17}{_line(tracker, clip, pause_s)}")


def _line(tracker: EdgeTracker, clip: Sequence[ClipFrame], pause_s: float) -> str:
    tracker.init(clip[0].image, clip[0].box)
    for frame in clip[:WARM_UP]:
        tracker.update(frame.image)
    times_ms = []
    begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
    for number, frame in enumerate(clip[WARM_UP:], start=1):
        start_s = time.perf_counter()
        tracker.update(frame.image)
        times_ms.append(1e3 * (time.perf_counter() - start_s))
        time.sleep(max(0.0, begun_s + number * pause_s - time.perf_counter()))
    cpu_ms = 1e3 * (time.process_time() - begun_cpu_s) / len(times_ms)
    p95_ms = statistics.quantiles(times_ms, n=20)[-1]
    return (
        f"update() {statistics.median(times_ms):6.2f} ms median, {p95_ms:6.2f} p95; "
        f"{cpu_ms:6.2f} ms of CPU a frame"
    )


if __name__ == "__main__":
    main()
