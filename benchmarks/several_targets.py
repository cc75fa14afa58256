"""Several targets: MultiTracker against as many EdgeTrackers, in turn.

Both on one machine, the same frames and boxes; the online template changes at the end of every
interval. Also how far their boxes are apart, and what targets add to the memory of a process.

    python -m benchmarks.several_targets BUNDLE [--targets 8] [--threads 2] [--rounds 100]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.interleaved import median_ratio, time_in_turn
from edge_tracker import EdgeTracker, Engine, MultiTracker, open_bundle
from edge_tracker.measure.bench.latency import Pace
from edge_tracker.measure.bench.several import boxes_of
from edge_tracker.rules.boxes import Box
from edge_tracker.video.rendered_clip import render_clip

#: Megabytes of the process in memory after some updates of so many targets.
_MEMORY = """
import sys
from edge_tracker import EdgeTracker, Engine, MultiTracker
from edge_tracker.video.rendered_clip import render_clip
from edge_tracker.measure.bench.several import boxes_of
bundle, backend, threads, targets = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
clip = list(render_clip(20, 640, 480))
with Engine(bundle, backend=backend, num_threads=threads) as engine:
    if targets == 1:
        tracker = EdgeTracker(engine)
        tracker.init(clip[0].image, clip[0].box)
    else:
        tracker = MultiTracker(engine)
        for box in boxes_of(clip[0].box, targets):
            tracker.add(clip[0].image, box)
    for frame in clip[1:]:
        tracker.update(frame.image)
    lines = open("/proc/self/status").read().splitlines()
    print(next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmRSS")))
"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", default="openvino")
    parser.add_argument("--targets", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=100)
    arguments = parser.parse_args(argv)

    bundle = open_bundle(arguments.bundle)
    options = replace(bundle.tracker_defaults, update_score=0.0)
    clip = list(render_clip(24, 640, 480))
    pace = Pace([frame.image for frame in clip], clip[0].box)
    boxes = boxes_of(pace.first_box, arguments.targets)
    apart_px: list[float] = []
    with Engine(bundle, backend=arguments.backend, num_threads=arguments.threads) as engine:
        singles = [EdgeTracker(engine, options=options) for _ in boxes]
        several = MultiTracker(engine, options=options)
        for single, box in zip(singles, boxes, strict=True):
            single.init(pace.frame(0), box)
            several.add(pace.frame(0), box)
        numbers = {"singles": 0, "several": 0}
        found: dict[str, list[Box]] = {}

        def update_singles() -> None:
            numbers["singles"] += 1
            frame = pace.frame(numbers["singles"])
            found["singles"] = [single.update(frame).box for single in singles]

        def update_several() -> None:
            numbers["several"] += 1
            results = several.update(pace.frame(numbers["several"]))
            found["several"] = [result.box for result in results.values()]
            apart = np.subtract(found["singles"], found["several"])
            apart_px.append(float(np.abs(apart).max()))

        calls = {"singles": update_singles, "several": update_several}
        times_ms = time_in_turn(calls, arguments.rounds)
        print(f"{arguments.targets} targets, {engine.choice.backend}, {arguments.threads} threads")
    for name, values in times_ms.items():
        worst = max(values)
        print(f"  {name}: median {statistics.median(values):.2f} ms, worst {worst:.2f} ms")
    ratio = median_ratio(times_ms["several"], times_ms["singles"])
    total = sum(times_ms["several"]) / sum(times_ms["singles"])
    print(f"  several / singles: {ratio:.3f} (median of {arguments.rounds}), of sums {total:.3f}")
    print(f"  boxes at most {max(apart_px):.2g} px apart")
    if Path("/proc/self/status").exists():
        memory = [resident_mb(arguments, targets) for targets in (1, arguments.targets)]
        print(
            f"  memory: 1 target {memory[0]:.0f} MB, {arguments.targets} {memory[1]:.0f} MB, ",
            end="",
        )
        print(f"ratio {memory[1] / memory[0]:.2f}")


def resident_mb(arguments: argparse.Namespace, targets: int) -> float:
    given = [str(arguments.bundle), arguments.backend, str(arguments.threads), str(targets)]
    return float(subprocess.check_output([sys.executable, "-c", _MEMORY, *given]))


if __name__ == "__main__":
    main()
