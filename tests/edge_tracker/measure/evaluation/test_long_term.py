"""Long-term measures, against what can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge_tracker.measure.evaluation.long_term import Told, long_term, told

NAN = float("nan")


def of(overlaps: list[float], confidences: list[float], found: list[int] | None = None) -> Told:
    said = [confidence >= 0.5 for confidence in confidences] if found is None else found
    return Told(np.array(overlaps), np.array(confidences), np.array(said, bool))


def test_precision_recall_and_f_by_hand() -> None:
    """Withholding the box where the target is absent costs nothing."""
    measured = long_term([of([0.8, 0.6, 0.4, NAN], [0.9, 0.8, 0.7, 0.1])])
    assert measured.threshold == 0.7
    assert measured.precision == pytest.approx(0.6)
    assert measured.recall == pytest.approx(0.6)
    assert measured.f_score == pytest.approx(0.6)
    assert (measured.frames, measured.frames_absent) == (4, 1)


def test_precision_and_recall_are_means_over_sequences() -> None:
    long, short = of([1.0] * 9, [0.9] * 9), of([0.0], [0.9])
    measured = long_term([long, short])
    assert measured.precision == measured.recall == pytest.approx(0.5)


def test_how_well_confidence_tells() -> None:
    measured = long_term([of([0.9, 0.9, 0.9, 0.2, NAN], [0.9, 0.8, 0.3, 0.8, 0.2])])
    # Of six pairs of right and wrong, 0.9 wins two, 0.8 one and a half, 0.3 one.
    assert measured.roc_auc == pytest.approx(4.5 / 6)
    assert measured.absent_told == 1.0
    assert measured.false_alarms == pytest.approx(1 / 3)
    # Wrong among the first 1, 2, ... by confidence: 0, 0, 1, 1, 2.
    assert measured.risk_coverage == pytest.approx((0 + 0 + 1 / 3 + 1 / 4 + 2 / 5) / 5)


def test_calibrated_confidence_has_no_error() -> None:
    sure = of([0.9, 0.9, 0.9, 0.1], [0.75] * 4)
    assert long_term([sure]).calibration_error == pytest.approx(0.0)
    assert long_term([of([0.9, 0.1], [1.0, 1.0])]).calibration_error == pytest.approx(0.5)


def test_returns_and_how_long_it_took() -> None:
    overlaps = [0.9, NAN, NAN, 0.0, 0.0, 0.8, NAN, 0.1, 0.1, NAN, 0.7]
    measured = long_term([of(overlaps, [0.9] * 11)])
    assert (measured.returns, measured.regained) == (3, 2)
    assert measured.frames_to_regain == 1.0  # of 2 and 0


def test_something_else_taken_for_the_target_is_counted() -> None:
    overlaps = [0.9, NAN, NAN, 0.05, 0.9, 0.3]
    found = [1, 0, 1, 0, 1, 1]
    measured = long_term([of(overlaps, [0.5] * 6, found)])
    assert measured.false_recoveries == pytest.approx(1000 / 6)  # the second; the fifth is right


def test_without_absence_there_is_none_to_tell() -> None:
    measured = long_term([of([0.9, 0.8], [0.9, 0.8])])
    assert (measured.roc_auc, measured.absent_told, measured.frames_to_regain) == (None, None, None)
    assert measured.returns == 0


def test_the_first_frame_does_not_count_and_absence_is_no_overlap() -> None:
    truth = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [NAN] * 4, [5, 0, 10, 10]])
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]], float)
    frames = told(truth, boxes, np.ones(4), np.ones(4, bool))
    np.testing.assert_allclose(frames.overlaps, [1.0, NAN, 1 / 3])


@given(
    arrays.arrays(float, st.just(30), elements=st.floats(0, 1)),
    arrays.arrays(float, st.just(30), elements=st.floats(0, 1)),
    arrays.arrays(bool, st.just(30)),
)
def test_whatever_happens_the_figures_are_shares(
    overlaps: np.ndarray, confidences: np.ndarray, absent: np.ndarray
) -> None:
    overlaps = np.where(absent, NAN, overlaps)
    measured = long_term([Told(overlaps, confidences, confidences >= 0.5)])
    for share in (measured.f_score, measured.precision, measured.recall, measured.risk_coverage):
        assert 0 <= share <= 1
    assert 0 <= measured.calibration_error <= 1
    assert measured.regained <= measured.returns
    # No F is below that of giving every box.
    everything = np.nan_to_num(overlaps)
    precision = everything.mean()
    recall = everything.sum() / max(1, (~absent).sum())
    if precision + recall:
        assert measured.f_score >= 2 * precision * recall / (precision + recall) - 1e-9


def test_nothing_to_measure() -> None:
    with pytest.raises(ValueError, match="no sequence"):
        long_term([])
