"""Samples from annotated sequences: frames, jitter, boxes, negatives."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from distillation.data.sequences import TrainingSequence, read_sequences
from distillation.data.triplets import (
    MAX_GAP_FRAMES,
    Triplets,
    box_in_crop,
    causal_frames,
    jittered_box,
)
from distillation.recipes.recipe import Jitter, SourceKind
from edge_tracker.errors import DatasetError
from edge_tracker.rules.crop import crop_square
from tests.helpers.small_training import write_sequence

BOXES = ["10,10,20,16", "12,10,20,16", "nan,nan,nan,nan", "14,10,20,16"]
STILL = Jitter(size_sigma=0.0, centre=0.0)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_search_frame_follows_the_template_within_the_gap(rng: np.random.Generator) -> None:
    visible = np.ones(600, bool)
    visible[100:150] = False
    drawn = np.array([causal_frames(rng, visible) for _ in range(2000)])
    template, online, search = drawn.T
    assert visible[drawn].all()
    assert (search[template < 599] > template[template < 599]).all()
    assert np.abs(online - template).max() == MAX_GAP_FRAMES
    assert (search - template).max() == MAX_GAP_FRAMES
    assert ((online < template).mean(), (online > template).mean()) > (0.3, 0.3)


def test_a_still_image_is_searched_in_itself(rng: np.random.Generator) -> None:
    assert causal_frames(rng, np.array([True])) == (0, 0, 0)


def test_jitter_is_as_wide_as_the_paper_has_it(rng: np.random.Generator) -> None:
    box = np.array([100.0, 50.0, 40.0, 20.0])
    drawn = np.array([jittered_box(rng, box, Jitter()) for _ in range(4000)])
    size = drawn[:, 2:]
    logs = np.log(size / box[2:])
    np.testing.assert_allclose(logs.std(axis=0), 0.5, rtol=0.05)
    assert abs(np.corrcoef(logs.T)[0, 1]) < 0.1
    shift = drawn[:, :2] + size / 2 - (box[:2] + box[2:] / 2)
    reach = shift / np.sqrt(size.prod(axis=1, keepdims=True))
    assert 2.2 < np.abs(reach).max() <= 2.25
    np.testing.assert_allclose(reach.std(axis=0), 4.5 / np.sqrt(12), rtol=0.05)


def test_the_box_lies_in_the_crop_where_the_target_is() -> None:
    frame = np.zeros((200, 300, 3), np.uint8)
    frame[80:120, 100:160] = 255
    box, around = np.array([100.0, 80, 60, 40]), np.array([110.0, 70, 50, 50])
    crop, side_px = crop_square(frame, around.tolist(), 4.0, 128)
    edges = box_in_crop(box, around, side_px, 128) * 128
    rows, columns = (np.flatnonzero(crop.any(axis=(axis, 2))) for axis in (1, 0))
    found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(edges, found, atol=1.5)


def test_a_box_beyond_the_crop_is_clipped_to_it() -> None:
    edges = box_in_crop(np.array([0.0, 0, 500, 10]), np.array([0.0, 0, 10, 10]), 50, 64)
    assert edges[0] >= 0
    assert edges[2] == 1


@pytest.fixture
def sequences(tmp_path: Path) -> list[TrainingSequence]:
    for name in ("cat", "dog"):
        write_sequence(tmp_path / name, BOXES)
    return read_sequences("folder", tmp_path)


def triplets(sequences: list[TrainingSequence], absent_fraction: float = 0.0) -> Triplets:
    return Triplets(
        [sequences],
        template_size_px=32,
        search_size_px=64,
        jitter=STILL,
        absent_fraction=absent_fraction,
        seed=3,
    )


def test_a_centred_target_has_its_box_in_the_middle(sequences: list[TrainingSequence]) -> None:
    side = np.ceil(np.sqrt(20 * 16) * 5)
    half = np.array([10, 8]) / side
    for number in range(10):
        sample = triplets(sequences).render(number)
        middle = 63 / 128
        expected = [middle - half[0], middle - half[1], middle + half[0], middle + half[1]]
        mirrored = [1 - expected[2], expected[1], 1 - expected[0], expected[3]]
        assert sample.present
        assert any(np.allclose(sample.edges, edges, atol=1e-6) for edges in (expected, mirrored))


def test_half_of_the_samples_lack_their_target_if_asked(sequences: list[TrainingSequence]) -> None:
    samples = [triplets(sequences, 0.5).render(number) for number in range(60)]
    absent = [sample for sample in samples if not sample.present]
    assert 18 <= len(absent) <= 42
    assert not any(sample.edges.any() for sample in absent)


def test_a_triplet_is_reproducible(sequences: list[TrainingSequence]) -> None:
    one, again = triplets(sequences).render(7), triplets(sequences).render(7)
    assert one.search.tobytes() == again.search.tobytes()


def test_absent_frames_are_never_used(sequences: list[TrainingSequence]) -> None:
    assert [list(sequence.visible) for sequence in sequences] == [[True, True, False, True]] * 2


LAYOUTS = {
    "got10k": lambda root: write_got10k(root / "GOT-10k_Train_000001"),
    "lasot": lambda root: write_lasot(root / "cat" / "cat-1"),
    "trackingnet": lambda root: write_trackingnet(root / "TRAIN_0"),
    "folder": lambda root: write_sequence(root / "cat", BOXES),
    "coco": lambda root: write_coco(root),
}


def write_got10k(folder: Path) -> None:
    write_sequence(folder, [b.replace("nan", "0") for b in BOXES], images=folder)
    (folder / "absence.label").write_text("0\n1\n0\n0\n")


def write_lasot(folder: Path) -> None:
    write_sequence(folder, [b.replace("nan", "0") for b in BOXES])
    (folder / "full_occlusion.txt").write_text("0,1,0,0")
    (folder / "out_of_view.txt").write_text("0,0,0,0")


def write_trackingnet(subset: Path) -> None:
    write_sequence(subset / "anno", BOXES, images=subset / "frames" / "clip")
    (subset / "anno" / "groundtruth.txt").rename(subset / "anno" / "clip.txt")


def write_coco(root: Path) -> None:
    (root / "train2017").mkdir(parents=True)
    cv2.imwrite(str(root / "train2017" / "7.png"), np.zeros((60, 80, 3), np.uint8))
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train2017.json").write_text(
        '{"images": [{"id": 7, "file_name": "7.png"}], "annotations": ['
        '{"id": 1, "image_id": 7, "bbox": [10, 10, 20, 16], "iscrowd": 0},'
        '{"id": 2, "image_id": 7, "bbox": [10, 10, 20, 16], "iscrowd": 1},'
        '{"id": 3, "image_id": 7, "bbox": [10, 10, 2, 16], "iscrowd": 0}]}'
    )


@pytest.mark.parametrize(
    ("kind", "visible", "first_pixel"),
    [
        ("got10k", [True, False, False, True], 1),
        ("lasot", [True, False, False, True], 1),
        ("trackingnet", [True, True, False, True], 0),
        ("folder", [True, True, False, True], 0),
        ("coco", [True], 0),
    ],
)
def test_each_layout_is_read(
    kind: SourceKind, visible: list[bool], first_pixel: int, tmp_path: Path
) -> None:
    LAYOUTS[kind](tmp_path)
    (sequence,) = read_sequences(kind, tmp_path)
    assert sequence.visible.tolist() == visible
    assert sequence.boxes_xywh[0].tolist() == [10 - first_pixel, 10 - first_pixel, 20, 16]
    assert len(sequence.frame_paths) == len(visible)
    assert (
        Triplets(
            [[sequence]],
            template_size_px=32,
            search_size_px=64,
            jitter=Jitter(),
            absent_fraction=0.5,
            seed=0,
        )
        .render(0)
        .present
    )


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_folder_of_another_layout_is_refused(kind: SourceKind, tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    cv2.imwrite(str(tmp_path / "holiday" / "1.png"), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(DatasetError, match=str(tmp_path)):
        read_sequences(kind, tmp_path)


def test_annotations_that_are_no_coco_are_named(tmp_path: Path) -> None:
    write_coco(tmp_path)
    annotations = tmp_path / "annotations" / "instances_train2017.json"
    annotations.write_text('{"images": []}')
    with pytest.raises(DatasetError, match=r"instances_train2017\.json cannot be read"):
        read_sequences("coco", tmp_path)


def test_a_first_image_that_does_not_decode_is_named(tmp_path: Path) -> None:
    write_sequence(tmp_path / "cat", BOXES)
    (tmp_path / "cat" / "img" / "00000001.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"00000001\.png"):
        read_sequences("folder", tmp_path)


def test_a_test_set_is_told_from_a_training_set(tmp_path: Path) -> None:
    folder = tmp_path / "GOT-10k_Test_000001"
    write_got10k(folder)
    (folder / "groundtruth.txt").write_text("10,10,20,16\n")
    (folder / "absence.label").unlink()
    with pytest.raises(DatasetError, match="it is of a test set"):
        read_sequences("got10k", tmp_path)
