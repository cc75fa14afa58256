"""Made absence has the truth that its pixels have."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from distillation.absence import MAKERS, PERIOD, footage_of, main
from edge_tracker.errors import DatasetError
from edge_tracker.measure.evaluation.ground_truth import AnnotatedSequence, read_sequence
from edge_tracker.measure.evaluation.layouts import find_sequences

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
    made = MAKERS[kind](footage_of(sequence), PERIOD)
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
    footage = footage_of(sequence)
    away = {
        kind: int(np.isnan(make(footage, PERIOD).truth_xywh[:, 0]).sum())
        for kind, make in MAKERS.items()
    }
    assert away["elsewhere"] == PERIOD // 4
    assert away["real"] == away["cut out"] == away["jerked"] == 0
    assert away["covered"] == PERIOD // 2
    lengths = {kind: len(make(footage, PERIOD).truth_xywh) for kind, make in MAKERS.items()}
    assert lengths == {
        "real": FRAMES,
        "covered": FRAMES,
        "cut out": FRAMES - PERIOD // 2,
        "jerked": FRAMES,
        "elsewhere": FRAMES,
    }
    assert not np.isnan(sequence.truth_xywh).any()


def test_made_sequences_are_a_data_set(sequence: AnnotatedSequence, tmp_path: Path) -> None:
    folder = tmp_path / "originals" / "red"
    folder.mkdir(parents=True)
    (folder / "img").symlink_to(sequence.frames[0].parent)
    np.savetxt(folder / "groundtruth.txt", sequence.truth_xywh, delimiter=",")
    made = tmp_path / "made"
    main([str(folder.parent), "-o", str(made), "--kinds", "covered", "cut out"])
    covered, cut = (read_sequence(found) for found in find_sequences(made))
    assert (covered.name, cut.name) == ("red.covered", "red.cut_out")
    assert len(covered.frames) == FRAMES
    assert np.isnan(covered.truth_xywh[:, 0]).sum() == PERIOD // 2
    assert len(cut.frames) == FRAMES - PERIOD // 2
    assert covered.read_frame(0)[50, 70].tolist() == pytest.approx(TARGET_BGR, abs=40)
    with pytest.raises(DatasetError, match="exists already"):
        main([str(folder.parent), "-o", str(made)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "originals"]
