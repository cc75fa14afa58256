"""Layouts of data sets: recognised and read, or refused with the place that is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_tracker.errors import DatasetError
from edge_tracker.measure.evaluation.ground_truth import read_sequence
from edge_tracker.measure.evaluation.layouts import SequenceFolder, find_sequences
from tests.helpers.places import SHARED

WIDTH, HEIGHT = 32, 24
#: Of frames 1, 2, 3, ... as files of layouts that count pixels from 1 have them.
LINES = ["11,6,8,4", "12,6,8,4", "13,6,8,4", "14,6,8,4"]


def make_images(folder: Path, count: int, pattern: str = "{:04d}.png", first: int = 1) -> None:
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        cv2.imwrite(str(folder / pattern.format(number)), np.full((HEIGHT, WIDTH, 3), 9, np.uint8))


def write_lines(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


def make_otb(root: Path) -> None:
    make_images(root / "Car" / "img", 4)
    write_lines(root / "Car" / "groundtruth_rect.txt", [line.replace(",", "\t") for line in LINES])


def make_lasot(root: Path) -> None:
    make_images(root / "car" / "car-1" / "img", 4, "{:08d}.png")
    write_lines(root / "car" / "car-1" / "groundtruth.txt", LINES)
    write_lines(root / "car" / "car-1" / "full_occlusion.txt", ["0,0,1,0"])
    write_lines(root / "car" / "car-1" / "out_of_view.txt", ["0,1,0,0"])


def make_got10k(root: Path) -> None:
    folder = root / "GOT-10k_Val_000001"
    make_images(folder, 4, "{:08d}.png")
    write_lines(folder / "groundtruth.txt", ["11.0000,6.0000,8.0000,4.0000", *LINES[1:]])
    write_lines(folder / "cover.label", ["8", "0", "0", "5"])


def make_uav123(root: Path) -> None:
    make_images(root / "data_seq" / "UAV123" / "bike1", 4, "{:06d}.png")
    write_lines(
        root / "anno" / "UAV123" / "bike1.txt", [LINES[0], "NaN,NaN,NaN,NaN", "0,0,0,0", LINES[3]]
    )


def make_trackingnet(root: Path) -> None:
    make_images(root / "TEST" / "frames" / "abc_0", 12, "{}.png", first=0)
    lines = [f"{10 + index},5,8,4" for index in range(12)]
    write_lines(root / "TEST" / "anno" / "abc_0.txt", lines)


def make_vot(root: Path) -> None:
    make_images(root / "ball" / "color", 4, "{:08d}.png")
    write_lines(
        root / "ball" / "groundtruth.txt",
        ["10,5,8,4", "nan,nan,nan,nan", "-1,-1,-1,-1", "10,5,17,5,17,8,10,8"],
    )
    (root / "list.txt").write_text("ball\n")


def make_plain(root: Path) -> None:
    make_images(root / "walk" / "img", 4, "{:06d}.png")
    write_lines(
        root / "walk" / "groundtruth.txt",
        ["10,5,8,4", "nan,nan,nan,nan", "nan nan nan nan", "13;5;8;4"],
    )


def remove_files(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


MAKERS = {
    "otb": make_otb,
    "lasot": make_lasot,
    "got10k": make_got10k,
    "uav123": make_uav123,
    "trackingnet": make_trackingnet,
    "vot": make_vot,
    "plain": make_plain,
}
Make = Callable[[Path], None]


@pytest.mark.parametrize("layout", MAKERS)
def test_each_layout_is_recognised_and_its_boxes_count_from_zero(
    layout: str, tmp_path: Path
) -> None:
    MAKERS[layout](tmp_path)
    (found,) = find_sequences(tmp_path)
    assert found.layout == layout
    sequence = read_sequence(found)
    assert list(sequence.first_box) == [10, 5, 8, 4]
    assert len(sequence.frames) == len(sequence.truth_xywh)
    assert [found] == find_sequences(tmp_path, layout)


@pytest.mark.parametrize("layout", ["lasot", "got10k", "uav123", "vot", "plain"])
def test_absent_targets_are_nan(layout: str, tmp_path: Path) -> None:
    MAKERS[layout](tmp_path)
    sequence = read_sequence(find_sequences(tmp_path)[0])
    assert np.isnan(sequence.truth_xywh).any(axis=1).tolist() == [False, True, True, False]


@pytest.mark.parametrize("layout", ["otb", "lasot", "got10k", "vot", "plain"])
def test_a_single_sequence_may_be_given_itself(layout: str, tmp_path: Path) -> None:
    MAKERS[layout](tmp_path)
    (found,) = find_sequences(tmp_path)
    (alone,) = find_sequences(found.truth.parent)
    assert alone == found


def test_frames_are_in_natural_order(tmp_path: Path) -> None:
    make_trackingnet(tmp_path)
    frames = read_sequence(find_sequences(tmp_path)[0]).frames
    assert [frame.stem for frame in frames] == [str(number) for number in range(12)]


def test_otb_targets_of_one_video_and_empty_files(tmp_path: Path) -> None:
    make_images(tmp_path / "Jogging" / "img", 4)
    for number in (1, 2):
        write_lines(tmp_path / "Jogging" / f"groundtruth_rect.{number}.txt", LINES)
    make_images(tmp_path / "Human4" / "img", 4)
    (tmp_path / "Human4" / "groundtruth_rect.1.txt").touch()
    write_lines(tmp_path / "Human4" / "groundtruth_rect.2.txt", LINES)
    names = [found.name for found in find_sequences(tmp_path)]
    assert names == ["Human4", "Jogging.1", "Jogging.2"]
    assert read_sequence(find_sequences(tmp_path)[0]).truth.name == "groundtruth_rect.2.txt"


def test_otb_sequences_that_are_annotated_in_part(tmp_path: Path) -> None:
    make_images(tmp_path / "David" / "img", 770)
    write_lines(tmp_path / "David" / "groundtruth_rect.txt", LINES[:1] * 471)
    frames = read_sequence(find_sequences(tmp_path)[0]).frames
    assert (frames[0].stem, frames[-1].stem, len(frames)) == ("0300", "0770", 471)


def test_uav123_parts_of_one_video(tmp_path: Path) -> None:
    make_images(tmp_path / "data_seq" / "UAV123" / "truck4", 1261, "{:06d}.png")
    for part, count in ((1, 577), (2, 685)):
        write_lines(tmp_path / "anno" / "UAV123" / f"truck4_{part}.txt", LINES[:1] * count)
    parts = [read_sequence(found) for found in find_sequences(tmp_path)]
    ends = [(part.name, part.frames[0].stem, part.frames[-1].stem) for part in parts]
    assert ends == [("truck4_1", "000001", "000577"), ("truck4_2", "000577", "001261")]
    assert [found.name for found in find_sequences(tmp_path / "anno" / "UAV123")] == [
        "truck4_1",
        "truck4_2",
    ]


def test_got10k_overlaps_are_bounded_by_the_frame(tmp_path: Path) -> None:
    make_got10k(tmp_path)
    sequence = read_sequence(find_sequences(tmp_path)[0])
    assert sequence.overlap_bound_xyxy == (-1, -1, WIDTH - 1, HEIGHT - 1)


@pytest.mark.parametrize("layout", ["got10k", "trackingnet"])
def test_withheld_ground_truth_is_one_line(layout: str, tmp_path: Path) -> None:
    MAKERS[layout](tmp_path)
    (found,) = find_sequences(tmp_path)
    found.truth.write_text(found.truth.read_text().splitlines()[0] + "\n")
    sequence = read_sequence(found)
    assert sequence.withheld
    assert len(sequence.frames) > len(sequence.truth_xywh) == 1


@pytest.mark.parametrize("make", [make_uav123, make_trackingnet])
def test_what_macos_leaves_beside_each_file_is_no_sequence(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path)
    before = find_sequences(tmp_path)
    for found in before:
        found.truth.with_name(f"._{found.truth.name}").write_bytes(b"\0\5\x16\7" + bytes(60))
    assert find_sequences(tmp_path) == before


def test_decimal_commas_are_no_polygon(tmp_path: Path) -> None:
    make_otb(tmp_path)
    truth = tmp_path / "Car" / "groundtruth_rect.txt"
    write_lines(truth, ["40,5;30,5;40,0;36,0"] * 4)
    (found,) = find_sequences(tmp_path)
    with pytest.raises(DatasetError, match=r"line 1 of .*decimal"):
        read_sequence(found)


def test_a_polygon_becomes_the_rectangle_of_its_area(tmp_path: Path) -> None:
    make_vot(tmp_path)
    (found,) = find_sequences(tmp_path)
    # A square of area 50 on its corner around (20, 12): half the area of its bounding box.
    diamond = "15,12,20,7,25,12,20,17"
    write_lines(found.truth, [diamond] * 4)
    side = 50**0.5 + 1
    x, y, w, h = read_sequence(found).first_box
    assert (w, h) == pytest.approx((side, side))
    assert (x + w / 2, y + h / 2) == pytest.approx((20, 12))


def test_only_the_first_frames(tmp_path: Path) -> None:
    make_otb(tmp_path)
    sequence = read_sequence(find_sequences(tmp_path)[0], max_frames=2)
    assert len(sequence.frames) == len(sequence.truth_xywh) == 2


# Damage to a data set


def test_an_unknown_layout_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    make_images(tmp_path / "pictures", 2)
    with pytest.raises(DatasetError, match=r"no layout that is known here.*otb:.*plain:"):
        find_sequences(tmp_path)
    with pytest.raises(ValueError, match="layout 'otb2' is unknown: choose otb, lasot"):
        find_sequences(tmp_path, "otb2")


def test_an_empty_or_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is empty"):
        find_sequences(tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        find_sequences(tmp_path / "absent")


def test_mixed_layouts_are_refused_unless_one_is_named(tmp_path: Path) -> None:
    make_otb(tmp_path)
    make_plain(tmp_path)
    with pytest.raises(DatasetError, match=r"mixes layouts: .*--layout"):
        find_sequences(tmp_path)
    names = [found.name for found in find_sequences(tmp_path, "plain")]
    assert names == ["Car", "walk"]


def test_two_sequences_of_one_name_are_refused(tmp_path: Path) -> None:
    for kind in ("car", "bus"):
        make_images(tmp_path / kind / "same" / "img", 2)
        write_lines(tmp_path / kind / "same" / "groundtruth.txt", LINES[:2])
    with pytest.raises(DatasetError, match="several sequences named same"):
        find_sequences(tmp_path)


def keep_lines(found: SequenceFolder, count: int) -> None:
    write_lines(found.truth, (LINES * 2)[:count])


def replace_line(found: SequenceFolder, number: int, text: str) -> None:
    lines = LINES.copy()
    lines[number - 1] = text
    write_lines(found.truth, lines)


DAMAGES: dict[str, tuple[Callable[[SequenceFolder], object], str]] = {
    "fewer lines": (lambda s: keep_lines(s, 3), r"3 lines for 4 frames: line 4, for 0004\.png"),
    "more lines": (lambda s: keep_lines(s, 6), r"6 lines for 4 frames: line 5 has no frame"),
    "first box nan": (lambda s: replace_line(s, 1, "nan,nan,nan,nan"), "line 1 of .* is 'nan,nan"),
    "first box empty": (lambda s: replace_line(s, 1, "5,5,0,0"), "line 1 of .* is '5,5,0,0'"),
    "three numbers": (lambda s: replace_line(s, 3, "1,2,3"), "line 3 of .* is '1,2,3'"),
    "words": (lambda s: replace_line(s, 2, "a,b,c,d"), "line 2 of .* is 'a,b,c,d'"),
    "infinite": (lambda s: replace_line(s, 2, "inf,2,3,4"), "line 2 of .* is 'inf,2,3,4'"),
    "blank line": (lambda s: replace_line(s, 2, ""), "line 2 of .* is ''"),
    "a mask": (lambda s: replace_line(s, 2, "m1,2,3,4,5"), "line 2 of .* is 'm1,2,3,4,5'"),
    "empty file": (lambda s: s.truth.write_text("\n"), "is empty"),
    "no file": (lambda s: s.truth.unlink(), "is missing"),
    "binary file": (lambda s: s.truth.write_bytes(b"\xff\xfe\x00"), "cannot be read"),
    "no images": (lambda s: remove_files(s.images), "holds no images"),
    "never seen again": (
        lambda s: write_lines(s.truth, [LINES[0], "0,0,0,0", "0,0,0,0", "0,0,0,0"]),
        "in no frame after the first",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_sequence_is_named_with_the_line(damage: str, tmp_path: Path) -> None:
    make_otb(tmp_path)
    (found,) = find_sequences(tmp_path)
    spoil, message = DAMAGES[damage]
    spoil(found)
    with pytest.raises(DatasetError, match=f"^sequence Car: .*{message}"):
        read_sequence(found)


def test_damaged_folders_are_listed_beside_whole_ones(tmp_path: Path) -> None:
    make_plain(tmp_path)
    (tmp_path / "empty").mkdir()
    make_images(tmp_path / "unannotated" / "img", 2)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").touch()
    found = find_sequences(tmp_path)
    assert [sequence.name for sequence in found] == ["empty", "unannotated", "walk"]
    for sequence, message in zip(
        found, ("images .* is missing", "truth .* is missing"), strict=False
    ):
        with pytest.raises(DatasetError, match=f"sequence {sequence.name}: .*{message}"):
            read_sequence(sequence)


def test_an_unreadable_frame_is_named_with_its_line(tmp_path: Path) -> None:
    make_plain(tmp_path)
    sequence = read_sequence(find_sequences(tmp_path)[0])
    sequence.frames[2].write_bytes(b"no image")
    message = r"sequence walk, line 3 of groundtruth\.txt: image .*000003\.png cannot be decoded"
    with pytest.raises(DatasetError, match=message):
        sequence.read_frame(2)


def test_flags_of_another_length_are_refused(tmp_path: Path) -> None:
    make_lasot(tmp_path)
    (found,) = find_sequences(tmp_path)
    (found.truth.parent / "out_of_view.txt").write_text("0,1\n")
    with pytest.raises(DatasetError, match=r"sequence car-1: .*out_of_view\.txt has 2 flags for 4"):
        read_sequence(found)


def test_the_real_sequences() -> None:
    """Twin of the plain layout above."""
    folder = SHARED / "data" / "sequences"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/sequences")
    sequences = [read_sequence(found) for found in find_sequences(folder)]
    assert {sequence.layout for sequence in sequences} == {"plain"}
    assert len(sequences) == 18
    assert sum(len(sequence.frames) for sequence in sequences) == 4927
    absent = {s.name: int(np.isnan(s.truth_xywh[:, 0]).sum()) for s in sequences}
    assert {name: count for name, count in absent.items() if count} == {
        "tld_car": 85,
        "tld_pedestrian2": 72,
    }
