"""Watching in a window: its pace, its keys, and drawing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_tracker.video import window
from edge_tracker.video.frames import FrameSource
from tests.helpers.screen import Screen

FRAMES = [np.full((48, 64, 3), index, np.uint8) for index in range(6)]


def source(fps: float = 25.0, live: bool = False) -> FrameSource:
    path = None if live else Path("clip.mp4")
    return FrameSource("clip", path, fps, len(FRAMES), FRAMES[0], iter(FRAMES))


def play(screen: Screen, viewer: window.Viewer, work_s: float = 0.0) -> list[float]:
    """How long each frame but the last was to be seen, with so much to be done for each."""
    for frame in FRAMES:
        screen.now_s += work_s
        viewer.show(frame, frame)
    return [round(float(lasted), 3) for lasted in np.diff(screen.times_s)]


@pytest.mark.parametrize("fps", [25.0, 8.0, 120.0])
@pytest.mark.parametrize("work", [0.0, 0.7])
def test_a_file_plays_at_its_own_rate(
    monkeypatch: pytest.MonkeyPatch, fps: float, work: float
) -> None:
    screen = Screen(monkeypatch, keys=[""] * 100)
    seen_s = play(screen, window.Viewer(source(fps)), work / fps)
    assert seen_s[1:] == pytest.approx([1 / fps] * 4, abs=2e-3)
    assert len(screen.shown) == 6


def test_where_tracking_is_slower_every_frame_is_shown_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = Screen(monkeypatch, keys=[""] * 100)
    viewer = window.Viewer(source(25.0))
    assert play(screen, viewer, 0.1) == pytest.approx([0.101] * 5)
    assert len(screen.shown) == 6
    # What was lost is not made up for.
    screen.times_s.clear()
    assert play(screen, viewer)[1:] == pytest.approx([0.04] * 4, abs=2e-3)


def test_a_live_source_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch, keys=[""] * 100)
    assert play(screen, window.Viewer(source(2.0, live=True))) == pytest.approx([0.001] * 5)


def test_space_pauses_and_goes_on_at_the_same_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ["", " ", *[""] * 20, " ", *[""] * 20]
    screen = Screen(monkeypatch, keys)
    seen_s = play(screen, window.Viewer(source(25.0)))
    assert seen_s == pytest.approx([0.001, 1.09, 0.04, 0.04, 0.04], abs=5e-3)


@pytest.mark.parametrize("key", ["q", chr(27)])
@pytest.mark.parametrize("before", [[], [" ", "", ""]])
def test_q_and_escape_end_also_in_a_pause(
    monkeypatch: pytest.MonkeyPatch, key: str, before: list[str]
) -> None:
    Screen(monkeypatch, [*before, key])
    viewer = window.Viewer(source())
    assert viewer.show(FRAMES[0], FRAMES[0]) is None
    assert viewer.stopped


@pytest.mark.parametrize("keys", [[], [" ", ""]])
def test_closing_the_window_ends(monkeypatch: pytest.MonkeyPatch, keys: list[str]) -> None:
    Screen(monkeypatch, keys)
    viewer = window.Viewer(source())
    viewer.show(FRAMES[0], FRAMES[0])
    viewer.show(FRAMES[0], FRAMES[0])
    assert viewer.stopped


@pytest.mark.parametrize("keys", [["d"], [" ", "d", " "]])
def test_d_draws_a_box_on_the_plain_frame(monkeypatch: pytest.MonkeyPatch, keys: list[str]) -> None:
    Screen(monkeypatch, [*keys, *[""] * 9])
    drawn_on: list[np.ndarray] = []

    def draw(title: str, frame: np.ndarray, **named: bool) -> tuple[int, ...]:
        drawn_on.append(frame)
        return 5, 6, 7, 8

    monkeypatch.setattr(cv2, "selectROI", draw)
    viewer = window.Viewer(source())
    assert viewer.show(FRAMES[1], FRAMES[2]) == (5.0, 6.0, 7.0, 8.0)
    assert [frame is FRAMES[2] for frame in drawn_on] == [True]
    assert viewer.show(FRAMES[1], FRAMES[2]) is None


def test_a_drawing_that_was_given_up_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    Screen(monkeypatch, ["d", "", ""], boxes=[(0, 0, 0, 0)])
    viewer = window.Viewer(source())
    assert viewer.show(FRAMES[0], FRAMES[0]) is None
    assert not viewer.stopped


@pytest.mark.parametrize(("keys", "left"), [(["", "", "x", ""], 1), (["", ""], 0)])
def test_the_last_frame_stays_until_a_key_or_the_window_is_closed(
    monkeypatch: pytest.MonkeyPatch, keys: list[str], left: int
) -> None:
    screen = Screen(monkeypatch, keys)
    window.Viewer(source()).keep_last()
    assert screen.keys_left == left


def test_an_old_opencv_draws_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 4.9 selectROI did not take printNotice."""
    Screen(monkeypatch, ["d", "", ""])

    def draw(title: str, frame: np.ndarray, showCrosshair: bool, **new: bool) -> tuple[int, ...]:  # noqa: N803
        if new:
            raise cv2.error("Overload resolution failed")
        return 5, 6, 7, 8

    monkeypatch.setattr(cv2, "selectROI", draw)
    assert window.Viewer(source()).show(FRAMES[0], FRAMES[0]) == (5.0, 6.0, 7.0, 8.0)


def test_a_camera_plays_until_it_is_frozen_and_starts_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Screen(monkeypatch, keys=["", "", " "], boxes=[(5, 6, 7, 8)])
    camera, box = window.choose_box(source(live=True))
    assert box == (5.0, 6.0, 7.0, 8.0)
    assert camera.first_frame[0, 0, 0] == 2
    assert [int(frame[0, 0, 0]) for frame in camera] == [2, 3, 4, 5]
