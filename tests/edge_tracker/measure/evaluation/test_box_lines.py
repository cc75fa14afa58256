"""Lines of boxes as editors, spreadsheets and label tools write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_tracker.measure.evaluation.box_lines import numbers_of, read_box_lines

LINES = ["40,30,40,36", "41,31,40,36"]


@pytest.mark.parametrize(
    "content",
    [
        b"40,30,40,36\n41,31,40,36\n",
        b"40,30,40,36\r\n41,31,40,36",
        b"\xef\xbb\xbf40,30,40,36\n41,31,40,36\n\n",
        "40,30,40,36\r\n41,31,40,36\r\n".encode("utf-16"),
        b"x,y,w,h\n40,30,40,36\n41,31,40,36\n",
        b'\xef\xbb\xbf"x";"y";"w";"h"\n40,30,40,36\n41,31,40,36\n',
        b"x_min y_min width height\n40,30,40,36\n41,31,40,36\n",
    ],
)
def test_byte_order_marks_line_ends_and_column_names_are_no_boxes(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "boxes.txt").write_bytes(content)
    assert read_box_lines(tmp_path / "boxes.txt") == LINES


@pytest.mark.parametrize("first", ["NaN,NaN,NaN,NaN", "nan nan nan nan", "inf,1,2,3", "1,2,3,4"])
def test_a_first_line_of_numbers_stays(tmp_path: Path, first: str) -> None:
    (tmp_path / "boxes.txt").write_text(f"{first}\n1,2,3,4\n")
    assert read_box_lines(tmp_path / "boxes.txt")[0] == first


@pytest.mark.parametrize(
    "line",
    [
        "1,2.5,3,4", "1, 2.5, 3, 4", "1 2.5 3 4", "1\t2.5\t3\t4", "1;2.5;3;4", "1,2.5,3,4,",
        " 1,2.5,3,4, ",
    ],
)  # fmt: skip
def test_every_usual_separator(line: str) -> None:
    assert numbers_of(line) == [1, 2.5, 3, 4]


@pytest.mark.parametrize("line", ["40,5;30,5;40,0;36,0", "40,5 30,5 40,0 36,0", "1,2;3,4"])
def test_a_comma_that_may_be_a_decimal_one_is_not_guessed(line: str) -> None:
    with pytest.raises(ValueError, match="write decimal points"):
        numbers_of(line)


@pytest.mark.parametrize("line", ["", "x", "1,,2,3", "1,2,3,four"])
def test_what_is_no_number(line: str) -> None:
    with pytest.raises(ValueError, match="could not convert"):
        numbers_of(line)
