"""Annotated sequences, videos and images of the rendered clip, as files to record from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2

from edge_tracker.rules.boxes import Box
from edge_tracker.video.recording import frame_writer
from edge_tracker.video.rendered_clip import render_clip

WIDTH, HEIGHT = 160, 120


def write_sequence(root: Path, name: str, frames: int, seed: int = 0) -> Path:
    """In the plain layout."""
    folder = root / name
    (folder / "img").mkdir(parents=True)
    boxes = []
    for index, frame in enumerate(render_clip(frames, WIDTH, HEIGHT, seed)):
        cv2.imwrite(str(folder / "img" / f"{index:06d}.png"), frame.image)
        boxes.append(frame.box)
    write_boxes(folder / "groundtruth.txt", boxes)
    return folder


def write_video(path: Path, frames: int, seed: int = 0) -> Path:
    """An mp4, and beside it the target's box in its first frame."""
    clip = list(render_clip(frames, WIDTH, HEIGHT, seed))
    with frame_writer(path, 25, WIDTH, HEIGHT) as write:
        for frame in clip:
            write(frame.image)
    write_boxes(path.with_suffix(".txt"), [clip[0].box])
    return path


def write_still(path: Path, seed: int = 0, boxes: Iterable[Box] | None = None) -> Path:
    """An image, and beside it its targets: that of the clip unless others are given."""
    frame = next(render_clip(1, WIDTH, HEIGHT, seed))
    cv2.imwrite(str(path), frame.image)
    write_boxes(path.with_suffix(".txt"), [frame.box] if boxes is None else boxes)
    return path


def write_boxes(path: Path, boxes: Iterable[Box]) -> None:
    path.write_text("".join(f"{','.join(map(str, box))}\n" for box in boxes))
