"""Tracks annotated sequences from their first box and prints mean IoU per sequence.

A sequence is a folder with img/*.jpg and groundtruth.txt (x,y,w,h a line; nan where the target is
absent, left out of the mean). The first frame is not counted.

    python -m benchmarks.real_sequences BUNDLE FOLDER [--frames 250] [--backend onnxruntime]
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from edge_tracker import EdgeTracker
from edge_tracker.boxes import Box, box_iou
from edge_tracker.video import open_frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, help="of each sequence at most; all by default")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision")
    arguments = parser.parse_args()

    sequences = sorted(path.parent for path in arguments.folder.glob("*/groundtruth.txt"))
    table = Table("sequence", "frames", "mean IoU", "ms per update", title=str(arguments.bundle))
    overall = []
    with EdgeTracker(
        arguments.bundle, backend=arguments.backend, precision=arguments.precision
    ) as tracker:
        for sequence in track(sequences, console=Console(stderr=True), transient=True):
            ious, times_ms = follow(tracker, sequence, arguments.frames)
            overall.append(statistics.fmean(ious))
            table.add_row(
                sequence.name,
                str(len(ious)),
                f"{overall[-1]:.3f}",
                f"{statistics.median(times_ms):.2f}",
            )
    table.add_section()
    table.add_row("mean", str(len(sequences)), f"{statistics.fmean(overall):.3f}", "")
    Console().print(table)


def follow(
    tracker: EdgeTracker, sequence: Path, limit: int | None
) -> tuple[list[float], list[float]]:
    """IoU on each visible frame after the first, and milliseconds of every update."""
    truth = np.loadtxt(sequence / "groundtruth.txt", delimiter=",")
    boxes: list[Box] = [(x, y, w, h) for x, y, w, h in truth[:limit].tolist()]
    ious, times_ms = [], []
    with open_frames(sequence / "img") as frames:
        tracker.init(next(iter(frames)), boxes[0])
        for frame, box in zip(frames, boxes[1:], strict=False):
            start = time.perf_counter()
            result = tracker.update(frame)
            times_ms.append(1e3 * (time.perf_counter() - start))
            if np.isfinite(box).all():
                ious.append(box_iou(result.box, box))
    return ious, times_ms


if __name__ == "__main__":
    main()
