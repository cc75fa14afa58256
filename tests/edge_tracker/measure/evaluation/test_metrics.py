"""Metrics against their definitions, and against the got10k toolkit's own functions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_tracker.measure.evaluation.ground_truth import AnnotatedSequence
from edge_tracker.measure.evaluation.metrics import (
    Scores,
    box_overlaps,
    mean_scores,
    paired_auc_difference,
    score_boxes,
)
from edge_tracker.measure.evaluation.one_pass import Trajectory
from edge_tracker.measure.evaluation.result_files import write_results
from edge_tracker.rules.boxes import box_iou

Boxes = np.ndarray
FROM_ONE = np.array((1.0, 1.0, 0.0, 0.0))
TOOLKIT_TOLERANCE = 1e-6


def random_boxes(seed: int, frames: int = 200, width: int = 320, height: int = 240) -> Boxes:
    """Some reach outside the frame; rounded as result files are."""
    random = np.random.default_rng(seed)
    low = random.uniform((-30, -30), (width, height), (frames, 2))
    size = random.uniform(5, 120, (frames, 2))
    return np.hstack([low, size]).round(3)


def near(truth: Boxes, seed: int) -> Boxes:
    """A tracker's boxes: the first is given, the others miss by up to 40 px."""
    random = np.random.default_rng(seed)
    predicted = truth + random.uniform(-1, 1, truth.shape) * random.uniform(0, 40, (len(truth), 1))
    predicted[:, 2:] = np.maximum(predicted[:, 2:], 10)
    predicted[0] = truth[0]
    return predicted.round(3)


def by_definition(predicted: Boxes, truth: Boxes) -> dict[str, float]:
    """Frame by frame, as the papers put it."""
    ious, errors_px, errors_of_size = [], [], []
    for p, t in zip(predicted, truth, strict=True):
        if math.isnan(t[0]):
            continue
        ious.append(min(1.0, box_iou(tuple(p), tuple(t))))
        dx, dy = (p[0] + p[2] / 2) - (t[0] + t[2] / 2), (p[1] + p[3] / 2) - (t[1] + t[3] / 2)
        errors_px.append(math.hypot(dx, dy))
        errors_of_size.append(math.hypot(dx / t[2], dy / t[3]))

    def share(values: list[float]) -> float:
        return sum(values) / len(values)

    overlap_steps = [i / 20 for i in range(21)]
    size_steps = [i / 100 for i in range(51)]
    return {
        "success_auc": share([share([iou > step for iou in ious]) for step in overlap_steps]),
        "precision_20px": share([error <= 20 for error in errors_px]),
        "normalised_precision_auc": share(
            [share([error <= step for error in errors_of_size]) for step in size_steps]
        ),
        "ao": share(ious[1:]),
        "sr_50": share([iou > 0.5 for iou in ious[1:]]),
        "sr_75": share([iou > 0.75 for iou in ious[1:]]),
    }


@pytest.mark.parametrize("seed", range(5))
def test_scores_follow_their_definitions(seed: int) -> None:
    truth = random_boxes(seed)
    predicted = near(truth, seed)
    truth[1 + seed :: 7] = np.nan
    scores = score_boxes(predicted, truth)
    for name, value in by_definition(predicted, truth).items():
        assert getattr(scores, name) == pytest.approx(value, abs=1e-12), name


TRUTH = np.array([(10.0, 10, 20, 20), (10, 10, 20, 20), (10, 10, 20, 20)])


@pytest.mark.parametrize(
    ("last_box", "ao", "auc", "precision"),
    [
        # At threshold 1 no overlap is above it: a perfect tracker has 20 of 21.
        ((10, 10, 20, 20), 1.0, 20 / 21, 1.0),
        ((100, 10, 20, 20), 0.5, 20 / 21 * 2 / 3, 2 / 3),
        # Exactly 20 px off counts; overlap is 0 where boxes only touch.
        ((30, 10, 20, 20), 0.5, 20 / 21 * 2 / 3, 1.0),
        # Half of it: overlap 0.5 is not above 0.5, so 10 thresholds 0 ... 0.45.
        ((10, 10, 20, 10), 0.75, (20 * 2 + 10) / 63, 1.0),
        ((10, 10, 0, 0), 0.5, 20 / 21 * 2 / 3, 1.0),
    ],
)
def test_thresholds_on_boxes_that_can_be_counted_by_hand(
    last_box: tuple[float, ...], ao: float, auc: float, precision: float
) -> None:
    scores = score_boxes(np.array([*TRUTH[:2], last_box]), TRUTH)
    assert scores.ao == pytest.approx(ao)
    assert scores.success_auc == pytest.approx(auc)
    assert scores.precision_20px == pytest.approx(precision)


def test_equal_boxes_do_not_overlap_by_more_than_one() -> None:
    """Unrounded, intersection over union of these is 1.0000000000000002 and more."""
    boxes = random_boxes(3, 500)
    assert max(box_iou(tuple(box), tuple(box)) for box in boxes) > 1
    assert box_overlaps(boxes, boxes).max() == 1
    assert score_boxes(boxes, boxes).success_auc == pytest.approx(20 / 21, abs=1e-15)


def test_the_first_frame_counts_in_curves_but_not_in_average_overlap() -> None:
    lost = np.array([TRUTH[0], (100, 100, 5, 5), (100, 100, 5, 5)])
    scores = score_boxes(lost, TRUTH)
    assert scores.frames == 2
    assert scores.ao == scores.sr_50 == 0
    assert scores.precision_20px == pytest.approx(1 / 3)


def test_frames_without_the_target_do_not_count() -> None:
    truth = TRUTH.copy()
    truth[1] = np.nan
    wrong_while_absent = np.array([TRUTH[0], (200, 200, 5, 5), TRUTH[2]])
    scores = score_boxes(wrong_while_absent, truth)
    assert (scores.frames, scores.ao, scores.precision_20px) == (1, 1, 1)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 4\) and ground truth \(3, 4\)"):
        score_boxes(TRUTH[:2], TRUTH)
    absent = TRUTH.copy()
    absent[1:] = np.nan
    with pytest.raises(ValueError, match="no frame after the first"):
        score_boxes(TRUTH, absent)
    with pytest.raises(ValueError, match="no sequence was evaluated"):
        mean_scores([])


def test_means_over_sequences_and_over_frames() -> None:
    long, short = random_boxes(1, 300), random_boxes(2, 20)
    scores = [score_boxes(near(long, 1), long), score_boxes(short, short)]
    assert mean_scores(scores).ao == pytest.approx((scores[0].ao + 1) / 2)
    by_frames = mean_scores(scores, by_frames=True)
    assert by_frames.ao == pytest.approx((299 * scores[0].ao + 19) / 318)
    assert by_frames.frames == 318


# The got10k toolkit. `test_scores_follow_their_definitions` is the twin that always runs.


def test_overlap_and_centre_error_are_those_of_the_toolkit() -> None:
    toolkit = pytest.importorskip("got10k.utils.metrics", reason="needs edge-tracker[toolkits]")
    truth = random_boxes(0)
    predicted = near(truth, 0)
    expected = toolkit.rect_iou(predicted, truth)
    np.testing.assert_allclose(box_overlaps(predicted, truth), expected, atol=TOOLKIT_TOLERANCE)
    bound = np.array([320, 240])
    # The toolkit clips in place.
    expected = toolkit.rect_iou(predicted.copy(), truth.copy(), bound=bound)
    ours = box_overlaps(predicted, truth, (0, 0, 320, 240))
    np.testing.assert_allclose(ours, expected, atol=TOOLKIT_TOLERANCE)
    errors = toolkit.center_error(predicted, truth)
    precision = [(errors <= threshold).mean() for threshold in range(51)]
    np.testing.assert_allclose(score_boxes(predicted, truth).precision_curve, precision)


class TinyDataset:
    """Stands in for the toolkit's readers: images are never opened for a report."""

    def __init__(self, truths: dict[str, Boxes], resolution: tuple[int, int] | None = None):
        self.seq_names = list(truths)
        self.return_meta = False
        self._truths = truths
        self._resolution = resolution

    def __len__(self) -> int:
        return len(self._truths)

    def __getitem__(self, key: int | str) -> tuple[object, ...]:
        name = self.seq_names[key] if isinstance(key, int) else key
        truth = self._truths[name]
        meta = {"resolution": str(self._resolution), "cover": np.ones(len(truth))}
        return ([], truth.copy(), meta) if self.return_meta else ([], truth.copy())

    def __iter__(self) -> Iterator[tuple[object, ...]]:
        return (self[index] for index in range(len(self)))


def write_as_tracked(folder: Path, layout: str, name: str, predicted: Boxes) -> None:
    frames = tuple(Path(f"{number}.jpg") for number in range(len(predicted)))
    sequence = AnnotatedSequence(name, layout, frames, predicted, None, Path("groundtruth.txt"))
    write_results(folder, sequence, Trajectory(predicted, np.full(len(predicted), 0.02)))


def agree(scores: Scores, expected: dict[str, float]) -> None:
    for name, value in expected.items():
        assert getattr(scores, name) == pytest.approx(value, abs=TOOLKIT_TOLERANCE), name


def test_otb_report_of_the_toolkit_agrees_on_our_result_files(tmp_path: Path) -> None:
    experiments = pytest.importorskip("got10k.experiments", reason="needs edge-tracker[toolkits]")
    truths = {f"seq{seed}": random_boxes(seed, 50 + seed) for seed in range(3)}
    predicted = {name: near(truth, seed) for seed, (name, truth) in enumerate(truths.items())}
    for name, boxes in predicted.items():
        write_as_tracked(tmp_path / "results" / "ours", "otb", name, boxes)
    experiment = experiments.ExperimentOTB.__new__(experiments.ExperimentOTB)
    experiment.dataset = TinyDataset({name: t + FROM_ONE for name, t in truths.items()})
    experiment.result_dir = str(tmp_path / "results")
    experiment.report_dir = str(tmp_path / "reports")
    experiment.nbins_iou, experiment.nbins_ce = 21, 51
    experiment.plot_curves = lambda names: None
    report = experiment.report(["ours"])["ours"]
    scores = {name: score_boxes(predicted[name], truths[name]) for name in truths}
    for name, theirs in report["seq_wise"].items():
        agree(
            scores[name],
            {"success_auc": theirs["success_score"], "precision_20px": theirs["precision_score"]},
        )
        assert theirs["speed_fps"] == pytest.approx(50)
    overall = mean_scores(list(scores.values()))
    np.testing.assert_allclose(
        overall.success_curve, report["overall"]["success_curve"], atol=TOOLKIT_TOLERANCE
    )
    agree(overall, {"success_auc": report["overall"]["success_score"]})


def test_got10k_report_of_the_toolkit_agrees_on_our_result_files(tmp_path: Path) -> None:
    experiments = pytest.importorskip("got10k.experiments", reason="needs edge-tracker[toolkits]")
    resolution = (320, 240)
    truths = {f"seq{seed}": random_boxes(seed, 40 + 9 * seed) for seed in range(3)}
    predicted = {name: near(truth, seed) for seed, (name, truth) in enumerate(truths.items())}
    for name, boxes in predicted.items():
        write_as_tracked(tmp_path / "GOT-10k" / "ours", "got10k", name, boxes)
    experiment = experiments.ExperimentGOT10k.__new__(experiments.ExperimentGOT10k)
    experiment.dataset = TinyDataset(
        {name: truth + FROM_ONE for name, truth in truths.items()}, resolution
    )
    experiment.subset, experiment.nbins_iou = "val", 101
    experiment.result_dir = str(tmp_path / "GOT-10k")
    experiment.report_dir = str(tmp_path / "reports")
    experiment.plot_curves = lambda files, names: None
    report = experiment.report(["ours"])["ours"]
    bound = (-1.0, -1.0, resolution[0] - 1.0, resolution[1] - 1.0)
    scores = {name: score_boxes(predicted[name], truths[name], bound) for name in truths}
    for name, theirs in report["seq_wise"].items():
        agree(scores[name], {"ao": theirs["ao"], "sr_50": theirs["sr"]})
    # Its overall figures are means over frames.
    pooled = mean_scores(list(scores.values()), by_frames=True)
    agree(pooled, {"ao": report["overall"]["ao"], "sr_50": report["overall"]["sr"]})


def with_auc(auc: float) -> Scores:
    return Scores(9, 0.0, 0.0, 0.0, np.full(21, auc), np.zeros(51), np.zeros(51))


def test_a_paired_difference_has_the_interval_of_the_mean_over_sequences() -> None:
    random = np.random.default_rng(1)
    base, change = random.uniform(0.2, 0.9, 40), random.normal(0.02, 0.01, 40)
    against = {f"{n}": with_auc(auc) for n, auc in enumerate(base)}
    scores = {f"{n}": with_auc(auc) for n, auc in enumerate(base + change)}
    found = paired_auc_difference(scores, against)
    assert found is not None
    # However much the sequences themselves differ.
    half_width = 1.96 * change.std() / math.sqrt(40)
    assert found.mean == pytest.approx(change.mean())
    assert found.high - found.mean == pytest.approx(half_width, rel=0.15)
    assert found.mean - found.low == pytest.approx(half_width, rel=0.15)
    assert paired_auc_difference({"1": scores["1"]}, against) is None


def test_polygons_become_the_toolkits_rectangles() -> None:
    vot = pytest.importorskip("got10k.datasets.vot", reason="needs edge-tracker[toolkits]")
    from edge_tracker.measure.evaluation.ground_truth import rectangle_of_polygon

    corners = np.random.default_rng(0).uniform(10, 200, (50, 8))
    ours = np.array([rectangle_of_polygon(polygon) for polygon in corners])
    theirs = vot.VOT._corner2rect(SimpleNamespace(), corners)
    np.testing.assert_allclose(ours, theirs, atol=TOOLKIT_TOLERANCE)
