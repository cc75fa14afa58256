"""`update()` of the C++ program beside Python's, the same bundle and frames, run in turn.

The program is built as docs/cpp.md says. Frames are written as images, which both read alike.

    python -m benchmarks.cpp_program build/cpp/track demo_output/bundle [--threads 1] [--rounds 7]
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2

from benchmarks.interleaved import median_ratio
from edge_tracker import Bundle, EdgeTracker, open_bundle
from edge_tracker.video.rendered_clip import ClipFrame, render_clip


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=240)
    options = parser.parse_args(argv)
    bundle = open_bundle(options.bundle)
    clip = list(render_clip(options.frames))
    times_ms: dict[str, list[float]] = {"C++": [], "Python": []}
    with tempfile.TemporaryDirectory() as name:
        for number, frame in enumerate(clip):
            cv2.imwrite(str(Path(name, f"{number:06d}.png")), frame.image)
        for _ in range(options.rounds):
            times_ms["C++"].append(of_program(options.program, bundle, name, clip, options.threads))
            times_ms["Python"].append(of_python(bundle, clip, options.threads))
    print(f"update(), threads: {options.threads}, medians of {options.rounds} runs in turn")
    for name, medians in times_ms.items():
        print(f"  {name:16}{statistics.median(medians):8.2f} ms")
    print(f"  Python / C++    {median_ratio(times_ms['Python'], times_ms['C++']):8.2f}")


def of_program(
    program: Path, bundle: Bundle, frames: str, clip: Sequence[ClipFrame], threads: int
) -> float:
    """The median that the program states, in milliseconds."""
    command = [program, bundle.path, f"{frames}/%06d.png", *clip[0].box, threads]
    ran = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=True
    )
    found = re.search(r"median ([\d.]+)", ran.stderr)
    if found is None:
        raise SystemExit(f"{program} states no median: {ran.stderr!r}")
    return float(found[1])


def of_python(bundle: Bundle, clip: Sequence[ClipFrame], threads: int) -> float:
    times_ms = []
    with EdgeTracker(bundle, backend="openvino", num_threads=threads, compute="f32") as tracker:
        tracker.init(clip[0].image, clip[0].box)
        for frame in clip[1:]:
            start = time.perf_counter()
            tracker.update(frame.image)
            times_ms.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times_ms)


if __name__ == "__main__":
    main()
