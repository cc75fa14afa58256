"""Whether a tracker knows that its target is gone, and takes it up again.

Long-term precision, recall and F as the VOT challenge has them (Lukežič et al., "Now You See Me:
Evaluating Performance in Long-Term Visual Tracking", 2018): with boxes below a threshold of
confidence withheld, precision is the mean overlap of the boxes that are given, 0 where the target
is absent; recall the mean overlap in the frames where it is to be seen, 0 where the box is
withheld. Both are means over sequences; of all thresholds that with the highest F is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tracker.measure.evaluation.metrics import box_overlaps

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: A box that overlaps more of the target than this has found it; one at or below the other has not
#: to do with it.
FOUND_IOU, LOST_IOU = 0.5, 0.1
THRESHOLDS = 100
CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Told:
    """One tracker on one sequence, without the first frame; a row for each of the others.

    overlaps: with the truth, NaN where the target is absent. confidences: 0 to 1. found: whether
    the tracker says that it has the target.
    """

    overlaps: Array
    confidences: Array
    found: Flags


@dataclass(frozen=True)
class LongTerm:
    """Of one tracker on several sequences. None where nothing of the kind has happened.

    precision, recall, f_score: at `threshold` of the confidence. roc_auc: of the confidence, boxes
    that have found the target against all others. calibration_error: expected one, of the
    confidence as the probability that they have. risk_coverage: area under the curve of the share
    of wrong boxes among the most confident ones; 0 is best. absent_told: share of the frames
    without target that are said to be; false_alarms: share of boxes that have found it, said not
    to. returns: how often it came back to be seen. regained: how often the box was on it again
    before it left again; frames_to_regain: median of how many frames that took. false_recoveries:
    in 1,000 frames, how often something else was said to be the target found again.
    """

    frames: int
    frames_absent: int
    precision: float
    recall: float
    f_score: float
    threshold: float
    roc_auc: float | None
    calibration_error: float
    risk_coverage: float
    absent_told: float | None
    false_alarms: float | None
    returns: int
    regained: int
    frames_to_regain: float | None
    false_recoveries: float


def told(truth_xywh: Array, boxes_xywh: Array, confidences: Array, found: Flags) -> Told:
    """(frames, 4) twice and (frames,) twice, NaN in the truth where the target is absent."""
    overlaps = box_overlaps(boxes_xywh, np.nan_to_num(truth_xywh))
    overlaps[np.isnan(truth_xywh[:, 0])] = np.nan
    return Told(overlaps[1:], confidences[1:], found[1:])


def long_term(sequences: Sequence[Told]) -> LongTerm:
    """Raises ValueError without sequences."""
    if not sequences:
        raise ValueError("no sequence was evaluated: there is nothing to tell")
    overlaps = np.concatenate([sequence.overlaps for sequence in sequences])
    confidences = np.concatenate([sequence.confidences for sequence in sequences])
    said = np.concatenate([sequence.found for sequence in sequences])
    absent = np.isnan(overlaps)
    right = ~absent & (np.nan_to_num(overlaps) > FOUND_IOU)
    precision, recall, f_score, threshold = _best_f(sequences, confidences)
    delays = [delay for sequence in sequences for delay in _delays(sequence.overlaps)]
    regained = [delay for delay in delays if delay is not None]
    return LongTerm(
        frames=len(overlaps),
        frames_absent=int(absent.sum()),
        precision=precision,
        recall=recall,
        f_score=f_score,
        threshold=threshold,
        roc_auc=_roc_auc(confidences[right], confidences[~right]),
        calibration_error=_calibration_error(confidences, right),
        risk_coverage=_risk_coverage(confidences, right),
        absent_told=float((~said[absent]).mean()) if absent.any() else None,
        false_alarms=float((~said[right]).mean()) if right.any() else None,
        returns=len(delays),
        regained=len(regained),
        frames_to_regain=float(np.median(regained)) if regained else None,
        false_recoveries=1000 * sum(map(_false_recoveries, sequences)) / len(overlaps),
    )


def _best_f(sequences: Sequence[Told], confidences: Array) -> tuple[float, float, float, float]:
    best = (0.0, 0.0, 0.0, 0.0)
    shares = np.linspace(0, 1, THRESHOLDS, endpoint=False)
    for threshold in np.unique(np.quantile(confidences, shares, method="lower")):
        precisions, recalls = [], []
        for sequence in sequences:
            overlaps = np.nan_to_num(sequence.overlaps)
            given = sequence.confidences >= threshold
            visible = int(np.isfinite(sequence.overlaps).sum())
            # As the VOT toolkit: nothing given is nothing wrong.
            precisions.append(overlaps[given].mean() if given.any() else 1.0)
            recalls.append(overlaps[given].sum() / visible if visible else 0.0)
        precision, recall = float(np.mean(precisions)), float(np.mean(recalls))
        f_score = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        if f_score > best[2]:
            best = precision, recall, f_score, float(threshold)
    return best


def _roc_auc(right: Array, wrong: Array) -> float | None:
    """Share of pairs in which the right one has the higher confidence; equal ones count half."""
    if not len(right) or not len(wrong):
        return None
    ordered = np.sort(wrong)
    below = np.searchsorted(ordered, right, "left") + np.searchsorted(ordered, right, "right")
    return float(below.mean() / 2 / len(wrong))


def _calibration_error(confidences: Array, right: Flags) -> float:
    bins = np.minimum((confidences * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    errors = [
        (bins == chosen).mean()
        * abs(confidences[bins == chosen].mean() - right[bins == chosen].mean())
        for chosen in np.unique(bins)
    ]
    return float(np.sum(errors))


def _risk_coverage(confidences: Array, right: Flags) -> float:
    wrong = ~right[np.argsort(-confidences, kind="stable")]
    return float((np.cumsum(wrong) / np.arange(1, len(wrong) + 1)).mean())


def _delays(overlaps: Array) -> list[int | None]:
    """For each return of the target, frames until the box was on it; None if it never was before
    the target left again.
    """
    absent = np.isnan(overlaps)
    delays: list[int | None] = []
    for first in np.flatnonzero(absent[:-1] & ~absent[1:]) + 1:
        leaves = np.flatnonzero(absent[first:])
        visit = overlaps[first : first + leaves[0] if len(leaves) else None]
        on_it = np.flatnonzero(visit > FOUND_IOU)
        delays.append(int(on_it[0]) if len(on_it) else None)
    return delays


def _false_recoveries(sequence: Told) -> int:
    taken_up = ~sequence.found[:-1] & sequence.found[1:]
    return int((taken_up & (np.nan_to_num(sequence.overlaps[1:]) <= LOST_IOU)).sum())
