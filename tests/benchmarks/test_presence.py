"""Made absence has the truth that its pixels have; what is told of it is by held-out groups."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from benchmarks.absence import MAKERS, PERIOD
from edge_tracker.measure.evaluation.ground_truth import AnnotatedSequence

presence = pytest.importorskip("benchmarks.presence", reason="needs scikit-learn")

FRAMES = 2 * PERIOD + 10
TARGET_BGR = (0, 0, 255)


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> AnnotatedSequence:
    """A red square of 20 px that moves to the right, on grey."""
    folder = tmp_path_factory.mktemp("sequence")
    paths, boxes = [], []
    for index in range(FRAMES):
        image = np.full((100, 240, 3), 128, np.uint8)
        x = 60 + index // 4
        image[40:60, x : x + 20] = TARGET_BGR
        paths.append(folder / f"{index:04d}.png")
        cv2.imwrite(str(paths[-1]), image)
        boxes.append((x, 40, 20, 20))
    truth = np.array(boxes, float)
    return AnnotatedSequence("red", "plain", tuple(paths), truth, None, folder / "truth.txt")


@pytest.mark.parametrize("kind", MAKERS)
def test_the_target_is_where_the_truth_says_and_nowhere_else(
    sequence: AnnotatedSequence, kind: str
) -> None:
    made = MAKERS[kind](sequence)
    images = list(made.frames())
    assert made.kind == kind
    assert len(images) == len(made.truth_xywh)
    for image, truth in zip(images, made.truth_xywh, strict=True):
        red = np.argwhere((image == TARGET_BGR).all(axis=2))
        if np.isnan(truth).any():
            assert len(red) == 0 or kind == "jerked"
            continue
        # A jerk may leave a part of it outside the frame.
        (top, left), (bottom, right) = red.min(axis=0), red.max(axis=0) + 1
        assert (top, bottom) == (40, 60)
        assert left == pytest.approx(max(0, truth[0]), abs=0.01)
        assert right == pytest.approx(truth[0] + 20, abs=0.01)


def test_how_often_it_is_away(sequence: AnnotatedSequence) -> None:
    away = {
        kind: int(np.isnan(make(sequence).truth_xywh[:, 0]).sum()) for kind, make in MAKERS.items()
    }
    assert away["real"] == away["cut out"] == away["jerked"] == 0
    assert away["covered"] == PERIOD // 2
    lengths = {kind: len(make(sequence).truth_xywh) for kind, make in MAKERS.items()}
    assert lengths == {
        "real": FRAMES,
        "covered": FRAMES,
        "cut out": FRAMES - PERIOD // 2,
        "jerked": FRAMES,
    }
    assert not np.isnan(sequence.truth_xywh).any()


def test_a_group_is_judged_by_the_others() -> None:
    """A feature that means the opposite in one group misleads there, and there alone."""
    random = np.random.default_rng(0)
    overlap = np.where(random.random(300) < 0.5, 0.9, presence.ABSENT)
    groups = np.repeat(["a", "b", "c"], 100)
    sign = np.where(groups == "c", -1.0, 1.0)
    features = (sign * overlap + random.normal(0, 0.1, 300))[:, None]
    fitted = presence.cross_validated(features, overlap, groups)
    assert "ROC AUC 0.000, 0.0% of absent" in presence.describe(fitted[200:], overlap[200:])
    honest = presence.cross_validated(sign[:, None] * features, overlap, groups)
    assert "ROC AUC 1.000, 100.0% of absent" in presence.describe(honest, overlap)


def test_what_a_frame_tells() -> None:
    random = np.random.default_rng(1)
    one, other = (random.integers(0, 255, (16, 16, 3), dtype=np.uint8) for _ in range(2))
    assert presence.similarity(one, one) == pytest.approx(1.0)
    assert abs(presence.similarity(one, other)) < 0.3
    assert presence.colours(one).sum() == pytest.approx(1.0)
    still, moved = (
        presence.motion((0, 0, 10, 10), box) for box in ((0, 0, 10, 10), (5, 0, 20, 10))
    )
    assert moved[0] > still[0]
    assert moved[1] > still[1]
