"""Arguments as people type them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from edge_tracker.bundle.writing import replacing_folder
from edge_tracker.cli.arguments import box_xywh, boxes_in_one, seconds, width_x_height
from tests.helpers.command_line import usage_error


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("--box 1 2 3 4 --show", "--box=1,2,3,4 --show"),
        ("--box -5 2.5 3 4 b v", "--box=-5,2.5,3,4 b v"),
        ("--box -5,2,3,4", "--box=-5,2,3,4"),
        ("--box 1,2,3,4 0", "--box 1,2,3,4 0"),
        ("--box 1 2 3", "--box 1 2 3"),
        ("--box=1,2,3,4 5", "--box=1,2,3,4 5"),
        ("b v --box", "b v --box"),
    ],
)
def test_a_box_of_four_words_is_one(typed: str, read: str) -> None:
    assert boxes_in_one(typed.split()) == read.split()


@pytest.mark.parametrize("text", ["1,2,3,4", "1, 2, 3, 4", "1 2 3 4", " 1  2 3,4 "])
def test_a_box_with_commas_or_spaces(text: str) -> None:
    assert box_xywh(text) == (1, 2, 3, 4)


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,4,5", "1;2;3;4", "a,b,c,d", ""])
def test_what_is_no_box(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected x,y,w,h"):
        box_xywh(text)


@pytest.mark.parametrize(
    ("text", "value"), [("12.5", 12.5), ("1:30", 90), ("1:02:03.5", 3723.5), ("0", 0)]
)
def test_times(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["-1", "1:2:3:4", "soon", "", "inf", "nan"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a time"):
        seconds(text)


def test_sizes_of_frames() -> None:
    assert width_x_height("1280x720") == (1280, 720)
    for text in ("0x0", "63x64", "640x99999"):
        with pytest.raises(argparse.ArgumentTypeError, match="each side is to be from 64 to 16384"):
            width_x_height(text)
    with pytest.raises(argparse.ArgumentTypeError, match="is not a size: expected WxH"):
        width_x_height("big")


def test_a_mistyped_option_gets_its_commands_usage_and_the_nearest_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    message = usage_error(capsys, "track", "b", "v", "--precison", "fp32")
    assert " track [-h]" in message.splitlines()[0]
    assert "--precison: did you mean --precision?" in message


def test_the_folder_that_one_is_in_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "inner").mkdir(parents=True)
    for inside in (tmp_path / "here", tmp_path / "here" / "inner"):
        monkeypatch.chdir(inside)
        with (
            pytest.raises(ValueError, match="is the folder that you are in"),
            replacing_folder(tmp_path / "here"),
        ):
            pytest.fail("the block must not run")


def test_a_mount_point_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda path: True)
    with pytest.raises(ValueError, match="mount point"), replacing_folder(tmp_path):
        pytest.fail("the block must not run")
