"""Metrics of one-pass evaluation, on arrays of boxes.

The conventions are those of the benchmarks' own toolkits:

* success AUC: share of frames whose overlap is above each of 21 thresholds 0, 0.05, ..., 1, and the
  mean of these (OTB, Wu et al. 2015); the first frame counts, as it does there.
* precision: share of frames whose centre error is at most 0, 1, ..., 50 pixels; the score is that
  at 20 pixels (OTB).
* normalised precision: the same with the error divided by the true width and height, for thresholds
  0, 0.01, ..., 0.5, and the mean of these (TrackingNet, Mueller et al. 2018; LaSOT).
* AO, SR 0.5, SR 0.75: mean overlap, and share of frames with an overlap above 0.5 and 0.75; the
  first frame, whose box was given, does not count (GOT-10k, Huang et al. 2019).

Frames in which the target is absent (NaN) count nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tracker.rules.boxes import Box

Array = NDArray[np.float64]

OVERLAP_THRESHOLDS: Array = np.linspace(0, 1, 21)
CENTRE_THRESHOLDS_PX: Array = np.arange(51.0)
NORMALISED_THRESHOLDS: Array = np.arange(51) / 100
PRECISION_PX = 20
RESAMPLES = 10_000


@dataclass(frozen=True)
class Scores:
    """Metrics of one sequence, or means of several.

    frames: counted ones, without the first. The curves are shares of frames, 0 to 1, at
    OVERLAP_THRESHOLDS, CENTRE_THRESHOLDS_PX and NORMALISED_THRESHOLDS.
    """

    frames: int
    ao: float
    sr_50: float
    sr_75: float
    success_curve: Array
    precision_curve: Array
    normalised_precision_curve: Array

    @property
    def success_auc(self) -> float:
        return float(self.success_curve.mean())

    @property
    def precision_20px(self) -> float:
        return float(self.precision_curve[PRECISION_PX])

    @property
    def normalised_precision_auc(self) -> float:
        return float(self.normalised_precision_curve.mean())


def score_boxes(
    predicted_xywh: Array, truth_xywh: Array, overlap_bound_xyxy: Box | None = None
) -> Scores:
    """Metrics of a sequence.

    predicted_xywh, truth_xywh: (frames, 4), row i of both is frame i, row 0 the box that was given;
    a row of the truth is NaN where the target is absent. overlap_bound_xyxy: boxes are clipped to
    it before their overlap is taken. Raises ValueError unless the shapes agree and a frame after
    the first counts.
    """
    if predicted_xywh.shape != truth_xywh.shape or truth_xywh.shape[1:] != (4,):
        raise ValueError(
            f"boxes have shape {predicted_xywh.shape} and ground truth {truth_xywh.shape}: "
            "expected (frames, 4) for both"
        )
    visible = np.isfinite(truth_xywh[:, 0])
    if not visible[1:].any():
        raise ValueError("the target is visible in no frame after the first: nothing to measure")
    predicted, truth = predicted_xywh[visible], truth_xywh[visible]
    overlaps = box_overlaps(predicted, truth, overlap_bound_xyxy)
    after_first = overlaps[int(visible[0]) :]
    offsets = _centres(predicted) - _centres(truth)
    errors_px = np.linalg.norm(offsets, axis=1)
    normalised = np.linalg.norm(offsets / truth[:, 2:], axis=1)
    return Scores(
        frames=len(after_first),
        ao=float(after_first.mean()),
        sr_50=float((after_first > 0.5).mean()),
        sr_75=float((after_first > 0.75).mean()),
        success_curve=(overlaps[:, None] > OVERLAP_THRESHOLDS).mean(axis=0),
        precision_curve=(errors_px[:, None] <= CENTRE_THRESHOLDS_PX).mean(axis=0),
        normalised_precision_curve=(normalised[:, None] <= NORMALISED_THRESHOLDS).mean(axis=0),
    )


def box_overlaps(a_xywh: Array, b_xywh: Array, bound_xyxy: Box | None = None) -> Array:
    """(frames, 4) twice -> intersection over union of each pair, (frames,); 0 of empty boxes."""
    a_low, a_high = _corners(a_xywh, bound_xyxy)
    b_low, b_high = _corners(b_xywh, bound_xyxy)
    shared = np.maximum(np.minimum(a_high, b_high) - np.maximum(a_low, b_low), 0).prod(axis=1)
    # Areas by the corners, not by width and height: thus equal boxes overlap by 1 and not by more.
    union = (a_high - a_low).prod(axis=1) + (b_high - b_low).prod(axis=1) - shared
    overlaps: Array = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlaps


def mean_scores(scores: Sequence[Scores], *, by_frames: bool = False) -> Scores:
    """Means over sequences, each counting alike, or as much as it has counted frames."""
    if not scores:
        raise ValueError("no sequence was evaluated: there is no mean")
    weights = [score.frames if by_frames else 1 for score in scores]

    def mean(values: Sequence[Array] | Sequence[float]) -> Array:
        averaged: Array = np.average(np.array(values), axis=0, weights=weights)
        return averaged

    return Scores(
        frames=sum(score.frames for score in scores),
        ao=float(mean([score.ao for score in scores])),
        sr_50=float(mean([score.sr_50 for score in scores])),
        sr_75=float(mean([score.sr_75 for score in scores])),
        success_curve=mean([score.success_curve for score in scores]),
        precision_curve=mean([score.precision_curve for score in scores]),
        normalised_precision_curve=mean([score.normalised_precision_curve for score in scores]),
    )


@dataclass(frozen=True)
class PairedDifference:
    """Mean over sequences of one tracker's success AUC minus another's, with the 95 % interval that
    the choice of sequences leaves: percentiles of the mean over resampled sequences.
    """

    mean: float
    low: float
    high: float
    sequences: int


def paired_auc_difference(
    scores: Mapping[str, Scores], against: Mapping[str, Scores]
) -> PairedDifference | None:
    """Of the sequences that both have; None of fewer than two."""
    names = [name for name in scores if name in against]
    if len(names) < 2:
        return None
    differences = np.array([scores[n].success_auc - against[n].success_auc for n in names])
    drawn = np.random.default_rng(0).integers(0, len(names), (RESAMPLES, len(names)))
    low, high = np.percentile(differences[drawn].mean(axis=1), (2.5, 97.5))
    return PairedDifference(float(differences.mean()), float(low), float(high), len(names))


def _centres(xywh: Array) -> Array:
    centres: Array = xywh[:, :2] + xywh[:, 2:] / 2
    return centres


def _corners(xywh: Array, bound_xyxy: Box | None) -> tuple[Array, Array]:
    """Top left and bottom right, each (frames, 2)."""
    low, high = xywh[:, :2], xywh[:, :2] + xywh[:, 2:]
    if bound_xyxy is None:
        return low, high
    # As the toolkit clips: what begins left of the bound or above it is moved, not cut.
    first, last = np.array(bound_xyxy[:2]), np.array(bound_xyxy[2:])
    low = np.clip(low, first, last)
    return low, low + np.clip(xywh[:, 2:], 0, last - low)
