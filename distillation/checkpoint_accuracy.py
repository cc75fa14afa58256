"""Measuring a checkpoint as its users will see it: converted, and tracked by `EdgeTracker`."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from converters.convert import convert_checkpoint
from distillation.training.run_folder import tracking_search_factor
from edge_tracker.measure.evaluation.ground_truth import AnnotatedSequence, read_sequence
from edge_tracker.measure.evaluation.layouts import find_sequences
from edge_tracker.measure.evaluation.metrics import score_boxes
from edge_tracker.options import TrackerOptions
from edge_tracker.rules.boxes import box_iou
from edge_tracker.tracker import EdgeTracker
from mixformerv2.checkpoint import read_checkpoint

Boxes = NDArray[np.float64]
Scores = NDArray[np.float64]

#: A box that overlaps this much of the truth has found the target.
FOUND_IOU = 0.5
#: At or below this the window has left the target.
LOST_IOU = 0.05


@dataclass(frozen=True)
class SequenceFigures:
    """mean_iou: over visible frames after the first. success_auc: as OTB's toolkit has it."""

    name: str
    frames: int
    mean_iou: float
    success_auc: float


@dataclass(frozen=True)
class ScoreSeparation:
    """How well the score tells frames that found the target from those that lost it or lack it.

    roc_auc is NaN where one of the two kinds does not occur.
    """

    found_frames: int
    missed_frames: int
    mean_score_found: float
    mean_score_missed: float
    roc_auc: float


@dataclass(frozen=True)
class CheckpointFigures:
    sequences: tuple[SequenceFigures, ...]
    separation: ScoreSeparation

    @property
    def mean_iou(self) -> float:
        return float(np.mean([figures.mean_iou for figures in self.sequences]))

    @property
    def success_auc(self) -> float:
        return float(np.mean([figures.success_auc for figures in self.sequences]))


def evaluate_checkpoint(
    checkpoint: Path, dataset: Path, *, max_frames: int | None = None
) -> CheckpointFigures:
    """Convert a checkpoint and track every sequence of a data set once, from its first box.

    Raises CheckpointError, DatasetError, and what converting and tracking raise.
    """
    sequences, overlaps, scores = [], [], []
    search_factor = tracking_search_factor(read_checkpoint(checkpoint))
    options = None if search_factor is None else TrackerOptions(search_factor=search_factor)
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        convert_checkpoint(
            checkpoint, bundle, targets=["onnx"], precisions=["fp32"], tracker=options
        )
        with EdgeTracker(bundle, backend="onnxruntime") as tracker:
            for found in find_sequences(dataset):
                sequence = read_sequence(found, max_frames)
                boxes_xywh, frame_scores = track_sequence(tracker, sequence)
                figures = score_boxes(boxes_xywh, sequence.truth_xywh)
                sequences.append(
                    SequenceFigures(found.name, figures.frames, figures.ao, figures.success_auc)
                )
                overlaps.append(overlap_with_truth(boxes_xywh, sequence.truth_xywh)[1:])
                scores.append(frame_scores[1:])
    separation = separate_scores(np.concatenate(overlaps), np.concatenate(scores))
    return CheckpointFigures(tuple(sequences), separation)


def track_sequence(tracker: EdgeTracker, sequence: AnnotatedSequence) -> tuple[Boxes, Scores]:
    """-> (frames, 4) boxes and (frames,) scores; the first are the given box and 1."""
    boxes, scores = [sequence.first_box], [1.0]
    tracker.init(sequence.read_frame(0), sequence.first_box)
    for frame in range(1, len(sequence.frames)):
        result = tracker.update(sequence.read_frame(frame))
        boxes.append(result.box)
        scores.append(result.score)
    return np.array(boxes), np.array(scores)


def overlap_with_truth(boxes_xywh: Boxes, truth_xywh: Boxes) -> NDArray[np.float64]:
    """IoU of every frame; 0 where the target is absent, as no box can be right there."""
    overlaps = [
        0.0 if np.isnan(truth).any() else box_iou(tuple(box), tuple(truth))
        for box, truth in zip(boxes_xywh.tolist(), truth_xywh.tolist(), strict=True)
    ]
    return np.array(overlaps)


def separate_scores(overlaps: NDArray[np.float64], scores: NDArray[np.float64]) -> ScoreSeparation:
    """Frames between the two limits are neither found nor lost, and are left out."""
    found, missed = overlaps > FOUND_IOU, overlaps <= LOST_IOU
    both = found | missed
    auc = float("nan")
    if found.any() and missed.any():
        auc = float(roc_auc_score(found[both], scores[both]))
    return ScoreSeparation(
        int(found.sum()),
        int(missed.sum()),
        float(scores[found].mean()) if found.any() else float("nan"),
        float(scores[missed].mean()) if missed.any() else float("nan"),
        auc,
    )
