"""Annotated frames and filmstrips: what is drawn where, and that it can be seen."""

from __future__ import annotations

import numpy as np
import pytest

from edge_tracker.video.draw import (
    FOUND_BGR,
    LOST_BGR,
    PAPER_BGR,
    TRUTH_BGR,
    annotate,
    filmstrip,
    line_width_px,
    mark_truth,
)

SIZES = [(240, 320), (480, 854), (1080, 1920), (2160, 3840)]


def plain(height_px: int, width_px: int, grey: int) -> np.ndarray:
    return np.full((height_px, width_px, 3), grey, np.uint8)


def near(image: np.ndarray, colour: tuple[int, int, int], tolerance: int = 40) -> np.ndarray:
    return np.all(np.abs(image.astype(int) - colour) <= tolerance, axis=2)


def test_the_frame_itself_is_left_alone() -> None:
    frame = plain(240, 320, 90)
    frame.flags.writeable = False
    drawn = annotate(frame, (50, 60, 80, 70), score=0.9, edge_std_px=(3, 3, 3, 3))
    assert (frame == 90).all()
    assert (drawn != 90).any()


@pytest.mark.parametrize("grey", [0, 128, 255])
@pytest.mark.parametrize(("height_px", "width_px"), SIZES)
@pytest.mark.parametrize("found", [True, False])
def test_edges_are_drawn_where_the_box_is_and_contrast_with_any_ground(
    height_px: int, width_px: int, grey: int, found: bool
) -> None:
    x, y, w, h = width_px // 4, height_px // 3, width_px // 3, height_px // 3
    drawn = annotate(plain(height_px, width_px, grey), (x, y, w, h), found=found)
    colour = FOUND_BGR if found else LOST_BGR
    for row in (y, y + h):
        line = near(drawn[row : row + 1, x : x + w], colour)
        assert line.mean() > 0.9 if found else 0.3 < line.mean() < 0.75
    for column in (x, x + w):
        line = near(drawn[y : y + h, column : column + 1], colour)
        assert line.mean() > 0.9 if found else 0.3 < line.mean() < 0.75
    # Dark rim on light ground, bright line on dark: somewhere the two differ by half the range.
    assert drawn.min() < 60
    assert drawn[..., 1 if found else 2].max() > 230
    # Nothing is drawn away from the box, but for the label above it.
    margin = 4 * line_width_px(drawn)
    assert (drawn[:, : x - margin] == grey).all()
    assert (drawn[y + h + margin :] == grey).all()
    assert (drawn[y + margin : y + h - margin, x + margin : x + w - margin] == grey).all()


@pytest.mark.parametrize(
    ("height_px", "width_px", "expected"),
    [(16, 16, 1), (240, 320, 1), (720, 1280, 3), (1280, 720, 3), (2160, 3840, 9)],
)
def test_lines_grow_with_the_frame(height_px: int, width_px: int, expected: int) -> None:
    assert line_width_px(plain(height_px, width_px, 0)) == expected


def test_error_bars_reach_one_deviation_outwards_from_their_edge() -> None:
    box, stds = (100.0, 120.0, 160.0, 90.0), (30.0, 12.0, 8.0, 20.0)
    frame = plain(480, 640, 0)
    with_bars = annotate(frame, box, edge_std_px=stds)
    bars = (with_bars != annotate(frame, box)).any(axis=2) & near(with_bars, FOUND_BGR)
    columns = np.flatnonzero(bars[165])
    assert columns.min() == pytest.approx(100 - 30, abs=2)
    assert columns.max() == pytest.approx(260 + 8, abs=2)
    rows = np.flatnonzero(bars[:, 180])
    assert rows.min() == pytest.approx(120 - 12, abs=2)
    assert rows.max() == pytest.approx(210 + 20, abs=2)
    assert not bars[125:205, 105:255].any()


def test_a_given_box_has_no_error_bars() -> None:
    frame, box = plain(240, 320, 128), (50.0, 60.0, 80.0, 70.0)
    zeros = annotate(frame, box, score=1.0, edge_std_px=(0.0, 0.0, 0.0, 0.0))
    assert (zeros == annotate(frame, box, score=1.0)).all()


@pytest.mark.parametrize(
    "box",
    [
        (10, 2, 60, 50),  # no room above: below
        (0, 0, 320, 240),  # no room at all: inside
        (300, 220, 90, 90),  # right and bottom border
        (-80, -60, 90, 70),  # left and top border
    ],
)
def test_the_label_stays_whole_inside_the_frame(box: tuple[float, float, float, float]) -> None:
    free = annotate(plain(240, 320, 128), (120, 100, 60, 60), score=0.87)
    bare = annotate(plain(240, 320, 128), (120, 100, 60, 60))
    here = annotate(plain(240, 320, 128), box, score=0.87)
    without = annotate(plain(240, 320, 128), box)
    label_area = (free != bare).any(axis=2).sum()
    assert (here != without).any(axis=2).sum() > 0.8 * label_area


def test_the_label_goes_below_a_box_at_the_top() -> None:
    frame, box = plain(240, 320, 128), (10, 2, 60, 50)
    label = (annotate(frame, box, score=0.87) != annotate(frame, box)).any(axis=(1, 2))
    assert np.flatnonzero(label).min() > 2 + 50


@pytest.mark.parametrize(
    "box",
    [(1e12, -1e12, 1e12, 1e12), (-1e9, 50, 2e9, 60), (30, 30, 0, 0), (1e5, 0, 50, 50)],
)
@pytest.mark.parametrize("found", [True, False])
def test_extreme_boxes_neither_fail_nor_smear(
    box: tuple[float, float, float, float], found: bool
) -> None:
    drawn = annotate(plain(240, 320, 128), box, score=0.5, found=found, edge_std_px=(1e9,) * 4)
    assert drawn.shape == (240, 320, 3)


def test_truth_is_marked_at_the_corners_alone() -> None:
    frame = plain(240, 320, 90)
    marked = mark_truth(frame, (100, 60, 80, 120))
    assert (frame == 90).all()
    for corner_x in (100, 180):
        for corner_y in (60, 180):
            around = marked[corner_y - 10 : corner_y + 11, corner_x - 10 : corner_x + 11]
            assert near(around, TRUTH_BGR).sum() >= 16
    for middle in (marked[60, 140], marked[180, 140], marked[120, 100], marked[120, 180]):
        assert (middle == 90).all()


def test_a_filmstrip_places_each_frame_in_its_cell() -> None:
    frames = [plain(90, 160, 20 * (i + 1)) for i in range(5)]
    sheet = filmstrip(frames, [f"frame {i}" for i in range(5)], columns=3, cell_width_px=160)
    rows, columns = 2, 3
    step_y, step_x = (sheet.shape[0] - 5) // rows, (sheet.shape[1] - 5) // columns
    for i in range(5):
        centre = sheet[5 + i // 3 * step_y + 45, 5 + i % 3 * step_x + 80]
        assert (centre == 20 * (i + 1)).all()
        caption = sheet[5 + i // 3 * step_y + 91 : (i // 3 + 1) * step_y, i % 3 * step_x + 5 :][
            :, :150
        ]
        assert caption.min() < 150
    empty = sheet[5 + step_y :, 5 + 2 * step_x :]
    assert (empty == PAPER_BGR).all()


def test_frames_of_another_shape_are_fitted_not_stretched() -> None:
    tall = plain(200, 100, 200)
    sheet = filmstrip([plain(90, 160, 50), tall], ["", ""], columns=2, cell_width_px=160)
    shown = (sheet == 200).all(axis=2)
    assert shown.any(axis=1).sum() == 90
    assert shown.any(axis=0).sum() == 45


def test_a_long_caption_stays_in_its_cell() -> None:
    sheet = filmstrip([plain(90, 160, 0)] * 2, ["W" * 200, ""], columns=2, cell_width_px=160)
    caption_rows = sheet[5 + 91 :]
    assert caption_rows[:, :170].min() < 200
    assert (caption_rows[:, 172:] == PAPER_BGR).all()


@pytest.mark.parametrize(("count", "captions"), [(0, []), (2, ["one"])])
def test_frames_and_captions_must_match(count: int, captions: list[str]) -> None:
    with pytest.raises(ValueError, match=f"got {count} frames and {len(captions)} captions"):
        filmstrip([plain(90, 160, 0)] * count, captions)


@pytest.mark.parametrize(("columns", "cell_width_px"), [(0, 360), (3, 8)])
def test_a_sheet_without_room_is_refused(columns: int, cell_width_px: int) -> None:
    with pytest.raises(ValueError, match=f"columns is {columns} and cell_width_px {cell_width_px}"):
        filmstrip([plain(90, 160, 0)], [""], columns=columns, cell_width_px=cell_width_px)
