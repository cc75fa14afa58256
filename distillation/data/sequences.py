"""Annotated sequences to train on: the data sets that `edge-tracker eval` reads, and COCO.

Only names and boxes are read here; images are decoded when a sample needs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillation.recipes.recipe import SourceKind
from edge_tracker.errors import DatasetError
from edge_tracker.files.untrusted import read_json, reading
from edge_tracker.measure.evaluation.ground_truth import read_sequence
from edge_tracker.measure.evaluation.layouts import find_sequences

#: A box with a shorter side shows too little to learn from.
MIN_SIDE_PX = 5.0
COCO_LAYOUT = "annotations/instances_train*.json with a folder of images for each, train*/*.jpg"
#: What the runtime calls the plain layout, NAME/{img/*.jpg, groundtruth.txt}.
RUNTIME_LAYOUTS = {"folder": "plain"}


@dataclass(frozen=True)
class TrainingSequence:
    """frame_paths: one image a frame; boxes_xywh: (frames, 4) float64, 0-based; visible: (frames,)
    bool.

    A still image is a sequence of one frame.
    """

    name: str
    frame_paths: tuple[Path, ...]
    boxes_xywh: NDArray[np.float64]
    visible: NDArray[np.bool_]


def read_sequences(kind: SourceKind, root: Path) -> list[TrainingSequence]:
    """All sequences of a data set's training part in which the target is seen.

    Raises DatasetError, naming the layout that was expected, where there is none, where a
    sequence's boxes do not match its frames, or where the first image does not decode.
    """
    found = list(_coco(root) if kind == "coco" else _video(kind, root))
    seen = [sequence for sequence in found if sequence.visible.any()]
    if not seen:
        raise DatasetError(
            f"data set {root} has {len(found)} sequences of {kind}, none with a box of at least "
            f"{MIN_SIDE_PX:g} px a side"
        )
    return seen


def _video(kind: SourceKind, root: Path) -> Iterator[TrainingSequence]:
    for number, folder in enumerate(find_sequences(root, RUNTIME_LAYOUTS.get(kind, kind))):
        sequence = read_sequence(folder)
        if sequence.withheld:
            raise DatasetError(
                f"sequence {sequence.name} in {root} has one box for {len(sequence.frames)} "
                "frames, so it is of a test set: give the folder of the training set"
            )
        if number == 0:
            sequence.read_frame(0)
        boxes = sequence.truth_xywh
        yield TrainingSequence(sequence.name, sequence.frames, boxes, _large_enough(boxes))


def _coco(root: Path) -> Iterator[TrainingSequence]:
    annotation_files = sorted(root.glob("annotations/instances_train*.json"))
    if not annotation_files:
        raise DatasetError(f"data set {root} is not laid out as COCO: expected {COCO_LAYOUT}")
    for file in annotation_files:
        folder = root / file.stem.removeprefix("instances_")
        with reading(f"COCO annotations {file}", "copy the file again", DatasetError):
            content = read_json(file)
            names = {image["id"]: image["file_name"] for image in content["images"]}
            for entry in content["annotations"]:
                if entry.get("iscrowd"):
                    continue
                boxes = np.array([entry["bbox"]], np.float64)
                path = folder / names[entry["image_id"]]
                yield TrainingSequence(str(entry["id"]), (path,), boxes, _large_enough(boxes))


def _large_enough(boxes_xywh: NDArray[np.float64]) -> NDArray[np.bool_]:
    """False for NaN too: no comparison with it holds."""
    return np.asarray((boxes_xywh[:, 2:] >= MIN_SIDE_PX).all(axis=1))
